use buttress_core::PolicyKind;
use metrics::{Key, KeyName, Recorder, SharedString, Unit};

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
}

/// A label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LabelDef {
    /// Its key.
    pub key: &'static str,
    /// All the values it can have. Empty for `name`, whose values are the names of policies, and for `version`.
    pub values: &'static [&'static str],
}

/// A metric: its name, what it is, and what it means. Listed in [`CATALOG`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetricDef {
    /// The name, without a prefix.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// The unit, where there is one that the name tells too.
    pub unit: Option<Unit>,
    /// The labels. Each series has all of them.
    pub labels: &'static [LabelDef],
    /// What it tells, for `# HELP`.
    pub help: &'static str,
    /// The pattern it is from; `None` where it is from none.
    pub policy: Option<PolicyKind>,
}

impl MetricDef {
    /// The name with the prefix of the process before it, once.
    pub(crate) fn name_with(&self, prefix: &str) -> SharedString {
        // `buttress_build_info` has the likeliest prefix already.
        let has_it = self.policy.is_none() && self.name.starts_with(prefix);
        if prefix.is_empty() || has_it {
            SharedString::const_str(self.name)
        } else {
            SharedString::from(format!("{prefix}{}", self.name))
        }
    }

    /// The key of one series. `values` are those of the labels, in order.
    pub(crate) fn key(&self, prefix: &str, values: &[SharedString]) -> Key {
        debug_assert_eq!(self.labels.len(), values.len(), "{}", self.name);
        let labels = self.labels.iter().zip(values).map(|(label, value)| {
            debug_assert!(
                label.values.is_empty() || label.values.contains(&&**value),
                "{}{{{}=\"{value}\"}} is not in the catalogue",
                self.name,
                label.key,
            );
            metrics::Label::new(label.key, value.clone())
        });
        Key::from_parts(self.name_with(prefix), labels.collect::<Vec<_>>())
    }

    pub(crate) fn describe(&self, prefix: &str, recorder: &dyn Recorder) {
        let (name, help) = (KeyName::from(self.name_with(prefix)), SharedString::const_str(self.help));
        match self.kind {
            MetricKind::Counter => recorder.describe_counter(name, self.unit, help),
            MetricKind::Gauge => recorder.describe_gauge(name, self.unit, help),
            MetricKind::Histogram => recorder.describe_histogram(name, self.unit, help),
        }
    }
}

/// One place for each metric: the constant that recorders use and its entry in `CATALOG` cannot come apart.
macro_rules! catalog {
    ($($def:ident = $kind:ident $name:literal $policy:tt $unit:tt [$($label:expr),*] $help:literal;)*) => {
        $(pub(crate) const $def: MetricDef = MetricDef {
            name: $name,
            kind: MetricKind::$kind,
            unit: catalog!(@unit $unit),
            labels: &[$($label),*],
            help: $help,
            policy: catalog!(@policy $policy),
        };)*

        /// Every metric there is, in the order of the documentation.
        ///
        /// The documentation's table, the shipped dashboard and the shipped alerts are held against it by tests.
        pub const CATALOG: &[MetricDef] = &[$($def),*];
    };
    (@unit -) => { None };
    (@unit $unit:ident) => { Some(Unit::$unit) };
    (@policy -) => { None };
    (@policy $policy:ident) => { Some(PolicyKind::$policy) };
}

/// What overflowing names are exported as, see [`MetricsBuilder::max_names`](crate::MetricsBuilder::max_names).
pub const OTHER: &str = "__other__";

const NAME: LabelDef = LabelDef { key: "name", values: &[] };
const VERSION: LabelDef = LabelDef { key: "version", values: &[] };

pub(crate) const STATES: &[&str] = &["closed", "open", "half_open", "isolated", "disabled", "metrics_only"];
const FROM: LabelDef = LabelDef { key: "from", values: STATES };
const TO: LabelDef = LabelDef { key: "to", values: STATES };
const STATE: LabelDef = LabelDef { key: "state", values: STATES };

