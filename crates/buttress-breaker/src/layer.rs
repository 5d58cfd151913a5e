use std::fmt;

use buttress_core::{Standard, Verdict};
use tower_layer::Layer;

use crate::{Breaker, BreakerService};

/// Puts one [`Breaker`] before every service it wraps; made by [`Breaker::layer`].
#[derive(Clone)]
pub struct BreakerLayer<C = Standard> {
    breaker: Breaker,
    classify: C,
}

impl Breaker {
    /// A layer that puts this breaker before every service it wraps. All of them share the circuit.
    pub fn layer(&self) -> BreakerLayer {
        BreakerLayer { breaker: self.clone(), classify: Standard }
    }

    /// Puts this policy around one service: `layer()` applied to it.
    pub fn wrap<S>(&self, inner: S) -> BreakerService<S> {
        self.layer().layer(inner)
    }
}

impl<C> BreakerLayer<C> {
    /// With this rule for what is a failure, such as an [`OnlyErrors`](buttress_core::OnlyErrors).
    pub fn classify<D>(self, classify: D) -> BreakerLayer<D> {
        BreakerLayer { breaker: self.breaker, classify }
    }

    /// With this closure for what is a failure.
    ///
    /// ```
    /// # mod buttress { pub use {buttress_breaker::*, buttress_core::*}; }
    /// use buttress::{BoxError, Breaker, Verdict};
    ///
    /// let breaker = Breaker::builder("quota").build().unwrap();
    /// let layer = breaker.layer().classify_with(|outcome: Result<&u16, &BoxError>| match outcome {
    ///     Ok(status) if *status < 500 => Verdict::Success,
    ///     _ => Verdict::transient(),
    /// });
    /// # let _ = layer;
    /// ```
    pub fn classify_with<Res, Err, F>(self, classify: F) -> BreakerLayer<F>
    where
        F: Fn(Result<&Res, &Err>) -> Verdict + Clone,
    {
        self.classify(classify)
    }

    /// The breaker.
    pub fn handle(&self) -> &Breaker {
        &self.breaker
    }
}

/// A layer of a breaker: [`BreakerLayer`], or [`KeyedLayer`](crate::KeyedLayer) with a circuit for each key. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the layer of a breaker",
    note = "`breaker.layer()` is one, and so is `keyed.layer_by(..)`"
)]
pub trait AnyBreakerLayer: sealed::Sealed {}

impl<C> AnyBreakerLayer for BreakerLayer<C> {}

impl<C> sealed::Sealed for BreakerLayer<C> {}

pub(crate) mod sealed {
    pub trait Sealed {}
}

impl<S, C: Clone> Layer<S> for BreakerLayer<C> {
    type Service = BreakerService<S, C>;

    fn layer(&self, inner: S) -> BreakerService<S, C> {
        BreakerService::new(inner, self.breaker.clone(), self.classify.clone())
    }
}

impl<C> fmt::Debug for BreakerLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerLayer").field("breaker", &self.breaker).finish_non_exhaustive()
    }
}
