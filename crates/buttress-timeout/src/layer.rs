use std::time::Duration;

use buttress_core::{ByFn, Rejection};
use tower_layer::Layer;

use crate::{Configured, Refuse, Timeout, TimeoutService, Value};

/// Puts one [`Timeout`] around every service it wraps; made by [`Timeout::layer`].
///
/// `L` is where the limit comes from, `A` the answer on timeout. Closures are cloned for every call: let them
/// hold an `Arc` of what is large.
#[derive(Clone, Debug)]
pub struct TimeoutLayer<L = Configured, A = Refuse> {
    timeout: Timeout,
    limit: L,
    answer: A,
}

impl Timeout {
    /// A layer that puts this timeout around every service it wraps.
    pub fn layer(&self) -> TimeoutLayer {
        TimeoutLayer { timeout: self.clone(), limit: Configured, answer: Refuse }
    }

    /// Puts this policy around one service: `layer()` applied to it.
    pub fn wrap<S>(&self, inner: S) -> TimeoutService<S> {
        self.layer().layer(inner)
    }
}

impl<L, A> TimeoutLayer<L, A> {
    /// Takes the limit from the request. `None`: the configured one.
    ///
    /// ```
    /// # mod buttress { pub use {buttress_core::*, buttress_timeout::*}; }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// use buttress::{BoxError, Timeout};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// let slow = service_fn(|_ms: u64| async {
    ///     tokio::time::sleep(Duration::from_millis(100)).await;
    ///     Ok::<_, BoxError>(())
    /// });
    /// let layer = Timeout::builder("api").build()?.layer();
    /// let svc = layer.limit_by(|ms: &u64| Some(Duration::from_millis(*ms))).layer(slow);
    /// assert!(svc.clone().oneshot(200).await.is_ok());
    /// assert!(svc.oneshot(50).await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn limit_by<Req, F>(self, limit: F) -> TimeoutLayer<ByFn<F>, A>
    where
        F: Fn(&Req) -> Option<Duration>,
    {
        TimeoutLayer { timeout: self.timeout, limit: ByFn(limit), answer: self.answer }
    }

    /// Answers with a value when the time is up. Errors of the inner service pass through all the same.
    ///
    /// The call still counts as timed out. Let the value say that it is no fresh answer.
    pub fn fallback<Res, F>(self, value: F) -> TimeoutLayer<L, Value<F>>
    where
        F: Fn() -> Res,
    {
        TimeoutLayer { timeout: self.timeout, limit: self.limit, answer: Value(value) }
    }

    /// Answers with what `answer` makes of the rejection: a value, or an error of your own around it.
    pub fn fallback_with<Res, Err, F>(self, answer: F) -> TimeoutLayer<L, ByFn<F>>
    where
        F: Fn(Rejection) -> Result<Res, Err>,
    {
        TimeoutLayer { timeout: self.timeout, limit: self.limit, answer: ByFn(answer) }
    }

    /// Takes the limit from a [`LimitOf`](crate::LimitOf) of your own.
    pub fn with_limit<T>(self, limit: T) -> TimeoutLayer<T, A> {
        TimeoutLayer { timeout: self.timeout, limit, answer: self.answer }
    }

    /// Takes the answer from an [`OnTimeout`](crate::OnTimeout) of your own.
    pub fn with_answer<T>(self, answer: T) -> TimeoutLayer<L, T> {
        TimeoutLayer { timeout: self.timeout, limit: self.limit, answer }
    }

    /// The handle of the timeout in this layer.
    pub fn handle(&self) -> &Timeout {
        &self.timeout
    }
}

impl<S, L: Clone, A: Clone> Layer<S> for TimeoutLayer<L, A> {
    type Service = TimeoutService<S, L, A>;

    fn layer(&self, inner: S) -> Self::Service {
        TimeoutService {
            inner,
            timeout: self.timeout.clone(),
            limit: self.limit.clone(),
            answer: self.answer.clone(),
        }
    }
}