const fn result(values: &'static [&'static str]) -> LabelDef {
    LabelDef { key: "result", values }
}

const fn reason(values: &'static [&'static str]) -> LabelDef {
    LabelDef { key: "reason", values }
}

const BREAKER_RESULT: LabelDef = result(&["success", "failure", "ignored", "rejected", "cancelled"]);
const BREAKER_ENDED: LabelDef = result(&["success", "failure", "ignored", "cancelled"]);
const RETRY_RESULT: LabelDef = result(&[
    "successful_without_retry",
    "successful_with_retry",
    "failed_without_retry",
    "failed_with_retry",
    "cancelled",
]);
const RETRY_REASON: LabelDef = reason(&["error", "response", "timeout"]);
const STOP_REASON: LabelDef =
    reason(&["max_attempts", "budget", "deadline", "not_retryable", "not_replayable", "not_ready"]);
const TIMEOUT_RESULT: LabelDef = result(&["success", "failure", "timeout", "cancelled"]);
const ENTERED: LabelDef = LabelDef { key: "state", values: &["active", "queued", "rejected"] };
const BULKHEAD_RESULT: LabelDef = result(&["completed", "failed", "rejected", "queue_timeout", "cancelled"]);
const FALLBACK_RESULT: LabelDef =
    result(&["primary", "fallback_success", "fallback_failure", "not_handled", "cancelled"]);

