//! Log lines for what happens to policies, through `tracing`.
//!
//! ```
//! buttress_metrics::trace::install();
//! ```
//!
//! Beside [`install`](crate::install) or alone; it needs no recorder of metrics. What happens once in a while is
//! told at INFO and above, what may happen with every call at DEBUG, so an outage does not flood the log:
//!
//! | line | level | fields, besides `policy.name` and `policy.kind` |
//! |---|---|---|
//! | `circuit opened` | WARN | `breaker.from`, `breaker.to`, `breaker.failure_ratio`, `breaker.slow_ratio`, `breaker.calls`, `breaker.open_for_ms`, `cause` |
//! | `circuit half-open` | INFO | `breaker.from`, `breaker.to`, `breaker.rejected_while_open`, `cause` |
//! | `circuit closed` | INFO | `breaker.from`, `breaker.to`, `breaker.open_for_ms`, `breaker.rejected_while_open`, `cause` |
//! | `circuit forced` | WARN | `breaker.from`, `breaker.to`, `breaker.open_for_ms`, `breaker.rejected_while_open`, `cause`: by hand, or into a state that lasts until somebody ends it |
//! | `policy reset` | WARN | |
//! | `queue cleared` | WARN | `count` |
//! | `threshold passed` | WARN | `rule`: where the policy only watches |
//! | `policy reconfigured` | INFO | |
//! | `attempt failed` | DEBUG | `attempt`, `delay_ms`, `reason`, `error` |
//! | `retries exhausted` | WARN | `reason`, `suppressed`: one line a second for a policy, the others are counted |
//! | `not retried` | DEBUG | `reason` |
//! | `timed out` | DEBUG | `elapsed_ms` |
//! | `refused` | DEBUG | `code`, `retry_after_ms`, `shadow` |
//! | `fallback answered` | DEBUG | `elapsed_ms` |
//! | `stale answer given` | DEBUG | `age_ms` |
//! | `fallback failed` | ERROR | `elapsed_ms` |
//! | `probe lost` | DEBUG | |
//!
//! Targets are `buttress::breaker`, `buttress::retry`, `buttress::timeout`, `buttress::bulkhead` and
//! `buttress::fallback`, so that `RUST_LOG=buttress::breaker=debug` works. No span is opened: the host has one
//! around the call already.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use buttress_core::{
    Event, Name, Observer, Outcome, PolicyKind, Recorder,
    observe::{self, Cause, Note, StopReason, TransitionDetail},
};
use tracing::Level;

use crate::clock;

/// How often one policy may tell that its retries are exhausted.
const PERIOD: Duration = Duration::from_secs(1);

/// Tells of all policies of the process, those that exist and those to come. Calling it again changes nothing.
pub fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| observe::install(Trace::default()));
}

/// Emits `tracing` events; the [module](self) says which. An observer for the whole process ([`install`]), or for
/// single policies (`.observe(Trace::default())` in their builders).
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Trace {}

impl Observer for Trace {
    fn attach(&self, kind: PolicyKind, name: &Name) -> Option<Arc<dyn Recorder>> {
        Some(Arc::new(Lines { kind, name: name.clone(), exhausted: Mutex::default() }))
    }
}

struct Lines {
    kind: PolicyKind,
    name: Name,
    exhausted: Mutex<Throttle>,
}

/// Lets one line through in a [`PERIOD`].
#[derive(Default)]
struct Throttle {
    last: Option<Instant>,
    suppressed: u64,
}

