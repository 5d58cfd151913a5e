//! What other breakers promise in their own tests, held here with their numbers.

use std::time::Duration;

use buttress_breaker::{Breaker, BreakerBuilder, Comparison, OpenReason, State, WindowConfig};
use buttress_core::{BoxError, LiftErrorsLayer, Verdict};
use buttress_kit::Backoff;
use tower::{Layer, ServiceExt, service_fn};

use crate::support::*;

/// resilience4j's test profile.
fn r4j() -> BreakerBuilder {
    Breaker::builder("r4j")
        .window(WindowConfig::time(secs(20)))
        .minimum_calls(5)
        .failure_rate(0.5)
        .slow_call_duration(secs(4))
        .slow_call_rate(0.5)
        .permitted_probes(4)
        .half_open_sample(4)
        .half_open_failure_rate(0.5)
        .open_for(secs(5))
}

#[tokio::test(start_paused = true)]
async fn slow_and_failed_counts_in_both_rates() {
    let breaker = r4j().build().unwrap();
    let slow: Vec<_> = (0..3).map(|_| breaker.try_acquire().unwrap()).collect();
    pass(ms(4_900)).await;
    let fast: Vec<_> = (0..2).map(|_| breaker.try_acquire().unwrap()).collect();
    pass(ms(100)).await;
    let (mut slow, mut fast) = (slow.into_iter(), fast.into_iter());
    slow.next().unwrap().failure();
    slow.next().unwrap().success();
    fast.next().unwrap().failure();
    fast.next().unwrap().success();
    breaker.is(State::Closed);
    slow.next().unwrap().success();
    breaker.is(State::Open);
    let seen = breaker.snapshot();
    assert_eq!((seen.slow_ratio, seen.failure_ratio, seen.window.calls), (Some(0.6), Some(0.4), 5));
}

#[tokio::test(start_paused = true)]
async fn durations_are_taken_from_the_paused_clock() {
    let breaker = r4j().build().unwrap();
    for (time, slow) in [(5, 1), (5, 2), (1, 2), (1, 2)] {
        breaker.ok_after(secs(time)).await;
        assert_eq!(breaker.snapshot().slow_calls, slow);
    }
    breaker.is(State::Closed);
    breaker.ok_after(secs(5)).await;
    breaker.is(State::Open);
}

