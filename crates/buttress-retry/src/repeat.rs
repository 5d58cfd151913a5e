//! Retries of what is no service.

use std::sync::Arc;

use buttress_kit::{Repeat, call::begin};
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
    let mut inner = Repeat::new(attempt);
    let (attempt, entered) = begin(call).enter(&**policy, || {
        let _shown = call.show();
        inner.call(())
    });
    // Nothing to save: a closure can always be called again.
    let again = (!call.is_last()).then_some(Again { inner, req: Some(()) });
    RetryFuture::calling(attempt, again, entered.in_flight(policy.clone()))
}
