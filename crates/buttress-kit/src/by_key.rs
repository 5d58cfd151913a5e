//! A policy for each key, of patterns that only admit or refuse.

use std::{
    borrow::Borrow,
    fmt,
    hash::Hash,
    sync::{Arc, OnceLock},
    time::Instant,
};

use buttress_core::{ByFn, ConfigError, KeyOf, Kind, Name, Rejection};
use serde::Serialize;

use crate::{
    Admits, Events, Finds, Guarded, Handle, Keyed, KeyedMap, Prepared, ThroughLayer,
    handle::{Data, Patch},
    keyed::Keeper,
};

/// What a pattern that only admits or refuses says of its form by key. All keys share settings and listeners.
pub trait PerKey: Admits + Handle {
    /// The policy of a further key, at its beginning; `name` is what its refusals are by.
    fn of_key(&self, name: Name) -> Self;

    /// Whether something would be lost with this one, such as a count of calls under way, or one that is about to be
    /// let in and holds this. A lock is held.
    fn must_stay(&self) -> bool;

    /// Back to how it began, without a word.
    fn clear(&self);

    /// The refusal of a call whose key there is no room for, counted and told.
    fn full(&self) -> Rejection;
}

/// A policy for each key: tenant, host, endpoint. Clones share them. As a [`Handle`] it is one policy: its settings are
/// those of all keys, and its snapshot says how many keys there are, never which.
///
/// Keys come from requests, so their number is bounded: there are never more than `max_keys`. The one not used for
/// longest goes first, but none that [must stay](PerKey::must_stay); if all must, calls of further keys are refused.
pub struct ByKey<K, P> {
    shared: Arc<Shared<K, P>>,
}

struct Shared<K, P> {
    map: KeyedMap<K, P>,
    /// What the keys share; no call goes through it.
    all: P,
    /// How a key is shown, if it is.
    shown: OnceLock<fn(&K) -> String>,
}

impl<K, P> ByKey<K, P> {
    /// `all` is what the policies of the keys are made from.
    ///
    /// # Errors
    /// There is no room for a key, or keys may be forgotten at once.
    pub fn new(all: P, form: Keyed) -> Result<Self, ConfigError>
    where
        P: PerKey,
    {
        form.validate().map_err(|why| why.of(all.kind(), all.name()))?;
        let map = KeyedMap::new(form.max_keys, Some(form.idle_for), now());
        Ok(Self { shared: Arc::new(Shared { map, all, shown: OnceLock::new() }) })
    }

    /// Shows the keys that come from now on in refusals, by [`Rejection::key`]. Never in metrics, nor in the refusal's
    /// text: a key may be a secret.
    pub fn show_keys(self) -> Self
    where
        K: fmt::Display,
    {
        self.shared.shown.get_or_init(|| |key| key.to_string());
        self
    }

    /// How many keys have a policy.
    pub fn len(&self) -> usize {
        self.shared.map.len()
    }

    /// Whether no key has one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A layer; this strategy says whose a request is.
    pub fn layer_key<L>(&self, key: L) -> ThroughLayer<WithKey<K, P, L>> {
        ThroughLayer::new(WithKey { keys: self.clone(), key })
    }

    /// A layer; this closure says whose a request is.
    pub fn layer_by<Req, F>(&self, key: F) -> ThroughLayer<WithKey<K, P, ByFn<F>>>
    where
        F: Fn(&Req) -> K,
    {
        self.layer_key(ByFn(key))
    }

    /// A layer; this closure says whose a request is, with a key that is in the request: a known key is then looked up
    /// without an allocation.
    pub fn layer_by_ref<Req, Q, F>(&self, key: F) -> ThroughLayer<WithKey<K, P, ByRef<F>>>
    where
        F: Fn(&Req) -> &Q,
        Q: ?Sized,
    {
        self.layer_key(ByRef(key))
    }
}

