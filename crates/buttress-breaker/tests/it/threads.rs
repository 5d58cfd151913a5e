//! Counts that must be exact whatever happens meanwhile.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::Duration,
};

use buttress_breaker::{Breaker, KeyedBreaker, Permit, State, WindowConfig};
use buttress_core::{BoxError, Verdict};
use buttress_kit::{Chance, Mode};
use tokio_test::task;
use tower::{Layer, ServiceExt, limit::GlobalConcurrencyLimitLayer, service_fn};

use crate::support::*;

// 1 000 new settings during a million calls; results land in the generation they were admitted in.
#[test]
fn a_thousand_reconfigurations_lose_no_count_and_not_the_window() {
    let window = WindowConfig::count(1 << 20);
    let build = Breaker::builder("x").window(window).failure_rate(1.0).minimum_calls(1 << 20);
    let breaker = build.build().unwrap();
    let threads = 4;
    let each = 250_000_u32;
    thread::scope(|scope| {
        for seed in 0..threads {
            let breaker = breaker.clone();
            scope.spawn(move || {
                for n in 0..each {
                    let permit = breaker.try_acquire().unwrap();
                    match (n + seed) % 10 {
                        0 => permit.failure(),
                        1 => permit.record(Verdict::Ignore),
                        2 if n % 100 == 2 => drop(permit),
                        _ => permit.success(),
                    }
                }
            });
        }
        let mut config = breaker.config();
        for n in 0..1_000 {
            config.failure_rate = Some(if n % 2 == 0 { 0.9 } else { 1.0 });
            config.success_threshold = 1 + n % 7;
            breaker.reconfigure(config.clone()).unwrap();
        }
    });
    let seen = breaker.snapshot();
    assert_eq!(seen.total, u64::from(threads * each));
    assert_eq!((seen.failures, seen.ignored, seen.late), (100_000, 100_000, 0));
    assert_eq!(seen.window.calls, seen.successes + seen.failures);
    assert_eq!(seen.window.failures, seen.failures);
    assert_eq!(seen.state, State::Closed);
}

// Every result is counted once, or is late; also while the circuit is thrown about.
#[test]
fn results_and_changes_of_state_from_many_threads_add_up() {
    let limit = Some(Duration::from_micros(30));
    for (limit, closes) in [(None, false), (limit, false), (limit, true)] {
        thrown_about(limit, closes);
    }
}

fn thrown_about(limit: Option<Duration>, closes: bool) {
    let breaker = Breaker::builder("x")
        .consecutive_failures(50)
        .half_open_timeout(limit)
        .half_open_timeout_closes(closes)
        .open_for(Duration::from_micros(50))
        .permitted_probes(3)
        .success_threshold(2)
        .build()
        .unwrap();
    let stop = AtomicBool::new(false);
    let (mut admitted, mut refused) = (0, 0);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..4_u32)
            .map(|seed| {
                let (breaker, stop) = (&breaker, &stop);
                scope.spawn(move || {
                    let (mut admitted, mut refused, mut n) = (0_u64, 0_u64, seed);
                    let mut held: Vec<Permit> = Vec::new();
                    while !stop.load(SeqCst) {
                        n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        match breaker.try_acquire() {
                            Err(_) => refused += 1,
                            Ok(permit) => {
                                admitted += 1;
                                match n >> 28 {
                                    0..=7 => permit.success(),
                                    8..=12 => permit.failure(),
                                    13 => drop(permit),
                                    _ => held.push(permit),
                                }
                            }
                        }
                        if held.len() > 5 {
                            held.drain(..3).for_each(Permit::success);
                        }
                    }
                    held.into_iter().for_each(Permit::failure);
                    (admitted, refused)
                })
            })
            .collect();
        for n in 0..2_000 {
            match n % 5 {
                0 => breaker.force_open(),
                1 => _ = breaker.force_half_open(),
                2 => breaker.isolate(),
                3 => breaker.force_close(),
                _ => {
                    let seen = breaker.snapshot();
                    let half_open = seen.probes_in_flight > 0 || seen.half_open_successes > 0;
                    assert!(!half_open || seen.state == State::HalfOpen, "{seen:?}");
                }
            }
            thread::park_timeout(Duration::from_micros(20));
        }
        stop.store(true, SeqCst);
        for caller in callers {
            let (some, more) = caller.join().unwrap();
            admitted += some;
            refused += more;
        }
    });
    let seen = breaker.snapshot();
    assert_eq!(seen.total + seen.late, admitted, "{seen:?}");
    assert_eq!(seen.rejected, refused);
    assert_eq!(seen.probes_in_flight, 0);
}

