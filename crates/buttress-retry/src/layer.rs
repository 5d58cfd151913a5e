use std::{fmt, sync::Arc, time::Duration};

use buttress_core::{ByClone, ByFn, Classify, FailureKind, FromRejection, Replay, Standard, Verdict};
use buttress_kit::Repeat;

use crate::{RetryFuture, RetryService, policy::Policy, retry};

/// Retries every service it wraps; made by [`Retry::layer`](crate::Retry::layer).
///
/// `C` says which outcomes are failures, `R` how a request is made again.
pub struct RetryLayer<C = Standard, R = ByClone> {
    pub(crate) policy: Arc<Policy<C, R>>,
}

impl<C, R> RetryLayer<C, R> {
    fn with<C2, R2>(self, classify: C2, replay: R2) -> RetryLayer<C2, R2> {
        let engine = self.policy.engine.clone();
        RetryLayer { policy: Arc::new(Policy { engine, classify, replay }) }
    }

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
    /// use buttress_core::{BoxError, Verdict};
    /// use buttress_retry::{Retry, RetryConfig};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// let retry = Retry::new("payments", RetryConfig::fluxus())?;
    /// let layer = retry.layer().classify_with(|outcome: Result<&u16, &BoxError>| match outcome {
    ///     Ok(503) => Verdict::transient(),
    ///     Ok(_) => Verdict::Success,
    ///     Err(_) => Verdict::permanent(),
    /// });
    /// let svc = layer.layer(service_fn(|status: u16| async move { Ok::<_, BoxError>(status) }));
    /// assert_eq!(svc.oneshot(503).await?, 503); // the last response comes out
    /// assert_eq!(retry.snapshot().retries(), 2);
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
    /// use buttress_core::BoxError;
    /// use buttress_retry::Retry;
    ///
    /// let layer = Retry::builder("payments").build()?.layer().on_retry(
    ///     |attempt, outcome: Result<&String, &BoxError>, wait| {
    ///         eprintln!("attempt {attempt} ended in {outcome:?}; the next one is in {wait:?}");
    ///     },
    /// );
    /// # Ok::<_, buttress_core::ConfigError>(())
    /// ```
    pub fn on_retry<F, Res, E>(self, told: F) -> RetryLayer<OnRetry<C, F>, R>
    where
        F: Fn(u32, Result<&Res, &E>, Duration),
        C: Clone,
        R: Clone,
    {
        let (classify, replay) = (self.policy.classify.clone(), self.policy.replay.clone());
        self.with(OnRetry { classify, told }, replay)
    }

    /// Says which failures mean that the service wants fewer calls: the wait after them is
    /// [`throttle_backoff`](crate::RetryConfig::throttle_backoff), and a budget of tokens has a price for them.
    pub fn throttled_when<F, Res, E>(self, throttled: F) -> RetryLayer<ThrottledWhen<C, F>, R>
    where
        F: Fn(Result<&Res, &E>) -> bool,
        C: Clone,
        R: Clone,
    {
        let (classify, replay) = (self.policy.classify.clone(), self.policy.replay.clone());
        self.with(ThrottledWhen { classify, throttled }, replay)
    }

    /// Makes the error the caller gets of the last one, whatever ended the call. The type stays.
    pub fn map_err<F, E>(self, map: F) -> RetryLayer<MapLast<C, F>, R>
    where
        F: Fn(E) -> E,
        C: Clone,
        R: Clone,
    {
        let (classify, replay) = (self.policy.classify.clone(), self.policy.replay.clone());
        self.with(MapLast { classify, map }, replay)
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

    /// The same as a closure; `None` where this request cannot be sent twice.
    ///
    /// ```
    /// use buttress_retry::Retry;
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
        retry::repeat(&self.policy, attempt)
    }
}

impl<S, C, R> tower_layer::Layer<S> for RetryLayer<C, R> {
    type Service = RetryService<S, C, R>;

