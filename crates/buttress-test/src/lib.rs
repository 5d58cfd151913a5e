//! A test kit for Tower middleware, whoever wrote it.
//!
//! - [`Probe`] and [`script!`]: a service for the inside of a stack, which answers by script, keeps the requests,
//!   and watches that the middleware around it keeps the contract of `Service`.
//! - [`contract::check`]: goes through the ways in which middleware gets readiness, cancellation and wake-ups
//!   wrong, and reports them by name.
//! - [`Recording`]: an observer that keeps the events of buttress policies.
//! - [`MetricsProbe`]: a metrics recorder that may be read as often as one likes.
//! - [`drop_at_every_await`], [`CountingWaker`], [`poll_once`], [`settle`], [`advance`]: polling by hand, under
//!   tokio's paused time.
//!
//! It needs no buttress policy to be of use: all but `Recording` is for any `Layer` and any `Service`.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?.block_on(async {
//! use std::time::Duration;
//! use buttress_test::{BoxError, Probe, contract, drop_at_every_await, script, step};
//! use tower::{Layer, ServiceExt, load_shed::LoadShedLayer};
//!
//! // Does it keep the contract, in 20 scenarios?
//! contract::check(LoadShedLayer::new).assert_clean();
//!
//! // What does it do with this inner service? Which panics where it is called without being ready.
//! let script = script![delay(Duration::from_secs(5), ok("late")), err("down")];
//! let inner: Probe<u32, &str, BoxError> = script.service().slots(1);
//! let service = LoadShedLayer::new().layer(inner.clone());
//! assert_eq!(service.clone().oneshot(1).await.unwrap(), "late");
//! assert_eq!(service.clone().oneshot(2).await.unwrap_err().to_string(), "down");
//! assert_eq!((inner.requests(), inner.free_slots()), (vec![1, 2], 1));
//!
//! // Is everything given back wherever the caller gives up?
//! let inner: Probe = Probe::new(|n| step::yields(2, step::ok(*n))).slots(1);
//! let service = LoadShedLayer::new().layer(inner.clone());
//! let polls = drop_at_every_await(|| service.clone().oneshot(1), |_| assert_eq!(inner.free_slots(), 1)).await;
//! assert_eq!(polls, 3);
//! # Ok(()) }) }
//! ```
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod contract;
mod metrics_probe;
mod on_record;
mod poll;
mod probe;
mod recording;
mod script;

pub use buttress_core::BoxError;

pub use crate::{
    metrics_probe::{Description, MetricKind, MetricsProbe, Series},
    poll::{CountingWaker, advance, drop_at_every_await, poll_once, settle},
    probe::{Breach, Probe, ProbeFuture, Slot},
    recording::{Recorded, Recording, What},
    script::{Script, Step, step},
};