impl<K: Hash + Eq, P: PerKey> ByKey<K, P> {
    /// The policy of this key, if it has one: to see and steer it. Its settings are those of all.
    pub fn get<Q>(&self, key: &Q) -> Option<P>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.shared.map.get(key)
    }

    /// Forgets a key. Calls under way end as they will.
    pub fn remove<Q>(&self, key: &Q) -> Option<P>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.shared.map.remove(key)
    }

    /// Runs `call` if the policy of this key lets it in: for what is no service.
    pub fn call<Q, F>(&self, key: &Q, call: impl FnOnce() -> F) -> Guarded<F, P>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        match self.policy(key) {
            Ok(policy) => policy.enter(call),
            Err(why) => Guarded::refused(why),
        }
    }

    /// The policy of this key, made if it has none.
    fn policy<Q>(&self, key: &Q) -> Result<P, Rejection>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let Shared { map, all, shown } = &*self.shared;
        let make = || match shown.get() {
            Some(show) => all.of_key(all.name().with_key(show(&key.to_owned()))),
            None => all.of_key(all.name().clone()),
        };
        // The clock is read for new keys only.
        let found = map.get(key).or_else(|| map.get_or_make(key, &Keeps, now(), make));
        found.ok_or_else(|| all.full())
    }
}

/// What time it is, by tokio's clock.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

struct Keeps;

impl<P: PerKey> Keeper<P> for Keeps {
    fn must_stay(&self, policy: &P) -> bool {
        policy.must_stay()
    }
}

/// Policies by key, and whose a request is; in [`ByKey`]'s layers.
pub struct WithKey<K, P, L> {
    keys: ByKey<K, P>,
    key: L,
}

impl<Req, K, P, L> Finds<Req> for WithKey<K, P, L>
where
    K: Borrow<L::Key> + Hash + Eq,
    P: PerKey,
    L: KeyOf<Req>,
    L::Key: ToOwned<Owned = K>,
{
    type Policy = P;

    fn find(&self, req: &Req) -> Result<P, Rejection> {
        self.key.with_key(req, |key| self.keys.policy(key))
    }
}

/// A closure that finds a key in the request; made by [`ByKey::layer_by_ref`].
#[derive(Clone, Copy)]
pub struct ByRef<F>(F);

impl<Req, Q, F> KeyOf<Req> for ByRef<F>
where
    F: Fn(&Req) -> &Q,
    Q: Hash + Eq + ToOwned<Owned: Hash + Eq + Clone + Send + Sync + 'static> + ?Sized,
{
    type Key = Q;

    fn with_key<T>(&self, req: &Req, then: impl FnOnce(&Q) -> T) -> T {
        then((self.0)(req))
    }
}

/// How many keys there are, as data.
#[derive(Serialize)]
struct Keys {
    keys: usize,
}

impl<K, P> Handle for ByKey<K, P>
where
    K: Hash + Eq + Send + Sync + 'static,
    P: PerKey,
{
    fn pattern() -> Kind {
        P::pattern()
    }

    fn kind(&self) -> Kind {
        self.shared.all.kind()
    }

    fn name(&self) -> &Name {
        self.shared.all.name()
    }

    fn snapshot_data(&self) -> Data<'_> {
        Box::new(Keys { keys: self.len() })
    }

    fn config_data(&self) -> Data<'_> {
        self.shared.all.config_data()
    }

    fn reset(&self) {
        self.shared.map.values().iter().for_each(P::clear);
        self.shared.map.search_again();
        self.shared.all.reset();
    }

    fn events(&self) -> Events {
        self.shared.all.events()
    }

    fn prepare(&self, patch: Patch<'_, '_>) -> Result<Prepared<'_>, ConfigError> {
        self.shared.all.prepare(patch)
    }
}

impl<K, P> Clone for ByKey<K, P> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<K, P, L: Clone> Clone for WithKey<K, P, L> {
    fn clone(&self) -> Self {
        Self { keys: self.keys.clone(), key: self.key.clone() }
    }
}

impl<K, P: Handle> fmt::Debug for ByKey<K, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByKey").field("name", self.shared.all.name()).field("keys", &self.len()).finish()
    }
}

impl<K, P: Handle, L> fmt::Debug for WithKey<K, P, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithKey").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for ByRef<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByRef(..)")
    }
}
