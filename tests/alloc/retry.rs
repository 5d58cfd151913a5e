//! Allocations on the happy path: none.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress::retry::{Retry, RetryBuilder, RetryConfig};
use buttress::{BoxError, Budget, OnlyErrors, TokenBudgetConfig};
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

fn allocations<S: Service<u32, Response = u32, Error = BoxError>>(mut svc: S, times: u32) -> u64 {
    drive(&mut svc, times); // thread-locals and the like
    allocation_counter::measure(|| (0..100).for_each(|_| drive(&mut svc, times))).count_total
}

fn in_runtime(run: impl FnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    run();
}

type Set = fn(RetryBuilder) -> RetryBuilder;

#[test]
fn call_that_succeeds_allocates_nothing_whatever_is_set() {
    let settings: [(&str, Set); 7] = [
        ("defaults", |retry| retry),
        ("one attempt", |retry| retry.max_attempts(1)),
        ("max_elapsed", |retry| retry.max_elapsed(Duration::from_secs(9))),
        ("a budget", |retry| retry.budget(Budget::new(0.2, 10).unwrap())),
        ("tokens", |retry| retry.budget(Budget::tokens(TokenBudgetConfig::default()).unwrap())),
        ("a budget in flight", |retry| retry.budget(Budget::in_flight(0.2, 3).unwrap())),
        ("an observer", |retry| retry.on_event(|_| {})),
    ];
    in_runtime(|| {
        for (name, set) in settings {
            let retry = set(Retry::builder("payments")).build().unwrap();
            let codes = || OnlyErrors::codes(["503", "TIMEOUT"]);
            for times in 0..3 {
                let svc = service_fn(pending);
                assert_eq!(allocations(retry.layer().layer(svc), times), 0, "{name}, pending {times} times");
                let svc = retry.layer().classify(codes()).layer(svc);
                assert_eq!(allocations(svc, times), 0, "{name}, with codes, pending {times} times");
                let closure = service_fn(|times| retry.call(move || pending(times)));
                assert_eq!(allocations(closure, times), 0, "{name}, a closure, pending {times} times");
            }
        }
    });
}

#[test]
fn attempts_after_an_attempt_allocate_one_box_for_what_failed_before_and_the_error() {
    let retry = Retry::new("payments", RetryConfig::fixed(3, Duration::ZERO)).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let heap = allocation_counter::measure(|| {
        let mut left = 2;
        let mut call = pin!(retry.call(|| {
            // A `fmt::Error` has no size: boxing it allocates nothing.
            let answer = if left == 0 { Ok(0) } else { Err(BoxError::from(std::fmt::Error)) };
            left -= 1;
            std::future::ready(answer)
        }));
        assert!(call.as_mut().poll(&mut cx).is_ready());
    });
    assert_eq!(heap.count_total, 1);
    assert_eq!(retry.snapshot().retries, 2);
}
