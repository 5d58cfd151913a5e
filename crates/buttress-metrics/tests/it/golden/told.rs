//! Who listens to the script: an exporter and a subscriber, both as text.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::PrometheusRecorder;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span,
};

/// Prometheus' recorder, and the units that it was told and does not render.
pub(super) struct Told {
    recorder: PrometheusRecorder,
    units: Mutex<BTreeMap<String, Option<Unit>>>,
}

impl Told {
    pub(super) fn new(recorder: PrometheusRecorder) -> Self {
        Self { recorder, units: Mutex::default() }
    }

    /// The page, sorted, without what no two runs have in common.
    pub(super) fn page(&self) -> Vec<String> {
        let rendered = self.recorder.handle().render();
        let mut page: Vec<String> = Vec::new();
        for line in rendered.lines().filter(|line| !line.is_empty()) {
            match (bucket(line), page.last_mut()) {
                // The buckets of a series stand together, and are much to read a line each.
                (Some((series, count)), Some(last)) if last.starts_with(&series) => *last += &count,
                (Some((series, count)), _) => page.push(series + &count),
                (None, _) => page.push(masked(line)),
            }
        }
        let rendered = page.clone();
        for (name, unit) in self.units.lock().unwrap().iter() {
            let told = format!("# TYPE {name} ");
            if rendered.iter().any(|line| line.starts_with(&told)) {
                page.push(format!("# UNIT {name} {}", unit.map_or("none", |unit| unit.as_str())));
            }
        }
        page.sort();
        page
    }

    fn unit(&self, name: &KeyName, unit: Option<Unit>) {
        self.units.lock().unwrap().insert(name.as_str().to_owned(), unit);
    }
}

/// The series of a bucket without its bound, and bound and count.
fn bucket(line: &str) -> Option<(String, String)> {
    let (series, bound) = line.split_once("le=\"")?;
    let (bound, count) = bound.split_once("\"} ")?;
    Some((format!("{}}}", series.trim_end_matches(',')), format!(" {bound}:{count}")))
}

/// The line without the time of the day and the version.
fn masked(line: &str) -> String {
    match line.rsplit_once(' ') {
        Some((series, time)) if series.contains("_timestamp_seconds{") => {
            let seconds: f64 = time.parse().unwrap();
            assert!(seconds > 1.7e9 && seconds < 1e11, "{line}");
            format!("{series} <time>")
        }
        Some((series, _)) if series.contains("build_info{") => {
            line.replace(env!("CARGO_PKG_VERSION"), "<version>")
        }
        _ => line.to_owned(),
    }
}

impl Recorder for Told {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.unit(&key, unit);
        self.recorder.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.unit(&key, unit);
        self.recorder.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.unit(&key, unit);
        self.recorder.describe_histogram(key, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.recorder.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.recorder.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.recorder.register_histogram(key, metadata)
    }
}

/// All lines under a target of ours, at every level, with their fields in the order of the call site.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// One line. A field's type shows: subscribers that write JSON tell them apart.
struct Line(String);

impl Line {
    fn push(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        self.0 += &format!(" {}={value}", field.name());
    }
}

impl Visit for Line {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, format_args!("{value:?}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, format_args!("{value}i64"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, format_args!("{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, format_args!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.push(field, format_args!("error<{value}>"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, format_args!("<{value:?}>"));
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("buttress")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        panic!("no span is opened around calls");
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let meta = event.metadata();
        assert!(meta.is_event());
        let mut line = Line(format!("{} {}", meta.level(), meta.target()));
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
