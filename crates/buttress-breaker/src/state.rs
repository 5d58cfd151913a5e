use std::fmt;

/// The state of a circuit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", expecting = "a state, as text such as \"closed\"")]
#[non_exhaustive]
pub enum State {
    /// Calls flow.
    #[default]
    Closed,
    /// Calls are refused until a wait is over.
    Open,
    /// The wait is over: a few calls, the probes, find out whether the service works again.
    HalfOpen,
    /// Calls are refused until somebody says otherwise.
    Isolated,
    /// Calls flow and nothing is recorded.
    Disabled,
    /// Calls flow and are recorded, and no rule acts.
    MetricsOnly,
}

impl State {
    /// In snake case, as in events, labels and settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::Isolated => "isolated",
            Self::Disabled => "disabled",
            Self::MetricsOnly => "metrics_only",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a circuit opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OpenReason {
    /// Too many failures in a row.
    ConsecutiveFailures,
    /// Too large a share of failures in the window.
    FailureRate,
    /// Too many failures in the window.
    FailureCount,
    /// Too large a share of slow calls in the window.
    SlowCallRate,
    /// All calls of a window were dropped before they ended.
    Abandoned,
    /// Too many failed probes while half-open.
    ProbesFailed,
    /// Too many slow probes while half-open.
    ProbesSlow,
    /// Half-open for too long without a verdict.
    HalfOpenTimeout,
    /// Somebody opened it.
    Manual,
    /// It began open.
    Initial,
}

impl OpenReason {
    /// In snake case, as in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::FailureRate => "failure_rate",
            Self::FailureCount => "failure_count",
            Self::SlowCallRate => "slow_call_rate",
            Self::Abandoned => "abandoned",
            Self::ProbesFailed => "probes_failed",
            Self::ProbesSlow => "probes_slow",
            Self::HalfOpenTimeout => "half_open_timeout",
            Self::Manual => "manual",
            Self::Initial => "initial",
        }
    }
}

/// A change of state by hand that makes no sense, such as from closed to half-open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IllegalTransition {
    /// The state it was in, and stays in.
    pub from: State,
    /// The state that was wanted.
    pub to: State,
}

impl fmt::Display for IllegalTransition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a circuit cannot go from {} to {}", self.from, self.to)
    }
}

impl std::error::Error for IllegalTransition {}
