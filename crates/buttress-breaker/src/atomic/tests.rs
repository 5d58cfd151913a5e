//! What a call learns without the lock.

use std::time::Duration;

use super::*;
use crate::{BreakerConfig, Ramp, WindowConfig};

const MS: u64 = 1_000_000;

fn at(time: u64) -> Now {
    Now { time, unit: 0.5, refused: 0 }
}

fn millis(n: u64) -> Option<Duration> {
    Some(Duration::from_millis(n))
}

fn made(state: State, config: &BreakerConfig) -> AtomicCircuit {
    let rules = Arc::new(config.rules());
    AtomicCircuit::new(Circuit::new(state, &rules, at(0)), rules)
}

#[test]
fn word_says_of_each_state_whether_calls_flow() {
    for (state, is_closed, flows) in [
        (State::Closed, true, true),
        (State::MetricsOnly, false, true),
        (State::Disabled, false, true),
        (State::Open, false, false),
        (State::HalfOpen, false, false),
        (State::Isolated, false, false),
    ] {
        for timed in [false, true] {
            let slow_call_duration = if timed { millis(1) } else { None };
            let word = made(state, &BreakerConfig { slow_call_duration, ..BreakerConfig::default() }).word();
            assert_eq!((word.state(), word.is_closed(), word.flows()), (state, is_closed, flows));
            assert_eq!(word.is_timed(), timed);
        }
    }
}

#[test]
fn ramp_is_closed_but_not_for_every_call() {
    let ramp = Some(Ramp::over(Duration::from_millis(10)));
    let atomic =
        made(State::HalfOpen, &BreakerConfig { ramp, success_threshold: 1, ..BreakerConfig::default() });
    let Decision::Admitted(probe) = atomic.lock().admit(at(MS)) else { panic!("half-open") };
    atomic.lock().record(probe, MS, Ending::Success, false, at(MS));
    let word = atomic.word();
    assert_eq!((word.state(), word.is_closed(), word.flows()), (State::Closed, false, true));
    assert_eq!((word.phase(), atomic.blocked_until()), (Phase::Ramping, 11 * MS));
}

#[test]
fn refusal_lasts_until_a_probe_may_be_taken_or_the_half_open_state_is_over() {
    let config = BreakerConfig {
        open_for: millis(5),
        probe_lease: millis(2),
        half_open_timeout: millis(3),
        permitted_probes: 1,
        window: WindowConfig::count(50),
        ..BreakerConfig::default()
    };
    let atomic = made(State::Open, &config);
    let refused_for = |time: u64| atomic.refused_for(atomic.word(), time * MS);
    assert_eq!([0, 2, 5].map(refused_for), [Some(5 * MS), Some(3 * MS), None]);
    assert_eq!((atomic.valid_until(), atomic.longest_wait()), (u64::MAX, u64::MAX));
    assert!(!atomic.is_over(atomic.word(), u64::MAX));

    atomic.lock().admit(at(5 * MS));
    assert_eq!([5, 6, 7].map(refused_for), [Some(2 * MS), Some(MS), None]);
    assert_eq!((atomic.valid_until(), atomic.longest_wait()), (8 * MS, 5 * MS));
    assert_eq!([7, 8, 9].map(|time| atomic.is_over(atomic.word(), time * MS)), [false, true, true]);
    // Its lease is longer than the rest of the state, after which the circuit is open again.
    atomic.lock().admit(at(7 * MS));
    assert_eq!([7, 8].map(refused_for), [Some(6 * MS), None]);
    assert_eq!(atomic.lock().found(9 * MS), State::Open);
}

#[test]
fn success_is_counted_in_its_own_generation_and_seen_at_once() {
    let config = BreakerConfig { consecutive_failures: Some(2), ..BreakerConfig::default() };
    let atomic = made(State::Closed, &config);
    let generation = atomic.word().generation();
    assert_eq!((atomic.settled(), atomic.success(generation), atomic.settled()), (1, true, 2));
    assert!(!atomic.success(generation + 1));
    let guard = atomic.lock();
    assert!(atomic.is_busy());
    // None may be counted beside the holder of the lock.
    assert!(!atomic.success(generation));
    drop(guard);
    assert!(!atomic.is_busy());
    assert_eq!(atomic.lock().circuit().view(0).tally().successes, 1);
}

#[test]
fn new_settings_keep_the_window_unless_it_is_another() {
    let config = |calls| BreakerConfig { window: WindowConfig::count(calls), ..BreakerConfig::default() };
    let atomic = made(State::Closed, &config(50));
    atomic.success(atomic.word().generation());
    for (calls, left) in [(50, 1), (60, 0)] {
        atomic.lock().reconfigure(Arc::new(config(calls).rules()), at(0));
        assert_eq!(atomic.lock().circuit().view(0).window().calls, left);
    }
}
