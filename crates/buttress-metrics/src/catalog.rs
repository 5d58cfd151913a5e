//! What kinds export, written out: names, types, labels with their values, bounds of buckets.

use buttress_core::{Kind, Metric, Rows, Unit, Word};
use metrics::{KeyName, Recorder, SharedString};

/// What a metric counts or measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Has a current value.
    Gauge,
    /// A distribution.
    Histogram,
}

impl MetricKind {
    /// As in Prometheus' `# TYPE` lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }

    pub(crate) const fn of(rows: &Rows) -> Self {
        match rows {
            Rows::Level(..) | Rows::LevelOf(..) | Rows::OneHot | Rows::ChangedAt => Self::Gauge,
            Rows::Elapsed(..) | Rows::Took(_) | Rows::Delays => Self::Histogram,
            _ => Self::Counter,
        }
    }
}

/// A label of a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LabelDef {
    /// Its key.
    pub key: &'static str,
    /// All the values it can have. Empty for `name` and `kind`, whose values are those of policies, and for `version`.
    pub values: Vec<Word>,
}

impl LabelDef {
    const fn open(key: &'static str) -> Self {
        Self { key, values: Vec::new() }
    }
}

/// A metric: its name, what it is, and what it means. Listed by [`catalog`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetricDef {
    /// The name, without a prefix.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// The unit, if there is one that the name tells too.
    pub unit: Option<metrics::Unit>,
    /// The labels. Each series has all of them.
    pub labels: Vec<LabelDef>,
    /// What it tells, for `# HELP`.
    pub help: &'static str,
    /// The pattern it is from; `None` if it is from none.
    pub policy: Option<Kind>,
}

impl MetricDef {
    pub(crate) fn of(kind: Kind, metric: &Metric) -> Self {
        Self {
            name: metric.name,
            kind: MetricKind::of(&metric.rows),
            unit: unit_of(metric),
            labels: [LabelDef::open("name")].into_iter().chain(labels_of(kind, &metric.rows)).collect(),
            help: metric.help,
            policy: Some(kind),
        }
    }
}

/// Says which buttress exports.
pub(crate) const BUILD_INFO: &str = "buttress_build_info";
const BUILD_INFO_HELP: &str = "1; the version of buttress-metrics is the label.";

/// What listeners were not told.
pub(crate) const MISSED: &str = "policy_events_missed_total";
const MISSED_HELP: &str =
    "Events that some listener was not told, because it did not keep up. What is exported here misses none.";

/// What overflowing names are exported as, see [`MetricsBuilder::max_names`](crate::MetricsBuilder::max_names).
pub const OTHER: &str = "__other__";

/// Upper bounds for durations of calls, in seconds: [`Metric::DURATIONS`].
pub const DURATION_BUCKETS: &[f64] = Metric::DURATIONS;

/// Upper bounds for waits, in seconds: [`Metric::WAITS`].
pub const WAIT_BUCKETS: &[f64] = Metric::WAITS;

/// Every metric that policies of these kinds have, in the order of the kinds' tables, and those of all kinds: missed
/// events and `buttress_build_info`.
///
/// For the kinds of buttress itself give it `buttress::KINDS`. The documentation's table, the shipped dashboard and
/// the shipped alerts are held against that by tests.
pub fn catalog(kinds: &[Kind]) -> Vec<MetricDef> {
    let build_info = MetricDef {
        name: BUILD_INFO,
        kind: MetricKind::Gauge,
        unit: None,
        labels: vec![LabelDef::open("version")],
        help: BUILD_INFO_HELP,
        policy: None,
    };
    let missed = MetricDef {
        name: MISSED,
        kind: MetricKind::Counter,
        unit: None,
        labels: vec![LabelDef::open("name"), LabelDef::open("kind")],
        help: MISSED_HELP,
        policy: None,
    };
    let of_kinds = metrics_of(kinds).into_iter().map(|(kind, metric)| MetricDef::of(kind, metric));
    of_kinds.chain([missed, build_info]).collect()
}

