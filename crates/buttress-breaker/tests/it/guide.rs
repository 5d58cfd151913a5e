//! The guide of blipee-os, clause by clause: its numbers, and what they do at their very boundaries.

use std::sync::{Arc, Mutex};

use buttress_breaker::{
    Breaker, BreakerBuilder, CALL_TIMEOUT, OpenReason, State, WindowConfig, words::CALLS,
};
use buttress_core::{BoxError, Event, Name, Note, OwnedEvent, Value, rejection};
use buttress_kit::Registry;
use tokio::time::Instant;

use crate::support::*;

fn blipee() -> Breaker {
    Breaker::new("external-api", profile("blipee")).unwrap()
}

async fn call_of(breaker: &Breaker, time: std::time::Duration) -> Result<(), BoxError> {
    let work = || async move {
        tokio::time::sleep(time).await;
        Ok(())
    };
    breaker.call(work).await
}

// Five in a row open, once there were ten calls
#[tokio::test(start_paused = true)]
async fn five_in_a_row_open_only_from_the_tenth_call_on() {
    let breaker = blipee();
    breaker.fail(9);
    breaker.is(State::Closed);
    breaker.fail(1);
    breaker.is(State::Open);
    assert_eq!(breaker.snapshot().open_reason, Some(OpenReason::ConsecutiveFailures));

    // Four in a row are not five, however many calls there were.
    let breaker = blipee();
    breaker.ok(20);
    for _ in 0..3 {
        breaker.fail(4);
        breaker.ok(1);
    }
    breaker.fail(4);
    breaker.is(State::Closed);
    breaker.fail(1);
    breaker.is(State::Open);
}

#[tokio::test(start_paused = true)]
async fn half_of_the_calls_is_enough_and_anything_less_is_not() {
    let breaker = blipee();
    for _ in 0..4 {
        breaker.ok(1);
        breaker.fail(1);
    }
    breaker.ok(1);
    breaker.is(State::Closed); // four of nine, and nine calls
    breaker.fail(1);
    breaker.is(State::Open); // five of ten
    let seen = breaker.snapshot();
    assert_eq!((seen.open_reason, seen.failure_ratio), (Some(OpenReason::FailureRate), Some(0.5)));

    let breaker = blipee();
    breaker.ok(2);
    for _ in 0..49 {
        breaker.ok(1);
        breaker.fail(1);
    }
    breaker.is(State::Closed); // 49 of 100
    breaker.fail(2);
    breaker.is(State::Open); // 51 of 102
}

#[tokio::test(start_paused = true)]
async fn a_minute_open_then_five_successes_close() {
    let breaker = blipee();
    breaker.fail(10);
    assert_eq!(breaker.refused().retry_after(), Some(secs(60)));
    pass(ms(59_999)).await;
    breaker.refused();
    breaker.is(State::Open);
    pass(ms(1)).await;
    for _ in 0..5 {
        breaker.is(State::HalfOpen);
        breaker.ok(1);
    }
    breaker.is(State::Closed);
}

