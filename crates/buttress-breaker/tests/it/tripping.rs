//! When a closed circuit opens.

use buttress_breaker::{Breaker, BreakerConfig, Comparison, OpenReason, State, WindowConfig};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_open_and_a_success_starts_the_count_again() {
    let breaker = Breaker::builder("stage").consecutive_failures(3).open_for(secs(5)).build().unwrap();
    breaker.fail(2);
    breaker.ok(1);
    breaker.fail(2);
    breaker.is(State::Closed);
    breaker.fail(1);
    breaker.is(State::Open);
    assert_eq!(breaker.snapshot().open_reason, Some(OpenReason::ConsecutiveFailures));
}

#[tokio::test(start_paused = true)]
async fn open_refuses_until_exactly_the_wait_is_over() {
    let breaker = Breaker::builder("stage").consecutive_failures(1).open_for(secs(5)).build().unwrap();
    breaker.fail(1);
    pass(ms(4_999)).await;
    assert_eq!(breaker.refused().retry_after(), Some(ms(1)));
    breaker.is(State::Open);
    pass(ms(1)).await;
    breaker.is(State::HalfOpen);
    breaker.ok(1);
}

#[tokio::test(start_paused = true)]
async fn rate_is_asked_after_every_call_from_the_minimum_on_successes_too() {
    let breaker = Breaker::builder("api")
        .window(WindowConfig::time(secs(20)))
        .minimum_calls(5)
        .failure_rate(0.5)
        .open_for(secs(5))
        .build()
        .unwrap();
    breaker.fail(3);
    breaker.ok(1);
    breaker.is(State::Closed);
    assert_eq!(breaker.snapshot().failure_ratio, None);
    breaker.ok(1);
    breaker.is(State::Open);
    breaker.refused();
    let seen = breaker.snapshot();
    assert_eq!((seen.failure_ratio, seen.window.calls, seen.window.failures), (Some(0.6), 5, 3));
    assert_eq!((seen.rejected, seen.open_reason), (1, Some(OpenReason::FailureRate)));
}

#[tokio::test(start_paused = true)]
async fn slow_calls_open_although_most_succeed() {
    let breaker = Breaker::builder("api")
        .window(WindowConfig::time(secs(60)))
        .minimum_calls(5)
        .failure_rate(0.5)
        .slow_call_duration(secs(4))
        .slow_call_rate(0.5)
        .build()
        .unwrap();
    breaker.fail_after(secs(5)).await;
    breaker.ok_after(secs(5)).await;
    breaker.fail_after(ms(100)).await;
    breaker.ok_after(ms(100)).await;
    breaker.is(State::Closed);
    breaker.ok_after(secs(5)).await;
    breaker.is(State::Open);
    let seen = breaker.snapshot();
    assert_eq!((seen.window.slow, seen.window.calls), (3, 5));
    assert_eq!((seen.slow_ratio, seen.failure_ratio), (Some(0.6), Some(0.4)));
    assert_eq!(seen.open_reason, Some(OpenReason::SlowCallRate));
}

#[tokio::test(start_paused = true)]
async fn failures_older_than_the_window_do_not_count() {
    let breaker =
        Breaker::builder("api").window(WindowConfig::time(secs(10))).failure_rate(1.0).build().unwrap();
    breaker.fail(10);
    assert_eq!(breaker.snapshot().window.calls, 10);
    pass(secs(20)).await;
    breaker.ok(1);
    let seen = breaker.snapshot().window;
    assert_eq!((seen.calls, seen.failures), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn k_of_the_last_n_open() {
    let two_of_three =
        || Breaker::builder("x").failure_count(2).window(WindowConfig::count(3)).build().unwrap();
    let breaker = two_of_three();
    breaker.fail(1);
    breaker.ok(1);
    breaker.is(State::Closed);
    breaker.fail(1);
    breaker.is(State::Open);
    let breaker = Breaker::builder("x").failure_count(3).window(WindowConfig::count(4)).build().unwrap();
    for _ in 0..20 {
        breaker.ok(1);
        breaker.fail(1);
        breaker.is(State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn above_is_not_at() {
    let strict = || {
        let window = WindowConfig::count(100);
        let builder = Breaker::builder("x").window(window).minimum_calls(50).failure_rate(0.5);
        builder.comparison(Comparison::Above).build().unwrap()
    };
    let breaker = strict();
    breaker.ok(25);
    breaker.fail(25);
    breaker.is(State::Closed);
    let breaker = strict();
    breaker.ok(24);
    breaker.fail(25);
    breaker.is(State::Closed);
    breaker.fail(1);
    breaker.is(State::Open);
}

#[tokio::test(start_paused = true)]
async fn default_is_half_of_at_least_twenty_calls_in_ten_seconds() {
    let breaker = Breaker::new("api", BreakerConfig::default()).unwrap();
    breaker.fail(19);
    breaker.is(State::Closed);
    breaker.ok(1);
    breaker.is(State::Open);
    let wait = breaker.refused().retry_after().unwrap();
    assert!((ms(2_500)..=ms(7_500)).contains(&wait), "{wait:?}");
}

// Who looks must not change what happens: neither by opening, nor by keeping the rules from being asked.
#[tokio::test(start_paused = true)]
async fn a_look_at_the_end_of_a_bucket_changes_no_decision() {
    for look in [false, true] {
        let builder =
            Breaker::builder("x").failure_rate(0.5).minimum_calls(5).window(WindowConfig::time(secs(10)));
        let breaker = builder.build().unwrap();
        breaker.ok(20);
        pass(secs(5)).await;
        breaker.fail(10);
        breaker.is(State::Closed);
        // The twenty successes are gone: ten of the eleven calls that are left have failed.
        pass(secs(5)).await;
        if look {
            assert_eq!(breaker.snapshot().failure_ratio, Some(1.0));
            breaker.is(State::Closed);
        }
        breaker.ok(1);
        assert_eq!(breaker.state(), State::Open, "looked: {look}");
    }
}
