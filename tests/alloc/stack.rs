//! The happy path of a whole stack allocates nothing, whether the inner call is ready at once or pending once.

use std::{
    fmt::Debug,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use buttress::{
    Backoff, Breaker, Budget, Bulkhead, Fallback, FromRejection, Lend, Retry, Run, ServiceBuilderExt, Timeout,
};
use tower::{Service, ServiceBuilder};

#[derive(Debug)]
struct Fault;

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("fault")
    }
}

impl std::error::Error for Fault {}

/// Answers after so many polls.
#[derive(Clone, Debug)]
struct After(u32);

impl Service<u64> for After {
    type Response = u64;
    type Error = Fault;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, n: u64) -> Answer {
        Answer { n, pending: self.0 }
    }
}

struct Answer {
    n: u64,
    pending: u32,
}

impl Future for Answer {
    type Output = Result<u64, Fault>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.pending > 0 {
            self.pending -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(self.n))
    }
}

/// Allocations of a thousand calls, after some to warm up.
fn allocations<S>(mut service: S) -> u64
where
    S: Service<u64, Response = u64>,
    S::Error: Debug,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut calls = |count: u64| {
        runtime.block_on(async {
            for n in 0..count {
                poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
                assert_eq!(service.call(n).await.unwrap(), n);
            }
        });
    };
    calls(100);
    // Nothing is rare enough to be lost in the rounding: each count is of the same calls, twice as many.
    let once = allocation_counter::measure(|| calls(1_000)).count_total;
    let twice = allocation_counter::measure(|| calls(2_000)).count_total;
    twice - once
}

fn stack(inner: After) -> impl Service<u64, Response = u64, Error: Debug + FromRejection> {
    let second = Duration::from_secs(1);
    let fallback = Fallback::builder("alloc").build().unwrap();
    let deadline = Timeout::builder("alloc-total").limit(second * 30).build().unwrap();
    let retry = Retry::builder("alloc")
        .max_attempts(3)
        .backoff(Backoff::default())
        .budget(Budget::new(0.2, 10).unwrap())
        .build()
        .unwrap();
    let breaker = Breaker::builder("alloc").slow_call_duration(second).slow_call_rate(0.5).build().unwrap();
    let bulkhead = Bulkhead::builder("alloc").max_concurrent(8).build().unwrap();
    let attempt = Timeout::builder("alloc-attempt").limit(second).build().unwrap();
    ServiceBuilder::new()
        .fallback(fallback.layer().value(0))
        .deadline(deadline.layer())
        .retrying(retry.layer())
        .breaker(breaker.layer())
        .bulkhead(bulkhead.layer())
        .attempt_timeout(attempt.layer())
        .typed_errors()
        .service(inner)
}

#[test]
fn six_layers_allocate_nothing_when_the_call_is_ready_at_once() {
    assert_eq!(allocations(stack(After(0))), 0);
}

#[test]
fn six_layers_allocate_nothing_when_the_call_is_pending_once() {
    assert_eq!(allocations(stack(After(1))), 0);
}

/// Six layers around plain functions: allocations of a thousand calls, each with a lent value.
fn allocations_of_functions(pending: u32) -> u64 {
    let second = Duration::from_secs(1);
    let fallback = Fallback::builder("alloc").build().unwrap();
    let deadline = Timeout::builder("alloc-total").limit(second * 30).build().unwrap();
    let retry = Retry::builder("alloc").max_attempts(3).build().unwrap();
    let breaker = Breaker::builder("alloc").build().unwrap();
    let bulkhead = Bulkhead::builder("alloc").max_concurrent(8).build().unwrap();
    let attempt = Timeout::builder("alloc-attempt").limit(second).build().unwrap();
    let stack = ServiceBuilder::new()
        .fallback(fallback.layer().value(0))
        .deadline(deadline.layer())
        .retrying(retry.layer())
        .breaker(breaker.layer())
        .bulkhead(bulkhead.layer())
        .attempt_timeout(attempt.layer())
        .typed_errors()
        .functions();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let calls = |count: u64| {
        runtime.block_on(async {
            for n in 0..count {
                let service = Lend::new(After(pending));
                assert_eq!(stack.run(async || service.take().call(n).await).await.unwrap(), n);
            }
        });
    };
    calls(100);
    let once = allocation_counter::measure(|| calls(1_000)).count_total;
    let twice = allocation_counter::measure(|| calls(2_000)).count_total;
    twice - once
}

#[test]
fn six_layers_around_a_plain_function_allocate_nothing() {
    for pending in 0..2 {
        assert_eq!(allocations_of_functions(pending), 0, "pending {pending} times");
    }
}
