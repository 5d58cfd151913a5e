//! Allocations on the happy path: none.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll, Waker},
};

use buttress::BoxError;
use buttress::fallback::Fallback;
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

fn allocations_of<S: Service<u32, Response = u32, Error = BoxError>>(mut svc: S, times: u32) -> u64 {
    drive(&mut svc, times); // thread-locals and the like
    allocation_counter::measure(|| (0..100).for_each(|_| drive(&mut svc, times))).count_total
}

#[test]
fn call_that_succeeds_allocates_nothing() {
    let fallback = Fallback::builder("prices").build().unwrap();
    let heard = Fallback::builder("prices").on_event(|_| {}).build().unwrap();
    let inner = service_fn(pending);
    for times in 0..2 {
        assert_eq!(allocations_of(fallback.layer().value(0).layer(inner), times), 0);
        assert_eq!(allocations_of(heard.layer().value(0).layer(inner), times), 0);
        let function = fallback.layer().answer_for(|_: &u32, failed| failed);
        assert_eq!(allocations_of(function.layer(inner), times), 0);
        assert_eq!(allocations_of(fallback.layer().service(inner).layer(inner), times), 0);
        // A known key, and an answer whose clone allocates nothing.
        let last_good = fallback.layer().last_good(|n: &u32| *n, |_: &mut u32, _| {});
        assert_eq!(allocations_of(last_good.layer(inner), times), 0);
    }
}
