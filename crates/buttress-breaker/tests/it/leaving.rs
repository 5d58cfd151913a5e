//! People who leave, and services that hang: what a dropped call means depends on how long it was waited for, and on
//! what became of the others.

use std::{future::pending, time::Duration};

use buttress_breaker::{Breaker, BreakerConfig, OnCancel, OpenReason, State, WindowConfig};
use buttress_core::BoxError;
use tokio::time::sleep;
use tower::{Layer, ServiceExt, service_fn, timeout::TimeoutLayer};

use crate::support::*;

fn three_in_a_row() -> Breaker {
    Breaker::builder("x").consecutive_failures(3).open_for(secs(10)).success_threshold(1).build().unwrap()
}

/// A call that its caller gives up after this long.
async fn left_after(breaker: &Breaker, time: Duration) {
    let hung = breaker.call(pending::<Result<(), BoxError>>);
    tokio::time::timeout(time, hung).await.unwrap_err();
}

async fn takes(breaker: &Breaker, time: Duration) {
    breaker
        .call(|| async move {
            sleep(time).await;
            Ok::<_, BoxError>(())
        })
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn users_who_leave_at_once_open_nothing_however_many_they_are() {
    let breaker = three_in_a_row();
    for _ in 0..1_000 {
        left_after(&breaker, ms(10)).await;
        // Not even polled, and not even called.
        drop(breaker.call(pending::<Result<(), BoxError>>));
        drop(breaker.try_acquire().unwrap());
    }
    breaker.is(State::Closed);
    assert_eq!(breaker.snapshot().cancelled, 3_000);
}

// Of three who leave after three calls that succeeded, none had waited for long.
#[tokio::test(start_paused = true)]
async fn three_users_who_leave_after_calls_that_succeeded_open_nothing() {
    let breaker = three_in_a_row();
    for _ in 0..3 {
        takes(&breaker, ms(50)).await;
    }
    for _ in 0..3 {
        left_after(&breaker, ms(40)).await;
    }
    breaker.is(State::Closed);
}

#[tokio::test(start_paused = true)]
async fn wait_that_counts_is_three_times_the_mean_success_and_at_least_the_setting() {
    // No success is known: the setting alone. Give or take a twentieth.
    for (mean, time, state) in [
        (None, 94, State::Closed),
        (None, 96, State::Open),
        (Some(20), 94, State::Closed),
        (Some(20), 96, State::Open),
        (Some(1_000), 2_800, State::Closed),
        (Some(1_000), 2_900, State::Open),
    ] {
        let breaker = three_in_a_row();
        if let Some(mean) = mean {
            takes(&breaker, ms(mean)).await;
        }
        for _ in 0..3 {
            left_after(&breaker, ms(time)).await;
        }
        assert_eq!(breaker.state(), state, "{mean:?}, {time} ms");
    }
}

// One in sixteen is timed, and a slow one alone is no measure.
#[tokio::test(start_paused = true)]
async fn mean_follows_what_calls_take() {
    let breaker = three_in_a_row();
    takes(&breaker, secs(10)).await;
    for _ in 0..16 * 40 {
        takes(&breaker, ms(20)).await;
    }
    for _ in 0..3 {
        left_after(&breaker, ms(300)).await;
    }
    breaker.is(State::Open);
}

#[tokio::test(start_paused = true)]
async fn calls_dropped_while_others_settle_mean_nothing() {
    for fails in [false, true] {
        let breaker = Breaker::builder("x").consecutive_failures(3).build().unwrap();
        for _ in 0..100 {
            // Let in before the other settles, and dropped long after.
            let mut left = tokio_test::task::spawn(breaker.call(pending::<Result<(), BoxError>>));
            assert!(left.poll().is_pending());
            if fails {
                breaker.fail(1)
            } else {
                breaker.ok(1)
            }
            breaker.ok(1);
            pass(secs(5)).await;
            drop(left);
        }
        breaker.is(State::Closed);
    }
}

// The same as permits.
#[tokio::test(start_paused = true)]
async fn permits_that_are_dropped_late_are_calls_that_hang() {
    let breaker = three_in_a_row();
    let permits: Vec<_> = (0..3).map(|_| breaker.try_acquire().unwrap()).collect();
    pass(ms(100)).await;
    drop(permits);
    breaker.is(State::Open);
    assert_eq!(breaker.snapshot().open_reason, Some(OpenReason::Abandoned));
}

#[tokio::test(start_paused = true)]
async fn setting_says_from_when_on_a_dropped_call_counts() {
    for (after, state) in [(ms(0), State::Open), (ms(40), State::Open), (ms(60), State::Closed)] {
        let builder = Breaker::builder("x").consecutive_failures(3).abandoned_after(after);
        let breaker = builder.build().unwrap();
        for _ in 0..3 {
            left_after(&breaker, ms(50)).await;
        }
        breaker.is(state);
    }
    let mut config = BreakerConfig::default();
    config.abandoned_after = Duration::MAX;
    assert_eq!(config.validate().unwrap_err().field(), "abandoned_after");
    let read: BreakerConfig = serde_json::from_str(r#"{"abandoned_after":"250ms"}"#).unwrap();
    assert_eq!(read.abandoned_after, ms(250));
}

#[tokio::test(start_paused = true)]
async fn two_dropped_probes_do_not_open_again() {
    for time in [0, 50, 5_000] {
        for sample in [1, 2] {
            let builder = Breaker::builder("x").consecutive_failures(1).success_threshold(sample);
            let breaker = builder.open_for(secs(1)).build().unwrap();
            breaker.fail(1);
            pass(secs(1)).await;
            for _ in 0..2 {
                breaker.is(State::HalfOpen);
                left_after(&breaker, ms(time)).await;
            }
            breaker.is(State::HalfOpen);
            breaker.ok(sample);
            breaker.is(State::Closed);
        }
    }
}

// Or a caller who comes back each second holds the circuit half-open for ever.
#[tokio::test(start_paused = true)]
async fn probes_that_hang_open_again_and_those_whose_callers_leave_at_once_do_not() {
    for (time, state) in [(ms(20), State::HalfOpen), (secs(1), State::Open)] {
        let breaker = three_in_a_row();
        breaker.fail(3);
        pass(secs(10)).await;
        for _ in 0..3 {
            breaker.is(State::HalfOpen);
            left_after(&breaker, time).await;
        }
        breaker.is(state);
    }
}

// The waits of the calls need the clock, and slow calls, time-outs and windows of time have it read as they begin.
#[tokio::test(start_paused = true)]
async fn hang_is_found_whatever_else_the_settings_ask_for() {
    let row = || Breaker::builder("x").consecutive_failures(5);
    let builders = [
        row(),
        row().slow_call_duration(secs(30)),
        row().call_timeout(secs(30)),
        row().failure_rate(0.5).minimum_calls(5),
        row().failure_rate(0.5).minimum_calls(5).window(WindowConfig::interval(secs(600))),
        row().failure_rate(0.5).minimum_calls(5).window(WindowConfig::count(5)),
    ];
    for builder in builders {
        let breaker = builder.build().unwrap();
        let hang = service_fn(|(): ()| pending::<Result<(), BoxError>>());
        let svc = TimeoutLayer::new(ms(250)).layer(breaker.layer().layer(hang));
        for _ in 0..5 {
            breaker.is(State::Closed);
            svc.clone().oneshot(()).await.unwrap_err();
        }
        breaker.is(State::Open);
    }
}

#[tokio::test(start_paused = true)]
async fn other_modes_ask_for_no_wait() {
    for (on_cancel, state) in [(OnCancel::Failure, State::Open), (OnCancel::Ignore, State::Closed)] {
        let breaker = Breaker::builder("x").consecutive_failures(3).on_cancel(on_cancel).build().unwrap();
        for time in [ms(0), ms(1), secs(60)] {
            left_after(&breaker, time).await;
        }
        breaker.is(state);
    }
}

// All at once, as a server sees it.
#[tokio::test(start_paused = true)]
async fn hang_of_a_busy_service_is_found_within_its_callers_time_out() {
    let breaker = Breaker::builder("x").consecutive_failures(5).build().unwrap();
    let begun = tokio::time::Instant::now();
    for n in 0..200 {
        let breaker = breaker.clone();
        tokio::spawn(async move {
            sleep(ms(10 * n)).await;
            let call = breaker.call(|| async move {
                // Dead from the 100th call on.
                if n < 100 {
                    sleep(ms(20)).await
                } else {
                    pending::<()>().await
                }
                Ok::<_, BoxError>(())
            });
            let _given_up = tokio::time::timeout(ms(250), call).await;
        });
    }
    while breaker.state() != State::Open {
        sleep(ms(1)).await;
        assert!(begun.elapsed() < secs(10), "never found");
    }
    let opened = begun.elapsed();
    assert!(opened > ms(1_000) && opened < ms(1_350), "{opened:?}");
}
