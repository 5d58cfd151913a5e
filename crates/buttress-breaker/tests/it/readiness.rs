//! The contract of `poll_ready` and `call`.

use buttress_breaker::{Breaker, State};
use buttress_core::rejection;
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower_test::mock;

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn open_is_ready_at_once_and_leaves_the_inner_service_alone() {
    let breaker = Breaker::builder("x").build().unwrap();
    let (mut svc, mut inner) = mock::spawn_layer::<&str, (), _>(breaker.layer());
    inner.allow(0);
    breaker.force_open();
    assert_ready_ok!(svc.poll_ready());
    let mut call = task::spawn(svc.call("x"));
    let refused = assert_ready_err!(call.poll());
    assert_eq!(rejection(&*refused).unwrap().code(), "CIRCUIT_OPEN");
    assert_pending!(inner.poll_request());
}

#[tokio::test(start_paused = true)]
async fn parked_caller_is_refused_at_once_by_force_open() {
    let breaker = Breaker::builder("x").build().unwrap();
    let (mut svc, mut inner) = mock::spawn_layer::<&str, (), _>(breaker.layer());
    inner.allow(0);
    assert_pending!(svc.poll_ready());
    breaker.force_open();
    assert!(svc.is_woken());
    assert_ready_ok!(svc.poll_ready());
    let mut call = task::spawn(svc.call("x"));
    assert_ready_err!(call.poll());
}

#[tokio::test(start_paused = true)]
async fn wait_that_ends_between_poll_ready_and_call_never_calls_an_unreadied_inner() {
    let breaker = Breaker::builder("x").open_for(secs(1)).build().unwrap();
    let (mut svc, mut inner) = mock::spawn_layer::<&str, (), _>(breaker.layer());
    inner.allow(0);
    breaker.force_open();
    assert_ready_ok!(svc.poll_ready());
    pass(secs(1)).await;
    breaker.is(State::HalfOpen);
    let mut call = task::spawn(svc.call("x"));
    assert_ready_err!(call.poll());
    assert_pending!(inner.poll_request());
    // No probe was taken: the next one is free.
    breaker.ok(1);
}

#[tokio::test(start_paused = true)]
async fn gated_readiness_waits_and_is_woken_by_hand_and_by_time() {
    let breaker = Breaker::builder("x").open_for(secs(1)).gate_readiness(true).build().unwrap();
    let (mut svc, mut inner) = mock::spawn_layer::<&str, (), _>(breaker.layer());
    inner.allow(1);
    breaker.force_open();
    assert_pending!(svc.poll_ready());
    breaker.force_close();
    assert!(svc.is_woken());
    assert_ready_ok!(svc.poll_ready());
    breaker.force_open();
    assert_pending!(svc.poll_ready());
    pass(secs(1)).await;
    assert!(svc.is_woken());
    assert_ready_ok!(svc.poll_ready());
}
