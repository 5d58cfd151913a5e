use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use buttress_core::{Classify, FromRejection, Outcome, ReadyInCallFuture, Standard};
use buttress_kit::CallOnce;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{Bulkhead, entering::Entering};

pin_project! {
    /// Waits for a slot, then for the inner service to be ready, then resolves as the inner call does; or to a
    /// rejection.
    ///
    /// Until it is polled it has neither slot nor place in the queue. The slot is given back when the call is done, not
    /// when this is dropped.
    ///
    /// # Cancellation
    /// Dropping it gives up what it has, and cancels the inner call.
    #[must_use = "futures do nothing unless polled"]
    pub struct BulkheadFuture<S, Req, C = Standard>
    where
        S: Service<Req>,
    {
        // Dropped in this order: a cancelled call is over before its slot is free.
        #[pin]
        inner: ReadyInCallFuture<S, Req>,
        entering: Entering,
        classify: C,
    }
}

impl Bulkhead {
    /// Runs `f` once a slot is free: for calls that are no [`Service`](tower_service::Service).
    ///
    /// For one policy alone. The error of `f` must be able to carry a refusal: a foreign one gets there by
    /// `.map_err(BoxError::from)`. Under several policies, and with whatever error it has, a function runs through a
    /// stack that ends in `.functions()`, see [`Functions`](buttress_core::Functions).
    ///
    /// # Errors
    /// Those of the call, and rejections: see [the crate](crate#refusals).
    ///
    /// # Cancellation
    /// Dropping the future gives up the slot or the place in the queue. Until it is polled, it has neither.
    pub fn call<F, Fut, T, E>(&self, f: F) -> BulkheadFuture<CallOnce<F>, ()>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        BulkheadFuture::new(self, CallOnce::new(f), (), Standard)
    }
}

impl<S, Req, C> BulkheadFuture<S, Req, C>
where
    S: Service<Req>,
{
    #[inline]
    pub(crate) fn new(bulkhead: &Bulkhead, inner: S, req: Req, classify: C) -> Self {
        let inner = ReadyInCallFuture::new(inner, req);
        Self { inner, entering: Entering::new(bulkhead.shared.clone()), classify }
    }

    /// The 1-based position in the queue, while it waits. Walks the queue.
    pub fn queue_position(&self) -> Option<usize> {
        self.entering.position()
    }
}

impl<S, Req, C> Future for BulkheadFuture<S, Req, C>
where
    S: Service<Req>,
    S::Error: FromRejection,
    C: Classify<S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if !this.entering.has_slot() {
            assert!(!this.inner.is_over(), "polled after it resolved");
            if !this.entering.take_free() {
                if let Err(why) = ready!(this.entering.poll_slot(cx)) {
                    this.inner.give_up();
                    return Poll::Ready(Err(S::Error::from_rejection(why)));
                }
            }
        }
        let inside = this.entering.flight().inside();
        // Its last poll drops what is left of the call: that goes before the slot does.
        match this.inner.poll(cx) {
            Poll::Pending => {
                inside.leave();
                Poll::Pending
            }
            Poll::Ready(Ok(response)) => {
                inside.end(Outcome::from(this.classify.classify(Ok(&response))));
                Poll::Ready(Ok(response))
            }
            Poll::Ready(Err(error)) => {
                inside.end(Outcome::from(this.classify.classify(Err(&error))));
                Poll::Ready(Err(error))
            }
        }
    }
}

impl<S, Req, C> fmt::Debug for BulkheadFuture<S, Req, C>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadFuture").field("entering", &self.entering).finish_non_exhaustive()
    }
}
