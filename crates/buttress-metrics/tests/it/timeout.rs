use std::time::Duration;

use buttress_core::{Event, Outcome, Rejection};
use buttress_metrics::Metrics;
use buttress_timeout::{KIND, words::TIMEOUT};

use crate::{Seen, done_after, policy};

#[test]
fn every_call_is_counted_and_timed_by_its_result() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let timeout = policy(&KIND, "payments", &Metrics::default());
    for (n, outcome) in (1..).zip([
        Outcome::Success,
        Outcome::Failure,
        Outcome::Panicked,
        Outcome::Ignored,
        Outcome::TimedOut,
        Outcome::TimedOut,
        Outcome::TimedOut,
        Outcome::Cancelled,
    ]) {
        timeout.emit(done_after(outcome, Some(Duration::from_secs(n))));
    }
    let calls =
        |result| seen.counter("timeout_operations_total", &[("name", "payments"), ("result", result)]);
    assert_eq!((calls("success"), calls("failure"), calls("timeout"), calls("cancelled")), (1, 3, 3, 1));
    let took = |result| seen.0.histogram("timeout_operation_duration_seconds", &[("result", result)]);
    assert_eq!(took("success"), [1.0]);
    assert_eq!(took("failure"), [2.0, 3.0, 4.0]);
    assert_eq!(took("timeout"), [5.0, 6.0, 7.0]);
    assert_eq!(took("cancelled"), [8.0]);
}

#[test]
fn deadline_that_had_passed_before_the_call_is_a_timeout() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let timeout = policy(&KIND, "payments", &Metrics::default());
    let why = Rejection::timed_out(TIMEOUT, &timeout.name, Duration::ZERO, Duration::ZERO);
    timeout.emit(Event::Refused { rejection: &why.clone().with_sent(false), shadow: false });
    assert_eq!(seen.counter("timeout_operations_total", &[("result", "timeout")]), 1);
    // A call that was made tells its end by `Done`.
    timeout.emit(Event::Refused { rejection: &why, shadow: false });
    assert_eq!(seen.counter("timeout_operations_total", &[]), 1);
}
