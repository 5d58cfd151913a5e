//! What holds for a whole process: metrics are installed once, and a recorder may come later.

use std::time::Duration;

use buttress_core::{Event, Name, Outcome};
use buttress_kit::{Emitter, Listeners};
use buttress_metrics::Metrics;
use buttress_test::MetricsProbe;
use buttress_timeout::KIND;

#[test]
fn install_counts_once_however_often_it_is_called_and_finds_a_recorder_that_comes_late() {
    let builder = || Metrics::builder().prefix("acme_");
    let emitter = |name: &str| Emitter::new(&KIND, Name::new(name), &Listeners::default());
    let before = emitter("before");
    builder().install().unwrap();
    builder().install().unwrap(); // the same settings
    buttress_metrics::install(); // by a library, say
    let other = Metrics::builder().prefix("other_").install().unwrap_err();
    assert_eq!(other.field(), "metrics");
    assert!(builder().max_names(0).install().is_err());

    let (outcome, result) = (Outcome::Success, Outcome::Success.as_str());
    let done = Event::Done { outcome, result, elapsed: None, slow: false, attempts: 1, error: None };
    let after = emitter("after");
    before.emit(done);
    after.emit(done); // nowhere to go yet

    let probe = MetricsProbe::off_the_record(); // the events are made by hand
    metrics::set_global_recorder(probe.clone()).unwrap();
    buttress_metrics::describe_all(&[&KIND]);
    assert!(probe.descriptions().contains_key("acme_timeout_operations_total"));
    // Real time: a handle's age is that.
    #[allow(clippy::disallowed_methods)]
    std::thread::sleep(Duration::from_millis(1050));
    for _ in 0..3 {
        before.emit(done);
        after.emit(done);
    }
    let count = |name| probe.counter("acme_timeout_operations_total", &[("name", name)]);
    assert_eq!((count("before"), count("after")), (3, 3));
    assert_eq!(probe.counter("timeout_operations_total", &[]), 0);
}
