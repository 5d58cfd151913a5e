//! The words all buttress crates share: no mechanism, no runtime and no host. It needs `tower-service`, `tower-layer`
//! and `pin-project-lite`.
//!
//! - [`Rejection`], [`Code`], [`FromRejection`], [`Error`], [`LiftErrorsLayer`], [`TypedErrorsLayer`]: how a refusal
//!   travels through a stack without changing its error type.
//! - [`Classify`], [`Verdict`], [`Applied`], [`OnlyErrors`]: what a finished call says about the service.
//! - [`Replay`], [`KeyOf`]: how a request is sent again, and what it belongs to.
//! - [`CallContext`]: the deadline, the attempt and the priority of the call that is being polled.
//! - [`Functions`], [`Lend`]: plain functions as requests.
//! - [`ReadyInCallLayer`]: moves the wait for readiness into the call.
//! - [`Kind`], [`Event`], [`observe`]: what a pattern is called and exports, what policies tell, and who hears it.
//! - [`ConfigError`], [`Name`]: settings.
//!
//! Each pattern brings its own codes, states, levels and notes; core lists none of them. If you only use the patterns,
//! all of this is in the facade `buttress`. For a layer of your own depend on this crate, and on `buttress-kit` for
//! the mechanism:
//!
//! ```
//! use std::time::Duration;
//! use buttress_core::{BoxError, Classify, Code, FromRejection, Name, Rejection, Standard, Verdict, rejection};
//!
//! const OUT_OF_HOURS: &Code = &Code::refused("OUT_OF_HOURS");
//!
//! // A policy refuses with whatever error type the service behind it has ...
//! fn refuse<E: FromRejection>(policy: &Name) -> E {
//!     E::from_rejection(Rejection::new(OUT_OF_HOURS, policy).with_retry_after(Duration::from_secs(60)))
//! }
//! let error: BoxError = refuse(&Name::new("payments"));
//!
//! // ... anybody further out can tell what it was, and that nothing was sent ...
//! let why = rejection(&*error).unwrap();
//! assert_eq!((why.code(), why.policy(), why.was_sent()), (OUT_OF_HOURS, "payments", false));
//! assert_eq!(why.retry_after(), Some(Duration::from_secs(60)));
//!
//! // ... and it is not held against the service.
//! assert_eq!(Standard.classify(Err::<&(), _>(&error)), Verdict::Ignore);
//! ```
#![cfg_attr(docsrs, feature(doc_cfg))]

mod code;
pub mod config;
pub mod context;
mod error;
mod event;
mod functions;
mod kind;
mod lift;
mod name;
pub mod observe;
mod ready;
mod rejection;
mod strategy;
mod verdict;
#[cfg(test)]
mod words;

pub use crate::{
    code::{Class, Code},
    config::ConfigError,
    context::CallContext,
    error::{BoxError, Error, FailedTwice, FromRejection},
    event::{Event, Level, Note, Outcome, OwnedEvent, PolicyEvent, Transition, Value, Word},
    functions::{Functions, Lend, Lent},
    kind::{Kind, KindData, Line, Metric, On, Row, Rows, Severity, Source, Unit, When},
    lift::{LiftErrors, LiftErrorsFuture, LiftErrorsLayer, TypedErrors, TypedErrorsFuture, TypedErrorsLayer},
    name::Name,
    observe::{Levels, Observer, Recorder},
    ready::{ReadyInCall, ReadyInCallFuture, ReadyInCallLayer},
    rejection::{Rejection, rejection},
    strategy::{ByClone, ByFn, KeyOf, Never, Replay},
    verdict::{Applied, Classify, FailureKind, OnlyErrors, Standard, Verdict, described},
};
