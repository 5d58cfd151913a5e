//! What operators can see and do.

use buttress_breaker::{Breaker, State};
use buttress_core::{BoxError, rejection};

use crate::support::*;

// S0-025
#[tokio::test(start_paused = true)]
async fn transitions_are_told_in_their_order() {
    let builder = Breaker::builder("x").consecutive_failures(1).open_for(secs(1)).success_threshold(1);
    let (breaker, heard) = Heard::by(builder);
    breaker.fail(1);
    pass(secs(1)).await;
    breaker.ok(1);
    assert_eq!(heard.transitions(), ["closed>open auto", "open>half_open auto", "half_open>closed auto"]);
}

// C-20, S1-020, S3-010, S1-072, vector blipee-cb-reset, r4j-cb-24
#[tokio::test(start_paused = true)]
async fn reset_begins_anew_and_always_says_so() {
    let (breaker, heard) = Heard::by(Breaker::builder("x").consecutive_failures(3));
    breaker.reset();
    breaker.fail(3);
    breaker.is(State::Open);
    breaker.reset();
    breaker.is(State::Closed);
    assert_eq!(heard.count("reset"), 2);
    assert_eq!(heard.transitions(), ["closed>open auto", "open>closed manual"]);
    let seen = breaker.snapshot();
    assert_eq!((seen.failures, seen.successes, seen.total, seen.last_error), (0, 0, 0, None));
}

// S3-009, C-18, S1-017, C-47
#[tokio::test(start_paused = true)]
async fn last_error_is_the_one_that_opened() {
    let breaker = Breaker::builder("x").consecutive_failures(2).open_for(secs(1)).build().unwrap();
    breaker.call(|| async { Err::<(), BoxError>("first".into()) }).await.unwrap_err();
    assert_eq!(breaker.last_error(), None);
    breaker.call(|| async { Err::<(), BoxError>("second".into()) }).await.unwrap_err();
    assert_eq!(breaker.last_error().as_deref(), Some("second"));
    let refused = breaker.call(|| async { Ok::<_, BoxError>(()) }).await.unwrap_err();
    assert_eq!(rejection(&*refused).unwrap().code(), "CIRCUIT_OPEN");
    assert_eq!(breaker.last_error().as_deref(), Some("second"));
    breaker.reset();
    assert_eq!(breaker.last_error(), None);
}

// S1-071, C-19, vector blipee-cb-forceopen
#[tokio::test(start_paused = true)]
async fn forced_open_recovers_and_isolated_stays() {
    let breaker = Breaker::builder("x").open_for(secs(5)).build().unwrap();
    breaker.force_open();
    breaker.is(State::Open);
    pass(secs(5)).await;
    breaker.is(State::HalfOpen);
    breaker.isolate();
    pass(secs(3_600)).await;
    breaker.is(State::Isolated);
    assert_eq!(breaker.refused().retry_after(), None);
    breaker.force_close();
    breaker.is(State::Closed);
}