catalog! {
    CIRCUIT_BREAKER_STATE_CHANGES_TOTAL = Counter "circuit_breaker_state_changes_total" Breaker - [NAME, FROM, TO]
        "Changes of state, those by hand included.";
    CIRCUIT_BREAKER_CALLS_TOTAL = Counter "circuit_breaker_calls_total" Breaker - [NAME, BREAKER_RESULT]
        "Calls that ended, by how. A refused call is rejected; a time-out or a panic is a failure.";
    CIRCUIT_BREAKER_SLOW_CALLS_TOTAL = Counter "circuit_breaker_slow_calls_total" Breaker - [NAME, BREAKER_ENDED]
        "Calls that took longer than the threshold for slow calls. They are in the calls too.";
    CIRCUIT_BREAKER_WOULD_REJECT_TOTAL = Counter "circuit_breaker_would_reject_total" Breaker - [NAME]
        "Calls that a breaker in shadow mode let through and would have refused.";
    CIRCUIT_BREAKER_STATE = Gauge "circuit_breaker_state" Breaker - [NAME, STATE]
        "1 for the state the breaker is in, 0 for the others. An open breaker is half-open from its next call on.";
    CIRCUIT_BREAKER_FAILURE_RATIO = Gauge "circuit_breaker_failure_ratio" Breaker - [NAME]
        "Share of failures in the window, 0 to 1. NaN below the minimum number of calls.";
    CIRCUIT_BREAKER_SLOW_RATIO = Gauge "circuit_breaker_slow_ratio" Breaker - [NAME]
        "Share of slow calls in the window, 0 to 1. NaN below the minimum number of calls.";
    CIRCUIT_BREAKER_LAST_TRANSITION_TIMESTAMP_SECONDS = Gauge "circuit_breaker_last_transition_timestamp_seconds" Breaker Seconds [NAME]
        "When the state changed last, in seconds since 1970.";
    CIRCUIT_BREAKER_KEYS = Gauge "circuit_breaker_keys" Breaker - [NAME, STATE]
        "How many keys of a keyed breaker are in this state. There is never a series for one key.";
    CIRCUIT_BREAKER_CALL_DURATION_SECONDS = Histogram "circuit_breaker_call_duration_seconds" Breaker Seconds [NAME, BREAKER_ENDED]
        "How long calls took, refused ones left out.";
    RETRY_CALLS_TOTAL = Counter "retry_calls_total" Retry - [NAME, RETRY_RESULT]
        "Calls that ended, each counted once however many attempts it took.";
    RETRY_ATTEMPTS_TOTAL = Counter "retry_attempts_total" Retry - [NAME, RETRY_REASON]
        "Attempts after the first, by what called for them. Amplification is (calls + attempts) / calls.";
    RETRY_STOPPED_TOTAL = Counter "retry_stopped_total" Retry - [NAME, STOP_REASON]
        "Attempts that were wanted or possible and were not made, by why not.";
    RETRY_BACKOFF_SECONDS = Histogram "retry_backoff_seconds" Retry Seconds [NAME]
        "Waits before the next attempt, as chosen. A Retry-After that was honoured is in them.";
    RETRY_BUDGET_AVAILABLE_RATIO = Gauge "retry_budget_available_ratio" Retry - [NAME]
        "Share of the retry budget that is left, 0 to 1. A budget that several policies share is told by each.";
    TIMEOUT_OPERATIONS_TOTAL = Counter "timeout_operations_total" Timeout - [NAME, TIMEOUT_RESULT]
        "Calls that ended, by how.";
    TIMEOUT_OPERATION_DURATION_SECONDS = Histogram "timeout_operation_duration_seconds" Timeout Seconds [NAME, TIMEOUT_RESULT]
        "How long calls took.";
    BULKHEAD_EXECUTIONS_TOTAL = Counter "bulkhead_executions_total" Bulkhead - [NAME, ENTERED]
        "Entries of calls into a state: active when let in, queued when made to wait, rejected when refused. A call may enter two.";
    BULKHEAD_CALLS_TOTAL = Counter "bulkhead_calls_total" Bulkhead - [NAME, BULKHEAD_RESULT]
        "Calls that ended, each counted once.";
    BULKHEAD_WOULD_REJECT_TOTAL = Counter "bulkhead_would_reject_total" Bulkhead - [NAME]
        "Calls that a bulkhead in shadow mode let through and would have refused.";
    BULKHEAD_IN_FLIGHT = Gauge "bulkhead_in_flight" Bulkhead - [NAME]
        "Calls that are being made.";
    BULKHEAD_QUEUE_DEPTH = Gauge "bulkhead_queue_depth" Bulkhead - [NAME]
        "Calls that wait for a place.";
    BULKHEAD_LIMIT = Gauge "bulkhead_limit" Bulkhead - [NAME]
        "The most calls that may be made at once.";
    BULKHEAD_QUEUE_WAIT_SECONDS = Histogram "bulkhead_queue_wait_seconds" Bulkhead Seconds [NAME]
        "How long queued calls waited, let in or not.";
    FALLBACK_CALLS_TOTAL = Counter "fallback_calls_total" Fallback - [NAME, FALLBACK_RESULT]
        "Calls that ended, by who answered.";
    BUTTRESS_BUILD_INFO = Gauge "buttress_build_info" - - [VERSION]
        "1; the version of buttress-metrics is the label.";
}

/// Upper bounds for durations of calls, in seconds: those that OpenTelemetry advises.
pub const DURATION_BUCKETS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Upper bounds for waits, in seconds: those for durations, and two more for long backoffs.
pub const WAIT_BUCKETS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0];

/// The bounds for each histogram of [`CATALOG`], by name without a prefix.
///
/// Most exporters need to be told. `metrics-exporter-prometheus` renders a histogram without buckets as a
/// summary, and then there are no `_bucket` series for `histogram_quantile`; with feature `prometheus`,
#[cfg_attr(feature = "prometheus", doc = "[`prometheus::with_buckets`](crate::prometheus::with_buckets)")]
#[cfg_attr(not(feature = "prometheus"), doc = "`prometheus::with_buckets`")]
/// sets them all.
pub const BUCKETS: &[(&str, &[f64])] = &[
    (CIRCUIT_BREAKER_CALL_DURATION_SECONDS.name, DURATION_BUCKETS),
    (RETRY_BACKOFF_SECONDS.name, WAIT_BUCKETS),
    (TIMEOUT_OPERATION_DURATION_SECONDS.name, DURATION_BUCKETS),
    (BULKHEAD_QUEUE_WAIT_SECONDS.name, WAIT_BUCKETS),
];
