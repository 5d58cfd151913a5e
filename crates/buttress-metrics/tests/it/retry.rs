use std::time::Duration;

use buttress_core::{Event, Level, Note, Outcome, Value, Word};
use buttress_metrics::Metrics;
use buttress_retry::{KIND, words};

use crate::{Seen, done, done_as, policy};

// So amplification is (calls + attempts) / calls.
#[test]
fn attempts_count_those_after_the_first() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let retry = policy(&KIND, "payments", &Metrics::default());
    let call = |reasons: &[Word], end: Event<'_>| {
        for (n, reason) in (1..).zip(reasons) {
            let delay = Duration::from_millis(100 * u64::from(n));
            retry.emit(Event::Attempt { n, delay, reason, error: None });
        }
        retry.emit(end);
    };
    call(&[], done_as(Outcome::Success, words::SUCCESSFUL_WITHOUT_RETRY));
    call(&[words::ERROR, words::TIMEOUT], done_as(Outcome::Success, words::SUCCESSFUL_WITH_RETRY));
    call(&[words::RESPONSE], done_as(Outcome::Failure, words::FAILED_WITH_RETRY));
    call(&[], done_as(Outcome::Failure, words::FAILED_WITHOUT_RETRY));
    call(&[], done_as(Outcome::Ignored, words::FAILED_WITHOUT_RETRY));
    call(&[words::ERROR], done(Outcome::Cancelled));

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
    let retry = policy(&KIND, "payments", &Metrics::default());
    let reasons = [
        (words::MAX_ATTEMPTS, "max_attempts"),
        (words::BUDGET, "budget"),
        (words::DEADLINE, "deadline"),
        (words::NOT_RETRYABLE, "not_retryable"),
        (words::NOT_REPLAYABLE, "not_replayable"),
        (words::NOT_READY, "not_ready"),
    ];
    for (reason, label) in reasons {
        retry.note(Note::with(words::STOPPED, Value::Word(reason)));
        assert_eq!(seen.counter("retry_stopped_total", &[("reason", label)]), 1);
    }
    assert_eq!(seen.counter("retry_stopped_total", &[("name", "payments")]), 6);
}

#[test]
fn budget_is_a_gauge_of_the_share_left() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let retry = policy(&KIND, "payments", &Metrics::default());
    assert_eq!(seen.gauge("retry_budget_available_ratio", &[]), None); // it may have none
    retry.level(Level::new(words::BUDGET_AVAILABLE, 0.25));
    assert_eq!(seen.gauge("retry_budget_available_ratio", &[("name", "payments")]), Some(0.25));
}
