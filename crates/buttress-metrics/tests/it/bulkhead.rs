use std::time::Duration;

use buttress_bulkhead::{KIND, words};
use buttress_core::{Level, Note, Outcome, Value};
use buttress_metrics::Metrics;

use crate::{Seen, done, policy};

#[test]
fn executions_count_entries_and_calls_count_endings() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let bulkhead = policy(&KIND, "payments", &Metrics::default());
    // Four are let in at once, two of three that wait are, one waits too long, one finds the queue full.
    for outcome in [Outcome::Success, Outcome::Failure, Outcome::Panicked, Outcome::Cancelled] {
        bulkhead.note(Note::new(words::ADMITTED));
        bulkhead.emit(done(outcome));
    }
    for _ in 0..3 {
        bulkhead.note(Note::new(words::QUEUED));
        bulkhead.note(Note::with(words::QUEUE_WAIT, Value::Time(Duration::from_millis(500))));
    }
    for outcome in [Outcome::Success, Outcome::Ignored] {
        bulkhead.note(Note::new(words::ADMITTED));
        bulkhead.emit(done(outcome));
    }
    bulkhead.refuse(words::QUEUE_TIMEOUT, false);
    bulkhead.refuse(words::QUEUE_FULL, false);

    let entered =
        |state| seen.counter("bulkhead_executions_total", &[("name", "payments"), ("state", state)]);
    assert_eq!((entered("active"), entered("queued"), entered("rejected")), (6, 3, 2));
    let calls = |result| seen.counter("bulkhead_calls_total", &[("name", "payments"), ("result", result)]);
    assert_eq!((calls("completed"), calls("failed"), calls("cancelled")), (3, 2, 1));
    assert_eq!((calls("rejected"), calls("queue_timeout")), (1, 1));
    assert_eq!(seen.counter("bulkhead_calls_total", &[]), 8); // each of the eight calls once
    assert_eq!(seen.0.histogram("bulkhead_queue_wait_seconds", &[]), [0.5, 0.5, 0.5]);
}

#[test]
fn cleared_and_closed_queues_reject() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let bulkhead = policy(&KIND, "payments", &Metrics::default());
    for code in [words::QUEUE_CLEARED, words::CLOSED] {
        bulkhead.refuse(code, false);
    }
    assert_eq!(seen.counter("bulkhead_calls_total", &[("result", "rejected")]), 2);
}

#[test]
fn shadow_counts_what_it_would_reject_beside_the_calls() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let bulkhead = policy(&KIND, "payments", &Metrics::default());
    bulkhead.refuse(words::QUEUE_FULL, true);
    assert_eq!(seen.counter("bulkhead_would_reject_total", &[("name", "payments")]), 1);
    assert_eq!(seen.counter("bulkhead_executions_total", &[]), 0);
}

#[test]
fn gauges_show_what_was_told_last() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let bulkhead = policy(&KIND, "payments", &Metrics::default());
    for (what, value) in
        [(words::IN_FLIGHT, 3.0), (words::QUEUE_DEPTH, 2.0), (words::LIMIT, 10.0), (words::IN_FLIGHT, 4.0)]
    {
        bulkhead.level(Level::new(what, value));
    }
    let of = |name| seen.gauge(name, &[("name", "payments")]);
    assert_eq!(of("bulkhead_in_flight"), Some(4.0));
    assert_eq!(of("bulkhead_queue_depth"), Some(2.0));
    assert_eq!(of("bulkhead_limit"), Some(10.0));
    drop(bulkhead);
    assert_eq!(of("bulkhead_in_flight"), Some(0.0));
}
