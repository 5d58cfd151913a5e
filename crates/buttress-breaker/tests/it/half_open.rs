//! How a circuit finds out that the service works again.

use std::time::Duration;

use buttress_breaker::{Breaker, OpenReason, State};

use crate::support::*;

fn tripped(builder: buttress_breaker::BreakerBuilder) -> Breaker {
    let breaker = builder.consecutive_failures(1).open_for(secs(1)).build().unwrap();
    breaker.fail(1);
    breaker
}

#[tokio::test(start_paused = true)]
async fn successes_up_to_the_threshold_close() {
    let breaker = tripped(Breaker::builder("x").success_threshold(2));
    pass(secs(1)).await;
    breaker.ok(1);
    breaker.is(State::HalfOpen);
    breaker.ok(1);
    breaker.is(State::Closed);
}

#[tokio::test(start_paused = true)]
async fn one_failed_probe_opens_again_and_the_wait_restarts() {
    let breaker = tripped(Breaker::builder("x").success_threshold(2).minimum_calls(10));
    // `minimum_calls` gates the closed circuit only, so it takes ten failures to get here.
    breaker.fail(9);
    pass(secs(1)).await;
    breaker.ok(1);
    breaker.fail(1);
    breaker.is(State::Open);
    assert_eq!(breaker.refused().retry_after(), Some(secs(1)));
}

