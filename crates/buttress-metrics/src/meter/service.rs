use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use buttress_core::{Classify, Outcome, Verdict};
use buttress_kit::call::InFlight;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{Meter, Shared};

/// Every `Ok` is a success and every `Err` a failure, whatever their types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByResult;

impl<Res, Err> Classify<Res, Err> for ByResult {
    fn classify(&self, outcome: Result<&Res, &Err>) -> Verdict {
        if outcome.is_ok() { Verdict::Success } else { Verdict::transient() }
    }
}

/// Meters every service it wraps; made by [`Meter::layer`].
#[derive(Clone)]
pub struct MeterLayer<C = ByResult> {
    meter: Meter,
    classify: C,
}

impl Meter {
    /// A layer that meters every service it wraps.
    pub fn layer(&self) -> MeterLayer {
        MeterLayer { meter: self.clone(), classify: ByResult }
    }

    /// Meters one service: `layer()` applied to it.
    pub fn wrap<S>(&self, inner: S) -> MeterService<S> {
        self.layer().layer(inner)
    }

    /// Runs `op` and meters it: for what is no service.
    ///
    /// # Cancellation
    /// Dropping the future drops the operation; it is counted as cancelled.
    pub fn call<O, F, T, E>(&self, op: O) -> MeterFuture<F>
    where
        O: FnOnce() -> F,
        F: Future<Output = Result<T, E>>,
    {
        MeterFuture::new(self, op, ByResult)
    }
}

impl<C> MeterLayer<C> {
    /// With this rule for what has failed, such as an [`OnlyErrors`](buttress_core::OnlyErrors).
    pub fn classify<D>(self, classify: D) -> MeterLayer<D> {
        MeterLayer { meter: self.meter, classify }
    }

    /// With this closure for what has failed.
    ///
    /// ```
    /// # mod buttress { pub use {buttress_core::*, buttress_metrics::meter::*}; }
    /// use buttress::{BoxError, Meter, Verdict};
    ///
    /// let layer = Meter::new("pages").unwrap().layer().classify_with(|outcome: Result<&u16, &BoxError>| match outcome {
    ///     Ok(status) if *status < 500 => Verdict::Success,
    ///     _ => Verdict::transient(),
    /// });
    /// # let _ = layer;
    /// ```
    pub fn classify_with<Res, Err, F>(self, classify: F) -> MeterLayer<F>
    where
        F: Fn(Result<&Res, &Err>) -> Verdict + Clone,
    {
        self.classify(classify)
    }

    /// The meter.
    pub fn handle(&self) -> &Meter {
        &self.meter
    }
}

impl<S, C: Clone> Layer<S> for MeterLayer<C> {
    type Service = MeterService<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        MeterService { inner, meter: self.meter.clone(), classify: self.classify.clone() }
    }
}

/// A service that is metered; made by [`MeterLayer`].
#[derive(Clone)]
pub struct MeterService<S, C = ByResult> {
    inner: S,
    meter: Meter,
    classify: C,
}

impl<S, C> MeterService<S, C> {
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

impl<S, C, Req> Service<Req> for MeterService<S, C>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = MeterFuture<S::Future, C>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        MeterFuture::new(&self.meter, || self.inner.call(req), self.classify.clone())
    }
}

pin_project! {
    /// Resolves as the inner call does.
    ///
    /// # Cancellation
    /// Dropping it drops the inner call; it is counted as cancelled.
    #[must_use = "futures do nothing unless polled"]
    pub struct MeterFuture<F, C = ByResult> {
        // Dropped in this order: the inner call is gone before its end is told.
        #[pin]
        call: Option<F>,
        flight: InFlight<Arc<Shared>>,
        classify: C,
    }
}

impl<F, C> MeterFuture<F, C> {
    #[inline]
    fn new(meter: &Meter, inner: impl FnOnce() -> F, classify: C) -> Self {
        let (call, entered) = meter.begin().enter(&*meter.shared, inner);
        Self { call: Some(call), flight: entered.in_flight(meter.shared.clone()), classify }
    }
}

impl<F, C, T, E> Future for MeterFuture<F, C>
where
    F: Future<Output = Result<T, E>>,
    C: Classify<T, E>,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let call = this.call.as_mut().as_pin_mut().expect("polled after it resolved");
        let inside = this.flight.inside();
        let Poll::Ready(result) = call.poll(cx) else {
            inside.leave();
            return Poll::Pending;
        };
        let verdict = this.classify.classify(result.as_ref());
        this.call.set(None);
        inside.end(Outcome::from(verdict));
        Poll::Ready(result)
    }
}

impl<C> fmt::Debug for MeterLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeterLayer").field("meter", &self.meter).finish_non_exhaustive()
    }
}

impl<S: fmt::Debug, C> fmt::Debug for MeterService<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("MeterService");
        shown.field("inner", &self.inner).field("meter", &self.meter).finish_non_exhaustive()
    }
}

impl<F, C> fmt::Debug for MeterFuture<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeterFuture").field("is_over", &self.call.is_none()).finish_non_exhaustive()
    }
}
