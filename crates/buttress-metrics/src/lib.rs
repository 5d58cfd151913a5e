//! Exports what buttress policies do, through the [`metrics`] facade and through `tracing`.
//!
//! One call, and every policy of the process is seen, those that exist and those to come, a third party's too:
//!
//! ```
//! # mod buttress { pub use {buttress_core::BoxError, buttress_timeout::Timeout}; pub mod metrics { pub use buttress_metrics::*; } }
//! # tokio_test::block_on(async {
//! # let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
//! # let page = recorder.handle();
//! # metrics::set_global_recorder(recorder).unwrap();
//! use std::time::Duration;
//!
//! buttress::metrics::install(); // before or after the exporter: a late one is found within a second
//!
//! let limit = Duration::from_millis(100);
//! let timeout = buttress::Timeout::builder("payments").limit(limit).build().unwrap();
//! timeout.call(|| async { Ok::<_, buttress::BoxError>(12) }).await.unwrap();
//!
//! assert!(page.render().contains(r#"timeout_operations_total{name="payments",result="success"} 1"#));
//! # });
//! ```
//!
//! Names have no prefix, and `retry_attempts_total` is what other libraries export too: where there is one, install with
//! [`MetricsBuilder::prefix`].
//!
//! Not needed for reading a policy's state in code: that is its `snapshot()`. It is no layer and has no place in
//! a stack: policies tell it through [`buttress_core::observe`].
//!
//! # Names
//! What a pattern exports is said by the tables of its [kind](buttress_core::KindData); nothing here knows any pattern.
//! [`catalog`] lists it, with the labels and all values that these can have, and [`check`] tells what is wrong with a
//! table. The common label `name` is the policy's name and nothing else: never a key, a host or a path. How a call ended is the label `result` everywhere, and `cancelled` (the
//! caller dropped it) is one of its values, so `sum(…_calls_total)` is the number of calls that ended.
//!
//! # Handles
//! A handle of the `metrics` facade that was made before the recorder was installed is dead for ever, and so is
//! one whose series the exporter evicted while it was idle. So a policy's handles are cached, which makes a count
//! cost a few nanoseconds, and resolved again when they are a second old, which costs one look at the clock per
//! call. [`HandleMode::PerCall`] is for recorders that depend on the thread or the span.
//!
//! Counters begin at 0 with their policy's first event, so that `rate` sees the first failure; only those of changes
//! by hand and of shadow mode begin when there is one. Gauges are set, never incremented, and set again whenever
//! handles are resolved.
//!
//! # When nobody calls
//! What moves by time alone is told by nobody: an open breaker whose wait is over is half-open, and a retry budget
//! fills up. [`refresh`] asks all live policies, so whoever makes the page calls it first
#![cfg_attr(feature = "prometheus", doc = "([`prometheus::render`] does both);")]
#![cfg_attr(not(feature = "prometheus"), doc = "(`prometheus::render` does both);")]
//! [`refresher`] is a task that does so again and again, for exporters that push or serve the page themselves.
//!
//! When a policy is dropped, its gauges go to rest: no breaker stays open for ever because it is gone.
//!
//! # One name for several
//! Give each policy of a kind its own name. Of several live ones that share one, counters add up, and the gauges are
//! those of the one that has lived longest; when that one goes, those of the next are told at once. So a breaker that
//! was replaced leaves nothing behind, be its last call ever so late.
//!
//! # Buckets
//! Exporters must be told the buckets of histograms: see [`buckets`].
//!
//! # Defaults
//! | setting | default |
//! |---|---|
//! | [`prefix`](MetricsBuilder::prefix) | none |
//! | [`histograms`](MetricsBuilder::histograms) | on |
//! | [`handle_mode`](MetricsBuilder::handle_mode) | [`HandleMode::Cached`] |
//! | [`max_names`](MetricsBuilder::max_names) | 1000, further ones are [`OTHER`] |
//!
//! # A stage that has no pattern
//! [`meter`] is a layer that counts and times the calls of any service.
//!
//! # Features
//! - `prometheus`: `prometheus::with_buckets`, for `metrics-exporter-prometheus`.
//! - `tracing`: the module `trace`, log lines for what happens to policies.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod catalog;
mod check;
mod clock;
mod exported;
pub mod meter;
mod namesakes;
mod places;
#[cfg(feature = "prometheus")]
pub mod prometheus;
mod recorder;
mod series;
#[cfg(feature = "tracing")]
mod site;
#[cfg(feature = "tracing")]
pub mod trace;

pub use crate::{
    catalog::{DURATION_BUCKETS, LabelDef, MetricDef, MetricKind, OTHER, WAIT_BUCKETS, buckets, catalog},
    check::check,
    exported::{HandleMode, Metrics, MetricsBuilder, describe_all, install, refresh, refresher},
};