#[tokio::test(start_paused = true)]
async fn probes_are_limited_while_they_are_under_way() {
    let breaker = tripped(Breaker::builder("x").permitted_probes(3).success_threshold(5));
    pass(secs(1)).await;
    let mut probes: Vec<_> = (0..3).map(|_| breaker.try_acquire().unwrap()).collect();
    for _ in 0..7 {
        breaker.refused();
    }
    drop(probes.pop());
    let next = breaker.try_acquire().unwrap();
    breaker.refused();
    next.success();
    breaker.try_acquire().unwrap().success();
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_loses_its_place_and_its_say() {
    let breaker = tripped(Breaker::builder("x").success_threshold(1).probe_lease(secs(1)));
    pass(secs(1)).await;
    let hung = breaker.try_acquire().unwrap();
    breaker.refused();
    pass(ms(1_001)).await;
    breaker.ok(1);
    breaker.is(State::Closed);
    hung.failure();
    breaker.is(State::Closed);
    assert_eq!(breaker.snapshot().late, 1);
}

// A probe of which nothing is heard may keep its place for long; the others need not stay away for as long.
#[tokio::test(start_paused = true)]
async fn a_refusal_while_probes_are_under_way_asks_for_no_longer_a_wait_than_the_open_one() {
    let breaker = tripped(Breaker::builder("x").probe_lease(secs(600)));
    pass(secs(1)).await;
    let _probe = breaker.try_acquire().unwrap();
    assert_eq!(breaker.refused().retry_after(), Some(secs(1)));
    let inner = tower::service_fn(|(): ()| async { Ok::<_, buttress_core::BoxError>(()) });
    let refused = tower::ServiceExt::oneshot(breaker.wrap(inner), ()).await.unwrap_err();
    assert_eq!(buttress_core::rejection(&*refused).unwrap().retry_after(), Some(secs(1)));
    assert_eq!(breaker.snapshot().next_probe_in, Some(secs(600)));
    // An open one says how long it is open, however long that is.
    breaker.force_open_for(secs(100 * 86_400));
    assert_eq!(breaker.refused().retry_after(), Some(secs(100 * 86_400)));
}

// A circuit that was open for hours must not wait for a lost probe for hours.
#[tokio::test(start_paused = true)]
async fn a_lease_is_a_minute_at_most_unless_told_otherwise() {
    let breaker = Breaker::builder("x").success_threshold(1).build().unwrap();
    breaker.force_open_for(secs(7_200));
    pass(secs(7_200)).await;
    let hung = breaker.try_acquire().unwrap();
    assert_eq!(breaker.refused().retry_after(), Some(secs(60)));
    pass(secs(60)).await;
    let slow = breaker.try_acquire().unwrap();
    assert_eq!(breaker.refused().retry_after(), Some(secs(120))); // twice as long for the next
    slow.success();
    breaker.is(State::Closed);
    drop(hung);
}

/// With at most 3 s of half-open after 1 s of open.
fn limited(builder: buttress_breaker::BreakerBuilder) -> buttress_breaker::BreakerBuilder {
    builder.consecutive_failures(1).open_for(secs(1)).success_threshold(2).half_open_timeout(secs(3))
}

// As resilience4j's `maxWaitDurationInHalfOpenState`.
#[tokio::test(start_paused = true)]
async fn half_open_without_a_verdict_opens_again_after_its_time() {
    let (breaker, heard) = Heard::by(limited(Breaker::builder("x").permitted_probes(2)));
    breaker.fail(1);
    pass(secs(5)).await; // begins with the first call, whenever that is
    breaker.ok(1);
    let hung = breaker.try_acquire().unwrap();
    pass(ms(2_999)).await;
    breaker.is(State::HalfOpen);
    pass(ms(1)).await;
    breaker.is(State::Open);
    assert_eq!(breaker.snapshot().next_probe_in, Some(secs(1)));
    pass(ms(400)).await;
    assert_eq!(breaker.refused().retry_after(), Some(ms(600))); // of the wait that began when the time was over
    assert_eq!(breaker.snapshot().open_reason, Some(OpenReason::HalfOpenTimeout));
    hung.success();
    assert_eq!(breaker.snapshot().late, 1);
    pass(ms(600)).await;
    breaker.is(State::HalfOpen);
    breaker.ok(2); // none of those before is remembered
    breaker.is(State::Closed);
    let told = ["closed>open auto", "open>half_open auto", "half_open>open auto", "open>half_open auto"];
    assert_eq!(heard.transitions()[..4], told);
}

#[tokio::test(start_paused = true)]
async fn a_verdict_that_comes_after_the_time_of_half_open_is_late() {
    for failed in [false, true] {
        let breaker = limited(Breaker::builder("x").success_threshold(1)).build().unwrap();
        breaker.force_open();
        breaker.force_half_open().unwrap();
        breaker.ok(1);
        let probe = breaker.try_acquire().unwrap();
        pass(secs(3)).await;
        if failed {
            probe.failure()
        } else {
            probe.success()
        }
        breaker.is(State::Open);
        let seen = breaker.snapshot();
        assert_eq!((seen.late, seen.open_reason), (1, Some(OpenReason::HalfOpenTimeout)));
        assert_eq!(seen.last_error, None);
    }
}

// Nobody asked while it was over: what time has done is found by whoever comes.
#[tokio::test(start_paused = true)]
async fn a_half_open_state_that_nobody_looks_at_opens_and_is_half_open_once_more() {
    let (breaker, heard) = Heard::by(limited(Breaker::builder("x")));
    breaker.force_open();
    breaker.force_half_open().unwrap();
    heard.transitions();
    let _hung = breaker.try_acquire().unwrap();
    pass(secs(3_600)).await;
    breaker.is(State::HalfOpen);
    breaker.ok(1);
    assert_eq!(heard.transitions(), ["half_open>open auto", "open>half_open auto"]);
    // Each time counts as an opening, so the wait may grow; zero, as unset, is no limit.
    let growing = buttress_kit::Backoff::exponential(secs(1));
    let breaker = limited(Breaker::builder("x")).open_for(None).open_backoff(growing).build().unwrap();
    breaker.fail(1);
    for wait in [2, 4, 8] {
        pass(secs(100)).await;
        let _hung = breaker.try_acquire().unwrap();
        pass(secs(3)).await;
        assert_eq!(breaker.refused().retry_after(), Some(secs(wait)));
    }
    for none in [None, Some(Duration::ZERO)] {
        let breaker = limited(Breaker::builder("x")).half_open_timeout(none).build().unwrap();
        breaker.force_open();
        breaker.force_half_open().unwrap();
        pass(secs(86_400)).await;
        breaker.is(State::HalfOpen);
    }
}

// Who waits behind the gate waits for the circuit as it is by then.
#[tokio::test(start_paused = true)]
async fn the_gate_is_shut_for_the_wait_that_follows_a_half_open_state_without_verdict() {
    let builder = limited(Breaker::builder("x")).probe_lease(secs(600)).gate_readiness(true);
    let breaker = builder.build().unwrap();
    breaker.force_open();
    breaker.force_half_open().unwrap();
    let _hung = breaker.try_acquire().unwrap();
    let began = tokio::time::Instant::now();
    let inner = tower::service_fn(|(): ()| async { Ok::<_, buttress_core::BoxError>(()) });
    tower::ServiceExt::oneshot(breaker.wrap(inner), ()).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 4);
    assert_eq!(breaker.snapshot().rejected, 0);
}

