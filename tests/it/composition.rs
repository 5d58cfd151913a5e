//! What holds for every layer alike.

use std::{future::Future, pin::pin, time::Duration};

use buttress::{BoxError, Breaker, Bulkhead, Retry, Timeout, breaker::State};
use tower::{Service, ServiceExt, service_fn};

async fn down(_: u32) -> Result<u32, BoxError> {
    Err("down".into())
}

// vector M04
#[tokio::test]
async fn clones_and_services_of_one_layer_share_one_policy() {
    let breaker = Breaker::builder("shared").consecutive_failures(4).build().unwrap();
    let (one, two) = (breaker.wrap(service_fn(down)), breaker.wrap(service_fn(down)));
    for service in [one.clone(), one, two.clone(), two] {
        assert_eq!(breaker.state(), State::Closed);
        service.oneshot(1).await.unwrap_err();
    }
    assert_eq!(breaker.state(), State::Open);
    let other = Breaker::builder("shared").consecutive_failures(4).build().unwrap();
    assert_eq!(other.state(), State::Closed, "the same name is not the same policy");
}

/// Polls a future that has resolved again: it may panic, as std's do, and must not count anything twice.
async fn polled_twice<F: Future>(future: F) {
    let mut future = pin!(future);
    future.as_mut().await;
    let again = std::panic::AssertUnwindSafe(|| {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = future.as_mut().poll(&mut context);
    });
    let _ = std::panic::catch_unwind(again);
}

// vector M15
#[tokio::test(start_paused = true)]
async fn polling_a_resolved_future_counts_nothing_twice() {
    let breaker = Breaker::builder("twice").consecutive_failures(9).build().unwrap();
    polled_twice(breaker.wrap(service_fn(down)).ready().await.unwrap().call(1)).await;
    assert_eq!(breaker.snapshot().failures, 1);

    let bulkhead = Bulkhead::builder("twice").max_concurrent(3).build().unwrap();
    polled_twice(bulkhead.wrap(service_fn(down)).ready().await.unwrap().call(1)).await;
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.active, snapshot.available, snapshot.failed), (0, 3, 1));

    let retry = Retry::builder("twice").max_attempts(2).build().unwrap();
    polled_twice(retry.wrap(service_fn(down)).ready().await.unwrap().call(1)).await;
    assert_eq!(retry.snapshot().retries(), 1);

    let timeout = Timeout::builder("twice").limit(Duration::from_secs(1)).build().unwrap();
    let hanging = service_fn(|_: u32| std::future::pending::<Result<u32, BoxError>>());
    polled_twice(timeout.wrap(hanging).ready().await.unwrap().call(1)).await;
    assert_eq!(timeout.snapshot().timeouts, 1);
}
