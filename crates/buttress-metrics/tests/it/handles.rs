use std::{sync::Arc, time::Duration};

use buttress_core::{
    Emitter, Event, Name, Outcome, PolicyKind,
    observe::{Level, Levels, Note},
};
use buttress_metrics::{HandleMode, Metrics};
use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_util::MetricKindMask;

use crate::{Seen, done, policy, sleep};

/// A little longer than handles may get old, in real time: exporters know no other.
const AGED: Duration = Duration::from_millis(1050);

#[test]
fn recorder_that_comes_late_is_found_within_a_second() {
    let metrics = Metrics::default();
    let bulkhead = policy(PolicyKind::Bulkhead, "payments", &metrics);
    bulkhead.emit(Event::Level { what: Level::Limit, value: 10.0 });
    bulkhead.emit(Event::Note(Note::Admitted));

    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    sleep(AGED);
    bulkhead.emit(done(Outcome::Success));
    assert_eq!(seen.counter("bulkhead_calls_total", &[("result", "completed")]), 1);
    // Told before, and still true.
    assert_eq!(seen.gauge("bulkhead_limit", &[("name", "payments")]), Some(10.0));
    // Described too, though nobody asked again.
    assert!(seen.0.descriptions().contains_key("bulkhead_limit"));
}

#[test]
fn evicted_series_come_back_with_the_next_call() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let breaker = policy(PolicyKind::Breaker, "payments", &Metrics::default());
    breaker.emit(Event::Level { what: Level::State("open"), value: 1.0 });
    breaker.emit(done(Outcome::Failure));
    for name in ["circuit_breaker_calls_total", "circuit_breaker_state"] {
        assert!(seen.0.evict(name, &[]) > 0);
    }
    sleep(AGED);
    for _ in 0..5 {
        breaker.emit(done(Outcome::Failure));
    }
    assert_eq!(seen.counter("circuit_breaker_calls_total", &[("result", "failure")]), 5);
    assert_eq!(seen.gauge("circuit_breaker_state", &[("state", "open")]), Some(1.0));
    assert_eq!(seen.gauge("circuit_breaker_state", &[("state", "closed")]), Some(0.0));
}

#[test]
fn series_that_prometheus_evicted_come_back() {
    let idle = Duration::from_millis(200);
    let recorder = PrometheusBuilder::new().idle_timeout(MetricKindMask::ALL, Some(idle)).build_recorder();
    let (page, _local) = (recorder.handle(), metrics::set_default_local_recorder(&recorder));
    let timeout = policy(PolicyKind::Timeout, "payments", &Metrics::default());
    let series = r#"timeout_operations_total{name="payments",result="timeout"}"#;

    timeout.emit(done(Outcome::TimedOut));
    assert!(page.render().contains(&format!("{series} 1")));
    sleep(idle + Duration::from_millis(100));
    page.render();
    assert!(!page.render().contains(series), "it is the exporter's turn to forget");
    sleep(AGED);
    for _ in 0..5 {
        timeout.emit(done(Outcome::TimedOut));
    }
    assert!(page.render().contains(&format!("{series} 5")), "{}", page.render());
}

#[test]
fn cached_handles_stay_with_the_recorder_they_were_made_for() {
    // The trap that `HandleMode::PerCall` is for.
    let (first, second) = (Seen::by_hand(), Seen::by_hand());
    let metrics = Metrics::default();
    let per_call = Metrics::builder().handle_mode(HandleMode::PerCall).build().unwrap();
    let (cached, fresh) = first.0.with_local(|| {
        let policies = (
            policy(PolicyKind::Timeout, "cached", &metrics),
            policy(PolicyKind::Timeout, "per_call", &per_call),
        );
        policies.0.emit(done(Outcome::Success));
        policies.1.emit(done(Outcome::Success));
        policies
    });
    second.0.with_local(|| {
        cached.emit(done(Outcome::Success));
        fresh.emit(done(Outcome::Success));
    });
    let count = |seen: &Seen, name| seen.counter("timeout_operations_total", &[("name", name)]);
    assert_eq!((count(&first, "cached"), count(&second, "cached")), (2, 0));
    assert_eq!((count(&first, "per_call"), count(&second, "per_call")), (1, 1));
}

#[test]
fn handles_per_call_tell_gauges_and_histograms_too() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let metrics = Metrics::builder().handle_mode(HandleMode::PerCall).build().unwrap();
    let bulkhead = policy(PolicyKind::Bulkhead, "payments", &metrics);
    bulkhead.emit(Event::Level { what: Level::InFlight, value: 2.0 });
    bulkhead.emit(Event::Note(Note::QueueWait(Duration::from_millis(30))));
    assert_eq!(seen.gauge("bulkhead_in_flight", &[]), Some(2.0));
    assert_eq!(seen.0.histogram("bulkhead_queue_wait_seconds", &[]), [0.03]);
    drop(bulkhead);
    assert_eq!(seen.gauge("bulkhead_in_flight", &[]), Some(0.0));
}

#[test]
fn threads_that_resolve_at_the_same_time_lose_no_count() {
    let seen = Seen::by_hand();
    let bulkhead = seen.0.with_local(|| policy(PolicyKind::Bulkhead, "payments", &Metrics::default()));
    let (threads, rounds) = (4, 3);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let _local = seen.0.set_local();
                for _ in 0..rounds {
                    sleep(AGED); // so that all find the handles too old at once
                    for _ in 0..100 {
                        bulkhead.emit(Event::Note(Note::Admitted));
                        bulkhead.emit(done(Outcome::Success));
                    }
                }
            });
        }
    });
    assert_eq!(seen.counter("bulkhead_calls_total", &[]), threads * rounds * 100);
    assert_eq!(seen.counter("bulkhead_executions_total", &[("state", "active")]), threads * rounds * 100);
}

#[test]
fn gauge_that_was_told_wrong_is_right_again_within_a_second_of_calls() {
    struct Idle;
    impl Levels for Idle {
        fn levels(&self, tell: &mut dyn FnMut(Event<'_>)) {
            tell(Event::Level { what: Level::InFlight, value: 0.0 });
        }
    }
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let bulkhead = Emitter::new(PolicyKind::Bulkhead, Name::new("payments"));
    let idle: Arc<dyn Levels> = Arc::new(Idle);
    bulkhead.set_levels(Arc::downgrade(&idle));
    bulkhead.observe(&Metrics::default());
    assert_eq!(seen.gauge("bulkhead_in_flight", &[]), Some(0.0));
    // Two calls end at once; the one that ended first tells last.
    bulkhead.emit(Event::Level { what: Level::InFlight, value: 0.0 });
    bulkhead.emit(Event::Level { what: Level::InFlight, value: 1.0 });
    assert_eq!(seen.gauge("bulkhead_in_flight", &[]), Some(1.0));
    sleep(AGED);
    bulkhead.emit(Event::Note(Note::Admitted));
    assert_eq!(seen.gauge("bulkhead_in_flight", &[]), Some(0.0));
}
