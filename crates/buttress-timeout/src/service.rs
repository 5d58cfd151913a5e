use std::task::{Context, Poll};

use buttress_core::FromRejection;
use tower_service::Service;

use crate::{Configured, LimitOf, OnTimeout, Refuse, Timeout, TimeoutFuture};

/// A service whose calls end at a limit; made by [`TimeoutLayer`](crate::TimeoutLayer).
#[derive(Clone, Debug)]
pub struct TimeoutService<S, L = Configured, A = Refuse> {
    pub(crate) inner: S,
    pub(crate) timeout: Timeout,
    pub(crate) limit: L,
    pub(crate) answer: A,
}

impl<S, L, A> TimeoutService<S, L, A> {
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

impl<S, L, A, Req> Service<Req> for TimeoutService<S, L, A>
where
    S: Service<Req> + Clone,
    S::Error: FromRejection,
    L: LimitOf<Req>,
    A: OnTimeout<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = TimeoutFuture<S::Future, A>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    // Row `timeout` of docs/benchmarks.md, 223 instructions: 318 where the future, with its room for a timer, is not made
    // where it stays.
    #[inline(always)]
    fn call(&mut self, req: Req) -> Self::Future {
        let limit = self.limit.limit_of(&req);
        let answer = self.answer.clone();
        match self.timeout.admit(limit) {
            (Some(begun), deadline) => {
                let entered = self.timeout.enter(begun, &deadline, || self.inner.call(req));
                TimeoutFuture::admitted(entered, &self.timeout, deadline, answer)
            }
            (None, deadline) => {
                // Readied and not called: only dropping that instance gives back what it reserved.
                self.inner = self.inner.clone();
                TimeoutFuture::refused(&self.timeout, deadline, answer)
            }
        }
    }
}
