//! Retries of what is no service.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use buttress_kit::call::begin;
use tower_service::Service;

use crate::{RetryFuture, future::Again, policy::Policy};

#[inline]
pub(crate) fn repeat<F, Fut, T, E, C, R>(
    policy: &Arc<Policy<C, R>>,
    attempt: F,
) -> RetryFuture<Repeat<F>, (), C, R>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let call = policy.engine.begin();
    let mut inner = Repeat { attempt };
    let (attempt, entered) = begin(call).enter(&**policy, || {
        let _shown = call.show();
        inner.call(())
    });
    // Nothing to save: a closure can always be called again.
    let again = (!call.is_last()).then_some(Again { inner, req: Some(()) });
    RetryFuture::calling(attempt, again, entered.in_flight(policy.clone()))
}

/// A closure that makes attempts, as a service; what [`Retry::call`](crate::Retry::call) calls.
#[derive(Clone, Copy)]
pub struct Repeat<F> {
    attempt: F,
}

impl<F, Fut, T, E> Service<()> for Repeat<F>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Response = T;
    type Error = E;
    type Future = Fut;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Fut {
        (self.attempt)()
    }
}

impl<F> fmt::Debug for Repeat<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Repeat(..)")
    }
}
