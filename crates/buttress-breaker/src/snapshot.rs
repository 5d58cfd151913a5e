use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{OpenReason, State};

/// Everything there is to know about a breaker, at one moment; made by [`Breaker::snapshot`](crate::Breaker::snapshot).
///
/// The totals count from the start, or from the last reset. A result that came after the state had changed
/// counts as `late` and as nothing else.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The state, as a call made now would find it.
    pub state: State,
    /// When it began, as far as anything happened since: an open circuit whose wait is over shows the time of
    /// its opening.
    pub since: Instant,
    /// Calls that succeeded.
    pub successes: u64,
    /// Calls that failed: time-outs and panics among them.
    pub failures: u64,
    /// Calls that failed by a time-out, this breaker's own or one inside.
    pub timeouts: u64,
    /// Calls that were slow.
    pub slow_calls: u64,
    /// Calls that said nothing about the service.
    pub ignored: u64,
    /// Calls dropped before they ended.
    pub cancelled: u64,
    /// The sum of successes, failures, ignored and cancelled calls.
    pub total: u64,
    /// Results that came too late to count.
    pub late: u64,
    /// Calls refused. With `total` they are all the calls that ended, opossum's `fires`.
    pub rejected: u64,
    /// Calls that would have been refused, but for the shadow mode.
    pub would_reject: u64,
    /// What the window holds; while not closed, what it held at the opening.
    pub window: WindowCounts,
    /// The share of failures in the window; `None` below `minimum_calls`.
    pub failure_ratio: Option<f64>,
    /// The share of slow calls in the window; `None` below `minimum_calls`.
    pub slow_ratio: Option<f64>,
    /// Successes since the last failure, while closed.
    pub consecutive_successes: u64,
    /// Failures since the last success, while closed; at the opening, otherwise.
    pub consecutive_failures: u64,
    /// When the last counted failure was.
    pub last_failure: Option<Instant>,
    /// Successful probes of the present half-open state.
    pub half_open_successes: u64,
    /// Failed probes of the present half-open state.
    pub half_open_failures: u64,
    /// Probes under way.
    pub probes_in_flight: usize,
    /// How often the circuit opened since it was last closed.
    pub openings: u32,
    /// Why it opened last.
    pub open_reason: Option<OpenReason>,
    /// The text of the error that opened it last, until it closes.
    pub last_error: Option<Arc<str>>,
    /// When the next probe may be made, from now on; zero is now. Only while open or half-open.
    pub next_probe_in: Option<Duration>,
}

/// The calls that the rules look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct WindowCounts {
    /// Calls that succeeded or failed.
    pub calls: u64,
    /// Those that failed.
    pub failures: u64,
    /// Those that were slow.
    pub slow: u64,
}

/// Whether a breaker looks well; made by [`Breaker::health`](crate::Breaker::health).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Health {
    /// The state.
    pub state: State,
    /// Closed (or told to let all calls in), and no rate at its threshold. A half-open circuit is not healthy.
    pub healthy: bool,
    /// The share of failures in the window; `None` below `minimum_calls`.
    pub failure_rate: Option<f64>,
    /// The share of slow calls in the window; `None` below `minimum_calls`.
    pub slow_call_rate: Option<f64>,
    /// The rest.
    pub metrics: Snapshot,
}
