use std::{fmt, mem, sync::Arc};

use buttress_core::{ByClone, ConfigError, FromRejection, Name, Standard, observe::Events};
use buttress_kit::{Budget, Repeat};
use tower_service::Service;

use crate::{
    RetryBuilder, RetryConfig, RetryFuture, RetryLayer, RetryService, RetrySnapshot, engine::Engine,
    future::Again, policy::Policy,
};

/// A retry policy: engine and handle in one. Clones share it; keep one to look at it or change its settings.
///
/// ```
/// # tokio_test::block_on(async {
/// use buttress_core::{BoxError, context};
/// use buttress_retry::{Retry, RetryConfig};
///
/// let retry = Retry::new("payments", RetryConfig::fluxus())?;
/// let answer = retry.call(|| async {
///     match context::current().attempt {
///         3 => Ok::<_, BoxError>("third time lucky"),
///         n => Err(format!("attempt {n} failed").into()),
///     }
/// });
/// assert_eq!(answer.await?, "third time lucky");
/// assert_eq!(retry.snapshot().retries(), 2);
/// # Ok::<_, BoxError>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Retry {
    // The engine with the default strategies, so that `call` and `layer` allocate nothing.
    pub(crate) policy: Arc<Policy<Standard, ByClone>>,
}

impl Retry {
    /// Makes a policy with these settings. `name` names it in rejections, metrics and logs.
    ///
    /// # Errors
    /// Where a setting cannot work, see [`RetryConfig`].
    pub fn new(name: impl Into<Name>, config: RetryConfig) -> Result<Self, ConfigError> {
        Self::builder(name).config(config).build()
    }

    /// Starts from the default settings.
    pub fn builder(name: impl Into<Name>) -> RetryBuilder {
        RetryBuilder::new(name.into())
    }

    /// A layer that retries every service it wraps by this policy.
    pub fn layer(&self) -> RetryLayer {
        RetryLayer { policy: self.policy.clone() }
    }

    /// Puts this policy around one service: `layer()` applied to it.
    pub fn wrap<S>(&self, inner: S) -> RetryService<S> {
        tower_layer::Layer::layer(&self.layer(), inner)
    }

    /// Calls `attempt` until it succeeds or the policy stops: for what is no `Service`. Inside, the number of the
    /// attempt is `context::current().attempt`.
    ///
    /// Strategies other than the default ones are set on the layer: [`RetryLayer::call`].
    ///
    /// # Cancellation
    /// Dropping the future drops the running attempt, or the wait for the next one.
    #[inline]
    pub fn call<F, Fut, T, E>(&self, attempt: F) -> RetryFuture<Repeat<F>, (), Standard, ByClone>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: FromRejection,
    {
        repeat(&self.policy, attempt)
    }

    /// The name of the policy.
    pub fn name(&self) -> &Name {
        self.engine().emitter.name()
    }

    /// The settings in force.
    pub fn config(&self) -> RetryConfig {
        self.engine().settings().config.clone()
    }

    /// The budget, if there is one.
    pub fn budget(&self) -> Option<&Budget> {
        self.engine().budget.as_ref()
    }

    /// What was counted so far.
    pub fn snapshot(&self) -> RetrySnapshot {
        self.engine().snapshot()
    }

    /// Owned copies of what happens to this policy, from now on.
    pub fn events(&self) -> Events {
        self.engine().emitter.events()
    }

    /// Puts new settings in force. A call under way keeps its number of attempts and its `max_elapsed`; its next
    /// wait is already chosen by the new settings. A wait computed by
    /// [`backoff_with`](RetryBuilder::backoff_with) stays; `backoff.max` bounds it.
    ///
    /// # Errors
    /// Where a setting cannot work, and where `budget` is another than the one the policy was built with: what
    /// was paid into a budget cannot move. The old settings then stay.
    pub fn reconfigure(&self, config: RetryConfig) -> Result<(), ConfigError> {
        self.engine().reconfigure(config)
    }

    fn engine(&self) -> &Engine {
        &self.policy.engine
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("name", self.name()).field("config", &self.config()).finish()
    }
}

#[inline(always)]
pub(crate) fn repeat<F, Fut, T, E, C, R>(
    policy: &Arc<Policy<C, R>>,
    attempt: F,
) -> RetryFuture<Repeat<F>, (), C, R>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let begun = policy.begin();
    let unless_returned = begun.unwound(&policy.engine);
    let mut inner = Repeat::new(attempt);
    let attempt = begun.inside(|| inner.call(()));
    // Nothing to save: a closure can always be called again.
    let again = (!begun.is_last()).then(|| Again { inner, req: Some(()) });
    mem::forget(unless_returned);
    RetryFuture::calling(attempt, again, begun.run(policy))
}
