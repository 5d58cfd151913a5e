use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use serde::{Serialize, Serializer};
use tokio::time::Instant;

use crate::{OpenReason, State, engine::Engine};

/// Everything there is to know about a breaker, at one moment; made by [`Breaker::snapshot`](crate::Breaker::snapshot).
///
/// The totals count from the start, or from the last reset. A result that came after the state had changed counts as
/// `late` and as nothing else. Written, moments are ages.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BreakerSnapshot {
    /// The state, as a call made now would find it.
    pub state: State,
    /// Closed (or told to let all calls in), and no share at the threshold of its rule. A half-open circuit is not
    /// healthy.
    pub healthy: bool,
    /// When it began, as far as anything happened since: an open circuit whose wait is over shows the time of
    /// its opening.
    #[serde(serialize_with = "age")]
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
    #[serde(serialize_with = "age")]
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
    #[serde(serialize_with = "text")]
    pub last_error: Option<Arc<str>>,
    /// When the next probe may be made, from now on; zero is now. Only while open or half-open.
    #[serde(serialize_with = "buttress_kit::duration::option::serialize")]
    pub next_probe_in: Option<Duration>,
}

/// The calls that the rules look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WindowCounts {
    /// Calls that succeeded or failed.
    pub calls: u64,
    /// Those that failed.
    pub failures: u64,
    /// Those that were slow.
    pub slow: u64,
}

impl BreakerSnapshot {
    pub(crate) fn of(engine: &Engine) -> Self {
        let [rejected, would_reject, ignored] =
            [&engine.rejected, &engine.would_reject, &engine.ignored].map(|counter| counter.load(Relaxed));
        let shared = &engine.shared;
        engine.with_view(|view, rules| {
            let (state, wait) = view.found(rules);
            let (tally, window) = (view.tally(), view.window());
            let (half_open_successes, half_open_failures, probes_in_flight) = view.probes();
            let (failure_ratio, slow_ratio) = view.ratios(rules);
            let (consecutive_successes, consecutive_failures) = view.in_a_row();
            let ignored = ignored.saturating_add(tally.ignored);
            let ended = [tally.successes, tally.failures, ignored, tally.cancelled];
            let reached = |ratio: Option<f64>, rate: Option<f64>| {
                ratio.zip(rate).is_some_and(|(ratio, rate)| ratio >= rate)
            };
            Self {
                state,
                healthy: matches!(state, State::Closed | State::Disabled | State::MetricsOnly)
                    && !reached(failure_ratio, rules.failure_rate)
                    && !reached(slow_ratio, rules.slow_rate),
                since: shared.instant(view.since()),
                successes: tally.successes,
                failures: tally.failures,
                timeouts: tally.timeouts,
                slow_calls: tally.slow,
                ignored,
                cancelled: tally.cancelled,
                total: ended.into_iter().fold(0, u64::saturating_add),
                late: tally.late,
                rejected,
                would_reject,
                window: WindowCounts { calls: window.calls, failures: window.failures, slow: window.slow },
                failure_ratio,
                slow_ratio,
                consecutive_successes,
                consecutive_failures,
                last_failure: view.last_failure().map(|at| shared.instant(at)),
                half_open_successes,
                half_open_failures,
                probes_in_flight,
                openings: view.openings(),
                open_reason: view.reason(),
                last_error: view.last_error(),
                next_probe_in: matches!(state, State::Open | State::HalfOpen)
                    .then(|| Duration::from_nanos(wait)),
            }
        })
    }
}

fn age<S: Serializer>(moment: &(impl Into<Option<Instant>> + Copy), to: S) -> Result<S::Ok, S::Error> {
    buttress_kit::duration::option::serialize(&(*moment).into().map(|moment| moment.elapsed()), to)
}

fn text<S: Serializer>(text: &Option<Arc<str>>, to: S) -> Result<S::Ok, S::Error> {
    text.as_deref().serialize(to)
}
