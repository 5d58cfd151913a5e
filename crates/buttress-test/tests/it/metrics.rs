use buttress_test::{MetricKind, MetricsProbe};
use metrics::{Unit, counter, describe_counter, gauge, histogram};

#[test]
fn looking_does_not_empty() {
    let probe = MetricsProbe::new();
    probe.with_local(|| {
        counter!("calls", "name" => "pay", "result" => "ok").increment(2);
        counter!("calls", "name" => "pay", "result" => "error").increment(1);
        counter!("calls", "name" => "ship", "result" => "ok").absolute(5);
        gauge!("depth", "name" => "pay").set(3.0);
        gauge!("depth", "name" => "pay").decrement(0.5);
        histogram!("wait", "name" => "pay").record(0.25);
        histogram!("wait", "name" => "pay").record_many(0.5, 2);
    });
    for _ in 0..2 {
        assert_eq!(probe.counter("calls", &[]), 8);
        assert_eq!(probe.counter("calls", &[("name", "pay")]), 3);
        assert_eq!(probe.counter("calls", &[("result", "ok"), ("name", "pay")]), 2);
        assert_eq!(probe.counter("none", &[]), 0);
        assert_eq!(probe.gauge("depth", &[("name", "pay")]), Some(2.5));
        assert_eq!(probe.gauge("depth", &[("name", "ship")]), None);
        assert_eq!(probe.histogram("wait", &[]), [0.25, 0.5, 0.5]);
    }
}

#[test]
fn series_names_and_descriptions_are_listed() {
    let probe = MetricsProbe::new();
    probe.with_local(|| {
        describe_counter!("calls", Unit::Count, "Calls made.");
        counter!("calls", "result" => "ok", "name" => "pay").increment(1);
        counter!("calls").increment(1);
    });
    let series = probe.series();
    assert_eq!(series.len(), 2);
    assert!(series.iter().all(|one| one.kind == MetricKind::Counter && one.name == "calls"));
    let labels = vec![("name".to_owned(), "pay".to_owned()), ("result".to_owned(), "ok".to_owned())];
    assert_eq!(series[1].labels, labels);
    assert_eq!(probe.names()["calls"].iter().collect::<Vec<_>>(), ["name", "result"]);
    let description = &probe.descriptions()["calls"];
    assert_eq!((description.unit, description.text.as_str()), (Some(Unit::Count), "Calls made."));
}

#[test]
fn evicted_series_comes_back_from_zero() {
    let probe = MetricsProbe::new();
    let _local = probe.set_local();
    let stale = counter!("calls", "name" => "pay");
    stale.increment(7);
    assert_eq!(probe.evict("calls", &[("name", "ship")]), 0);
    assert_eq!(probe.evict("calls", &[]), 1);
    stale.increment(1);
    assert_eq!(probe.counter("calls", &[]), 0);
    counter!("calls", "name" => "pay").increment(1);
    assert_eq!(probe.counter("calls", &[]), 1);
}

#[test]
fn global_probe_is_one_for_the_process() {
    let probe = MetricsProbe::install_global();
    counter!("of_the_process").increment(1);
    assert_eq!(MetricsProbe::install_global().counter("of_the_process", &[]), 1);
    assert_eq!(probe.counter("of_the_process", &[]), 1);
}

#[test]
#[should_panic(expected = "2 gauges")]
fn gauge_that_is_not_one_is_no_answer() {
    let probe = MetricsProbe::new();
    probe.with_local(|| {
        gauge!("depth", "name" => "a").set(1.0);
        gauge!("depth", "name" => "b").set(1.0);
    });
    probe.gauge("depth", &[]);
}
