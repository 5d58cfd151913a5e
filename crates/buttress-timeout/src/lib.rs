//! Ends calls that take too long: in total, per attempt, per request.
//!
//! A timeout starts when `call` is called and drops the inner future when its limit is reached.
//!
//! ```
//! # mod buttress { pub use {buttress_core::*, buttress_timeout::*}; }
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use buttress::{BoxError, Timeout, rejection};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! let timeout = Timeout::builder("api").limit(Duration::from_millis(30)).build()?;
//! let slow = service_fn(|ms: u64| async move {
//!     tokio::time::sleep(Duration::from_millis(ms)).await;
//!     Ok::<_, BoxError>("done")
//! });
//! let svc = timeout.layer().layer(slow);
//!
//! assert_eq!(svc.clone().oneshot(10).await.unwrap(), "done");
//! let late = svc.oneshot(100).await.unwrap_err();
//! assert_eq!(rejection(&*late).unwrap().code(), "TIMEOUT");
//! assert!(late.to_string().contains("30ms"));
//! assert_eq!(timeout.snapshot().timeouts, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # When not
//! - Around work that cannot be cancelled. Dropping the inner future cannot stop `spawn_blocking` or a spawned task:
//!   the caller gets its answer at the limit and the work runs on. A permit that must last as long as the work has to be
//!   moved into the work.
//! - As proof that nothing happened. The request was sent, and the rejection says so.
//!
//! # Place in a stack
//! A *through* layer, one that lets readiness through: it is ready when the service inside is, and calls the very
//! instance that said so. The same layer serves twice: outside of retry it is the **total** timeout, inside of it the timeout of **each
//! attempt**. Outside to inside: fallback, total timeout, retry, breaker, bulkhead, timeout of an attempt.
//!
//! # What it covers
//! - `call`, from the moment it is called, and not the wait for readiness before it. If that wait must be bounded
//!   too, put an *owning* layer inside, one that is ready at once and waits within its `call`: a bulkhead, or
//!   [`ReadyInCallLayer`](buttress_core::ReadyInCallLayer).
//! - The response as the service returns it. A body that is streamed later is not covered.
//!
//! # Who wins
//! The limit is reached when `elapsed >= limit`. A call that has finished wins over a limit that has been
//! reached, also when both are noticed at once: the inner future is polled before the timer and once more after
//! it. A timer that is noticed more than 10 ms late was held up, by a process that was stopped or starved of
//! CPU. The answer may have been held up with it, on its way through other tasks: it gets 10 ms more to arrive, once.
//! In a runtime that blocks over and over a limit is late, as every timer is, and by that at most twice as late as
//! tokio's own time-out. Paused time that a test moves is no stall: there the call ends at the first poll past its
//! limit.
//!
//! # The deadline travels
//! With `propagate` (the default) every inner `call` and `poll` runs in a [`CallContext`] whose deadline is the
//! earlier of the one outside and this one's, so that whatever is inside can see what time is left. An earlier
//! deadline from outside is obeyed here too. If it has passed already, the call is refused: `TIMEOUT`, not sent. If a
//! timeout inside obeys the deadline of one outside, or a bulkhead ends a wait by it, it is the outer one's time that
//! is up: that one answers.
//!
//! # Results
//! A timeout is a [`Rejection`](buttress_core::Rejection) with code [`TIMEOUT`], its limit and the time elapsed.
//! [`TimeoutLayer::fallback`] and [`TimeoutLayer::fallback_with`] answer instead, on timeout only; errors of the
//! inner service pass through unchanged.
//!
//! # What is told
//! | event | when |
//! |---|---|
//! | [`Done`](buttress_core::Event::Done) | a call ended; its result is `success`, `failure`, `panicked`, `timeout` or `cancelled` |
//! | [`Refused`](buttress_core::Event::Refused) | the deadline from outside had passed before the call |
//! | [`Note`](buttress_core::Event::Note) | new settings; a reset |
//!
//! [`KIND`] has the metrics and the log lines that are made of this; `docs/metrics.md` of the repository has them all.
//!
//! # Settings
//! | setting | default | |
//! |---|---|---|
//! | `limit` | 5 s | above zero, up to 1000 years; per request through [`TimeoutLayer::limit_by`] |
//! | `propagate` | `true` | sets and obeys the deadline in [`CallContext`] |
//!
//! # Cost
//! One clock read, and a second one if somebody listens. A timer is made only for a call that is not ready at its first
//! poll; nothing is allocated in either case.
//!
//! # Panics
//! A call that is not ready at its first poll needs a tokio runtime with time enabled.
//!
//! [`CallContext`]: buttress_core::CallContext
#![cfg_attr(docsrs, feature(doc_cfg))]

mod config;
mod deadline;
mod future;
mod kind;
mod layer;
mod race;
mod service;
mod strategy;
mod timeout;
pub mod words;

pub use crate::{
    config::{TimeoutBuilder, TimeoutConfig},
    future::TimeoutFuture,
    kind::KIND,
    layer::TimeoutLayer,
    race::{NOTHING_TO_RACE, Race, race},
    service::TimeoutService,
    strategy::{Configured, LimitOf, OnTimeout, Refuse, Value},
    timeout::{Timeout, TimeoutSnapshot},
    words::TIMEOUT,
};
