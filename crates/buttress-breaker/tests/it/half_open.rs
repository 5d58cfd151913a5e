//! How a circuit finds out that the service works again.

use buttress_breaker::{Breaker, State};

use crate::support::*;

fn tripped(builder: buttress_breaker::BreakerBuilder) -> Breaker {
    let breaker = builder.consecutive_failures(1).open_for(secs(1)).build().unwrap();
    breaker.fail(1);
    breaker
}

// S1-012, S3-002, S3-008, S3-007, S4-014, S4-018, C-12
#[tokio::test(start_paused = true)]
async fn successes_up_to_the_threshold_close() {
    let breaker = tripped(Breaker::builder("x").success_threshold(2));
    pass(secs(1)).await;
    breaker.ok(1);
    breaker.is(State::HalfOpen);
    breaker.ok(1);
    breaker.is(State::Closed);
}

// C-13, S4-018, vector B13
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

// S3-003, C-12, C-49, vector beat-06, vector fx-cb-halfopen-concurrent
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

// vector beat-02
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
