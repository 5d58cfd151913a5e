use buttress_bulkhead::{KIND as BULKHEAD, words};
use buttress_core::{Level, Name, Observer, Outcome};
use buttress_fallback::KIND as FALLBACK;
use buttress_metrics::{Metrics, OTHER};
use buttress_timeout::KIND as TIMEOUT;

use crate::{Seen, done, policy};

#[test]
fn million_names_make_no_more_series_than_the_cap_allows() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let metrics = Metrics::builder().max_names(100).build().unwrap();
    let event = done(Outcome::Success);
    for n in 0..1_000_000 {
        let recorder = metrics.attach(&FALLBACK, &Name::new(format!("tenant-{n}"))).unwrap();
        if n % 10 == 0 {
            recorder.record(&event);
        }
    }
    let series = seen.0.series();
    let fallback = series.iter().filter(|one| one.name == "fallback_calls_total").count();
    assert_eq!(fallback, (100 + 1) * 5);
    let primary = |name| seen.counter("fallback_calls_total", &[("name", name), ("result", "primary")]);
    assert_eq!(primary("tenant-90"), 1);
    assert_eq!(primary("tenant-100"), 0);
    assert_eq!(primary(OTHER), 100_000 - 10);
}

#[test]
fn names_that_overflow_have_no_gauges_to_overwrite() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let metrics = Metrics::builder().max_names(1).build().unwrap();
    let known = policy(&BULKHEAD, "payments", &metrics);
    let other = policy(&BULKHEAD, "search", &metrics);
    for bulkhead in [&known, &other] {
        bulkhead.level(Level::new(words::IN_FLIGHT, 3.0));
        bulkhead.emit(done(Outcome::Success));
    }
    assert_eq!(seen.gauge("bulkhead_in_flight", &[]), Some(3.0)); // one series, or this panics
    assert_eq!(seen.counter("bulkhead_calls_total", &[("name", OTHER)]), 1);
    // The cap is on names: another pattern of a known name has its own series.
    policy(&TIMEOUT, "payments", &metrics).emit(done(Outcome::Success));
    assert_eq!(seen.counter("timeout_operations_total", &[("name", "payments")]), 1);
}

#[test]
fn name_keeps_its_place_when_its_policies_are_dropped() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let metrics = Metrics::builder().max_names(1).build().unwrap();
    for _ in 0..3 {
        policy(&TIMEOUT, "payments", &metrics).emit(done(Outcome::Success));
        policy(&TIMEOUT, "search", &metrics).emit(done(Outcome::Success));
    }
    assert_eq!(seen.counter("timeout_operations_total", &[("name", "payments")]), 3);
    assert_eq!(seen.counter("timeout_operations_total", &[("name", "search")]), 0);
}
