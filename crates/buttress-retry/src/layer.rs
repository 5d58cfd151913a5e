use std::{fmt, sync::Arc, time::Duration};

use buttress_core::{ByClone, ByFn, Classify, FromRejection, Replay, Standard, Verdict};
use buttress_kit::Repeat;
use tower_layer::Layer;

use crate::{
    Retry, RetryFuture, RetryService,
    hooks::{Hooked, MapLast, OnRetry, ThrottledWhen},
    policy::Policy,
    repeat::repeat,
};

impl Retry {
    /// A layer that retries every service it wraps by this policy.
    pub fn layer(&self) -> RetryLayer {
        RetryLayer { handle: self.clone(), policy: self.policy.clone() }
    }

    /// Puts this policy around one service: `layer()` applied to it.
    pub fn wrap<S>(&self, inner: S) -> RetryService<S> {
        self.layer().layer(inner)
    }

    /// Calls `attempt` until it succeeds or the policy stops: for what is no `Service`. Inside, the number of the
    /// attempt is `context::current().attempt`.
    ///
    /// Strategies other than the default ones are set on the layer: [`RetryLayer::call`].
    ///
    /// For one policy alone. The error of `attempt` must be able to carry a refusal: a foreign one gets there by
    /// `.map_err(BoxError::from)`. Under several policies, and with whatever error it has, a function runs through a
    /// stack that ends in `.functions()`, see [`Functions`](buttress_core::Functions).
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
}

/// Retries every service it wraps; made by [`Retry::layer`](crate::Retry::layer).
///
/// `C` says which outcomes are failures, `R` how a request is made again.
pub struct RetryLayer<C = Standard, R = ByClone> {
    handle: Retry,
    policy: Arc<Policy<C, R>>,
}

impl<C, R> RetryLayer<C, R> {
    /// Which outcomes are failures, and which of them a new try may cure. Default [`Standard`]: every error but
    /// those that are known to stay.
    pub fn classify<C2>(self, classify: C2) -> RetryLayer<C2, R>
    where
        R: Clone,
    {
        let replay = self.policy.replay.clone();
        self.with(classify, replay)
    }

    /// The same as a closure.
    ///
    /// ```
    /// # tokio_test::block_on(async {
    /// # mod buttress { pub use {buttress_core::*, buttress_kit::*, buttress_retry::*}; }
    /// use std::time::Duration;
    /// use buttress::{BoxError, Retry, RetryConfig, Verdict};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// let retry = Retry::new("payments", RetryConfig::fixed(3, Duration::ZERO))?;
    /// let layer = retry.layer().classify_with(|outcome: Result<&u16, &BoxError>| match outcome {
    ///     Ok(503) => Verdict::transient(),
    ///     Ok(_) => Verdict::Success,
    ///     Err(_) => Verdict::permanent(),
    /// });
    /// let svc = layer.layer(service_fn(|status: u16| async move { Ok::<_, BoxError>(status) }));
    /// assert_eq!(svc.oneshot(503).await?, 503); // the last response comes out
    /// assert_eq!(retry.snapshot().retries, 2);
    /// # Ok::<_, BoxError>(()) }).unwrap();
    /// ```
    pub fn classify_with<F, Res, E>(self, classify: F) -> RetryLayer<F, R>
    where
        F: Fn(Result<&Res, &E>) -> Verdict,
        R: Clone,
    {
        self.classify(classify)
    }

    /// Tells `told` before every wait: the number of the attempt that failed, from 1, how it failed, and the wait.
    /// Observers hear the same without the types.
    ///
    /// ```
    /// # mod buttress { pub use {buttress_core::*, buttress_kit::*, buttress_retry::*}; }
    /// use buttress::{BoxError, Retry};
    ///
    /// let layer = Retry::builder("payments").build()?.layer().on_retry(
    ///     |attempt, outcome: Result<&String, &BoxError>, wait| {
    ///         eprintln!("attempt {attempt} ended in {outcome:?}; the next one is in {wait:?}");
    ///     },
    /// );
    /// # Ok::<_, buttress_core::ConfigError>(())
    /// ```
    pub fn on_retry<F, Res, E>(self, told: F) -> RetryLayer<Hooked<C, OnRetry<F>>, R>
    where
        F: Fn(u32, Result<&Res, &E>, Duration),
        C: Clone,
        R: Clone,
    {
        self.hooked(OnRetry(told))
    }

