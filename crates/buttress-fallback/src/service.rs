use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use buttress_core::{FromRejection, Standard};
use tower_service::Service;

use crate::{Answer, Capture, Decide, FallbackFuture, future::Plan};

/// A service whose failures are answered for; made by [`FallbackLayer`](crate::FallbackLayer).
pub struct FallbackService<S, A, C = Standard> {
    pub(crate) inner: S,
    pub(crate) plan: Arc<Plan<A, C>>,
}

impl<S, A, C> FallbackService<S, A, C> {
    /// The service inside.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service inside.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The service inside.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S: Clone, A, C> Clone for FallbackService<S, A, C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), plan: self.plan.clone() }
    }
}

impl<S: fmt::Debug, A, C> fmt::Debug for FallbackService<S, A, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackService")
            .field("inner", &self.inner)
            .field("fallback", &self.plan.fallback)
            .finish()
    }
}

impl<S, A, C, Req> Service<Req> for FallbackService<S, A, C>
where
    S: Service<Req>,
    S::Error: FromRejection,
    A: Capture<Req> + Answer<<A as Capture<Req>>::Captured, S::Response, S::Error>,
    C: Decide<S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = FallbackFuture<S::Future, A, C, <A as Capture<Req>>::Captured, A::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // An error here means "discard this service": no answer can stand in for that.
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        FallbackFuture::start(&self.plan, req, A::capture, |req| self.inner.call(req))
    }
}