// The breaker's own limit for each call
#[tokio::test(start_paused = true)]
async fn a_call_of_three_seconds_ends_by_itself_and_a_longer_one_by_the_breaker() {
    let breaker = blipee();
    call_of(&breaker, secs(3)).await.unwrap();
    let started = Instant::now();
    let late = call_of(&breaker, ms(3_001)).await.unwrap_err();
    assert_eq!(rejection(&*late).map(|why| why.code()), Some(CALL_TIMEOUT));
    assert_eq!(started.elapsed(), secs(3));
    assert_eq!((breaker.snapshot().failures, breaker.snapshot().timeouts), (1, 1));
    // Where no limit is set, there is none.
    call_of(&Breaker::builder("x").build().unwrap(), secs(86_400)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_of_a_second_is_not_slow_and_half_of_slow_ones_opens() {
    let breaker = blipee();
    breaker.ok(5);
    for _ in 0..20 {
        breaker.ok_after(secs(1)).await;
    }
    assert_eq!((breaker.snapshot().slow_calls, breaker.state()), (0, State::Closed));

    let breaker = blipee();
    breaker.ok(5);
    for _ in 0..5 {
        breaker.is(State::Closed);
        breaker.ok_after(ms(1_001)).await;
    }
    breaker.is(State::Open);
    let seen = breaker.snapshot();
    assert_eq!((seen.slow_calls, seen.successes, seen.failures), (5, 10, 0));
    assert_eq!((seen.open_reason, seen.slow_ratio), (Some(OpenReason::SlowCallRate), Some(0.5)));
}

#[tokio::test(start_paused = true)]
async fn failures_older_than_a_minute_do_not_count() {
    let failing = async |pause| {
        let breaker = blipee();
        breaker.fail(4);
        breaker.ok(1);
        pass(pause).await;
        breaker.ok(4);
        breaker.fail(1);
        (breaker.state(), breaker.snapshot().window.failures)
    };
    // The window moves on by six seconds at a time.
    assert_eq!(failing(secs(53)).await, (State::Open, 5));
    assert_eq!(failing(secs(60)).await, (State::Closed, 1));
}

// 3, 0.5, 5, 120 s, 120 s, 5, 5 s, 0.3
#[tokio::test(start_paused = true)]
async fn long_example_does_what_its_comments_say() {
    let ai_service = || {
        Breaker::builder("ai-service")
            .config(profile("blipee"))
            .consecutive_failures(3)
            .failure_rate(0.5)
            .success_threshold(5)
            .call_timeout(secs(120))
            .open_for(secs(120))
            .minimum_calls(5)
            .slow_call_duration(secs(5))
            .slow_call_rate(0.3)
            .build()
            .unwrap()
    };
    let config = ai_service().config();
    assert_eq!(
        (config.consecutive_failures, config.failure_rate, config.success_threshold, config.call_timeout),
        (Some(3), Some(0.5), 5, Some(secs(120)))
    );
    assert_eq!(
        (config.open_for, config.minimum_calls, config.slow_call_duration, config.slow_call_rate),
        (Some(secs(120)), Some(5), Some(secs(5)), Some(0.3))
    );
    assert_eq!(config.window, WindowConfig::time(secs(60)));

    let breaker = ai_service();
    breaker.ok(2);
    breaker.fail(2);
    breaker.is(State::Closed);
    breaker.fail(1); // three in a row, the fifth call
    breaker.is(State::Open);
    pass(secs(120)).await;
    breaker.ok(4);
    breaker.is(State::HalfOpen);
    breaker.ok(1);
    breaker.is(State::Closed);

    let breaker = ai_service();
    breaker.ok(7);
    for _ in 0..2 {
        breaker.ok_after(ms(5_001)).await;
        breaker.is(State::Closed); // two of nine
    }
    breaker.ok_after(ms(5_001)).await; // three of ten
    breaker.is(State::Open);

    let breaker = ai_service();
    call_of(&breaker, ms(119_999)).await.unwrap();
    call_of(&breaker, ms(120_001)).await.unwrap_err();
}

/// What a listener heard of calls: how they ended, their time, and the error.
type Calls = Arc<Mutex<Vec<(String, &'static str, std::time::Duration, Option<String>)>>>;

fn listening(builder: BreakerBuilder, name: &'static str) -> (Breaker, Calls) {
    let calls = Calls::default();
    let to = calls.clone();
    // An observer is given the name once, and a listener for this breaker alone.
    let observer = move |_, name: &Name| -> Option<Arc<dyn buttress_core::Recorder>> {
        let (to, name) = (to.clone(), name.to_string());
        Some(buttress_core::observe::recorder_fn(move |event: &Event<'_>| {
            if let Event::Done { outcome, elapsed, error, .. } = event {
                let error = error.map(ToString::to_string);
                to.lock().unwrap().push((name.clone(), outcome.as_str(), elapsed.unwrap(), error));
            }
        }))
    };
    let breaker = builder.observe(observer).build().unwrap();
    assert_eq!(&**breaker.name(), name);
    (breaker, calls)
}

// `breaker.on('call', ({ success, duration, error }) => …)`
#[tokio::test(start_paused = true)]
async fn each_call_is_told_with_name_success_time_and_error() {
    let builder = Breaker::builder("ai-service").call_timeout(secs(3));
    let (breaker, calls) = listening(builder, "ai-service");
    call_of(&breaker, ms(30)).await.unwrap();
    let failing = breaker.call(|| async {
        tokio::time::sleep(ms(20)).await;
        Err::<(), _>(BoxError::from("connection refused"))
    });
    failing.await.unwrap_err();
    call_of(&breaker, secs(9)).await.unwrap_err();
    breaker.try_acquire().unwrap().failure_with(&std::io::Error::other("disk full"));
    breaker.try_acquire().unwrap().failure();
    let told = |outcome, time, error: Option<&str>| {
        ("ai-service".to_owned(), outcome, time, error.map(str::to_owned))
    };
    assert_eq!(
        *calls.lock().unwrap(),
        [
            told("success", ms(30), None),
            told("failure", ms(20), Some("connection refused")),
            told("timeout", secs(3), Some("\"ai-service\" timed out: limit 3s")),
            told("failure", ms(0), Some("disk full")),
            told("failure", ms(0), None),
        ]
    );
}

// `stateChange` with both states, `reset` with the name
#[tokio::test(start_paused = true)]
async fn changes_of_state_and_resets_carry_the_name() {
    let breaker = Breaker::builder("my-service").consecutive_failures(3).failure_rate(0.5).minimum_calls(0);
    let breaker = breaker.build().unwrap();
    let mut events = breaker.events();
    breaker.fail(3);
    breaker.reset();
    breaker.reset();
    let mut told = Vec::new();
    while let Some(event) = events.try_next() {
        let what = match event.what {
            OwnedEvent::Transition(change) => {
                let calls = change.get(CALLS).and_then(Value::as_count).unwrap();
                format!("{} -> {}, {calls} calls", change.from, change.to)
            }
            OwnedEvent::Note(Note { what: Note::RESET, .. }) => "reset".to_owned(),
            other => panic!("{other:?}"),
        };
        told.push(format!("{}: {what}", event.policy));
    }
    let expected = [
        "my-service: closed -> open, 3 calls",
        "my-service: open -> closed, 0 calls",
        "my-service: reset",
        "my-service: reset",
    ];
    assert_eq!(told, expected);
}

// `circuitBreakerRegistry.get('external-api')?.forceOpen()`
#[tokio::test(start_paused = true)]
async fn a_test_forces_a_breaker_open_by_its_name() {
    let registry = Registry::new();
    let breaker = registry
        .get_or_create("external-api", |name| Breaker::builder(name).open_for(secs(60)).build())
        .unwrap();
    let again: Breaker = registry.get_or_create("external-api", |_| unreachable!("it is there")).unwrap();
    if let Some(found) = registry.get::<Breaker>("external-api") {
        found.force_open();
    }
    let refused = breaker.call(|| async { Ok::<_, BoxError>(()) }).await.unwrap_err();
    assert_eq!(rejection(&*refused).unwrap().code(), "CIRCUIT_OPEN");
    assert_eq!(again.snapshot().open_reason, Some(OpenReason::Manual));
    assert!(registry.get::<Breaker>("internal-api").is_none());
}

#[tokio::test(start_paused = true)]
async fn force_close_and_reset_empty_the_window() {
    let close: fn(&Breaker) = Breaker::force_close;
    for (empty, totals) in [(close, 9), (Breaker::reset, 0)] {
        let breaker = blipee();
        breaker.fail(9);
        empty(&breaker);
        let seen = breaker.snapshot();
        assert_eq!((seen.window.calls, seen.consecutive_failures), (0, 0));
        assert_eq!((seen.failures, seen.total), (totals, totals)); // a reset forgets these too
        breaker.fail(9);
        breaker.is(State::Closed); // nothing of before counts
        breaker.fail(1);
        breaker.is(State::Open);
        empty(&breaker);
        breaker.is(State::Closed);
        assert_eq!(breaker.last_error(), None);
    }
}

// Healthy is closed, and below the thresholds
#[tokio::test(start_paused = true)]
async fn health_has_both_rates_and_a_closed_circuit_at_its_threshold_is_not_healthy() {
    let breaker = blipee();
    let health = breaker.snapshot();
    assert_eq!((health.state, health.healthy), (State::Closed, true));
    assert_eq!((health.failure_ratio, health.slow_ratio), (None, None)); // too few calls to say
    breaker.ok(6);
    breaker.fail(2);
    breaker.ok_after(ms(1_001)).await;
    breaker.ok_after(ms(1_001)).await;
    let health = breaker.snapshot();
    assert_eq!((health.failure_ratio, health.slow_ratio, health.healthy), (Some(0.2), Some(0.2), true));
    assert_eq!(health, breaker.snapshot());

    // Only above its threshold does opossum open; at it, it is not well.
    let breaker = Breaker::new("o", profile("opossum")).unwrap();
    breaker.ok(1);
    breaker.fail(1);
    let health = breaker.snapshot();
    assert_eq!((health.state, health.failure_ratio, health.healthy), (State::Closed, Some(0.5), false));
}

// Opossum's `fires` are `total + rejected`
#[tokio::test(start_paused = true)]
async fn a_snapshot_counts_every_way_a_call_can_end() {
    let builder = Breaker::builder("x").call_timeout(secs(2)).slow_call_duration(secs(1));
    let breaker = builder.open_for(secs(5)).build().unwrap();
    assert_eq!(breaker.snapshot().last_failure, None);
    breaker.ok(3);
    breaker.ok_after(ms(1_001)).await;
    breaker.fail(2);
    call_of(&breaker, secs(9)).await.unwrap_err();
    let failed = Instant::now();
    breaker.try_acquire().unwrap().record(buttress_core::Verdict::Ignore);
    drop(breaker.try_acquire().unwrap());
    pass(ms(500)).await;
    let seen = breaker.snapshot();
    assert_eq!((seen.successes, seen.failures, seen.timeouts, seen.slow_calls), (4, 3, 1, 2));
    assert_eq!((seen.ignored, seen.cancelled, seen.total), (1, 1, 9));
    assert_eq!((seen.consecutive_successes, seen.consecutive_failures), (0, 3));
    assert_eq!(seen.last_failure, Some(failed));
    breaker.ok(2);
    let seen = breaker.snapshot();
    assert_eq!((seen.consecutive_successes, seen.consecutive_failures), (2, 0));
    assert_eq!((seen.window.calls, seen.window.failures, seen.window.slow), (9, 3, 2));

    breaker.force_open();
    breaker.refused();
    assert_eq!((breaker.snapshot().total, breaker.snapshot().rejected), (11, 1));
    // The window rolls on; the totals stay until a reset.
    breaker.force_close();
    breaker.ok(1);
    pass(secs(20)).await;
    let seen = breaker.snapshot();
    assert_eq!((seen.window.calls, seen.successes, seen.rejected), (0, 7, 1));
}

// It opens again and again because the probes are slow, though each of them succeeds
#[tokio::test(start_paused = true)]
async fn a_snapshot_tells_slow_probes_from_failed_ones() {
    let breaker = blipee();
    breaker.fail(10);
    pass(secs(60)).await;
    breaker.ok(2);
    let seen = breaker.snapshot();
    assert_eq!((seen.half_open_successes, breaker.config().success_threshold), (2, 5));
    for _ in 0..3 {
        breaker.ok_after(ms(1_001)).await;
    }
    breaker.is(State::Open);
    let seen = breaker.snapshot();
    assert_eq!((seen.open_reason, seen.openings), (Some(OpenReason::ProbesSlow), 2));
    assert_eq!(seen.last_error.as_deref(), Some("the calls were too slow"));
}

#[tokio::test(start_paused = true)]
async fn last_error_is_also_that_of_a_failed_probe_and_goes_when_the_circuit_closes() {
    let breaker = Breaker::builder("x").consecutive_failures(1).open_for(secs(5)).build().unwrap();
    let fail = |text: &'static str| breaker.call(move || async move { Err::<(), BoxError>(text.into()) });
    fail("first").await.unwrap_err();
    pass(secs(5)).await;
    fail("probe").await.unwrap_err();
    assert_eq!(breaker.last_error().as_deref(), Some("probe"));
    pass(secs(5)).await;
    breaker.ok(1);
    assert_eq!(breaker.last_error().as_deref(), Some("probe")); // half-open still
    breaker.ok(1);
    assert_eq!(breaker.last_error(), None);

    breaker.isolate();
    pass(secs(86_400)).await;
    breaker.refused();
    breaker.reset();
    breaker.is(State::Closed);
}

// Timeout 2 s, 50 %, reset 30 s, window 10 s, volume 5
#[tokio::test(start_paused = true)]
async fn breaker_around_state_saves_asks_at_five_calls_and_lets_one_probe_in() {
    let saves = || {
        let builder = Breaker::builder("save").call_timeout(secs(2)).failure_rate(0.5).open_for(secs(30));
        builder.window(WindowConfig::time(secs(10))).minimum_calls(5).build().unwrap()
    };
    let breaker = saves();
    breaker.fail(4);
    breaker.is(State::Closed); // the volume is five
    breaker.ok(1);
    breaker.is(State::Open);
    pass(ms(29_999)).await;
    breaker.refused();
    pass(ms(1)).await;
    let probe = breaker.try_acquire().unwrap();
    breaker.refused(); // one at a time
    probe.failure();
    assert_eq!(breaker.refused().retry_after(), Some(secs(30)));

    // No lifetime counters: what failed more than ten seconds ago is gone.
    let breaker = saves();
    breaker.fail(4);
    pass(secs(10)).await;
    breaker.ok(4);
    breaker.fail(1);
    breaker.is(State::Closed);
}

// The windows, and what else the profiles of other systems say
#[test]
fn profiles_name_their_windows_and_thresholds() {
    let blipee = profile("blipee");
    assert_eq!((blipee.window, blipee.permitted_probes), (WindowConfig::time(secs(60)), 1));
    let fluxus = profile("fluxus");
    assert_eq!((fluxus.consecutive_failures, fluxus.open_for), (Some(3), Some(secs(5))));
    assert_eq!((fluxus.failure_rate, fluxus.call_timeout), (None, None));
    let didactic = profile("didactic");
    assert_eq!((didactic.failure_rate, didactic.call_timeout, didactic.permitted_probes), (None, None, 1));
    let opossum = profile("opossum");
    assert_eq!((opossum.window, opossum.minimum_calls), (WindowConfig::time(secs(10)), Some(0)));
    assert_eq!((opossum.success_threshold, opossum.consecutive_failures), (1, None));
}
