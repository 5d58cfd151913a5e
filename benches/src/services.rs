//! The inner services, and how a service is driven.

use std::{
    fmt,
    future::{Ready, poll_fn, ready},
    hint::black_box,
    pin::Pin,
    rc::Rc,
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

/// Makes `n` calls, one after the other.
pub(crate) type Drive = Box<dyn FnMut(u64)>;

/// A runtime on this thread, for timers.
pub(crate) fn runtime() -> Rc<Runtime> {
    Rc::new(Builder::new_current_thread().enable_time().build().expect("a runtime can be made"))
}

/// Drives a service from this thread.
pub(crate) fn drive<S>(runtime: &Rc<Runtime>, mut service: S) -> Drive
where
    S: Service<u64> + 'static,
{
    let runtime = runtime.clone();
    Box::new(move |calls| {
        runtime.block_on(async {
            for n in 0..calls {
                let ready = poll_fn(|cx| service.poll_ready(cx)).await;
                assert!(ready.is_ok(), "the bench's services are always ready");
                black_box(service.call(n).await.is_ok());
            }
        });
    })
}

/// Drives a function that returns a future, for peers that are no services.
pub(crate) fn drive_fn<F, Fut, T>(runtime: &Rc<Runtime>, mut call: F) -> Drive
where
    F: FnMut(u64) -> Fut + 'static,
    Fut: Future<Output = T>,
{
    let runtime = runtime.clone();
    Box::new(move |calls| {
        runtime.block_on(async {
            for n in 0..calls {
                black_box(call(n).await);
            }
        });
    })
}
