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
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod contract;
mod metrics_probe;
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
