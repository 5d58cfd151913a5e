use std::{sync::Arc, time::Duration};

use buttress_breaker::{KEYED, KIND, words};
use buttress_core::{Event, Level, Levels, Name, Observer, Outcome, Rejection};
use buttress_kit::{Emitter, Listeners};
use buttress_metrics::Metrics;

use crate::{Seen, done, done_after, policy};

const STATES: [&str; 6] = ["closed", "open", "half_open", "isolated", "disabled", "metrics_only"];

fn state_of(seen: &Seen) -> Vec<&'static str> {
    STATES
        .into_iter()
        .filter(|state| match seen.gauge("circuit_breaker_state", &[("state", state)]) {
            Some(value) => value == 1.0,
            None => panic!("no series for {state}"),
        })
        .collect()
}

#[test]
fn every_call_is_counted_once_by_its_result() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let breaker = policy(&KIND, "payments", &Metrics::default());
    for outcome in [
        Outcome::Success,
        Outcome::Success,
        Outcome::Failure,
        Outcome::Panicked,
        Outcome::TimedOut,
        Outcome::Ignored,
        Outcome::Cancelled,
    ] {
        breaker.emit(done(outcome));
    }
    breaker.refuse(words::OPEN, false);

    let calls =
        |result| seen.counter("circuit_breaker_calls_total", &[("name", "payments"), ("result", result)]);
    assert_eq!(calls("success"), 2);
    assert_eq!(calls("failure"), 3);
    assert_eq!(calls("ignored"), 1);
    assert_eq!(calls("cancelled"), 1);
    assert_eq!(calls("rejected"), 1);
    assert_eq!(seen.counter("circuit_breaker_calls_total", &[]), 8);
}

#[test]
fn call_cut_short_by_the_breaker_is_a_failure_and_not_a_refusal_too() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let breaker = policy(&KIND, "payments", &Metrics::default());
    let why = Rejection::timed_out(
        words::CALL_TIMEOUT,
        &breaker.name,
        Duration::from_secs(1),
        Duration::from_secs(1),
    );
    breaker.emit(Event::Refused { rejection: &why, shadow: false });
    breaker.emit(done(Outcome::TimedOut));
    assert_eq!(seen.counter("circuit_breaker_calls_total", &[]), 1);
    assert_eq!(seen.counter("circuit_breaker_calls_total", &[("result", "failure")]), 1);
}

#[test]
fn shadow_counts_what_it_would_reject_beside_the_calls() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let breaker = policy(&KIND, "payments", &Metrics::default());
    breaker.refuse(words::OPEN, true);
    breaker.emit(done(Outcome::Success));
    assert_eq!(seen.counter("circuit_breaker_would_reject_total", &[("name", "payments")]), 1);
    assert_eq!(seen.counter("circuit_breaker_calls_total", &[]), 1);
}

#[test]
fn slow_calls_and_durations_go_by_the_result() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let breaker = policy(&KIND, "payments", &Metrics::default());
    let slow = |outcome: Outcome| Event::Done {
        outcome,
        result: outcome.as_str(),
        elapsed: Some(Duration::from_millis(2500)),
        slow: true,
        attempts: 1,
        error: None,
    };
    breaker.emit(slow(Outcome::Success));
    breaker.emit(slow(Outcome::Cancelled));
    breaker.emit(done_after(Outcome::Failure, Some(Duration::from_millis(20))));
    breaker.emit(done_after(Outcome::Success, None)); // nobody read the clock

    let slow_calls = |result| seen.counter("circuit_breaker_slow_calls_total", &[("result", result)]);
    assert_eq!((slow_calls("success"), slow_calls("cancelled"), slow_calls("failure")), (1, 1, 0));
    let durations = |result| seen.0.histogram("circuit_breaker_call_duration_seconds", &[("result", result)]);
    assert_eq!(durations("success"), [2.5]);
    assert_eq!(durations("cancelled"), [2.5]);
    assert_eq!(durations("failure"), [0.02]);
}

