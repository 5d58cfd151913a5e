use std::{
    fmt,
    task::{Context, Poll},
};

use buttress_core::{Classify, FromRejection, Standard};
use tower_service::Service;

use crate::{Bulkhead, BulkheadFuture};

/// A service behind a [`Bulkhead`]. Clones share the bulkhead; none holds a slot or a place in the queue.
#[derive(Clone)]
pub struct BulkheadService<S, C = Standard> {
    pub(crate) inner: S,
    pub(crate) bulkhead: Bulkhead,
    pub(crate) classify: C,
}

impl<S, C> BulkheadService<S, C> {
    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, C, Req> Service<Req> for BulkheadService<S, C>
where
    S: Service<Req> + Clone,
    S::Error: FromRejection,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BulkheadFuture<S, Req, C>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // Always ready, and the inner service is not asked: what it reserves when it is ready would be held for
        // as long as the call waits. See `BulkheadFuture`, which asks it once there is a slot.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Req) -> Self::Future {
        // `self.inner` was never polled, so that any clone of it will do.
        BulkheadFuture::new(&self.bulkhead, self.inner.clone(), req, self.classify.clone())
    }
}

// By hand, because closures are not `Debug`.
impl<S: fmt::Debug, C> fmt::Debug for BulkheadService<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadService")
            .field("inner", &self.inner)
            .field("bulkhead", &self.bulkhead)
            .finish_non_exhaustive()
    }
}
