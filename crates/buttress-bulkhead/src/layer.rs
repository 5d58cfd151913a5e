use std::fmt;

use buttress_core::{Standard, Verdict};
use tower_layer::Layer;

use crate::{Bulkhead, BulkheadService};

/// Puts one [`Bulkhead`] before every service it wraps; made by [`Bulkhead::layer`].
#[derive(Clone)]
pub struct BulkheadLayer<C = Standard> {
    bulkhead: Bulkhead,
    classify: C,
}

impl Bulkhead {
    /// A layer that puts this bulkhead before every service it wraps; all of them share its slots.
    pub fn layer(&self) -> BulkheadLayer {
        BulkheadLayer { bulkhead: self.clone(), classify: Standard }
    }

    /// Puts this policy around one service: `layer()` applied to it.
    pub fn wrap<S>(&self, inner: S) -> BulkheadService<S> {
        self.layer().layer(inner)
    }
}

impl<C> BulkheadLayer<C> {
    /// Replaces what tells failures from successes, for the counters. It has no part in who is let in.
    pub fn classify<D>(self, classify: D) -> BulkheadLayer<D> {
        BulkheadLayer { bulkhead: self.bulkhead, classify }
    }

    /// The same with a closure: `|outcome: Result<&Response, &Error>| …`.
    pub fn classify_with<F, Res, Err>(self, classify: F) -> BulkheadLayer<F>
    where
        F: Fn(Result<&Res, &Err>) -> Verdict + Clone,
    {
        self.classify(classify)
    }

    /// The handle of the bulkhead in this layer.
    pub fn handle(&self) -> &Bulkhead {
        &self.bulkhead
    }
}

// By hand, because closures are not `Debug`.
impl<C> fmt::Debug for BulkheadLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadLayer").field("bulkhead", &self.bulkhead).finish_non_exhaustive()
    }
}

impl<S, C: Clone> Layer<S> for BulkheadLayer<C> {
    type Service = BulkheadService<S, C>;

    fn layer(&self, inner: S) -> BulkheadService<S, C> {
        BulkheadService { inner, bulkhead: self.bulkhead.clone(), classify: self.classify.clone() }
    }
}