    fn layer(&self, inner: S) -> RetryService<S, C, R> {
        RetryService { inner, policy: self.policy.clone() }
    }
}

impl<C, R> Clone for RetryLayer<C, R> {
    fn clone(&self) -> Self {
        Self { policy: self.policy.clone() }
    }
}

impl<C, R> fmt::Debug for RetryLayer<C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryLayer").field("name", self.policy.engine.emitter.name()).finish_non_exhaustive()
    }
}

/// A classifier that tells of retries; made by [`RetryLayer::on_retry`].
#[derive(Clone, Copy)]
pub struct OnRetry<C, F> {
    classify: C,
    told: F,
}

impl<C, F, Res, E> Classify<Res, E> for OnRetry<C, F>
where
    C: Classify<Res, E>,
    F: Fn(u32, Result<&Res, &E>, Duration),
{
    fn classify(&self, outcome: Result<&Res, &E>) -> Verdict {
        self.classify.classify(outcome)
    }

    fn failure_kind(&self, outcome: Result<&Res, &E>) -> FailureKind {
        self.classify.failure_kind(outcome)
    }

    fn on_retry(&self, attempt: u32, outcome: Result<&Res, &E>, delay: Duration) {
        self.classify.on_retry(attempt, outcome, delay);
        (self.told)(attempt, outcome, delay);
    }

    fn last_error(&self, attempts: u32, error: E) -> E {
        self.classify.last_error(attempts, error)
    }
}

impl<C: fmt::Debug, F> fmt::Debug for OnRetry<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnRetry").field("classify", &self.classify).finish_non_exhaustive()
    }
}

/// A classifier that maps the last error; made by [`RetryLayer::map_err`].
#[derive(Clone, Copy)]
pub struct MapLast<C, F> {
    classify: C,
    map: F,
}

impl<C, F, Res, E> Classify<Res, E> for MapLast<C, F>
where
    C: Classify<Res, E>,
    F: Fn(E) -> E,
{
    fn classify(&self, outcome: Result<&Res, &E>) -> Verdict {
        self.classify.classify(outcome)
    }

    fn failure_kind(&self, outcome: Result<&Res, &E>) -> FailureKind {
        self.classify.failure_kind(outcome)
    }

    fn on_retry(&self, attempt: u32, outcome: Result<&Res, &E>, delay: Duration) {
        self.classify.on_retry(attempt, outcome, delay);
    }

    fn last_error(&self, attempts: u32, error: E) -> E {
        (self.map)(self.classify.last_error(attempts, error))
    }
}

impl<C: fmt::Debug, F> fmt::Debug for MapLast<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapLast").field("classify", &self.classify).finish_non_exhaustive()
    }
}

/// A classifier that knows what throttling looks like; made by [`RetryLayer::throttled_when`].
#[derive(Clone, Copy)]
pub struct ThrottledWhen<C, F> {
    classify: C,
    throttled: F,
}

impl<C, F, Res, E> Classify<Res, E> for ThrottledWhen<C, F>
where
    C: Classify<Res, E>,
    F: Fn(Result<&Res, &E>) -> bool,
{
    fn classify(&self, outcome: Result<&Res, &E>) -> Verdict {
        self.classify.classify(outcome)
    }

    fn failure_kind(&self, outcome: Result<&Res, &E>) -> FailureKind {
        if (self.throttled)(outcome) { FailureKind::Throttled } else { self.classify.failure_kind(outcome) }
    }

    fn on_retry(&self, attempt: u32, outcome: Result<&Res, &E>, delay: Duration) {
        self.classify.on_retry(attempt, outcome, delay);
    }

    fn last_error(&self, attempts: u32, error: E) -> E {
        self.classify.last_error(attempts, error)
    }
}

impl<C: fmt::Debug, F> fmt::Debug for ThrottledWhen<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThrottledWhen").field("classify", &self.classify).finish_non_exhaustive()
    }
}