// A hundred failures at once are one opening.
#[test]
fn failures_at_the_same_time_open_once() {
    for _ in 0..50 {
        let (breaker, heard) = Heard::by(Breaker::builder("x").consecutive_failures(3));
        let permits: Vec<_> = (0..100).map(|_| breaker.try_acquire().unwrap()).collect();
        thread::scope(|scope| {
            let mut permits = permits.into_iter();
            for _ in 0..4 {
                let own: Vec<_> = permits.by_ref().take(25).collect();
                scope.spawn(move || own.into_iter().for_each(Permit::failure));
            }
        });
        assert_eq!(heard.transitions(), ["closed>open auto"]);
        let seen = breaker.snapshot();
        assert_eq!((seen.failures, seen.late), (3, 97));
    }
}

// Services, drops at any poll, panics, hand-made changes, in any order: nothing leaks and everything adds up.
#[test]
fn two_thousand_random_lives_of_services_add_up() {
    for seed in 0..2_000 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(life(seed));
    }
}

async fn life(seed: u64) {
    let chance = Chance::seeded(seed);
    let below = |n: u64| chance.bits() % n;
    let half_open = (below(2) == 0).then_some(ms(1 + below(6)));
    let (breaker, heard) = Heard::by(
        Breaker::builder("x")
            .consecutive_failures(2)
            .open_for(ms(10))
            .permitted_probes(1 + below(2) as u32)
            .success_threshold(1 + below(2) as u32)
            .gate_readiness(below(2) == 0)
            .call_timeout((below(2) == 0).then_some(ms(4)))
            .half_open_timeout(half_open)
            .half_open_timeout_closes(half_open.is_some() && below(2) == 0)
            .seed(seed),
    );
    let slots = GlobalConcurrencyLimitLayer::new(2);
    let called = Rc::new(Cell::new(0_usize));
    let count = called.clone();
    let inner = service_fn(move |(wait, end): (u64, u64)| {
        count.set(count.get() + 1);
        async move {
            if wait > 0 {
                tokio::time::sleep(ms(wait)).await;
            }
            match end {
                0..=4 => Ok::<_, BoxError>(()),
                5..=8 => Err("down".into()),
                _ => panic!("odd"),
            }
        }
    });
    let svc = breaker.layer().layer(slots.layer(inner));
    let mut calls = Vec::new();
    let mut asked = 0;
    for _ in 0..40 {
        match below(12) {
            0..=3 => {
                asked += 1;
                calls.push(task::spawn(svc.clone().oneshot((below(3) * below(4), below(10)))));
            }
            4..=7 if !calls.is_empty() => {
                let which = below(calls.len() as u64) as usize;
                let polled = catch_unwind(AssertUnwindSafe(|| calls[which].poll().is_ready()));
                if polled.unwrap_or(true) {
                    drop(calls.swap_remove(which));
                }
            }
            8 if !calls.is_empty() => drop(calls.swap_remove(below(calls.len() as u64) as usize)),
            9 => pass(ms(below(8))).await,
            10 if below(4) == 0 => breaker.force_open(),
            11 if below(4) == 0 => breaker.reset(),
            _ => {}
        }
    }
    drop(calls);
    let seen = breaker.snapshot();
    assert_eq!(seen.probes_in_flight, 0, "seed {seed}");
    // Each call that was let in has one end; the others were refused, or dropped before they got as far.
    let ended: usize = ["success", "failure", "timeout", "cancelled", "panicked"]
        .iter()
        .map(|how| heard.count(&format!("done {how}")))
        .sum();
    let refused = heard.count("refused CIRCUIT_OPEN");
    assert_eq!(ended, called.get(), "seed {seed}");
    assert!(ended + refused <= asked, "seed {seed}");
    // Each change of state begins where the one before has ended.
    let mut state = "closed".to_owned();
    for change in heard.transitions() {
        let (from, to) = change.split_once('>').unwrap();
        assert_eq!(from, state, "seed {seed}");
        state = to.split(' ').next().unwrap().to_owned();
    }
    // Both slots are free, and a service that works closes the circuit again.
    pass(ms(100)).await;
    for _ in 0..4 {
        svc.clone().oneshot((0, 0)).await.unwrap();
    }
    assert_eq!(breaker.state(), State::Closed, "seed {seed}");
}

