use std::{fs, path::Path, process::Command};

use buttress_test::{MetricKind, MetricsProbe};
use metrics::{Key, Label, Level, Metadata, Recorder, Unit, counter, describe_counter, gauge, histogram};

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

/// Tells a probe what buttress would, and what others do.
fn tell_as_buttress(probe: &MetricsProbe, name: &'static str) {
    let metadata = Metadata::new("buttress", Level::INFO, None);
    let key = |part| Key::from_parts([name, part].concat(), vec![Label::new("name", "pay")]);
    probe.register_counter(&key("_total"), &metadata).increment(1);
    probe.register_counter(&key("_none_total"), &metadata).increment(0);
    probe.register_counter(&key("_still_none_total"), &metadata).absolute(0);
    probe.register_gauge(&key("_depth"), &metadata).set(3.0);
    probe.register_gauge(&key("_idle"), &metadata).set(0.0);
    probe.register_gauge(&key("_still_idle"), &metadata).increment(0.0);
    probe.register_histogram(&key("_seconds"), &metadata).record(0.5);
    probe.with_local(|| counter!("of_somebody_else").increment(1));
}

#[test]
fn what_buttress_tells_is_written_to_the_folder_that_the_environment_names() {
    const CHILD: &str = "BUTTRESS_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        for _ in 0..2 {
            tell_as_buttress(&MetricsProbe::install_global(), "calls");
        }
        return tell_as_buttress(&MetricsProbe::off_the_record(), "made_up");
    }
    // The environment is looked at once in a process, so this is for one of its own.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("emitted");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let this = "metrics::what_buttress_tells_is_written_to_the_folder_that_the_environment_names";
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", this]).env(CHILD, "").env("BUTTRESS_EMITTED", &folder);
    assert!(child.output().unwrap().status.success());
    let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    assert_eq!(
        fs::read_to_string(&files[0]).unwrap(),
        "# TYPE calls_total counter\n\
         calls_total{name=\"pay\"} 1\n\
         # TYPE calls_depth gauge\n\
         calls_depth{name=\"pay\"} 1\n\
         # TYPE calls_seconds histogram\n\
         calls_seconds_count{name=\"pay\"} 1\n"
    );
}