#[tokio::test(start_paused = true)]
async fn opened_for_two_hours_ignores_the_configured_wait() {
    let breaker = r4j().build().unwrap();
    breaker.force_open_for(secs(7_200));
    breaker.refused();
    pass(secs(3_600)).await;
    breaker.refused();
    breaker.is(State::Open);
    pass(secs(3_601)).await;
    let _probe = breaker.try_acquire().unwrap();
    breaker.is(State::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn wait_grows_by_half_with_each_opening() {
    let breaker = Breaker::builder("x")
        .window(WindowConfig::count(5))
        .failure_rate(0.5)
        .permitted_probes(4)
        .open_backoff(Backoff::exponential(secs(5)).with_factor(1.5))
        .build()
        .unwrap();
    breaker.force_open();
    breaker.refused();
    pass(secs(3)).await;
    breaker.refused();
    pass(secs(3)).await;
    let _first = breaker.try_acquire().unwrap();
    breaker.is(State::HalfOpen);
    breaker.force_open();
    pass(secs(6)).await;
    breaker.refused();
    pass(secs(5)).await;
    let _second = breaker.try_acquire().unwrap();
    breaker.is(State::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn a_released_probe_gives_exactly_one_place_back() {
    let breaker = r4j().build().unwrap();
    breaker.force_open();
    breaker.force_half_open().unwrap();
    let mut probes: Vec<_> = (0..4).map(|_| breaker.try_acquire().unwrap()).collect();
    breaker.refused();
    breaker.refused();
    drop(probes.pop());
    probes.push(breaker.try_acquire().unwrap());
    breaker.refused();
    breaker.is(State::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn half_open_begins_with_all_places_free() {
    let breaker = r4j().build().unwrap();
    let mut kept = Vec::new();
    for _ in 0..2 {
        breaker.force_open();
        breaker.force_half_open().unwrap();
        kept.extend((0..4).map(|_| breaker.try_acquire().unwrap()));
        breaker.refused();
        breaker.refused();
    }
    breaker.is(State::HalfOpen);
    // Those of the first time are none of this one's business.
    kept.drain(..4).for_each(buttress_breaker::Permit::success);
    breaker.refused();
    assert_eq!(breaker.snapshot().late, 4);
}

#[tokio::test(start_paused = true)]
async fn isolated_refuses_for_ever_and_counts() {
    let breaker = r4j().build().unwrap();
    breaker.isolate();
    breaker.refused();
    pass(secs(6)).await;
    breaker.refused();
    breaker.is(State::Isolated);
    assert_eq!(breaker.snapshot().rejected, 2);
}

#[tokio::test(start_paused = true)]
async fn metrics_only_tells_each_threshold_once_and_never_opens() {
    let (breaker, heard) = Heard::by(r4j());
    breaker.metrics_only();
    let calls: Vec<_> = (0..8).map(|_| breaker.try_acquire().unwrap()).collect();
    pass(secs(5)).await;
    calls.into_iter().for_each(buttress_breaker::Permit::failure);
    assert_eq!((heard.count("exceeded failure_rate"), heard.count("exceeded slow_rate")), (1, 1));
    breaker.is(State::MetricsOnly);
    assert_eq!(breaker.snapshot().window.failures, 8);
}

#[tokio::test(start_paused = true)]
async fn closed_to_half_open_by_hand_is_an_error() {
    let breaker = r4j().build().unwrap();
    let why = breaker.force_half_open().unwrap_err();
    assert_eq!((why.from, why.to), (State::Closed, State::HalfOpen));
    breaker.is(State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_change_to_the_same_state_is_legal_and_silent() {
    let (breaker, heard) = Heard::by(r4j());
    for _ in 0..2 {
        breaker.force_open();
    }
    for _ in 0..2 {
        breaker.force_half_open().unwrap();
    }
    for _ in 0..2 {
        breaker.disable();
    }
    for _ in 0..2 {
        breaker.metrics_only();
    }
    for _ in 0..2 {
        breaker.force_close();
    }
    assert_eq!(heard.transitions().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn reset_forgets_from_every_state() {
    let breaker = r4j().build().unwrap();
    breaker.ok(1);
    breaker.fail(1);
    let seen = breaker.snapshot();
    assert_eq!((seen.failure_ratio, seen.window.calls), (None, 2));
    breaker.reset();
    assert_eq!(breaker.snapshot().window.calls, 0);
    breaker.force_open();
    breaker.reset();
    breaker.is(State::Closed);
    assert_eq!(breaker.snapshot().window.calls, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_is_gone_when_it_is_as_old_as_the_window() {
    let breaker = Breaker::builder("x").window(WindowConfig::time(secs(10))).build().unwrap();
    for _ in 0..10 {
        breaker.ok(1);
        pass(secs(1)).await;
    }
    assert_eq!(breaker.snapshot().window.calls, 9);
    pass(secs(1)).await;
    assert_eq!(breaker.snapshot().window.calls, 8);
}

#[tokio::test(start_paused = true)]
async fn decision_needs_the_minimum_and_the_ratio() {
    let after = |ok, fail| {
        let breaker = Breaker::builder("x").minimum_calls(10).failure_rate(0.1).build().unwrap();
        breaker.ok(ok);
        breaker.fail(fail);
        breaker.state()
    };
    assert_eq!(after(10, 0), State::Closed);
    assert_eq!(after(8, 2), State::Open);
    assert_eq!(after(8, 1), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn opens_twice_half_opens_twice_closes_once() {
    let (breaker, heard) = Heard::by(
        Breaker::builder("x").minimum_calls(10).failure_rate(0.5).open_for(secs(1)).success_threshold(1),
    );
    breaker.fail(10);
    assert_eq!(breaker.refused().retry_after(), Some(secs(1)));
    pass(secs(1)).await;
    breaker.fail(1);
    pass(secs(1)).await;
    breaker.ok(1);
    breaker.is(State::Closed);
    let heard = heard.transitions();
    let to = |state: &str| heard.iter().filter(|text| text.contains(&format!(">{state}"))).count();
    assert_eq!((to("open"), to("half_open"), to("closed")), (2, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn growth_of_the_wait_starts_again_after_a_close() {
    let breaker = Breaker::builder("x").open_backoff(Backoff::linear(secs(1))).build().unwrap();
    let waits = |times: u64| -> Vec<u64> {
        let mut seen = Vec::new();
        for _ in 0..times {
            breaker.force_open();
            seen.push(breaker.refused().retry_after().unwrap().as_secs() - 1);
            breaker.force_half_open().unwrap();
        }
        seen
    };
    assert_eq!(waits(5), [0, 1, 2, 3, 4]);
    breaker.force_close();
    assert_eq!(waits(3), [0, 1, 2]);
}

// Recorded while closed; a result that comes later belongs to the past
#[tokio::test(start_paused = true)]
async fn late_failures_are_recorded_nowhere() {
    let breaker = Breaker::builder("x").build().unwrap();
    let late: Vec<_> = (0..3).map(|_| breaker.try_acquire().unwrap()).collect();
    breaker.fail(1);
    let mut late = late.into_iter();
    breaker.force_open();
    late.next().unwrap().failure();
    breaker.isolate();
    late.next().unwrap().failure();
    breaker.force_half_open().unwrap();
    late.next().unwrap().failure();
    breaker.is(State::HalfOpen);
    let seen = breaker.snapshot();
    assert_eq!((seen.failures, seen.late), (1, 3));
}

/// `success_threshold` of `half_open_sample`, half-open.
fn trial(successes: u32, of: u32) -> Breaker {
    let builder = Breaker::builder("x").success_threshold(successes).half_open_sample(of);
    let breaker = builder.build().unwrap();
    breaker.force_open();
    breaker.force_half_open().unwrap();
    breaker
}

// "2 of 3 failures" is "2 of 3 successes" from the other side.
#[tokio::test(start_paused = true)]
async fn half_open_decides_as_soon_as_it_is_settled() {
    for (k, n, probes, last, to) in [
        (2, 3, "FS", 'S', State::Closed),
        (3, 4, "SFS", 'F', State::Open),
        (3, 4, "SFS", 'S', State::Closed),
        (2, 4, "SFF", 'F', State::Open),
        (3, 4, "SSF", 'S', State::Closed),
        (2, 2, "S", 'S', State::Closed),
        (3, 3, "S", 'F', State::Open),
    ] {
        let breaker = trial(k, n);
        let probe = |outcome| if outcome == 'S' { breaker.ok(1) } else { breaker.fail(1) };
        probes.chars().for_each(probe);
        assert_eq!(breaker.state(), State::HalfOpen, "{k} of {n}: {probes}");
        probe(last);
        assert_eq!(breaker.state(), to, "{k} of {n}: {probes}{last}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_probe_is_not_forgotten_for_the_ones_that_follow() {
    let breaker = Breaker::builder("x").permitted_probes(3).success_threshold(3).build().unwrap();
    breaker.force_open();
    breaker.force_half_open().unwrap();
    let probes: Vec<_> = (0..3).map(|_| breaker.try_acquire().unwrap()).collect();
    let mut probes = probes.into_iter();
    probes.next().unwrap().success();
    probes.next().unwrap().failure();
    breaker.is(State::Open);
    probes.next().unwrap().success();
    breaker.is(State::Open);
    assert_eq!(breaker.snapshot().open_reason, Some(OpenReason::ProbesFailed));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_and_goes_on_its_way() {
    let breaker = Breaker::builder("x").build().unwrap();
    let caller = breaker.clone();
    let task =
        tokio::spawn(async move { caller.call(|| async { panic!("odd") as Result<(), BoxError> }).await });
    assert!(task.await.unwrap_err().is_panic());
    let seen = breaker.snapshot();
    assert_eq!((seen.total, seen.failures, seen.cancelled), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn ignored_calls_are_neither_and_leave_the_row_alone() {
    let breaker = Breaker::builder("x").window(WindowConfig::time(secs(30))).build().unwrap();
    for _ in 0..5 {
        breaker.ok(1);
        breaker.fail(1);
        breaker.try_acquire().unwrap().record(Verdict::Ignore);
    }
    let seen = breaker.snapshot();
    assert_eq!((seen.total, seen.successes, seen.failures, seen.ignored), (15, 5, 5, 5));
    assert_eq!((seen.consecutive_failures, seen.state), (1, State::Closed));
}

#[tokio::test(start_paused = true)]
async fn without_a_minimum_the_first_failure_opens() {
    let breaker = Breaker::builder("x").failure_rate(0.01).minimum_calls(0).build().unwrap();
    breaker.fail(1);
    breaker.is(State::Open);
}

#[tokio::test(start_paused = true)]
async fn below_the_minimum_it_never_opens() {
    let builder = Breaker::builder("x").window(WindowConfig::count(100)).minimum_calls(50).failure_rate(0.5);
    let breaker = builder.build().unwrap();
    breaker.fail(49);
    breaker.is(State::Closed);
}

#[tokio::test(start_paused = true)]
async fn count_window_lets_the_oldest_go() {
    let window = |calls, outcomes: &str| {
        let builder = Breaker::builder("x").window(WindowConfig::count(calls)).failure_rate(1.0);
        let breaker = builder.minimum_calls(calls).build().unwrap();
        let mut seen = Vec::new();
        for outcome in outcomes.chars() {
            if outcome == 'S' {
                breaker.ok(1)
            } else {
                breaker.fail(1)
            }
            let window = breaker.snapshot().window;
            seen.push((window.calls, window.failures));
        }
        seen
    };
    assert_eq!(window(4, "FSSSS"), [(1, 1), (2, 1), (3, 1), (4, 1), (4, 0)]);
    assert_eq!(window(5, "FSSFSSFSS").last(), Some(&(5, 1)));
}

#[tokio::test(start_paused = true)]
async fn half_open_tolerates_three_failures_of_ten() {
    let builder = Breaker::builder("x").consecutive_failures(2).open_for(secs(1)).half_open_sample(10);
    let builder = builder.half_open_failure_rate(0.3).comparison(Comparison::Above);
    let (breaker, heard) = Heard::by(builder);
    breaker.fail(2);
    pass(secs(1)).await;
    breaker.fail(3);
    breaker.is(State::HalfOpen);
    breaker.ok(6);
    breaker.is(State::HalfOpen);
    breaker.ok(1);
    breaker.is(State::Closed);
    assert_eq!(heard.transitions().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn waits_from_a_list() {
    let builder = Breaker::builder("x").consecutive_failures(2).success_threshold(1);
    let (breaker, heard) = Heard::by(builder.open_backoff(Backoff::list([secs(1), secs(2)])));
    breaker.fail(2);
    pass(secs(1)).await;
    breaker.fail(1);
    breaker.is(State::Open);
    pass(secs(1)).await;
    breaker.refused();
    pass(secs(1)).await;
    breaker.ok(1);
    breaker.is(State::Closed);
    assert_eq!(heard.transitions().iter().filter(|text| text.contains(">half_open")).count(), 2);
    breaker.fail(2);
    assert_eq!(breaker.refused().retry_after(), Some(secs(1)));
}

#[tokio::test(start_paused = true)]
async fn time_outs_are_failures() {
    let builder = Breaker::builder("x").failure_rate(0.5).minimum_calls(4).call_timeout(ms(100));
    let breaker = builder.build().unwrap();
    for _ in 0..4 {
        breaker.call(std::future::pending::<Result<(), BoxError>>).await.unwrap_err();
    }
    breaker.is(State::Open);
    assert_eq!(breaker.snapshot().timeouts, 4);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_probe_gives_its_place_back() {
    let builder = Breaker::builder("x").consecutive_failures(2).open_for(secs(1)).success_threshold(1);
    let breaker = builder.build().unwrap();
    breaker.fail(2);
    pass(secs(1)).await;
    let probe = breaker.call(std::future::pending::<Result<(), BoxError>>);
    breaker.refused();
    drop(probe);
    breaker.ok(1);
    breaker.is(State::Closed);
}

#[tokio::test(start_paused = true)]
async fn error_ratio_above_a_half_of_ten() {
    let builder = Breaker::builder("x").failure_rate(0.5).comparison(Comparison::Above).minimum_calls(10);
    let window = WindowConfig::time(secs(25)).buckets(1);
    let breaker = builder.window(window).open_for(secs(5)).success_threshold(1).build().unwrap();
    breaker.fail(6);
    breaker.ok(3);
    breaker.is(State::Closed);
    breaker.fail(1);
    breaker.is(State::Open);
    breaker.refused();
    pass(secs(2)).await;
    breaker.refused();
    pass(secs(5)).await;
    breaker.fail(1);
    breaker.is(State::Open);
    pass(secs(6)).await;
    breaker.ok(1);
    breaker.is(State::Closed);
}

// The outer one's probe is not used up by the inner one's refusal
#[tokio::test(start_paused = true)]
async fn a_probe_refused_further_in_is_given_back() {
    let slow = |name: &str, wait| {
        let builder = Breaker::builder(name).slow_call_duration(ms(50)).slow_call_rate(1.0).minimum_calls(1);
        builder.open_for(secs(wait)).success_threshold(1).build().unwrap()
    };
    let (outer, inner) = (slow("outer", 2), slow("inner", 4));
    let sleep = service_fn(|time: Duration| async move {
        tokio::time::sleep(time).await;
        Ok::<_, BoxError>(())
    });
    let svc = outer.layer().layer(inner.layer().layer(sleep));
    svc.clone().oneshot(ms(100)).await.unwrap();
    assert_eq!((outer.state(), inner.state()), (State::Open, State::Open));
    pass(secs(3)).await;
    for _ in 0..10 {
        svc.clone().oneshot(ms(1)).await.unwrap_err();
    }
    assert_eq!((outer.state(), inner.state()), (State::HalfOpen, State::Open));
    assert_eq!(outer.snapshot().probes_in_flight, 0);
    pass(secs(3)).await;
    for _ in 0..10 {
        svc.clone().oneshot(ms(1)).await.unwrap();
    }
    assert_eq!((outer.state(), inner.state()), (State::Closed, State::Closed));
}

#[tokio::test(start_paused = true)]
async fn slow_ratio_of_one_is_met_by_one() {
    for comparison in [Comparison::AtLeast, Comparison::Above] {
        let builder = Breaker::builder("x").slow_call_duration(ms(19)).slow_call_rate(1.0).minimum_calls(3);
        let breaker = builder.comparison(comparison).open_for(secs(5)).build().unwrap();
        for _ in 0..3 {
            breaker.ok_after(ms(20)).await;
        }
        breaker.refused();
        pass(secs(1)).await;
        breaker.refused();
        pass(secs(4)).await;
        breaker.ok(1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_result_decides_nothing() {
    let builder = Breaker::builder("x").consecutive_failures(2).open_for(secs(1)).success_threshold(1);
    let breaker = builder.build().unwrap();
    let (old, older) = (breaker.try_acquire().unwrap(), breaker.try_acquire().unwrap());
    breaker.fail(2);
    pass(ms(400)).await;
    older.success();
    breaker.is(State::Open);
    assert_eq!(breaker.refused().retry_after(), Some(ms(600)));
    pass(ms(600)).await;
    let probe = breaker.try_acquire().unwrap();
    old.success();
    breaker.is(State::HalfOpen);
    probe.failure();
    breaker.is(State::Open);
}

#[test]
fn a_sample_too_small_to_close_is_refused() {
    let why = Breaker::builder("x").half_open_sample(2).success_threshold(3).build().unwrap_err();
    assert_eq!((why.field(), why.value()), ("half_open_sample", "2"));
    // Probes at once are not a sample: their places come back.
    Breaker::builder("x").permitted_probes(2).success_threshold(3).build().unwrap();
}

// Behind the readiness gate, further calls wait for the verdict and then run
#[tokio::test(start_paused = true)]
async fn gated_calls_wait_for_the_verdict_of_the_probes() {
    let builder = Breaker::builder("x").consecutive_failures(2).open_for(secs(1)).success_threshold(2);
    let breaker = builder.permitted_probes(2).gate_readiness(true).build().unwrap();
    breaker.fail(2);
    pass(secs(1)).await;
    let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = order.clone();
    let inner = service_fn(move |name: char| {
        let log = log.clone();
        async move {
            log.lock().unwrap().push(format!("{name} begins"));
            tokio::time::sleep(ms(10)).await;
            log.lock().unwrap().push(format!("{name} ends"));
            Ok::<_, std::io::Error>(())
        }
    });
    let svc = breaker.layer().layer(LiftErrorsLayer::new().layer(inner));
    let calls: Vec<_> = ['a', 'b', 'c']
        .map(|name| {
            let svc = svc.clone();
            tokio::spawn(async move { svc.oneshot(name).await.unwrap() })
        })
        .into();
    for call in calls {
        call.await.unwrap();
    }
    breaker.is(State::Closed);
    assert_eq!(order.lock().unwrap()[4..], ["c begins", "c ends"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_beyond_the_probes_does_not_run() {
    let breaker = Breaker::builder("x").consecutive_failures(2).open_for(secs(1)).build().unwrap();
    breaker.fail(2);
    pass(secs(1)).await;
    let probe = breaker.try_acquire().unwrap();
    let mut ran = false;
    let refused = breaker.call(|| {
        ran = true;
        async { Ok::<_, BoxError>(()) }
    });
    refused.await.unwrap_err();
    assert!(!ran);
    probe.failure();
    breaker.is(State::Open);
}

#[tokio::test(start_paused = true)]
async fn counts_of_an_interval_take_no_result_of_an_earlier_one() {
    let builder = Breaker::builder("x").window(WindowConfig::interval(secs(30))).failure_rate(0.5);
    let breaker = builder.minimum_calls(1).build().unwrap();
    pass(ms(29_000)).await;
    breaker.ok(1);
    let (a, b) = (breaker.try_acquire().unwrap(), breaker.try_acquire().unwrap());
    pass(ms(1_001)).await;
    assert_eq!(breaker.snapshot().window.calls, 0);
    a.success();
    b.failure();
    assert_eq!(breaker.snapshot().window.calls, 0);
    assert_eq!(breaker.snapshot().late, 2);
    breaker.is(State::Closed);
    breaker.fail(1);
    breaker.is(State::Open);
}

// How long calls took is told with each, and not summed up.
#[tokio::test(start_paused = true)]
async fn slow_successes_and_slow_failures_are_both_slow() {
    let builder = Breaker::builder("x").window(WindowConfig::count(5)).failure_rate(1.0).minimum_calls(5);
    let breaker = builder.slow_call_duration(secs(1)).build().unwrap();
    breaker.ok_after(secs(10)).await;
    breaker.fail_after(secs(10)).await;
    for _ in 0..3 {
        breaker.ok_after(ms(100)).await;
    }
    let seen = breaker.snapshot();
    assert_eq!((seen.window.calls, seen.window.failures, seen.window.slow), (5, 1, 2));
    assert_eq!((seen.slow_ratio, seen.successes), (Some(0.4), 4));
}
