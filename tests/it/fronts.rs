//! One engine, two fronts: every handle as `.wrap(service)` and as `.call(..)`.

use std::{io, time::Duration};

use buttress::{
    BoxError, Breaker, BreakerLayer, Budget, Bulkhead, BulkheadLayer, Fallback, FallbackLayer,
    LiftErrorsLayer, Registry, Rejection, RespondLayer, Retry, RetryLayer, Timeout, TimeoutLayer, rejection,
};
use tower::{Layer, ServiceExt, service_fn};

fn failing() -> impl tower::Service<u32, Response = u32, Error = BoxError, Future: Send> + Clone + Send {
    LiftErrorsLayer::new().layer(service_fn(|_: u32| async { Err::<u32, _>(io::Error::other("down")) }))
}

async fn down() -> Result<u32, BoxError> {
    Err("down".into())
}

#[tokio::test(start_paused = true)]
async fn wrapped_services_and_calls_share_one_policy() {
    let breaker = Breaker::builder("fronts").consecutive_failures(2).build().unwrap();
    breaker.wrap(failing()).oneshot(1).await.unwrap_err();
    breaker.call(down).await.unwrap_err();
    let refused = breaker.wrap(failing()).oneshot(1).await.unwrap_err();
    assert_eq!(rejection(&*refused).unwrap().code(), "CIRCUIT_OPEN");
    assert_eq!(rejection(&*breaker.call(down).await.unwrap_err()).unwrap().code(), "CIRCUIT_OPEN");

    let retry = Retry::builder("fronts").max_attempts(3).build().unwrap();
    retry.wrap(failing()).oneshot(1).await.unwrap_err();
    retry.call(down).await.unwrap_err();
    assert_eq!(retry.snapshot().retries, 4);

    let timeout = Timeout::builder("fronts").limit(Duration::from_secs(1)).build().unwrap();
    let hang = || std::future::pending::<Result<u32, BoxError>>();
    let hanging = timeout.wrap(service_fn(move |_: u32| hang()));
    assert_eq!(rejection(&*hanging.oneshot(1).await.unwrap_err()).unwrap().code(), "TIMEOUT");
    assert_eq!(rejection(&*timeout.call(hang).await.unwrap_err()).unwrap().code(), "TIMEOUT");

    let bulkhead = Bulkhead::builder("fronts").max_concurrent(1).max_queue(0).build().unwrap();
    let held = bulkhead.try_acquire().unwrap();
    for error in [bulkhead.wrap(failing()).oneshot(1).await, bulkhead.call(down).await] {
        assert_eq!(rejection(&*error.unwrap_err()).unwrap().code(), "BULKHEAD_QUEUE_FULL");
    }
    drop(held);
    assert_eq!(bulkhead.call(|| async { Ok::<_, BoxError>(5) }).await.unwrap(), 5);

    let fallback = Fallback::builder("fronts").build().unwrap();
    assert_eq!(fallback.layer().value(7_u32).wrap(failing()).oneshot(1).await.unwrap(), 7);
    assert_eq!(fallback.call(down, |failed| failed.or(Ok(8))).await.unwrap(), 8);
    assert_eq!(fallback.snapshot().answered, 2);
}

#[test]
fn handles_and_layers_can_be_kept_anywhere_and_shown() {
    fn anywhere<T: Clone + Send + Sync + Unpin + std::fmt::Debug + 'static>() {}
    anywhere::<(Breaker, BreakerLayer)>();
    anywhere::<(Retry, RetryLayer, Budget)>();
    anywhere::<(Timeout, TimeoutLayer, Registry)>();
    anywhere::<(Bulkhead, BulkheadLayer)>();
    anywhere::<(Fallback, FallbackLayer)>();
    anywhere::<(RespondLayer, LiftErrorsLayer, Rejection)>();
}
