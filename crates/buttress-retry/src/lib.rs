//! Calls a service again when it fails: with waits that grow, chance in them, a limit for the whole call, and a
//! budget that keeps retries from multiplying an outage.
//!
//! ```
//! # tokio_test::block_on(async {
//! # mod buttress { pub use {buttress_core::*, buttress_kit::*, buttress_retry::*}; }
//! use std::time::Duration;
//! use buttress::{Backoff, BoxError, Budget, Jitter, Retry};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! let retry = Retry::builder("payments")
//!     .max_attempts(3) // calls, the first included
//!     .backoff(Backoff::exponential(Duration::from_millis(10)).with_jitter(Jitter::Full))
//!     .budget(Budget::new(0.2, 10)?) // a retry for every five calls, or ten a second if that is more
//!     .build()?;
//!
//! let calls = std::sync::atomic::AtomicU32::new(0);
//! let flaky = service_fn(|n: u32| {
//!     let failed = calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 2;
//!     async move { if failed { Err(BoxError::from("connection reset")) } else { Ok(n + 1) } }
//! });
//! assert_eq!(retry.layer().layer(flaky).oneshot(1).await?, 2);
//! assert_eq!(retry.snapshot().retries, 2);
//! # Ok::<_, BoxError>(()) }).unwrap();
//! ```
//!
//! # When not
//! If repeating does harm: a request that moves money and has no idempotency key
//! ([`RetryLayer::replay_with`] says which requests may be sent again, [`Never`](buttress_core::Never) that none
//! may). If another layer, further in or out, retries already: attempts multiply, three layers of three make 27.
//!
//! # Place in a stack
//! Inside the time-out for the whole call, outside of all that each attempt should pass through again:
//! `total timeout > retry > breaker > bulkhead > attempt timeout > service`.
//!
//! For the first attempt a *through* layer, one that lets readiness through: it is ready when the service inside is,
//! and calls the very instance that said so. For the others an *owning* layer, one that waits within its call: they are
//! made by a clone of its own, which is readied inside the future and holds no reservation during the wait. Readiness
//! that fails between attempts ends the call. A call ends with its response: a body that breaks off afterwards is not
//! retried. To cover it, read it inside of the attempt, in [`Retry::call`].
//!
//! # What is retried
//! What the classifier calls a transient failure: by default ([`Standard`](buttress_core::Standard)) every error
//! that is not known to stay. A refusal by a policy inside (open circuit, full bulkhead) is not, whatever the
//! classifier says, unless its code is listed by [`retry_rejections`](RetryBuilder::retry_rejections). A time-out
//! of a policy inside is an ordinary failure. Whether the failed attempt can have taken effect
//! ([`Classify::applied`](buttress_core::Classify::applied)) is told to the replay, which may refuse to send the
//! request again. Lists of codes, substrings and types are
//! [`OnlyErrors`](buttress_core::OnlyErrors), ready ones are in [`only`].
//!
//! # A call
//! ```text
//! call ──► calling ──success, or no further attempt──► ended
//!            ▲  │ failure, and another attempt is worth it
//!            │  ▼
//!            │ waiting      no timer for a wait of zero; the attempt and its answer are gone
//!            │  │
//!            │  ▼
//!            └─ readying    until the inner service is ready for a further attempt
//! ```
//! Inside, [`context::current()`](buttress_core::context::current) has the number of the attempt, from 1, if
//! more than one is allowed, and the deadline, which is the caller's or `max_elapsed`, whichever is earlier.
//!
//! # Closures
//! [`Retry::call`] retries what is no service; [`RetryLayer::call`] does so with the strategies of a layer.
//!
//! # Results
//! A call ends, and the caller gets:
//!
//! | reason | when | the caller gets |
//! |---|---|---|
//! | – | an attempt succeeded, or says nothing about the service | its answer |
//! | `max_attempts` | as many as allowed were made | the last answer or error, unchanged |
//! | `not_retryable` | the failure is permanent | it, unchanged |
//! | | a policy inside refused, and its code is not listed | the refusal; after a failure with that |
//! | `not_replayable` | the request cannot be made again | the last answer or error, unchanged |
//! | `deadline` | no time is left for another attempt: it would begin at or after the caller's deadline or `max_elapsed`; or the deadline passed in a wait, or in a later attempt | the answer at hand; or `TIMEOUT`, with the last failure |
//! | | the service asked for a wait above `retry_after_max` | the last answer or error, unchanged |
//! | `budget` | the budget is used up | the last answer or error, unchanged |
//! | `not_ready` | the service reported itself broken when asked for readiness | its error |
//!
//! What a call failed with is kept while it waits and in the next attempt, so that a refusal or a time limit that ends it
//! then does not stand alone: the failure is its [`source`](std::error::Error::source)
//! ([`FromRejection::ended_by`](buttress_core::FromRejection::ended_by)). A refusal says that the call was sent. A failed
//! *answer* may hold a connection and is not kept, unless the classifier knows better
//! ([`Classify::keeps`](buttress_core::Classify::keeps)); the source is then what the classifier says of it
//! ([`Classify::describe`](buttress_core::Classify::describe)), such as `503`, in error types that have room for text.
//!
//! Every reason is counted ([`Retry::snapshot`]) and told, with what the call failed with in words
//! ([`STOPPED`](words::STOPPED)). With [`report_exhaustion`](RetryConfig::report_exhaustion) the last error of
//! `max_attempts` is inside a [`RETRIES_EXHAUSTED`](EXHAUSTED), if its type has room for both.
//!
//! # What is told
//! | event | when |
//! |---|---|
//! | [`Done`](buttress_core::Event::Done) | a call ended, with the number of its attempts; its result says whether it succeeded, with a retry or without |
//! | [`Attempt`](buttress_core::Event::Attempt) | another attempt will be made: after which wait, and why |
//! | [`Level`](buttress_core::Event::Level) | what is left of the budget, as a share ([`BUDGET_AVAILABLE`](words::BUDGET_AVAILABLE)) |
//! | [`Note`](buttress_core::Event::Note) | no further attempt is made, and why ([`STOPPED`](words::STOPPED)); new settings; a reset |
//!
//! [`KIND`] has the metrics and the log lines that are made of this; `docs/metrics.md` of the repository has them all.
//!
//! # Settings
//! | setting | default | |
//! |---|---|---|
//! | [`max_attempts`](RetryConfig::max_attempts) | 3 | all calls, the first one too; 1: no retry |
//! | [`backoff`](RetryConfig::backoff) | 100 ms · 2ⁿ, at most 30 s, full jitter | see [`Backoff`](buttress_kit::Backoff) |
//! | [`throttle_backoff`](RetryConfig::throttle_backoff) | as `backoff` | after the service asked for fewer calls |
//! | [`max_elapsed`](RetryConfig::max_elapsed) | none | no attempt starts later than this after the call began |
//! | [`retry_after`](RetryConfig::retry_after) | obey | see [`RetryAfter`] |
//! | [`retry_after_max`](RetryConfig::retry_after_max) | 30 s | the longest `Retry-After` that is waited for |
//! | [`retry_rejections`](RetryConfig::retry_rejections) | none | refusals by policies inside that are worth another attempt |
//! | [`report_exhaustion`](RetryConfig::report_exhaustion) | `false` | `RETRIES_EXHAUSTED` around the last error |
//! | [`pause_without_budget`](RetryConfig::pause_without_budget) | `false` | the backoff, but no attempt, if the budget is used up |
//! | [`budget`](RetryConfig::budget) | none | retries as a share of the calls, or by another rule |
//!
//! # Cost
//! A call that succeeds at once allocates nothing and takes no lock; a failure that is kept is boxed, and so is a wait. It
//! reads the clock only if `max_elapsed`, a budget by time or an observer of durations is set.
//!
//! # Panics
//! A call that has to wait before a further attempt needs a tokio runtime with time enabled.

mod before;
mod config;
mod decide;
mod engine;
mod future;
mod hooks;
mod kind;
mod layer;
pub mod only;
mod policy;
mod repeat;
mod retry;
mod service;
mod snapshot;
pub mod words;

pub use crate::{
    config::{RetryAfter, RetryBuilder, RetryConfig},
    future::RetryFuture,
    kind::KIND,
    layer::RetryLayer,
    retry::Retry,
    service::RetryService,
    snapshot::{RetrySnapshot, RetryStops},
    words::{EXHAUSTED, TIMED_OUT},
};
