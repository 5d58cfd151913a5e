//! Metrics and log lines, over the public API.

mod breaker;
mod bulkhead;
mod catalog;
mod check;
mod end_to_end;
mod every_value;
mod exporter;
mod fallback;
mod gate;
#[cfg(all(feature = "prometheus", feature = "tracing"))]
mod golden;
mod handles;
mod meter;
mod names;
mod namesakes;
mod refresh;
mod retry;
mod settings;
mod timeout;
#[cfg(feature = "tracing")]
mod trace;

use std::{sync::Arc, time::Duration};

use buttress_core::{
    Code, Event, Kind, Level, Name, Note, Observer, Outcome, Recorder, Rejection, Transition, Word,
};
use buttress_metrics::{LabelDef, MetricKind, Metrics, catalog};
use buttress_test::MetricsProbe;

/// The patterns whose policies are driven here. What holds for all there are is in the tests of the suite.
static KINDS: &[Kind] = &[
    &buttress_breaker::KIND,
    &buttress_breaker::KEYED,
    &buttress_retry::KIND,
    &buttress_timeout::KIND,
    &buttress_bulkhead::KIND,
    &buttress_fallback::KIND,
    &buttress_metrics::meter::KIND,
];

/// A recorder for the test's thread. When the test ends, all it has seen must be in the catalogue of the kinds.
struct Seen(MetricsProbe, Vec<Kind>);

impl Seen {
    /// For real policies. What they emit counts as emitted by the whole test run, which `cargo xtask test` holds
    /// against the catalogue.
    fn new() -> Self {
        Self(MetricsProbe::new(), KINDS.to_vec())
    }

    /// For events that are made by hand, as those of a `policy` here are, and for names with a prefix: they say
    /// nothing about what policies emit.
    fn by_hand() -> Self {
        Self(MetricsProbe::off_the_record(), KINDS.to_vec())
    }

    /// For policies of another kind too.
    fn and(mut self, kind: Kind) -> Self {
        self.1.push(kind);
        self
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
        let catalog = catalog(&self.1);
        for series in self.0.series() {
            let def = catalog.iter().find(|def| series.name.ends_with(def.name));
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
        // The seam catches panics.
        assert_eq!(buttress_kit::listener_panics(), 0);
    }
}

/// A policy's end of the seam, observed by metrics alone; to be used with [`Seen::by_hand`].
struct Policy {
    name: Name,
    recorder: Option<Arc<dyn Recorder>>,
}

fn policy(kind: Kind, name: &str, metrics: &Metrics) -> Policy {
    let name = Name::new(name);
    Policy { recorder: metrics.attach(kind, &name), name }
}

impl Policy {
    fn emit(&self, event: Event<'_>) {
        if let Some(recorder) = &self.recorder {
            recorder.record(&event);
        }
    }

    fn note(&self, note: Note) {
        self.emit(Event::Note(&note));
    }

    fn level(&self, level: Level) {
        self.emit(Event::Level(level));
    }

    fn change(&self, from: Word, to: Word) {
        self.emit(Event::Transition(&Transition::new(from, to, "auto")));
    }

    fn refuse(&self, code: &'static Code, shadow: bool) {
        self.emit(Event::Refused { rejection: &Rejection::new(code, &self.name), shadow });
    }

    fn is_timed(&self) -> bool {
        self.recorder.as_ref().is_some_and(|recorder| recorder.timed())
    }
}

fn done(outcome: Outcome) -> Event<'static> {
    done_after(outcome, None)
}

fn done_after(outcome: Outcome, elapsed: Option<Duration>) -> Event<'static> {
    Event::Done { outcome, result: outcome.as_str(), elapsed, slow: false, attempts: 1, error: None }
}

/// Ended in the pattern's own word.
fn done_as(outcome: Outcome, result: Word) -> Event<'static> {
    Event::Done { outcome, result, elapsed: None, slow: false, attempts: 1, error: None }
}

/// Real time: what is tested with it waits for exporters and for the age of handles, and these know no other.
#[allow(clippy::disallowed_methods)]
fn sleep(time: Duration) {
    std::thread::sleep(time);
}
