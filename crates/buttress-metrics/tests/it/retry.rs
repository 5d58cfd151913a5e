use std::time::Duration;

use buttress_core::{
    Event, Outcome, PolicyKind,
    observe::{AttemptReason, Level, Note, StopReason},
};
use buttress_metrics::Metrics;

use crate::{Seen, policy};

// S1-077, C-30: attempts after the first, so amplification is (calls + attempts) / calls
#[test]
fn attempts_count_those_after_the_first() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let retry = policy(PolicyKind::Retry, "payments", &Metrics::default());
    let call = |reasons: &[AttemptReason], outcome| {
        for (n, reason) in (1..).zip(reasons) {
            let delay = Duration::from_millis(100 * u64::from(n));
            retry.emit(Event::Attempt { n, delay, reason: *reason, error: None });
        }
        let attempts = reasons.len() as u32 + 1;
        retry.emit(Event::Done { outcome, elapsed: None, slow: false, attempts, error: None });
    };
    call(&[], Outcome::Success);
    call(&[AttemptReason::Error, AttemptReason::Timeout], Outcome::Success);
    call(&[AttemptReason::Response], Outcome::Failure);
    call(&[], Outcome::Failure);
    call(&[], Outcome::Ignored);
    call(&[AttemptReason::Error], Outcome::Cancelled);

    let attempts = |reason| seen.counter("retry_attempts_total", &[("name", "payments"), ("reason", reason)]);
    assert_eq!((attempts("error"), attempts("timeout"), attempts("response")), (2, 1, 1));
    let calls = |result| seen.counter("retry_calls_total", &[("name", "payments"), ("result", result)]);
    assert_eq!(calls("successful_without_retry"), 1);
    assert_eq!(calls("successful_with_retry"), 1);
    assert_eq!(calls("failed_without_retry"), 2);
    assert_eq!(calls("failed_with_retry"), 1);
    assert_eq!(calls("cancelled"), 1);
    assert_eq!(seen.0.histogram("retry_backoff_seconds", &[]), [0.1, 0.2, 0.1, 0.1]);
}

#[test]
fn retries_not_made_are_counted_by_why_not() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let retry = policy(PolicyKind::Retry, "payments", &Metrics::default());
    let reasons = [
        (StopReason::MaxAttempts, "max_attempts"),
        (StopReason::Budget, "budget"),
        (StopReason::Deadline, "deadline"),
        (StopReason::NotRetryable, "not_retryable"),
        (StopReason::NotReplayable, "not_replayable"),
        (StopReason::NotReady, "not_ready"),
    ];
    for (reason, label) in reasons {
        retry.emit(Event::Note(Note::Stopped(reason)));
        assert_eq!(seen.counter("retry_stopped_total", &[("reason", label)]), 1);
    }
    assert_eq!(seen.counter("retry_stopped_total", &[("name", "payments")]), 6);
}

#[test]
fn budget_is_a_gauge_of_the_share_left() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let retry = policy(PolicyKind::Retry, "payments", &Metrics::default());
    assert_eq!(seen.gauge("retry_budget_available_ratio", &[]), None); // it may have none
    retry.emit(Event::Level { what: Level::BudgetAvailable, value: 0.25 });
    assert_eq!(seen.gauge("retry_budget_available_ratio", &[("name", "payments")]), Some(0.25));
}
