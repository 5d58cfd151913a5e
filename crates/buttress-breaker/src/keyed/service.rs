use std::{
    borrow::Borrow,
    fmt,
    hash::Hash,
    task::{Context, Poll},
};

use buttress_core::{Classify, FromRejection, KeyOf, Standard, Verdict};
use tower_service::Service;

use crate::{
    BreakerFuture, KeyedBreaker,
    layer::{AnyBreakerLayer, sealed::Sealed},
};

/// Puts the circuit of each request's key before every service it wraps; made by [`KeyedBreaker::layer_by`].
pub struct KeyedLayer<K, L, C = Standard> {
    keyed: KeyedBreaker<K>,
    key: L,
    classify: C,
}

impl<K, L> KeyedLayer<K, L> {
    pub(super) fn new(keyed: KeyedBreaker<K>, key: L) -> Self {
        Self { keyed, key, classify: Standard }
    }
}

impl<K, L, C> KeyedLayer<K, L, C> {
    /// With this rule for what is a failure.
    pub fn classify<D>(self, classify: D) -> KeyedLayer<K, L, D> {
        KeyedLayer { keyed: self.keyed, key: self.key, classify }
    }

    /// Shows keys like this in changes of state, log lines and refusals, as
    /// [`KeyedBreaker::show_keys`]; by whichever layer of the breaker says so first.
    pub fn show_key<F>(self, show: F) -> Self
    where
        K: Hash + Eq + Clone,
        F: Fn(&K) -> String + Send + Sync + 'static,
    {
        self.keyed.show_key(show);
        self
    }

    /// The breaker.
    pub fn handle(&self) -> &KeyedBreaker<K> {
        &self.keyed
    }

    /// With this closure for what is a failure.
    pub fn classify_with<Res, Err, F>(self, classify: F) -> KeyedLayer<K, L, F>
    where
        F: Fn(Result<&Res, &Err>) -> Verdict + Clone,
    {
        self.classify(classify)
    }
}

impl<K, L, C> AnyBreakerLayer for KeyedLayer<K, L, C> {}

impl<K, L, C> Sealed for KeyedLayer<K, L, C> {}

impl<S, K, L: Clone, C: Clone> tower_layer::Layer<S> for KeyedLayer<K, L, C> {
    type Service = KeyedService<S, K, L, C>;

    fn layer(&self, inner: S) -> Self::Service {
        let (keyed, key, classify) = (self.keyed.clone(), self.key.clone(), self.classify.clone());
        KeyedService { inner, keyed, key, classify }
    }
}

/// A service behind the circuits of a [`KeyedBreaker`].
///
/// Which circuit it is shows only in the request, so readiness is the inner service's own, and `gate_readiness`
/// has no effect.
pub struct KeyedService<S, K, L, C = Standard> {
    inner: S,
    keyed: KeyedBreaker<K>,
    key: L,
    classify: C,
}

impl<S, K, L, C> KeyedService<S, K, L, C> {
    /// The breaker.
    pub fn handle(&self) -> &KeyedBreaker<K> {
        &self.keyed
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, K, L, C, Req> Service<Req> for KeyedService<S, K, L, C>
where
    S: Service<Req> + Clone,
    S::Error: FromRejection,
    K: Borrow<L::Key> + Hash + Eq + Clone,
    L: KeyOf<Req>,
    L::Key: ToOwned<Owned = K>,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BreakerFuture<S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let (engine, admission) =
            self.key.with_key(&req, |key| self.keyed.inner.admit(key, |key| self.key.show(key)));
        if admission.is_refused() {
            // Readied and not called: see `BreakerService`.
            self.inner = self.inner.clone();
            return BreakerFuture::refused(engine, admission, self.classify.clone());
        }
        BreakerFuture::admitted(&engine, admission, || (self.inner.call(req), self.classify.clone()))
    }
}

impl<K, L: Clone, C: Clone> Clone for KeyedLayer<K, L, C> {
    fn clone(&self) -> Self {
        Self { keyed: self.keyed.clone(), key: self.key.clone(), classify: self.classify.clone() }
    }
}

impl<S: Clone, K, L: Clone, C: Clone> Clone for KeyedService<S, K, L, C> {
    fn clone(&self) -> Self {
        let (keyed, key, classify) = (self.keyed.clone(), self.key.clone(), self.classify.clone());
        Self { inner: self.inner.clone(), keyed, key, classify }
    }
}

impl<K, L, C> fmt::Debug for KeyedLayer<K, L, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedLayer").field("keyed", &self.keyed).finish_non_exhaustive()
    }
}

impl<S: fmt::Debug, K, L, C> fmt::Debug for KeyedService<S, K, L, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedService")
            .field("inner", &self.inner)
            .field("keyed", &self.keyed)
            .finish_non_exhaustive()
    }
}
