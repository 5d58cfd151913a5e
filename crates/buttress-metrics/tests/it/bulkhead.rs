use std::time::Duration;

use buttress_core::{
    Event, Name, Outcome, PolicyKind, Rejection, RejectionKind,
    observe::{Level, Note},
};
use buttress_metrics::Metrics;

use crate::{Seen, done, policy};

// S1-079, C-30: `state` counts entries, endings have their own counter
#[test]
fn executions_count_entries_and_calls_count_endings() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let bulkhead = policy(PolicyKind::Bulkhead, "payments", &Metrics::default());
    let refuse = |kind: RejectionKind| {
        let why = Rejection::new(kind, &Name::new("payments"));
        bulkhead.emit(Event::Refused { rejection: &why, shadow: false });
    };
    // Four are let in at once, two of three that wait are, one waits too long, one finds the queue full.
    for outcome in [Outcome::Success, Outcome::Failure, Outcome::Panicked, Outcome::Cancelled] {
        bulkhead.emit(Event::Note(Note::Admitted));
        bulkhead.emit(done(outcome));
    }
    for _ in 0..3 {
        bulkhead.emit(Event::Note(Note::Queued));
        bulkhead.emit(Event::Note(Note::QueueWait(Duration::from_millis(500))));
    }
    for outcome in [Outcome::Success, Outcome::Ignored] {
        bulkhead.emit(Event::Note(Note::Admitted));
        bulkhead.emit(done(outcome));
    }
    refuse(RejectionKind::BulkheadQueueTimeout);
    refuse(RejectionKind::BulkheadQueueFull);

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
    let bulkhead = policy(PolicyKind::Bulkhead, "payments", &Metrics::default());
    for kind in [RejectionKind::BulkheadQueueCleared, RejectionKind::BulkheadClosed] {
        let why = Rejection::new(kind, &Name::new("payments"));
        bulkhead.emit(Event::Refused { rejection: &why, shadow: false });
    }
    assert_eq!(seen.counter("bulkhead_calls_total", &[("result", "rejected")]), 2);
}

#[test]
fn shadow_counts_what_it_would_reject_beside_the_calls() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let bulkhead = policy(PolicyKind::Bulkhead, "payments", &Metrics::default());
    let why = Rejection::new(RejectionKind::BulkheadQueueFull, &Name::new("payments"));
    bulkhead.emit(Event::Refused { rejection: &why, shadow: true });
    assert_eq!(seen.counter("bulkhead_would_reject_total", &[("name", "payments")]), 1);
    assert_eq!(seen.counter("bulkhead_executions_total", &[]), 0);
}

#[test]
fn gauges_show_what_was_told_last() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let bulkhead = policy(PolicyKind::Bulkhead, "payments", &Metrics::default());
    for (what, value) in
        [(Level::InFlight, 3.0), (Level::QueueDepth, 2.0), (Level::Limit, 10.0), (Level::InFlight, 4.0)]
    {
        bulkhead.emit(Event::Level { what, value });
    }
    let of = |name| seen.gauge(name, &[("name", "payments")]);
    assert_eq!(of("bulkhead_in_flight"), Some(4.0));
    assert_eq!(of("bulkhead_queue_depth"), Some(2.0));
    assert_eq!(of("bulkhead_limit"), Some(10.0));
    drop(bulkhead);
    assert_eq!(of("bulkhead_in_flight"), Some(0.0));
}