#[tokio::test(start_paused = true)]
async fn the_window_survives_new_settings_and_goes_with_a_new_shape() {
    let builder = Breaker::builder("x").window(WindowConfig::count(10)).failure_rate(1.0).minimum_calls(4);
    let breaker = builder.build().unwrap();
    breaker.fail(3);
    breaker.ok(3);
    let mut config = breaker.config();
    config.failure_rate = Some(0.5);
    breaker.reconfigure(config.clone()).unwrap();
    assert_eq!(breaker.snapshot().window.calls, 6);
    breaker.is(State::Closed);
    // 3 of 7 is below the half; 4 of 8 is not. New settings are asked at the next call.
    breaker.ok(1);
    breaker.is(State::Closed);
    breaker.fail(1);
    breaker.is(State::Open);
    breaker.reset();
    breaker.fail(3);
    config.window = WindowConfig::count(20);
    breaker.reconfigure(config.clone()).unwrap();
    assert_eq!(breaker.snapshot().window.calls, 0);
    assert_eq!(breaker.snapshot().failures, 3);
    config.window = WindowConfig::count(0);
    assert_eq!(breaker.reconfigure(config).unwrap_err().field(), "window.count");
    assert_eq!(breaker.config().window, WindowConfig::count(20));
}

// New settings that a success must be asked about.
#[tokio::test(start_paused = true)]
async fn a_success_opens_where_new_settings_say_so() {
    let builder = Breaker::builder("x").window(WindowConfig::count(10)).failure_rate(0.9).minimum_calls(4);
    let breaker = builder.build().unwrap();
    breaker.fail(3);
    breaker.ok(2);
    let mut config = breaker.config();
    config.failure_rate = Some(0.5);
    breaker.reconfigure(config).unwrap();
    breaker.is(State::Closed);
    breaker.ok(1);
    breaker.is(State::Open);
}

// Mode, limits and rules are read in different ways; what `config` names must be what holds, in all of them.
#[test]
fn two_reconfigurations_at_once_never_mix() {
    let breaker = Breaker::builder("x").build().unwrap();
    let settings = [(1, Mode::Shadow), (100, Mode::Enforce)].map(|(failures, mode)| {
        let mut config = breaker.config();
        (config.consecutive_failures, config.mode) = (Some(failures), mode);
        config
    });
    for _ in 0..2_000 {
        thread::scope(|scope| {
            for config in &settings {
                scope.spawn(|| breaker.reconfigure(config.clone()).unwrap());
            }
        });
        let config = breaker.config();
        breaker.force_open();
        assert_eq!(breaker.try_acquire().is_ok(), config.mode == Mode::Shadow);
        breaker.reset();
        breaker.fail(1);
        let opens = config.consecutive_failures == Some(1);
        assert_eq!(breaker.state(), if opens { State::Open } else { State::Closed });
        breaker.reset();
    }
}

#[test]
fn two_reconfigurations_at_once_are_in_force_for_all_keys_alike() {
    let keyed: KeyedBreaker<u32> = Breaker::keyed("x").build().unwrap();
    let settings = [1, 2].map(|failures| {
        let mut config = keyed.config();
        config.consecutive_failures = Some(failures);
        config
    });
    for round in 0..500 {
        thread::scope(|scope| {
            for config in &settings {
                scope.spawn(|| keyed.reconfigure(config.clone()).unwrap());
            }
            scope.spawn(|| keyed.try_acquire(&round).unwrap().success());
        });
        let opens = keyed.config().consecutive_failures == Some(1);
        for key in [round, u32::MAX] {
            keyed.try_acquire(&key).unwrap().failure();
            assert_eq!(keyed.get(&key).unwrap().is_open(), opens);
        }
        keyed.reset();
        keyed.remove(&round);
    }
}
