use std::time::Duration;

use buttress_bulkhead::KIND as BULKHEAD;
use buttress_core::{KindData, Outcome};
use buttress_metrics::{Metrics, catalog};
use buttress_timeout::KIND as TIMEOUT;

use crate::{KINDS, Seen, done_after, policy};

#[test]
fn there_is_no_prefix_unless_one_is_set() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let metrics = Metrics::builder().prefix("buttress_").build().unwrap();
    let timeout = policy(&TIMEOUT, "payments", &metrics);
    timeout.emit(done_after(Outcome::Success, Some(Duration::from_millis(1))));
    let plain = policy(&TIMEOUT, "payments", &Metrics::default());
    plain.emit(done_after(Outcome::Success, None));

    assert_eq!(seen.counter("buttress_timeout_operations_total", &[("result", "success")]), 1);
    assert_eq!(seen.counter("timeout_operations_total", &[("result", "success")]), 1);
    assert_eq!(seen.0.histogram("buttress_timeout_operation_duration_seconds", &[]), [0.001]);
    // The prefix is not put before what begins with it.
    let names = seen.0.names();
    let of_the_build: Vec<_> = names.keys().filter(|name| name.ends_with("build_info")).collect();
    assert_eq!(of_the_build, ["buttress_build_info"]);
    assert_eq!(seen.gauge("buttress_build_info", &[]), Some(1.0));
}

#[test]
fn histograms_can_be_turned_off_and_then_nobody_reads_a_clock_for_them() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let metrics = Metrics::builder().histograms(false).build().unwrap();
    let timed = |metrics| policy(&TIMEOUT, "payments", metrics).is_timed();
    assert!(!timed(&metrics));
    assert!(timed(&Metrics::default()));
    // A bulkhead has no histogram of calls; nobody should time them for this.
    assert!(!policy(&BULKHEAD, "payments", &Metrics::default()).is_timed());

    let timeout = policy(&TIMEOUT, "payments", &metrics);
    timeout.emit(done_after(Outcome::Success, Some(Duration::from_millis(1))));
    assert_eq!(seen.counter("timeout_operations_total", &[("result", "success")]), 1);
    assert!(seen.0.series().iter().all(|series| series.name != "timeout_operation_duration_seconds"));
}

#[test]
fn settings_that_cannot_work_name_the_field_and_the_value() {
    let error = Metrics::builder().prefix("my-app_").build().unwrap_err();
    assert_eq!((error.field(), error.value()), ("prefix", r#""my-app_""#));
    assert_eq!(Metrics::builder().prefix("9lives_").build().unwrap_err().field(), "prefix");
    assert_eq!(Metrics::builder().prefix("é").build().unwrap_err().field(), "prefix");
    assert_eq!(Metrics::builder().max_names(0).build().unwrap_err().field(), "max_names");
    assert!(Metrics::builder().prefix("ok:9_").max_names(usize::MAX).build().is_ok());
}

#[test]
fn patterns_without_metrics_are_left_alone() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    static CHAOS: KindData = KindData::new("chaos");
    let chaos = policy(&CHAOS, "payments", &Metrics::default());
    chaos.emit(done_after(Outcome::Success, None));
    assert!(seen.0.series().is_empty());
}

#[test]
fn all_metrics_are_described_with_unit_and_help() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    Metrics::builder().prefix("acme_").build().unwrap().describe_all(KINDS);
    let described = seen.0.descriptions();
    let catalog = catalog(KINDS);
    assert_eq!(described.len(), catalog.len());
    for def in catalog {
        let one = &described[&format!("acme_{}", def.name)];
        assert_eq!((one.text.as_str(), one.unit), (def.help, def.unit), "{}", def.name);
    }
}
