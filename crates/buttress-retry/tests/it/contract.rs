//! Readiness, reservations and permits of the service inside.

use std::{io, sync::Arc, task::Poll, time::Duration};

use buttress_core::{BoxError, Error, LiftErrorsLayer, TypedErrorsLayer};
use buttress_retry::{Retry, RetryConfig};
use buttress_test::{
    Probe, Script, advance,
    contract::{self, Contract},
    poll_once, settle, step,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt,
    buffer::BufferLayer,
    limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer},
    service_fn,
};

use crate::support::{Script as Answers, fluxus, ms};

fn fixed(attempts: u32, wait: u64) -> Retry {
    Retry::new("payments", RetryConfig::fixed(attempts, ms(wait))).unwrap()
}

#[test]
fn contract_of_service_is_kept() {
    contract::check(|| fixed(1, 0).layer()).assert_clean();
    contract::check(|| fixed(3, 10).layer()).assert_clean();
    let at_once = || Retry::new("payments", fluxus()).unwrap().layer();
    Contract::new(at_once).through().run().assert_clean();
}

#[tokio::test(start_paused = true)]
async fn readiness_is_asked_for_before_every_attempt() {
    // The probe panics where it is called on an instance that was not ready.
    let probe: Probe<u32, u32> =
        Script::new([step::err("one"), step::err("two"), step::ok(7)]).service().slots(1);
    let retry = fixed(3, 10);
    let mut svc = retry.layer().layer(probe.clone());
    assert_eq!(svc.ready().await.unwrap().call(1).await.unwrap(), 7);
    assert_eq!((probe.calls(), probe.taken_slots()), (3, 0));
    assert!(probe.ready_polls() >= 3);
}

#[tokio::test(start_paused = true)]
async fn readiness_error_between_attempts_is_final_returned_and_counted() {
    let probe: Probe<u32, u32> = Script::new([]).then(|| step::err("down")).service();
    let retry = fixed(5, 10);
    let mut svc = retry.layer().layer(probe.clone());
    let mut call = Box::pin(svc.ready().await.unwrap().call(1));
    assert!(poll_once(call.as_mut()).is_pending());
    probe.fail_readiness("broken for good".into());
    assert_eq!(call.await.unwrap_err().to_string(), "broken for good");
    let snapshot = retry.snapshot();
    assert_eq!((snapshot.retries, snapshot.stopped.not_ready), (0, 1));
}

// known from other libraries: panics over a concurrency limit, "poll_ready must be called first"
#[tokio::test(start_paused = true)]
async fn works_over_a_concurrency_limit_of_one_and_holds_no_permit_while_it_waits() {
    let semaphore = Arc::new(Semaphore::new(1));
    let limit = GlobalConcurrencyLimitLayer::with_semaphore(semaphore.clone());
    let answers = Answers::of([Err("one".into()), Err("two".into())]);
    let retry = fixed(3, 100);
    let mut svc = retry.layer().layer(limit.layer(answers.service()));
    let mut call = Box::pin(svc.ready().await.unwrap().call("a"));
    assert!(poll_once(call.as_mut()).is_pending());
    // The service that made the first attempt is kept, and so is the call: both hold nothing.
    assert_eq!(semaphore.available_permits(), 1);
    assert_eq!(limit.layer(answers.service()).oneshot("b").await.unwrap_err().to_string(), "two");

    assert_eq!(call.as_mut().await.unwrap(), "ok");
    assert_eq!(semaphore.available_permits(), 1, "held by the finished call");
    drop(svc);
}

#[tokio::test(start_paused = true)]
async fn many_calls_retry_over_few_permits() {
    let retry = fixed(4, 7);
    let answers = Answers::failing();
    let svc = ServiceBuilder::new()
        .layer(retry.layer())
        .layer(ConcurrencyLimitLayer::new(2))
        .service(answers.service());
    let calls: Vec<_> = (0..50).map(|_| tokio::spawn(svc.clone().oneshot("a"))).collect();
    for call in calls {
        call.await.unwrap().unwrap_err();
    }
    assert_eq!(answers.calls(), 200);
}

