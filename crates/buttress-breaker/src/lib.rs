//! A circuit breaker: stops calling a service that fails, and finds out when it works again.
//!
//! ```
//! # mod buttress { pub use {buttress_breaker::*, buttress_core::*}; }
//! # tokio_test::block_on(async {
//! use std::time::Duration;
//!
//! use buttress::{BoxError, Breaker, State, rejection};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! let breaker = Breaker::builder("payments")
//!     .consecutive_failures(2)
//!     .open_for(Duration::from_secs(5))
//!     .build()
//!     .unwrap();
//! let down = service_fn(|_: u32| async { Err::<u32, BoxError>("connection refused".into()) });
//! let svc = breaker.layer().layer(down);
//!
//! svc.clone().oneshot(1).await.unwrap_err();
//! svc.clone().oneshot(2).await.unwrap_err();
//! let refused = svc.oneshot(3).await.unwrap_err();
//! assert_eq!(rejection(&*refused).unwrap().code(), "CIRCUIT_OPEN");
//! assert_eq!(breaker.state(), State::Open);
//! assert_eq!(breaker.last_error().as_deref(), Some("connection refused"));
//! # });
//! ```
//!
//! # When not
//! - For calls that stay in the process: nothing there is down while the rest is up.
//! - For calls that fail because of what they ask. Let a [classifier](BreakerLayer::classify_with) say so, or they
//!   open the circuit for everybody.
//! - To bound how long calls take or how many there are: that is what timeouts and bulkheads are for.
//!
//! # Place in a stack
//! A *through* layer, one that lets readiness through: it is ready when the service inside is, and calls the very
//! instance that said so. Inside of retry, outside of the bulkhead:
//! `… > total timeout > retry > breaker > bulkhead > attempt timeout > service`. There each attempt is an outcome of its
//! own; if the whole call should be one, put the breaker outside of retry.
//!
//! # States
//! ```text
//!             a rule says so                  the wait is over, and a call comes
//!   ┌────────┐ ───────────────▶ ┌──────┐ ───────────────────────▶ ┌───────────┐
//!   │ closed │                  │ open │                          │ half-open │
//!   └────────┘ ◀──────┐         └──────┘ ◀─────────────────────── └───────────┘
//!                     │             a probe fails, or no verdict in time │
//!                     └─────────────────────────────────────────────────┘
//!                                  enough probes succeed
//! ```
//! By hand: [`force_open`](Breaker::force_open) (recovers by itself), [`isolate`](Breaker::isolate) (does not),
//! [`disable`](Breaker::disable) and [`metrics_only`](Breaker::metrics_only) (let everything in),
//! [`force_close`](Breaker::force_close), [`reset`](Breaker::reset).
//!
//! Every admission carries the generation it was made in, and each change of state begins a new one: a result that comes
//! late changes nothing. Nothing runs in the background. [`Breaker::state`] says half-open as soon as the wait is over;
//! the transition itself happens with the next call. So with the end of
//! [`half_open_timeout`](BreakerConfig::half_open_timeout), which a look by [`Breaker::snapshot`] brings about too.
//!
//! # Ready, open, half-open
//! A refusal comes from `call`, never from `poll_ready`, whose error means "throw this service away". An open circuit is
//! ready at once and leaves the inner service alone, ready or not; a caller that was waiting for the inner service is
//! woken when the circuit opens. A probe is taken in `call` only. Under a load balancer a fast refusal looks like the
//! endpoint with the least to do: there, [`gate_readiness`](BreakerConfig::gate_readiness) makes an open circuit not
//! ready instead, until the wait is over or somebody changes the state.
//!
//! # Many circuits
//! Each service that is called needs a breaker of its own. A [`Registry`](buttress_kit::Registry) keeps them by name,
//! beside policies of other patterns:
//!
//! ```
//! # mod buttress { pub use {buttress_breaker::Breaker, buttress_kit::*}; pub mod breaker { pub use buttress_breaker::*; } }
//! use buttress::{Breaker, Health, Registry, breaker::State};
//!
//! let registry = Registry::new();
//! let new = |name| Breaker::builder(name).consecutive_failures(3).build();
//! let (tool, api) = (registry.get_or_create("demucs", new)?, registry.get_or_create("api", new)?);
//! tool.force_open();
//! assert_eq!(api.state(), State::Closed);
//!
//! let all = registry.list_of::<Breaker>();
//! assert_eq!(all.iter().filter(|breaker| breaker.state() == State::Open).count(), 1);
//! assert_eq!(registry.health().worst, Health::Down);
//! # Ok::<(), buttress_core::ConfigError>(())
//! ```
//!
//! [`Breaker::keyed`] has one circuit for each key found in the request (tenant, host), with one set of settings and a
//! bound on their number.
//!
//! # Results
//! | the caller gets | when |
//! |---|---|
//! | what the service answered, unchanged | the call was let in |
//! | [`CIRCUIT_OPEN`](OPEN) | it was not: the circuit is open or isolated, all probes are under way, or a ramp holds it back; nothing was sent |
//! | [`CIRCUIT_TIMEOUT`](CALL_TIMEOUT) | it was let in and took longer than [`call_timeout`](BreakerConfig::call_timeout); it was sent |
//!
//! Every refusal has a [`retry_after`](buttress_core::Rejection::retry_after), of 1 ms at least: what is left of the
//! open wait; while half-open, until a probe's slot comes back, but no longer than the circuit was open; during a ramp,
//! a tenth of it at most; isolated, a hint that is as long as a first opening. The end of a call at
//! `call_timeout` is no refusal, and has none.
//!
//! # What is told
//! | event | when |
//! |---|---|
//! | [`Done`](buttress_core::Event::Done) | a call that was let in ended: once each, however it ended |
//! | [`Refused`](buttress_core::Event::Refused) | a call was refused, or would have been (`shadow`) |
//! | [`Transition`](buttress_core::Event::Transition) | the state changed, with cause, counts, shares and times; in order, outside of every lock |
//! | [`Level`](buttress_core::Event::Level) | the state when an observer attaches; the shares of failures and slow calls as they change |
//! | [`Note`](buttress_core::Event::Note) | a reset; new settings; an expired lease; a threshold passed in `metrics_only`; an evicted key |
//!
//! A keyed breaker tells the transitions of every key, with the key if keys are [shown](KeyedBreaker::show_keys), and
//! instead of state and shares how many keys are in which state (the level [`KEYS`](words::KEYS)).
//!
//! [`KIND`] and [`KEYED`] have the metrics and the log lines that are made of this; `docs/metrics.md` of the repository
//! has them all.
//!
//! # Settings
//! | setting | default |
//! |---|---|
//! | [`consecutive_failures`](BreakerConfig::consecutive_failures) | no such rule |
//! | [`failure_rate`](BreakerConfig::failure_rate) | 0.5, if no other rule is set |
//! | [`failure_count`](BreakerConfig::failure_count) | no such rule |
//! | [`slow_call_duration`](BreakerConfig::slow_call_duration), [`slow_call_rate`](BreakerConfig::slow_call_rate) | no such rule |
//! | [`minimum_calls`](BreakerConfig::minimum_calls) | 20 if a rate is a rule, else 0 |
//! | [`window`](BreakerConfig::window) | the last 10 s, in 10 buckets; or a count of calls, or an interval |
//! | [`comparison`](BreakerConfig::comparison) | at the threshold (`>=`) |
//! | [`open_for`](BreakerConfig::open_for) | as `open_backoff` says |
//! | [`open_backoff`](BreakerConfig::open_backoff) | 5 s, doubled with each opening up to 60 s, ± 50 % |
//! | [`retry_after_max`](BreakerConfig::retry_after_max) | none: a failure cannot ask for a longer wait |
//! | [`permitted_probes`](BreakerConfig::permitted_probes) | 1 at once |
//! | [`success_threshold`](BreakerConfig::success_threshold) | 2 |
//! | [`half_open_sample`](BreakerConfig::half_open_sample), [`half_open_failure_rate`](BreakerConfig::half_open_failure_rate) | the first failed probe opens |
//! | [`half_open_timeout`](BreakerConfig::half_open_timeout), [`half_open_timeout_closes`](BreakerConfig::half_open_timeout_closes) | half-open until there is a verdict |
//! | [`probe_lease`](BreakerConfig::probe_lease) | as long as the circuit was open, a minute at most |
//! | [`ramp`](BreakerConfig::ramp) | none |
//! | [`call_timeout`](BreakerConfig::call_timeout) | none |
//! | [`on_cancel`](BreakerConfig::on_cancel) | [`OnCancel::WhenAll`] |
//! | [`abandoned_after`](BreakerConfig::abandoned_after) | 100 ms |
//! | [`gate_readiness`](BreakerConfig::gate_readiness) | `false` |
//! | [`mode`](BreakerConfig::mode) | enforce |
//! | [`initial_state`](BreakerConfig::initial_state) | closed |
//!
//! Why not five failures in a row, as many do: that is a question of traffic. At 1 000 calls a second of which a tenth
//! fails, five in a row come about every two minutes.
//!
//! # Cost
//! A call through a closed circuit reads one word and counts it down by one; it takes no lock and allocates nothing. A
//! time window adds one look at the clock, slow-call rules another. Failures, probes and changes of state take a lock
//! for as long as a few additions take; refusals hardly ever do.
//!
//! # Panics
//! A call with a [`call_timeout`](BreakerConfig::call_timeout) that is not ready at its first poll needs a tokio runtime
//! with time enabled, and so do calls that wait at the readiness gate or for the end of half-open.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod atomic;
mod breaker;
mod census;
mod circuit;
mod config;
mod engine;
mod future;
mod keyed;
mod kind;
mod layer;
mod permit;
mod rules;
mod service;
mod shared;
mod snapshot;
mod state;
mod sync;
mod timer;
mod validate;
mod window;
pub mod words;

pub use crate::{
    breaker::Breaker,
    config::{BreakerBuilder, BreakerConfig, Comparison, OnCancel, Ramp, WindowConfig},
    future::BreakerFuture,
    keyed::{KeyedBreaker, KeyedBreakerSnapshot, KeyedLayer, KeyedService},
    kind::{KEYED, KIND},
    layer::{AnyBreakerLayer, BreakerLayer},
    permit::Permit,
    service::BreakerService,
    snapshot::{BreakerSnapshot, WindowCounts},
    state::{IllegalTransition, OpenReason, State},
    words::{CALL_TIMEOUT, OPEN},
};