    /// Says which failures mean that the service wants fewer calls: the wait after them is
    /// [`throttle_backoff`](crate::RetryConfig::throttle_backoff), and a budget of tokens has a price for them.
    pub fn throttled_when<F, Res, E>(self, throttled: F) -> RetryLayer<Hooked<C, ThrottledWhen<F>>, R>
    where
        F: Fn(Result<&Res, &E>) -> bool,
        C: Clone,
        R: Clone,
    {
        self.hooked(ThrottledWhen(throttled))
    }

    /// Makes the error the caller gets of the last one, whatever ended the call. The type stays.
    pub fn map_err<F, E>(self, map: F) -> RetryLayer<Hooked<C, MapLast<F>>, R>
    where
        F: Fn(E) -> E,
        C: Clone,
        R: Clone,
    {
        self.hooked(MapLast(map))
    }

    /// How a request is made again. Default [`ByClone`]; [`Never`](buttress_core::Never) for requests that cannot
    /// be.
    pub fn replay<R2>(self, replay: R2) -> RetryLayer<C, R2>
    where
        C: Clone,
    {
        let classify = self.policy.classify.clone();
        self.with(classify, replay)
    }

    /// The same as a closure; `None` if this request cannot be sent twice.
    ///
    /// ```
    /// # mod buttress { pub use {buttress_core::*, buttress_kit::*, buttress_retry::*}; }
    /// use buttress::Retry;
    ///
    /// struct Request { path: &'static str, idempotent: bool }
    ///
    /// let layer = Retry::builder("payments").build()?.layer().replay_with(|req: &Request| {
    ///     req.idempotent.then_some(Request { path: req.path, idempotent: true })
    /// });
    /// # Ok::<_, buttress_core::ConfigError>(())
    /// ```
    pub fn replay_with<F, Req>(self, replay: F) -> RetryLayer<C, ByFn<F>>
    where
        F: Fn(&Req) -> Option<Req>,
        C: Clone,
    {
        self.replay(ByFn(replay))
    }

    /// Calls `attempt` until it succeeds or the policy stops, with the strategies of this layer; see
    /// [`Retry::call`](crate::Retry::call).
    #[inline]
    pub fn call<F, Fut, T, E>(&self, attempt: F) -> RetryFuture<Repeat<F>, (), C, R>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: FromRejection,
        C: Classify<T, E>,
        R: Replay<()>,
    {
        repeat(&self.policy, attempt)
    }

    /// The policy.
    pub fn handle(&self) -> &Retry {
        &self.handle
    }
}

impl<C, R> RetryLayer<C, R> {
    fn with<C2, R2>(self, classify: C2, replay: R2) -> RetryLayer<C2, R2> {
        let engine = self.policy.engine.clone();
        RetryLayer { handle: self.handle, policy: Arc::new(Policy { engine, classify, replay }) }
    }

    fn hooked<H>(self, hook: H) -> RetryLayer<Hooked<C, H>, R>
    where
        C: Clone,
        R: Clone,
    {
        let classify = self.policy.classify.clone();
        self.classify(Hooked { classify, hook })
    }
}

impl<S, C, R> Layer<S> for RetryLayer<C, R> {
    type Service = RetryService<S, C, R>;

    fn layer(&self, inner: S) -> RetryService<S, C, R> {
        RetryService { inner, policy: self.policy.clone() }
    }
}

impl<C, R> Clone for RetryLayer<C, R> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone(), policy: self.policy.clone() }
    }
}

impl<C, R> fmt::Debug for RetryLayer<C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryLayer").field("name", self.policy.engine.emitter.name()).finish_non_exhaustive()
    }
}
