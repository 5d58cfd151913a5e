//! Tower middleware that keeps a service standing when what it depends on falls.
//!
//! Each pattern is a `Layer` of its own and a handle to see and steer it by; this crate gathers them behind
//! features and adds them to [`tower::ServiceBuilder`] through [`ServiceBuilderExt`].
//!
//! | what for | put on a stack by, outermost first | handle; its feature has its name |
//! |---|---|---|
//! | what is refused becomes a response | `.respond()` | none; feature `http` |
//! | calls are counted and timed | `.meter(..)`, there or around any stage | `Meter`; feature `metrics` |
//! | an answer when all else failed | `.fallback(..)` | `Fallback` |
//! | a limit for the whole call | `.deadline(..)` | `Timeout` |
//! | bodies that are streams, for a second attempt | `.layer(ReplayBodyLayer::default())` | none; feature `http` |
//! | a failed call is made again | `.retrying(..)` | `Retry` |
//! | no calls to what is down | `.breaker(..)` | `Breaker` |
//! | so many calls at once | `.bulkhead(..)` | `Bulkhead` |
//! | a limit for each attempt | `.attempt_timeout(..)` | `Timeout` |
//! | an error type that can carry refusals | `.lift_errors()` or `.typed_errors()` | none |
//!
//! A handle is made once, cheap to clone, and shared by all services its layers wrap. The first page of each pattern's
//! module says what it does, when not to use it, and its defaults.
//!
//! A plain function runs through the same list, which ends in `.functions()` then: `stack.run(async || ..)`, see
//! [`Run`]. For one policy alone: `handle.call(async || ..)`.
//!
//! [What the compiler says](https://github.com/buttress-rs/buttress/blob/main/docs/compiler-says.md) of mistakes is there
//! by the first lines of its messages.
//!
//! ```
//! # #[cfg(feature = "default")]
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), buttress::BoxError> {
//! use std::{io, time::Duration};
//!
//! use buttress::{Bulkhead, Retry, ServiceBuilderExt, Timeout, rejection};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! let deadline = Timeout::builder("prices").limit(Duration::from_secs(1)).build()?;
//! let retry = Retry::builder("prices").max_attempts(3).build()?;
//! let bulkhead = Bulkhead::builder("prices").max_concurrent(8).max_queue(8).build()?;
//! let attempt = Timeout::builder("prices-attempt").limit(Duration::from_millis(100)).build()?;
//!
//! let mut prices = ServiceBuilder::new()
//!     .deadline(deadline.layer()) // bounds all that is inside: attempts, waits between them, the queue
//!     .retrying(retry.layer())
//!     .bulkhead(bulkhead.layer())
//!     .attempt_timeout(attempt.layer())
//!     .lift_errors() // innermost: io::Error becomes BoxError, which can also carry rejections
//!     .service(service_fn(|id: u32| async move {
//!         match id {
//!             7 => std::future::pending().await, // hangs
//!             _ => Ok::<_, io::Error>(id * 100),
//!         }
//!     }));
//!
//! assert_eq!(prices.ready().await?.call(3).await?, 300);
//! let error = prices.ready().await?.call(7).await.unwrap_err();
//! assert_eq!(rejection(&*error).unwrap().code(), "TIMEOUT");
//! assert_eq!(retry.snapshot().retries, 2);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "default"))]
//! # fn main() {}
//! ```
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod kinds;
pub mod prelude;
mod run;

pub use buttress_core::{
    Applied, BoxError, ByClone, ByFn, CallContext, Class, Classify, Code, ConfigError, Error, Event,
    FailureKind, FromRejection, Functions, KeyOf, Kind, Lend, Lent, LiftErrors, LiftErrorsLayer, Name, Never,
    Observer, OnlyErrors, Outcome, ReadyInCall, ReadyInCallLayer, Recorder, Rejection, Replay, Standard,
    TypedErrors, TypedErrorsLayer, Verdict, config, context, observe, rejection,
};
pub use buttress_kit::{
    Backoff, BackoffKind, BackoffState, Budget, BudgetConfig, BudgetRule, Chance, Events, GrpcBudgetConfig,
    Handle, Health, InFlightBudgetConfig, Jitter, Keyed, Mode, Patched, Registry, RegistryHealth,
    TokenBudgetConfig, Withdrawal, duration, optional,
};

/// The mechanism that the patterns share, for a layer of your own. May change before 1.0.
#[doc(hidden)]
pub use buttress_kit as kit;

/// The circuit breaker.
#[cfg(feature = "breaker")]
#[doc(inline)]
pub use buttress_breaker as breaker;
/// The bulkhead.
#[cfg(feature = "bulkhead")]
#[doc(inline)]
pub use buttress_bulkhead as bulkhead;
/// The fallback.
#[cfg(feature = "fallback")]
#[doc(inline)]
pub use buttress_fallback as fallback;
/// For the `http` crate's types.
#[cfg(feature = "http")]
#[doc(inline)]
pub use buttress_http as http;
/// What policies do, as metrics and tracing events.
#[cfg(feature = "metrics")]
#[doc(inline)]
pub use buttress_metrics as metrics;
/// The retry.
#[cfg(feature = "retry")]
#[doc(inline)]
pub use buttress_retry as retry;
/// The test kit.
#[cfg(feature = "test")]
#[doc(inline)]
pub use buttress_test as test;
/// The timeout.
#[cfg(feature = "timeout")]
#[doc(inline)]
pub use buttress_timeout as timeout;

#[cfg(feature = "breaker")]
pub use buttress_breaker::{Breaker, BreakerConfig, BreakerLayer};
#[cfg(feature = "bulkhead")]
pub use buttress_bulkhead::{Bulkhead, BulkheadConfig, BulkheadLayer};
#[cfg(feature = "fallback")]
pub use buttress_fallback::{Fallback, FallbackConfig, FallbackLayer};
#[cfg(feature = "http")]
pub use buttress_http::{HttpClassify, HttpReplay, ReplayBody, ReplayBodyLayer, RespondLayer};
#[cfg(feature = "metrics")]
pub use buttress_metrics::meter::{Meter, MeterLayer};
#[cfg(feature = "retry")]
pub use buttress_retry::{Retry, RetryConfig, RetryLayer};
#[cfg(feature = "timeout")]
pub use buttress_timeout::{Timeout, TimeoutConfig, TimeoutLayer};

pub use crate::{builder::ServiceBuilderExt, kinds::KINDS, run::Run};

/// The code of the README, compiled and run.
#[cfg(all(doctest, feature = "full"))]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// The code of the page on metrics, compiled and run.
#[cfg(all(doctest, feature = "full"))]
#[doc = include_str!("../../../docs/metrics.md")]
struct MetricsPage;

/// The code of the page for the first outage, compiled and run.
#[cfg(all(doctest, feature = "full"))]
#[doc = include_str!("../../../docs/first-outage.md")]
struct FirstOutage;

/// The code of the page on settings, compiled and run.
#[cfg(all(doctest, feature = "full"))]
#[doc = include_str!("../../../docs/settings.md")]
struct SettingsPage;

/// The code of the page on retry budgets, compiled and run.
#[cfg(all(doctest, feature = "full"))]
#[doc = include_str!("../../../docs/budgets.md")]
struct BudgetsPage;

#[cfg(all(test, feature = "default"))]
mod tests {
    /// Whoever depends on this crate alone can name what the docs of the patterns tell to use.
    #[test]
    fn what_the_docs_of_the_patterns_name_is_here() {
        use crate::{
            Budget, Classify, FailureKind, FallbackConfig, ReadyInCallLayer, TokenBudgetConfig, Verdict,
        };

        struct Throttled;

        impl Classify<(), ()> for Throttled {
            fn classify(&self, _: Result<&(), &()>) -> Verdict {
                Verdict::transient()
            }

            fn failure_kind(&self, _: Result<&(), &()>) -> FailureKind {
                FailureKind::Throttled
            }
        }

        assert_eq!(Throttled.failure_kind(Ok(&())), FailureKind::Throttled);
        assert!(Budget::tokens(TokenBudgetConfig::default()).is_ok());
        let owning = tower::ServiceBuilder::new().layer(ReadyInCallLayer);
        assert_eq!(format!("{:?}", owning.service(())), "ReadyInCall { inner: () }");
        assert!(FallbackConfig::default().validate().is_ok());
    }
}
