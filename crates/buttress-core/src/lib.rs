//! The words all buttress crates share. No runtime and no host: it needs `tower-service`, `tower-layer` and
//! `pin-project-lite`; the feature `serde` brings `serde`.
//!
//! - [`Rejection`], [`FromRejection`], [`Error`], [`LiftErrorsLayer`], [`TypedErrorsLayer`]: how a refusal
//!   travels through a stack without changing its error type.
//! - [`Classify`], [`Verdict`], [`OnlyErrors`]: what a finished call says about the service.
//! - [`Replay`], [`KeyOf`]: how a request is sent again, and what it belongs to.
//! - [`CallContext`]: the deadline, the attempt and the priority of the call that is being polled.
//! - [`ReadyInCallLayer`]: moves the wait for readiness into the call.
//! - [`observe`]: events, and who hears them.
//! - [`ConfigError`], [`Mode`]: settings.
//!
//! Who only uses the patterns finds all of it in the facade `buttress`. Depend on it for a layer of your own:
//!
//! ```
//! use std::time::Duration;
//! use buttress_core::{BoxError, Classify, FromRejection, Name, Rejection, Standard, Verdict, rejection};
//!
//! // A policy refuses with whatever error type the service behind it has ...
//! fn refuse<E: FromRejection>(policy: &Name) -> E {
//!     E::from_rejection(Rejection::new("OUT_OF_HOURS", policy).with_retry_after(Duration::from_secs(60)))
//! }
//! let error: BoxError = refuse(&Name::new("payments"));
//!
//! // ... anybody further out can tell what it was, and that nothing was sent ...
//! let why = rejection(&*error).unwrap();
//! assert_eq!((why.code(), why.policy(), why.was_sent()), ("OUT_OF_HOURS", "payments", false));
//! assert_eq!(why.retry_after(), Some(Duration::from_secs(60)));
//!
//! // ... and it is not held against the service.
//! assert_eq!(Standard.classify(Err::<&(), _>(&error)), Verdict::Ignore);
//! ```
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod config;
pub mod context;
mod error;
mod lift;
mod name;
pub mod observe;
mod ready;
mod rejection;
mod strategy;
mod verdict;

pub use crate::{
    config::{ConfigError, Mode},
    context::CallContext,
    error::{BoxError, Error, FromRejection},
    lift::{LiftErrors, LiftErrorsFuture, LiftErrorsLayer, TypedErrors, TypedErrorsFuture, TypedErrorsLayer},
    name::Name,
    observe::{Emitter, Event, Observer, Outcome, PolicyKind, Recorder},
    ready::{ReadyInCall, ReadyInCallFuture, ReadyInCallLayer},
    rejection::{Rejection, RejectionKind, rejection},
    strategy::{ByClone, ByFn, KeyOf, Never, Replay},
    verdict::{Classify, FailureKind, OnlyErrors, Standard, Verdict},
};
