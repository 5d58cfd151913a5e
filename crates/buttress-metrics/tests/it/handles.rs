use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_breaker::KIND as BREAKER;
use buttress_bulkhead::{KIND as BULKHEAD, words};
use buttress_core::{Event, Level, Levels, Name, Note, Observer, Outcome, Recorder, Value};
use buttress_kit::{Emitter, Listeners};
use buttress_metrics::{HandleMode, Metrics};
use buttress_timeout::KIND as TIMEOUT;
use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_util::MetricKindMask;

use crate::{Seen, done, policy, sleep};

/// A little longer than handles may get old, in real time: exporters know no other.
const AGED: Duration = Duration::from_millis(1050);

#[test]
fn recorder_that_comes_late_is_found_within_a_second() {
    let metrics = Metrics::default();
    let bulkhead = policy(&BULKHEAD, "payments", &metrics);
    bulkhead.level(Level::new(words::LIMIT, 10.0));
    bulkhead.note(Note::new(words::ADMITTED));

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
    let breaker = policy(&BREAKER, "payments", &Metrics::default());
    breaker.level(Level::state("open"));
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
    let timeout = policy(&TIMEOUT, "payments", &Metrics::default());
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
        let policies = (policy(&TIMEOUT, "cached", &metrics), policy(&TIMEOUT, "per_call", &per_call));
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
    let bulkhead = policy(&BULKHEAD, "payments", &metrics);
    bulkhead.level(Level::new(words::IN_FLIGHT, 2.0));
    bulkhead.note(Note::with(words::QUEUE_WAIT, Value::Time(Duration::from_millis(30))));
    assert_eq!(seen.gauge("bulkhead_in_flight", &[]), Some(2.0));
    assert_eq!(seen.0.histogram("bulkhead_queue_wait_seconds", &[]), [0.03]);
    drop(bulkhead);
    assert_eq!(seen.gauge("bulkhead_in_flight", &[]), Some(0.0));
}

#[test]
fn threads_that_resolve_at_the_same_time_lose_no_count() {
    let seen = Seen::by_hand();
    let bulkhead = seen.0.with_local(|| policy(&BULKHEAD, "payments", &Metrics::default()));
    let (threads, rounds) = (4, 3);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let _local = seen.0.set_local();
                for _ in 0..rounds {
                    sleep(AGED); // so that all find the handles too old at once
                    for _ in 0..100 {
                        bulkhead.note(Note::new(words::ADMITTED));
                        bulkhead.emit(done(Outcome::Success));
                    }
                }
            });
        }
    });
    assert_eq!(seen.counter("bulkhead_calls_total", &[]), threads * rounds * 100);
    assert_eq!(seen.counter("bulkhead_executions_total", &[("state", "active")]), threads * rounds * 100);
}

/// Nothing is under way. The first look is one from before the last call ended; the policy tells that end meanwhile.
struct Idle {
    policy: Arc<dyn Recorder>,
    is_late: AtomicBool,
}

impl Levels for Idle {
    fn level(&self, number: u32) -> Option<Level> {
        let in_flight = |value| (number == 0).then_some(Level::new(words::IN_FLIGHT, value));
        if self.is_late.swap(false, Relaxed) {
            self.policy.record(&Event::Level(Level::new(words::IN_FLIGHT, 0.0)));
            return in_flight(1.0);
        }
        in_flight(0.0)
    }
}

#[test]
fn gauge_that_was_told_wrong_is_right_again_within_a_second_of_calls() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let bulkhead = Emitter::new(&BULKHEAD, Name::new("payments"), &Listeners::default());
    let recorder = Metrics::default().attach(&BULKHEAD, bulkhead.name()).unwrap();
    let idle: Arc<dyn Levels> = Arc::new(Idle { policy: recorder.clone(), is_late: AtomicBool::new(false) });
    bulkhead.set_levels(Arc::downgrade(&idle));
    bulkhead.add(recorder);
    assert_eq!(seen.gauge("bulkhead_in_flight", &[]), Some(0.0));
    // Two calls end at once; the one that ended first tells last.
    bulkhead.emit(Event::Level(Level::new(words::IN_FLIGHT, 0.0)));
    bulkhead.emit(Event::Level(Level::new(words::IN_FLIGHT, 1.0)));
    assert_eq!(seen.gauge("bulkhead_in_flight", &[]), Some(1.0));
    sleep(AGED);
    bulkhead.emit(Event::Note(&Note::new(words::ADMITTED)));
    assert_eq!(seen.gauge("bulkhead_in_flight", &[]), Some(0.0));
}

#[test]
fn gauge_is_not_left_at_what_it_was_before_the_policy_told_last() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let bulkhead = policy(&BULKHEAD, "payments", &Metrics::default());
    let recorder = bulkhead.recorder.clone().unwrap();
    let idle: Arc<dyn Levels> = Arc::new(Idle { policy: recorder.clone(), is_late: AtomicBool::new(true) });
    recorder.follow(&Arc::downgrade(&idle));
    bulkhead.level(Level::new(words::IN_FLIGHT, 1.0));
    sleep(AGED);
    bulkhead.emit(done(Outcome::Success)); // asks for the levels, with handles that are new
    assert_eq!(seen.gauge("bulkhead_in_flight", &[]), Some(0.0));
}

#[test]
fn levels_that_take_long_to_tell_or_never_rest_hold_up_one_call_only_for_a_while() {
    /// Ages by the second look, and takes longer than handles get old.
    struct Slow(AtomicU32);
    impl Levels for Slow {
        fn level(&self, number: u32) -> Option<Level> {
            let looks = self.0.fetch_add(1, Relaxed);
            if looks == 0 {
                sleep(AGED);
            }
            [Level::state("open"), Level::new("failure_ratio", f64::from(looks) / 1000.0)]
                .get(number as usize)
                .copied()
        }
    }
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let breaker = policy(&BREAKER, "payments", &Metrics::default());
    let slow = Arc::new(Slow(AtomicU32::new(0)));
    let levels: Arc<dyn Levels> = slow.clone();
    breaker.recorder.as_ref().unwrap().follow(&Arc::downgrade(&levels));
    sleep(AGED);
    breaker.emit(done(Outcome::Success));
    assert_eq!(seen.gauge("circuit_breaker_state", &[("state", "open")]), Some(1.0));
    let looks = slow.0.load(Relaxed);
    assert!((4..20).contains(&looks), "{looks}");
    let ratio = seen.gauge("circuit_breaker_failure_ratio", &[]).unwrap();
    assert!(ratio > 0.0 && ratio < f64::from(looks) / 1000.0, "{ratio}");
}
