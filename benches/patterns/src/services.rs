//! The inner services, and how a service is driven.

use std::{
    fmt,
    future::{Ready, poll_fn, ready},
    hint::black_box,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Context, Poll},
};

use tokio::runtime::{Builder, Runtime};
use tower::Service;

/// The typed error of the bare services: never made on a happy path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("fault")
    }
}

impl std::error::Error for Fault {}

/// Ready at the first poll.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Echo;

impl Service<u64> for Echo {
    type Response = u64;
    type Error = Fault;
    type Future = Ready<Result<u64, Fault>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, n: u64) -> Self::Future {
        ready(Ok(black_box(n)))
    }
}

/// Pending once, then ready.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Later;

impl Service<u64> for Later {
    type Response = u64;
    type Error = Fault;
    type Future = Once;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, n: u64) -> Once {
        Once { n: black_box(n), pending: true }
    }
}

/// The future of [`Later`].
#[derive(Debug)]
pub(crate) struct Once {
    n: u64,
    pending: bool,
}

impl Future for Once {
    type Output = Result<u64, Fault>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if std::mem::take(&mut self.pending) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(self.n))
    }
}

/// Fails every call: what a breaker opens for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dead;

/// How many calls reached [`Dead`] services.
pub(crate) static REACHED_THE_DEAD: AtomicU64 = AtomicU64::new(0);

impl Service<u64> for Dead {
    type Response = u64;
    type Error = Fault;
    type Future = Ready<Result<u64, Fault>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: u64) -> Self::Future {
        REACHED_THE_DEAD.fetch_add(1, Relaxed);
        ready(Err(Fault))
    }
}

/// An inner service.
pub(crate) trait Inner:
    Service<u64, Response = u64, Error = Fault, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<S> Inner for S where
    S: Service<u64, Response = u64, Error = Fault, Future: Send> + Clone + Send + Sync + 'static
{
}

/// Makes so many calls, one after the other.
pub(crate) type Drive = Box<dyn FnMut(&Runtime, u64) + Send>;

/// One policy, set up: makes a drive for each thread that uses it.
pub(crate) type Subject = Box<dyn Fn() -> Drive>;

/// A runtime for one thread, with timers.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime can be made")
}

/// A service: each thread drives a clone of it.
pub(crate) fn subject<S>(service: S) -> Subject
where
    S: Service<u64> + Clone + Send + 'static,
{
    Box::new(move || {
        let mut service = service.clone();
        Box::new(move |runtime, calls| {
            runtime.block_on(async {
                for n in 0..calls {
                    let ready = poll_fn(|cx| service.poll_ready(cx)).await;
                    assert!(ready.is_ok(), "the bench's services are always ready");
                    black_box(service.call(n).await.is_ok());
                }
            });
        })
    })
}

/// A function that returns a future, for peers that are no services.
pub(crate) fn subject_fn<F, Fut, T>(call: F) -> Subject
where
    F: FnMut(u64) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = T>,
{
    Box::new(move || {
        let mut call = call.clone();
        Box::new(move |runtime, calls| {
            runtime.block_on(async {
                for n in 0..calls {
                    black_box(call(n).await);
                }
            });
        })
    })
}