#[tokio::test(start_paused = true)]
async fn half_open_without_a_verdict_closes_after_its_time_where_told_to() {
    let (breaker, heard) = Heard::by(limited(Breaker::builder("x")).half_open_timeout_closes(true));
    for failed in [false, true] {
        breaker.fail(1);
        pass(secs(1)).await;
        breaker.ok(1);
        pass(ms(2_999)).await;
        breaker.is(State::HalfOpen);
        if failed {
            breaker.fail(1); // that is a verdict
            breaker.is(State::Open);
            continue;
        }
        let late = breaker.try_acquire().unwrap();
        breaker.refused();
        pass(ms(1)).await;
        breaker.is(State::Closed);
        late.failure();
        breaker.is(State::Closed);
        breaker.ok(1);
        assert_eq!(heard.transitions().last().unwrap(), "half_open>closed auto");
    }
}

// "State, counts and calls under way stay as they are": also the state that time has made.
#[tokio::test(start_paused = true)]
async fn new_settings_do_not_change_what_the_time_of_half_open_has_come_to() {
    for closes in [false, true] {
        let builder = limited(Breaker::builder("x")).half_open_timeout_closes(closes);
        let breaker = builder.build().unwrap();
        breaker.fail(1);
        pass(secs(1)).await;
        breaker.ok(1);
        pass(ms(3_500)).await;
        let state = breaker.state();
        let mut other = breaker.config();
        (other.half_open_timeout_closes, other.open_for) = (!closes, Some(secs(60)));
        breaker.reconfigure(other).unwrap();
        breaker.is(state);
        if !closes {
            assert_eq!(breaker.refused().retry_after(), Some(ms(500)));
        }
    }
}

// Time has opened or closed it, so everything else that is shown belongs to that state too.
#[tokio::test(start_paused = true)]
async fn a_snapshot_after_the_time_of_half_open_is_of_one_piece() {
    for closes in [false, true] {
        let builder = Breaker::builder("x").failure_rate(0.5).minimum_calls(2).open_for(secs(1));
        let builder =
            builder.success_threshold(2).half_open_timeout(secs(3)).half_open_timeout_closes(closes);
        let (breaker, heard) = Heard::by(builder);
        breaker.try_acquire().unwrap().failure_with(&std::fmt::Error);
        breaker.try_acquire().unwrap().failure_with(&std::fmt::Error);
        pass(secs(1)).await;
        breaker.ok(1);
        let _hung = breaker.try_acquire().unwrap();
        let over = tokio::time::Instant::now() + secs(3);
        pass(ms(3_500)).await;
        heard.transitions();
        breaker.is(if closes { State::Closed } else { State::Open });
        assert_eq!(breaker.last_error().is_some(), !closes);
        let health = breaker.snapshot();
        assert_eq!((health.state, health.healthy), (breaker.state(), closes));
        let seen = health;
        assert_eq!((seen.half_open_successes, seen.probes_in_flight, seen.since), (0, 0, over));
        if closes {
            assert_eq!((seen.window.calls, seen.failure_ratio, seen.openings), (0, None, 0));
            assert_eq!((seen.last_error, seen.next_probe_in), (None, None));
        } else {
            assert_eq!((seen.window.calls, seen.failure_ratio, seen.openings), (2, Some(1.0), 2));
            assert_eq!(
                (seen.open_reason, seen.next_probe_in),
                (Some(OpenReason::HalfOpenTimeout), Some(ms(500)))
            );
        }
        assert_eq!(heard.transitions().len(), 1); // whoever found it has told it
    }
}

