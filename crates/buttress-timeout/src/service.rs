use std::task::{Context, Poll};

use buttress_core::FromRejection;
use tower_service::Service;

use crate::{Configured, LimitOf, OnTimeout, Refuse, Timeout, TimeoutFuture, timeout::Flight};

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

    // Inlined into the caller, so that the future is made where it stays: it has room for a timer, and every copy
    // of it costs more than all the rest but the clock.
    #[inline(always)]
    fn call(&mut self, req: Req) -> Self::Future {
        let limit = self.limit.limit_of(&req);
        let begun = self.timeout.begin(limit);
        if begun.too_late {
            self.timeout.refuse();
            // Readied and not called: only dropping that instance gives back what it reserved.
            self.inner = self.inner.clone();
            return TimeoutFuture::refused(Flight::refused(&self.timeout, begun), self.answer.clone());
        }
        let call = begun.run(&self.timeout, || self.inner.call(req));
        TimeoutFuture::admitted(call, Flight::new(&self.timeout, begun), self.answer.clone())
    }
}
