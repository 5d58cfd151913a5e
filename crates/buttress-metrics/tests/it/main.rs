//! Metrics and log lines, over the public API.

mod breaker;
mod bulkhead;
mod catalog;
mod contrib;
mod end_to_end;
mod every_value;
mod exporter;
mod fallback;
#[cfg(all(feature = "prometheus", feature = "tracing"))]
mod golden;
mod handles;
mod names;
mod promql;
mod retry;
mod settings;
mod timeout;
#[cfg(feature = "tracing")]
mod trace;

use std::time::Duration;

use buttress_core::{Emitter, Event, Name, Outcome, PolicyKind, observe};
use buttress_metrics::{CATALOG, LabelDef, MetricKind, Metrics};
use buttress_test::MetricsProbe;

/// A recorder for the test's thread. When the test ends, all it has seen must be in the catalogue.
struct Seen(MetricsProbe);

impl Seen {
    /// For real policies. What they emit counts as emitted by the whole test run, which `cargo xtask test` holds
    /// against the catalogue.
    fn new() -> Self {
        Self(MetricsProbe::new())
    }

    /// For events that are made by hand, as those of a `policy` here are, and for names with a prefix: they say
    /// nothing about what policies emit.
    fn by_hand() -> Self {
        Self(MetricsProbe::off_the_record())
    }

    fn counter(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.0.counter(name, labels)
    }

    fn gauge(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.0.gauge(name, labels)
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for series in self.0.series() {
            let def = CATALOG.iter().find(|def| series.name.ends_with(def.name));
            let def = def.unwrap_or_else(|| panic!("{} is not in the catalogue", series.name));
            let kind = match def.kind {
                MetricKind::Counter => buttress_test::MetricKind::Counter,
                MetricKind::Gauge => buttress_test::MetricKind::Gauge,
                _ => buttress_test::MetricKind::Histogram,
            };
            assert_eq!(series.kind, kind, "{}", series.name);
            let mut keys: Vec<_> = def.labels.iter().map(|label| label.key).collect();
            keys.sort_unstable();
            assert_eq!(series.labels.iter().map(|(key, _)| key).collect::<Vec<_>>(), keys, "{}", series.name);
            for (key, value) in &series.labels {
                let LabelDef { values, .. } = def.labels.iter().find(|label| label.key == key).unwrap();
                let known = values.is_empty() || values.contains(&value.as_str());
                assert!(known, "{}{{{key}={value:?}}} is not in the catalogue", series.name);
            }
        }
        // Recorders check their own labels in debug builds, and the seam catches panics.
        assert_eq!(observe::listener_panics(), 0);
    }
}

/// A policy's end of the seam, observed by `metrics` alone; to be used with [`Seen::by_hand`].
fn policy(kind: PolicyKind, name: &str, metrics: &Metrics) -> Emitter {
    let policy = Emitter::new(kind, Name::new(name));
    policy.observe(metrics);
    policy
}

fn done(outcome: Outcome) -> Event<'static> {
    done_after(outcome, None)
}

fn done_after(outcome: Outcome, elapsed: Option<Duration>) -> Event<'static> {
    Event::Done { outcome, elapsed, slow: false, attempts: 1, error: None }
}

/// Real time: what is tested with it waits for exporters and for the age of handles, and these know no other.
#[allow(clippy::disallowed_methods)]
fn sleep(time: Duration) {
    std::thread::sleep(time);
}
