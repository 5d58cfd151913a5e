use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use buttress_core::{ByClone, Classify, FromRejection, Replay, Standard};
use buttress_kit::call::begin;
use tower_service::Service;

use crate::{RetryFuture, future::Again, policy::Policy};

/// A service whose failed calls are made again; made by [`RetryLayer`](crate::RetryLayer).
pub struct RetryService<S, C = Standard, R = ByClone> {
    pub(crate) inner: S,
    pub(crate) policy: Arc<Policy<C, R>>,
}

impl<S, C, R> RetryService<S, C, R> {
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

impl<S, C, R, Req> Service<Req> for RetryService<S, C, R>
where
    S: Service<Req> + Clone,
    S::Error: FromRejection,
    C: Classify<S::Response, S::Error>,
    R: Replay<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = RetryFuture<S, Req, C, R>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let policy = &self.policy;
        let call = policy.engine.begin();
        let entering = begin(call).entering(&**policy);
        let saved = policy.save(&call, &req);
        let shown = call.show();
        let attempt = self.inner.call(req);
        drop(shown);
        // The instance that was polled ready makes the first attempt and stays here. Later ones are made by a
        // clone, taken after the call: it holds no reservation while it waits, and readies itself in the future.
        let again = saved.map(|req| Again { inner: self.inner.clone(), req: Some(req) });
        let entered = entering.entered();
        RetryFuture::calling(attempt, again, entered.in_flight(policy.clone()))
    }
}

impl<S: Clone, C, R> Clone for RetryService<S, C, R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), policy: self.policy.clone() }
    }
}

impl<S: fmt::Debug, C, R> fmt::Debug for RetryService<S, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryService")
            .field("name", self.policy.engine.emitter.name())
            .field("inner", &self.inner)
            .finish()
    }
}
