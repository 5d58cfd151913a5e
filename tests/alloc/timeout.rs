//! Allocations on the happy path: none.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress::BoxError;
use buttress::timeout::Timeout;
use tower::{Layer, Service, service_fn};

/// Ready after it was pending this often.
async fn pending(times: u32) -> Result<u32, BoxError> {
    let mut left = times;
    poll_fn(|_| {
        if left == 0 {
            return Poll::Ready(Ok(times));
        }
        left -= 1;
        Poll::Pending
    })
    .await
}

fn in_runtime(run: impl FnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    run();
}

/// One call, polled to its end.
fn drive<S: Service<u32, Response = u32, Error = BoxError>>(svc: &mut S, times: u32) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(svc.poll_ready(&mut cx).is_ready());
    let mut call = pin!(svc.call(times));
    for _ in 0..times {
        assert!(call.as_mut().poll(&mut cx).is_pending());
    }
    assert!(call.as_mut().poll(&mut cx).is_ready());
}

fn allocations_of(timeout: &Timeout, times: u32) -> u64 {
    let mut svc = timeout.layer().fallback(|| 0).layer(service_fn(pending));
    drive(&mut svc, times); // thread-locals and the like
    allocation_counter::measure(|| (0..100).for_each(|_| drive(&mut svc, times))).count_total
}

#[test]
fn call_that_is_ready_or_pending_allocates_nothing() {
    in_runtime(|| {
        let timeout = Timeout::builder("api").build().unwrap();
        for times in 0..4 {
            assert_eq!(allocations_of(&timeout, times), 0, "pending {times} times");
        }
    });
}

#[test]
fn call_that_is_observed_allocates_nothing() {
    in_runtime(|| {
        let timeout = Timeout::builder("api").on_event(|_| {}).build().unwrap();
        for times in 0..2 {
            assert_eq!(allocations_of(&timeout, times), 0, "pending {times} times");
        }
    });
}

#[test]
fn timers_of_finished_calls_are_not_kept() {
    in_runtime(|| {
        let timeout = Timeout::builder("api").limit(Duration::from_secs(3_600)).build().unwrap();
        let mut svc = timeout.layer().layer(service_fn(pending));
        drive(&mut svc, 1);
        let heap = allocation_counter::measure(|| (0..1_000_000).for_each(|_| drive(&mut svc, 1)));
        assert_eq!((heap.bytes_current, heap.count_current), (0, 0));
        assert!(heap.bytes_max < 1024 * 1024);
    });
}
