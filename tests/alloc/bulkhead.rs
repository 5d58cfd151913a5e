//! What the happy path allocates: nothing.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use buttress::bulkhead::Bulkhead;
use buttress::{BoxError, Error, Event, Kind, Name, Recorder};
use tower::{Layer, Service, service_fn};

fn allocations(f: impl FnOnce()) -> u64 {
    allocation_counter::measure(f).count_total
}

/// Pending once, then done.
#[derive(Default)]
struct PendingOnce(bool);

impl Future for PendingOnce {
    type Output = Result<u32, BoxError>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(Ok(1));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn drive<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
    }
}

struct Quiet;

impl Recorder for Quiet {
    fn record(&self, _: &Event<'_>) {}
}

fn bulkheads() -> [Bulkhead; 2] {
    let alone = Bulkhead::builder("db").build().unwrap();
    let observed = Bulkhead::builder("db")
        .observe(|_: Kind, _: &Name| Some(Arc::new(Quiet) as Arc<dyn Recorder>))
        .build()
        .unwrap();
    [alone, observed]
}

#[test]
fn call_that_is_let_in_allocates_nothing() {
    for bulkhead in bulkheads() {
        let mut ready = bulkhead.layer().layer(service_fn(|n: u32| std::future::ready(Ok::<_, BoxError>(n))));
        let mut pending = bulkhead.layer().layer(service_fn(|_: u32| PendingOnce::default()));
        let mut failing = bulkhead
            .layer()
            .layer(service_fn(|_: u32| std::future::ready(Err::<u32, _>(Error::Inner(std::fmt::Error)))));
        let count = allocations(|| {
            for n in 0..10 {
                assert_eq!(drive(ready.call(n)).unwrap(), n);
                assert_eq!(drive(pending.call(n)).unwrap(), 1);
                assert!(drive(failing.call(n)).is_err());
                assert_eq!(drive(bulkhead.call(PendingOnce::default)).unwrap(), 1);
                drop(drive(bulkhead.acquire()).unwrap());
                drop(bulkhead.try_acquire().unwrap());
                drop(ready.clone());
            }
        });
        assert_eq!(count, 0);
    }
}

#[test]
fn refusal_allocates_nothing_with_a_typed_error() {
    let bulkhead = Bulkhead::builder("db").max_concurrent(1).max_queue(0).build().unwrap();
    let _permit = bulkhead.try_acquire().unwrap();
    let mut svc =
        bulkhead.layer().layer(service_fn(|_: u32| std::future::ready(Ok::<u32, Error<std::fmt::Error>>(1))));
    let count = allocations(|| {
        assert!(drive(svc.call(1)).is_err());
        assert!(bulkhead.try_acquire().is_err());
    });
    assert_eq!(count, 0);
}

// The other side of the claim: a wait does allocate, so that the counter is known to count.
#[tokio::test]
async fn wait_allocates_its_timer_once() {
    let bulkhead = Bulkhead::builder("db").max_concurrent(1).build().unwrap();
    // The line keeps its memory.
    for expected in [2, 1] {
        let permit = bulkhead.try_acquire().unwrap();
        let mut waiting = pin!(bulkhead.acquire());
        let mut cx = Context::from_waker(Waker::noop());
        let mut pending = None;
        let count = allocations(|| pending = Some(waiting.as_mut().poll(&mut cx).is_pending()));
        assert_eq!((pending, count), (Some(true), expected));
        drop(permit);
        drop(waiting.await.unwrap());
    }
}