impl Throttle {
    /// How many were held back since the last one, if this one may pass.
    fn pass(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < PERIOD) {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// An event whose target is the policy's kind; targets must be constants.
macro_rules! line {
    ($lines:expr, $level:expr, $($fields:tt)*) => {
        match $lines.kind {
            PolicyKind::Breaker => line!(@ "buttress::breaker", $lines, $level, $($fields)*),
            PolicyKind::Retry => line!(@ "buttress::retry", $lines, $level, $($fields)*),
            PolicyKind::Timeout => line!(@ "buttress::timeout", $lines, $level, $($fields)*),
            PolicyKind::Bulkhead => line!(@ "buttress::bulkhead", $lines, $level, $($fields)*),
            PolicyKind::Fallback => line!(@ "buttress::fallback", $lines, $level, $($fields)*),
            _ => line!(@ "buttress", $lines, $level, $($fields)*),
        }
    };
    (@ $target:literal, $lines:expr, $level:expr, $($fields:tt)*) => {
        tracing::event!(
            target: $target,
            $level,
            policy.name = $lines.name.as_str(),
            policy.kind = $lines.kind.as_str(),
            $($fields)*
        )
    };
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Lines {
    fn transition(&self, from: &'static str, to: &'static str, cause: Cause, detail: TransitionDetail) {
        let open_for_ms = detail.open_for.map(ms);
        let (rejected, cause_text) = (detail.rejected, cause.as_str());
        match (to, cause) {
            ("open", Cause::Rule | Cause::Health) => line!(
                self,
                Level::WARN,
                breaker.from = from,
                breaker.to = to,
                breaker.failure_ratio = detail.failure_ratio,
                breaker.slow_ratio = detail.slow_ratio,
                breaker.calls = detail.calls,
                breaker.open_for_ms = open_for_ms,
                cause = cause_text,
                "circuit opened"
            ),
            ("half_open", Cause::Rule | Cause::Health) => line!(
                self,
                Level::INFO,
                breaker.from = from,
                breaker.to = to,
                breaker.rejected_while_open = rejected,
                cause = cause_text,
                "circuit half-open"
            ),
            ("closed", Cause::Rule | Cause::Health) => line!(
                self,
                Level::INFO,
                breaker.from = from,
                breaker.to = to,
                breaker.open_for_ms = open_for_ms,
                breaker.rejected_while_open = rejected,
                cause = cause_text,
                "circuit closed"
            ),
            _ => line!(
                self,
                Level::WARN,
                breaker.from = from,
                breaker.to = to,
                breaker.open_for_ms = open_for_ms,
                breaker.rejected_while_open = rejected,
                cause = cause_text,
                "circuit forced"
            ),
        }
    }

    fn stopped(&self, why: StopReason) {
        let reason = why.as_str();
        if !matches!(why, StopReason::MaxAttempts | StopReason::Budget | StopReason::Deadline) {
            line!(self, Level::DEBUG, reason, "not retried");
            return;
        }
        let passed = self.exhausted.lock().unwrap_or_else(PoisonError::into_inner).pass(clock::now());
        if let Some(suppressed) = passed {
            line!(self, Level::WARN, reason, suppressed, "retries exhausted");
        }
    }
}

impl Recorder for Lines {
    fn record(&self, event: &Event<'_>) {
        match *event {
            Event::Transition { from, to, cause, detail } => self.transition(from, to, cause, detail),
            Event::Attempt { n, delay, reason, error } => {
                let (delay_ms, reason) = (ms(delay), reason.as_str());
                line!(self, Level::DEBUG, attempt = n, delay_ms, reason, error, "attempt failed");
            }
            Event::Refused { rejection, shadow } => {
                let (code, retry_after_ms) = (rejection.code(), rejection.retry_after().map(ms));
                line!(self, Level::DEBUG, code, retry_after_ms, shadow, "refused");
            }
            Event::Done { outcome, elapsed, .. } => {
                let elapsed_ms = elapsed.map(ms);
                match outcome {
                    Outcome::TimedOut => line!(self, Level::DEBUG, elapsed_ms, "timed out"),
                    Outcome::FallbackSuccess => line!(self, Level::DEBUG, elapsed_ms, "fallback answered"),
                    Outcome::FallbackFailure => line!(self, Level::ERROR, elapsed_ms, "fallback failed"),
                    _ => {}
                }
            }
            Event::Note(note) => match note {
                Note::Stopped(reason) => self.stopped(reason),
                Note::Reset => line!(self, Level::WARN, "policy reset"),
                Note::QueueCleared(count) => line!(self, Level::WARN, count, "queue cleared"),
                Note::Exceeded(rule) => line!(self, Level::WARN, rule, "threshold passed"),
                Note::Reconfigured => line!(self, Level::INFO, "policy reconfigured"),
                Note::LeaseExpired => line!(self, Level::DEBUG, "probe lost"),
                Note::Stale(age) => line!(self, Level::DEBUG, age_ms = ms(age), "stale answer given"),
                _ => {}
            },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttle_lets_one_through_in_a_second_and_counts_the_rest() {
        let (mut throttle, start) = (Throttle::default(), clock::now());
        assert_eq!(throttle.pass(start), Some(0));
        for tenth in 1..10 {
            assert_eq!(throttle.pass(start + Duration::from_millis(100 * tenth)), None);
        }
        assert_eq!(throttle.pass(start + PERIOD), Some(9));
        assert_eq!(throttle.pass(start + PERIOD), None);
        assert_eq!(throttle.pass(start + 5 * PERIOD), Some(1));
    }
}
