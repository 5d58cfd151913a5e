//! The words all buttress crates share. No runtime, no host: only `tower-service` and `tower-layer`.
//!
//! - [`Rejection`], [`FromRejection`], [`Error`], [`LiftErrorsLayer`], [`TypedErrorsLayer`]: how a refusal
//!   travels through a stack without changing its error type.
//! - [`Classify`], [`Verdict`]: what a finished call says about the service.
//! - [`Replay`], [`KeyOf`]: how a request is sent again, and what it belongs to.
//! - [`CallContext`]: the deadline, the attempt and the priority of the call that is being polled.
//! - [`Backoff`], [`Budget`], [`Chance`]: waits, how many retries, seeded randomness; plain data, `now` passed in.
//! - [`observe`]: events, and who hears them.
//! - [`ConfigError`], [`Mode`]: settings.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod backoff;
mod budget;
mod chance;
pub mod config;
pub mod context;
#[cfg(feature = "serde")]
pub mod duration;
mod error;
mod in_flight;
mod lift;
mod name;
pub mod observe;
mod ready;
mod rejection;
mod strategy;
mod sync;
mod tokens;
mod verdict;

pub use crate::{
    backoff::{Backoff, BackoffKind, BackoffState, Jitter},
    budget::{Budget, BudgetConfig},
    chance::Chance,
    config::{ConfigError, Mode},
    context::CallContext,
    error::{BoxError, Error, FromRejection},
    lift::{LiftErrors, LiftErrorsFuture, LiftErrorsLayer, TypedErrors, TypedErrorsFuture, TypedErrorsLayer},
    name::Name,
    observe::{Emitter, Event, Observer, Outcome, PolicyKind, Recorder},
    ready::{ReadyInCall, ReadyInCallFuture, ReadyInCallLayer},
    rejection::{Rejection, RejectionKind, rejection},
    strategy::{ByClone, ByFn, KeyOf, Never, Replay},
    tokens::TokenBudgetConfig,
    verdict::{Classify, FailureKind, OnlyErrors, Standard, Verdict},
};
