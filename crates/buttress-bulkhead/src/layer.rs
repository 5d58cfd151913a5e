use std::fmt;

use buttress_core::{Standard, Verdict};

use crate::{Bulkhead, BulkheadService};

/// Puts one [`Bulkhead`] before every service it wraps; made by [`Bulkhead::layer`].
#[derive(Clone)]
pub struct BulkheadLayer<C = Standard> {
    bulkhead: Bulkhead,
    classify: C,
}

impl BulkheadLayer {
    pub(crate) fn new(bulkhead: Bulkhead) -> Self {
        Self { bulkhead, classify: Standard }
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

    /// The bulkhead it puts there.
    pub fn bulkhead(&self) -> &Bulkhead {
        &self.bulkhead
    }
}

/// Also where `C` is a closure.
impl<C> fmt::Debug for BulkheadLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadLayer").field("bulkhead", &self.bulkhead).finish_non_exhaustive()
    }
}

impl<S, C: Clone> tower_layer::Layer<S> for BulkheadLayer<C> {
    type Service = BulkheadService<S, C>;

    fn layer(&self, inner: S) -> BulkheadService<S, C> {
        BulkheadService { inner, bulkhead: self.bulkhead.clone(), classify: self.classify.clone() }
    }
}