// A probe that hangs keeps its place past the time of half-open, and then the circuit is open: there is no use in
// coming back as that time is over.
#[tokio::test(start_paused = true)]
async fn whoever_is_refused_while_half_open_is_told_of_the_wait_that_follows_its_time() {
    for closes in [false, true] {
        let builder = limited(Breaker::builder("x")).probe_lease(secs(600)).half_open_timeout_closes(closes);
        let breaker = builder.build().unwrap();
        breaker.fail(1);
        pass(secs(1)).await;
        let _hung = breaker.try_acquire().unwrap();
        pass(ms(2_900)).await;
        let (wait, probe) = if closes { (ms(100), ms(100)) } else { (secs(1), ms(1_100)) };
        assert_eq!(breaker.refused().retry_after(), Some(wait));
        assert_eq!(breaker.snapshot().next_probe_in, Some(probe));
        pass(probe).await;
        breaker.try_acquire().unwrap().success();
    }
}

// A service decides in `poll_ready`: that is where a call comes by and finds what time has done.
#[tokio::test(start_paused = true)]
async fn the_first_refusal_after_the_time_of_half_open_tells_that_it_is_open() {
    for gated in [false, true] {
        let (breaker, heard) = Heard::by(limited(Breaker::builder("x")).gate_readiness(gated));
        let inner = tower::service_fn(|(): ()| async { Ok::<_, buttress_core::BoxError>(()) });
        breaker.force_open();
        breaker.force_half_open().unwrap();
        heard.transitions();
        pass(secs(3)).await;
        let mut call = tokio_test::task::spawn(tower::ServiceExt::oneshot(breaker.wrap(inner), ()));
        assert_eq!(call.poll().is_pending(), gated);
        assert_eq!(heard.transitions(), ["half_open>open auto"]);
    }
}

// Open for 1 s, half-open from the call at 2 s to 5 s, open to 6 s (or closed), half-open.
#[tokio::test(start_paused = true)]
async fn everybody_sees_the_same_state_to_the_nanosecond() {
    use State::{Closed, HalfOpen, Open};
    const NANO: Duration = Duration::from_nanos(1);
    for (closes, when, before, after) in [
        (false, secs(1), Open, HalfOpen),
        (false, secs(5), HalfOpen, Open),
        (false, secs(6), Open, HalfOpen),
        (true, secs(5), HalfOpen, Closed),
        (true, secs(6), Closed, Closed),
    ] {
        for (until, state) in [(when.saturating_sub(NANO), before), (when, after)] {
            let breaker = limited(Breaker::builder("x").half_open_timeout_closes(closes)).build().unwrap();
            breaker.fail(1);
            pass(until.min(secs(2))).await;
            if until > secs(2) {
                breaker.ok(1);
                pass(until.saturating_sub(secs(2))).await;
            }
            breaker.is(state);
            assert_eq!(breaker.is_open(), state == Open);
            let registry = buttress_kit::Registry::new();
            registry.insert(breaker.clone()).unwrap();
            let all = registry.list_of::<Breaker>();
            assert_eq!((all[0].snapshot().state, breaker.state()), (state, state));
            assert_eq!(all.iter().filter(|one| one.state() == Open).count(), usize::from(state == Open));
            assert_eq!(breaker.try_acquire().is_err(), state == Open);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn new_settings_may_let_more_probes_in_at_once() {
    let breaker = tripped(Breaker::builder("x"));
    pass(secs(1)).await;
    let _first = breaker.try_acquire().unwrap();
    breaker.refused();
    let mut more = breaker.config();
    more.permitted_probes = 3;
    breaker.reconfigure(more).unwrap();
    let _others = [breaker.try_acquire().unwrap(), breaker.try_acquire().unwrap()];
    breaker.refused();
}
