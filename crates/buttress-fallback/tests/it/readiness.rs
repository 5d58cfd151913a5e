use buttress_core::{BoxError, ReadyInCallLayer};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, buffer::BufferLayer, limit::GlobalConcurrencyLimitLayer,
    service_fn,
};
use tower_test::{assert_request_eq, mock};

use crate::{down, fallback};

#[tokio::test]
async fn value_is_a_through_layer() {
    let (mut svc, mut inner) = mock::spawn_layer::<&str, &str, _>(fallback().layer().value("stored"));
    inner.allow(0);
    assert_pending!(svc.poll_ready());
    inner.allow(1);
    assert!(svc.is_woken());
    assert_ready_ok!(svc.poll_ready());
    let mut call = task::spawn(svc.call("a"));
    assert_request_eq!(inner, "a").send_error("down");
    assert_eq!(assert_ready_ok!(call.poll()), "stored");
    // "Discard this service" is not answered for.
    inner.send_error("gone");
    assert_eq!(assert_ready_err!(svc.poll_ready()).to_string(), "gone");
}

#[tokio::test]
async fn second_service_makes_it_an_owning_layer() {
    let (backup, mut spare) = mock::pair::<&str, &str>();
    let (mut svc, mut inner) = mock::spawn_layer::<&str, &str, _>(fallback().layer().service(backup));
    inner.allow(0);
    spare.allow(0);
    assert_ready_ok!(svc.poll_ready()); // at once, whatever they are
    let mut call = task::spawn(svc.call("a"));
    assert_pending!(call.poll());
    inner.allow(1);
    assert!(call.is_woken());
    assert_pending!(call.poll());
    assert_request_eq!(inner, "a").send_error("down");
    assert!(call.is_woken());
    assert_pending!(call.poll()); // waits for the second one now
    spare.allow(1);
    assert!(call.is_woken());
    assert_pending!(call.poll());
    assert_request_eq!(spare, "a").send_response("b");
    assert_eq!(assert_ready_ok!(call.poll()), "b");
}

#[tokio::test]
async fn broken_primary_is_answered_for_by_the_second_service() {
    let backup = service_fn(|_: &'static str| async { Ok::<_, BoxError>("b") });
    let (mut svc, mut inner) = mock::spawn_layer::<&str, &str, _>(fallback().layer().service(backup));
    inner.send_error("gone");
    assert_ready_ok!(svc.poll_ready());
    let mut call = task::spawn(svc.call("a"));
    assert_eq!(assert_ready_ok!(call.poll()), "b");
}

#[tokio::test]
async fn readiness_within_the_call_lets_a_value_answer_for_it_too() {
    let stack = ServiceBuilder::new().layer(fallback().layer().value("stored")).layer(ReadyInCallLayer);
    let (mut svc, mut inner) = mock::spawn_layer::<&str, &str, _>(stack);
    inner.send_error("gone");
    assert_ready_ok!(svc.poll_ready());
    assert_eq!(assert_ready_ok!(task::spawn(svc.call("a")).poll()), "stored");
}

#[tokio::test]
async fn slots_come_back_when_answered_for_and_when_dropped() {
    let one = GlobalConcurrencyLimitLayer::new(1);
    let mut svc = fallback().layer().value(0).layer(one.layer(service_fn(|hang: bool| async move {
        if hang { std::future::pending().await } else { down::<u32>().await }
    })));
    assert_eq!(svc.ready().await.unwrap().call(false).await.unwrap(), 0);
    let mut call = task::spawn(svc.ready().await.unwrap().call(true));
    assert_pending!(call.poll());
    assert_pending!(task::spawn(svc.ready()).poll());
    drop(call);
    assert_eq!(svc.ready().await.unwrap().call(false).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn slot_of_the_primary_is_free_while_the_second_service_answers() {
    let one = GlobalConcurrencyLimitLayer::new(1);
    let backup = service_fn(|()| std::future::pending::<Result<u32, BoxError>>());
    let mut svc = fallback().layer().service(backup).layer(one.layer(service_fn(|()| down::<u32>())));
    let mut call = task::spawn(svc.ready().await.unwrap().call(()));
    assert_pending!(call.poll());
    let other = one.layer(service_fn(|()| async { Ok::<_, BoxError>(1) }));
    let free = tokio::time::timeout(std::time::Duration::from_secs(1), other.oneshot(()));
    assert_eq!(free.await.expect("the slot is free").unwrap(), 1);
    drop(call);
}

#[tokio::test]
async fn works_over_a_buffer() {
    let stack = ServiceBuilder::new().layer(fallback().layer().value(0)).layer(BufferLayer::new(4));
    let svc = stack.service(service_fn(|ok: bool| async move { if ok { Ok(1) } else { down().await } }));
    assert_eq!(svc.clone().oneshot(true).await.unwrap(), 1);
    assert_eq!(svc.oneshot(false).await.unwrap(), 0);
}