#[tokio::test(start_paused = true)]
async fn works_over_a_buffer_of_one_and_reserves_nothing_while_it_waits() {
    let answers = Answers::of([Err("one".into()), Err("two".into())]);
    let retry = fixed(3, 100);
    let svc = ServiceBuilder::new().layer(BufferLayer::new(1)).service(answers.service());
    let mut first = retry.layer().layer(svc.clone());
    let call = first.ready().await.unwrap().call("a");
    let call = tokio::spawn(call);
    settle().await;
    let other = tokio::time::timeout(ms(50), svc.clone().oneshot("b")).await;
    other.expect("the only slot of the buffer is free").unwrap_err();
    assert_eq!(call.await.unwrap().unwrap(), "ok");
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn works_between_towers_layers_with_lifted_and_with_typed_errors() {
    let hangs = |()| async {
        sleep(Duration::from_secs(3600)).await;
        Ok::<(), io::Error>(())
    };
    let retry = fixed(3, 0);
    let svc = ServiceBuilder::new()
        .layer(retry.layer())
        .concurrency_limit(1)
        .layer(LiftErrorsLayer::new())
        .timeout(ms(10))
        .service_fn(hangs);
    let start = Instant::now();
    let error = svc.oneshot(()).await.unwrap_err();
    assert!(error.is::<tower::timeout::error::Elapsed>());
    assert_eq!((retry.snapshot().retries, start.elapsed()), (2, ms(30)));

    let svc = ServiceBuilder::new()
        .layer(retry.layer())
        .layer(TypedErrorsLayer::new())
        .service_fn(|()| async { Err::<(), _>(io::Error::other("down")) });
    let error: Error<io::Error> = svc.oneshot(()).await.unwrap_err();
    assert_eq!(error.inner().unwrap().to_string(), "down");
    assert_eq!(retry.snapshot().retries, 4);
}

#[tokio::test(start_paused = true)]
async fn later_attempt_waits_for_readiness_and_is_woken_by_it() {
    let probe: Probe<u32, u32> = Script::new([step::err("one"), step::ok(2)]).service().slots(1);
    let mut svc = fixed(2, 10).layer().layer(probe.clone());
    let mut call = Box::pin(svc.ready().await.unwrap().call(1));
    assert!(poll_once(call.as_mut()).is_pending());
    let slot = probe.take_slot().unwrap();
    let call = tokio::spawn(call);
    advance(Duration::from_secs(60)).await;
    assert_eq!(probe.calls(), 1);
    drop(slot);
    assert_eq!(call.await.unwrap().unwrap(), 2);
}

// Nothing is held by what was dropped, wherever it was
#[tokio::test(start_paused = true)]
async fn permit_is_free_after_a_drop_at_any_await() {
    let semaphore = Arc::new(Semaphore::new(1));
    let limit = GlobalConcurrencyLimitLayer::with_semaphore(semaphore.clone());
    let svc = fixed(3, 50).layer().layer(limit.layer(service_fn(|()| async {
        tokio::task::yield_now().await;
        Err::<(), BoxError>("down".into())
    })));
    let polls = buttress_test::drop_at_every_await(
        || svc.clone().oneshot(()),
        |_| assert_eq!(semaphore.available_permits(), 1),
    )
    .await;
    assert!(polls >= 5, "{polls}");
}

#[tokio::test(start_paused = true)]
async fn failed_attempt_is_gone_before_the_wait_begins() {
    let alive = Arc::new(());
    let inside = alive.clone();
    let svc = service_fn(move |()| {
        let held = inside.clone();
        async move {
            let answer: Result<Arc<()>, BoxError> = Ok(held.clone());
            answer
        }
    });
    let layer = fixed(2, 1000)
        .layer()
        .classify_with(|_: Result<&Arc<()>, &BoxError>| buttress_core::Verdict::transient());
    let mut svc = layer.layer(svc);
    let mut call = Box::pin(svc.ready().await.unwrap().call(()));
    assert!(matches!(poll_once(call.as_mut()), Poll::Pending));
    // Here, in the service, and in its clone: neither the attempt nor its response is left.
    assert_eq!(Arc::strong_count(&alive), 3);
    drop(call);
}

#[tokio::test(start_paused = true)]
async fn retry_inside_a_retry_multiplies_and_each_counts_its_own() {
    let (outer, inner) = (fixed(2, 1), fixed(3, 1));
    let answers = Answers::failing();
    let svc = ServiceBuilder::new().layer(outer.layer()).layer(inner.layer()).service(answers.service());
    svc.oneshot("a").await.unwrap_err();
    assert_eq!(answers.attempts(), [1, 2, 3, 1, 2, 3]);
    assert_eq!((outer.snapshot().retries, inner.snapshot().retries), (1, 4));
}