#[test]
fn transitions_are_counted_and_move_the_one_hot_state() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let breaker = policy(&KIND, "payments", &Metrics::default());
    breaker.change("closed", "open");
    assert_eq!(state_of(&seen), ["open"]);
    breaker.change("open", "half_open");
    assert_eq!(state_of(&seen), ["half_open"]);
    breaker.change("half_open", "closed");
    breaker.change("closed", "isolated");
    assert_eq!(state_of(&seen), ["isolated"]);

    for (from, to) in
        [("closed", "open"), ("open", "half_open"), ("half_open", "closed"), ("closed", "isolated")]
    {
        let labels = [("name", "payments"), ("from", from), ("to", to)];
        assert_eq!(seen.counter("circuit_breaker_state_changes_total", &labels), 1, "{from} -> {to}");
    }
    assert_eq!(seen.counter("circuit_breaker_state_changes_total", &[]), 4);
    let when = seen.gauge("circuit_breaker_last_transition_timestamp_seconds", &[]).unwrap();
    assert!(when > 1.7e9, "{when}");
}

struct Stands([Level; 2]);

impl Levels for Stands {
    fn level(&self, number: u32) -> Option<Level> {
        self.0.get(number as usize).copied()
    }
}

#[test]
fn state_of_every_breaker_is_there_before_its_first_call() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let stands: Arc<dyn Levels> =
        Arc::new(Stands([Level::state("half_open"), Level::new(words::FAILURE_RATIO, f64::NAN)]));
    let breaker = Emitter::new(&KIND, Name::new("payments"), &Listeners::default());
    breaker.set_levels(Arc::downgrade(&stands));
    breaker.add(Metrics::default().attach(&KIND, breaker.name()).unwrap());

    assert_eq!(state_of(&seen), ["half_open"]);
    assert!(seen.gauge("circuit_breaker_failure_ratio", &[]).unwrap().is_nan());
    // Counters are there too, so that `rate` sees the first failure.
    let results = seen.0.series().into_iter().filter(|one| one.name == "circuit_breaker_calls_total");
    assert_eq!(results.count(), 5);
}

#[test]
fn ratios_are_not_a_number_below_minimum_calls_and_after_the_window_began_anew() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let breaker = policy(&KIND, "payments", &Metrics::default());
    let ratios = || {
        let of = |name| seen.gauge(name, &[("name", "payments")]).unwrap();
        (of("circuit_breaker_failure_ratio"), of("circuit_breaker_slow_ratio"))
    };
    breaker.level(Level::new(words::FAILURE_RATIO, f64::NAN));
    breaker.level(Level::new(words::SLOW_RATIO, f64::NAN));
    assert!(ratios().0.is_nan() && ratios().1.is_nan());
    breaker.level(Level::new(words::FAILURE_RATIO, 0.75));
    breaker.level(Level::new(words::SLOW_RATIO, 0.25));
    assert_eq!(ratios(), (0.75, 0.25));
    breaker.change("closed", "open");
    assert_eq!(ratios(), (0.75, 0.25)); // what opened it stays to be seen
    breaker.change("open", "half_open");
    assert!(ratios().0.is_nan() && ratios().1.is_nan());
}

#[test]
fn keyed_breaker_has_one_gauge_of_keys_and_no_state_of_its_own() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let breaker = policy(&KEYED, "tenants", &Metrics::default());
    breaker.level(Level::of(words::KEYS, "closed", 998.0));
    breaker.level(Level::of(words::KEYS, "open", 2.0));
    breaker.change("closed", "open");
    breaker.emit(done(Outcome::Success));

    let keys = |state| seen.gauge("circuit_breaker_keys", &[("name", "tenants"), ("state", state)]);
    assert_eq!((keys("closed"), keys("open"), keys("isolated")), (Some(998.0), Some(2.0), None));
    assert_eq!(seen.counter("circuit_breaker_state_changes_total", &[]), 1);
    assert!(seen.0.series().iter().all(|series| series.name != "circuit_breaker_state"));
}

#[test]
fn last_breaker_of_a_name_leaves_no_open_circuit_behind() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let metrics = Metrics::default();
    let old = policy(&KIND, "payments", &metrics);
    old.change("closed", "open");
    let new = policy(&KIND, "payments", &metrics);
    new.change("open", "half_open");

    drop(old);
    assert_eq!(state_of(&seen), ["half_open"]); // the newer one has the name
    drop(new);
    assert!(state_of(&seen).is_empty());
}