/// The bounds for each histogram of these kinds, by name without a prefix.
///
/// Most exporters need to be told. `metrics-exporter-prometheus` renders a histogram without buckets as a
/// summary, and then there are no `_bucket` series for `histogram_quantile`; with feature `prometheus`,
#[cfg_attr(feature = "prometheus", doc = "[`prometheus::with_buckets`](crate::prometheus::with_buckets)")]
#[cfg_attr(not(feature = "prometheus"), doc = "`prometheus::with_buckets`")]
/// sets them all.
pub fn buckets(kinds: &[Kind]) -> Vec<(&'static str, &'static [f64])> {
    let all = metrics_of(kinds).into_iter().map(|(_, metric)| (metric.name, metric.buckets));
    all.filter(|(_, bounds)| !bounds.is_empty()).collect()
}

/// Each metric once: the keyed form of a pattern has most of those of the plain one.
fn metrics_of(kinds: &[Kind]) -> Vec<(Kind, &'static Metric)> {
    let mut all: Vec<(Kind, &'static Metric)> = Vec::new();
    for (kind, metric) in kinds.iter().flat_map(|kind| kind.metrics.iter().map(|metric| (*kind, metric))) {
        if !all.iter().any(|(_, known)| known.name == metric.name) {
            all.push((kind, metric));
        }
    }
    all
}

/// The labels besides `name`.
fn labels_of(kind: Kind, rows: &Rows) -> Vec<LabelDef> {
    let label = |key, values: Vec<Word>| LabelDef { key, values };
    match *rows {
        Rows::Counters(key, rows) | Rows::Elapsed(key, rows) => {
            let mut values: Vec<Word> = Vec::new();
            for (value, _) in rows {
                if !values.contains(value) {
                    values.push(value);
                }
            }
            vec![label(key, values)]
        }
        Rows::Changes(_) => ["from", "to"].map(|key| label(key, kind.states.to_vec())).into(),
        Rows::LevelOf(_, key, values) => vec![label(key, values.to_vec())],
        Rows::OneHot => vec![label("state", kind.states.to_vec())],
        _ => Vec::new(),
    }
}

fn unit_of(metric: &Metric) -> Option<metrics::Unit> {
    Some(match metric.unit? {
        Unit::Seconds => metrics::Unit::Seconds,
        Unit::Bytes => metrics::Unit::Bytes,
        _ => return None,
    })
}

/// The name with the prefix of the process before it.
pub(crate) fn prefixed(prefix: &str, name: &'static str) -> SharedString {
    // `buttress_build_info` has the likeliest prefix already.
    if prefix.is_empty() || (name == BUILD_INFO && name.starts_with(prefix)) {
        SharedString::const_str(name)
    } else {
        SharedString::from(format!("{prefix}{name}"))
    }
}

pub(crate) fn describe(kind: Kind, prefix: &str, recorder: &dyn Recorder) {
    for metric in kind.metrics {
        let name = KeyName::from(prefixed(prefix, metric.name));
        let (unit, help) = (unit_of(metric), SharedString::const_str(metric.help));
        match MetricKind::of(&metric.rows) {
            MetricKind::Counter => recorder.describe_counter(name, unit, help),
            MetricKind::Gauge => recorder.describe_gauge(name, unit, help),
            MetricKind::Histogram => recorder.describe_histogram(name, unit, help),
        }
    }
}

pub(crate) fn describe_common(prefix: &str, recorder: &dyn Recorder) {
    let (name, help) = (prefixed(prefix, BUILD_INFO), SharedString::const_str(BUILD_INFO_HELP));
    recorder.describe_gauge(KeyName::from(name), None, help);
    let (name, help) = (prefixed(prefix, MISSED), SharedString::const_str(MISSED_HELP));
    recorder.describe_counter(KeyName::from(name), None, help);
}
