//! One circuit for each key: tenant, host, endpoint.

mod map;
mod service;

use std::{
    borrow::Borrow,
    fmt,
    hash::Hash,
    sync::{Arc, OnceLock},
};

use buttress_core::{ByFn, ConfigError, Levels, Name, Rejection};
use buttress_kit::{
    self as kit, Events, Handle,
    handle::{Patch, Prepared},
};
use serde::Serialize;

pub use self::service::{KeyedLayer, KeyedService};
use crate::{
    Breaker, BreakerBuilder, BreakerConfig, BreakerFuture, KEYED, KIND, Permit, State,
    census::STATES,
    engine::{Admission, Engine},
    keyed::map::Keys,
    shared::Shared,
};

/// A circuit breaker for each key, with one set of settings. Clones share the circuits.
///
/// Keys come from requests, so their number is bounded: there are never more than `max_keys`. If there is no room, keys
/// go that nothing would be lost with (closed, no failure in the window), the one not used for longest first; if every
/// key matters, a new one is let through without a circuit ([`untracked`](Self::untracked)). So a flood of made-up keys
/// neither fills the memory, nor opens or forgets the circuits of others, nor is anybody refused for it.
///
/// Observers hear of each key's changes of state, with the key if keys are shown ([`show_keys`](Self::show_keys)), and
/// how many keys are in which state. Metrics never tell which: a label must not have as many values as there are users.
/// [`get`](Self::get) shows one key's circuit, [`keys_in`](Self::keys_in) lists them by state.
///
/// ```
/// # tokio_test::block_on(async {
/// # mod buttress { pub use {buttress_breaker::*, buttress_core::*}; }
/// use buttress::{Breaker, State};
/// use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
///
/// let tenants = Breaker::keyed("tenants").consecutive_failures(1).build().unwrap();
/// let inner = service_fn(|tenant: u32| async move {
///     if tenant == 7 { Err::<(), BoxError>("down".into()) } else { Ok(()) }
/// });
/// let mut svc = tenants.layer_by(|tenant: &u32| *tenant).layer(inner);
/// svc.ready().await.unwrap().call(7).await.unwrap_err();
/// svc.ready().await.unwrap().call(8).await.unwrap();
/// assert_eq!(tenants.get(&7).unwrap().state(), State::Open);
/// assert_eq!(tenants.get(&8).unwrap().state(), State::Closed);
/// # });
/// ```
pub struct KeyedBreaker<K> {
    inner: Arc<Inner<K>>,
}

struct Inner<K> {
    shared: Arc<Shared>,
    keys: Keys<K>,
    /// How a key is shown, if it is.
    shown: OnceLock<Show<K>>,
}

type Show<K> = Box<dyn Fn(&K) -> String + Send + Sync>;

impl Breaker {
    /// Begins a breaker that has a circuit for each key.
    pub fn keyed(name: impl Into<Name>) -> BreakerBuilder<kit::Keyed> {
        BreakerBuilder::new(name)
    }
}

impl BreakerBuilder<kit::Keyed> {
    /// Makes the breaker.
    ///
    /// # Errors
    /// The settings cannot work; names the policy, the field, its value and why.
    pub fn build<K>(self) -> Result<KeyedBreaker<K>, ConfigError>
    where
        K: Hash + Eq + Clone,
    {
        self.form.validate().map_err(|why| why.of(&KIND, &self.parts.name))?;
        let (config, emitter, chance, form) = self.checked(&KEYED)?;
        let (rules, state) = (Arc::new(config.rules()), config.initial_state);
        let shared = Shared::new(config, emitter, chance, true);
        let keys = Keys::new(&shared, rules, state, form.max_keys, form.idle_for);
        shared.emitter.set_levels(Arc::downgrade(&(shared.clone() as Arc<dyn Levels>)));
        Ok(KeyedBreaker { inner: Arc::new(Inner { shared, keys, shown: OnceLock::new() }) })
    }
}

impl<K> KeyedBreaker<K>
where
    K: Hash + Eq + Clone,
{
    /// A layer that finds the key of a request with this closure.
    pub fn layer_by<Req, F>(&self, key: F) -> KeyedLayer<K, ByFn<F>>
    where
        F: Fn(&Req) -> K,
    {
        self.layer_key(ByFn(key))
    }

    /// A layer that finds the key of a request with this strategy, which may borrow it from the request: a known
    /// key is then looked up without an allocation.
    pub fn layer_key<L>(&self, key: L) -> KeyedLayer<K, L> {
        KeyedLayer::new(self.clone(), key)
    }

    /// Asks for one call of this key.
    ///
    /// # Errors
    /// Its circuit refuses.
    pub fn try_acquire<Q>(&self, key: &Q) -> Result<Permit, Rejection>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let (engine, admission) = self.inner.admit(key, |_| None);
        Permit::of(&engine, admission)
    }

    /// Makes one call of this key under its circuit. As [`Breaker::call`].
    pub fn call<Q, F, Fut>(&self, key: &Q, f: F) -> BreakerFuture<Fut>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        F: FnOnce() -> Fut,
    {
        let (engine, admission) = self.inner.admit(key, |_| None);
        BreakerFuture::of(&engine, admission, f)
    }

    /// Shows keys in changes of state, log lines and refusals ([`Rejection::key`]): those that come from now on, up to 128
    /// bytes of each. Never in metrics, nor in a refusal's text or answer: a key may be a secret. By default they are
    /// shown if the layer's strategy says so ([`KeyOf::show`](buttress_core::KeyOf::show)).
    pub fn show_keys(self) -> Self
    where
        K: fmt::Display,
    {
        self.show_key(|key| key.to_string());
        self
    }

    fn show_key(&self, show: impl Fn(&K) -> String + Send + Sync + 'static) {
        self.inner.shown.get_or_init(|| Box::new(show));
    }

    /// The circuit of this key, if it has one: to see and steer it. Its settings are those of all.
    pub fn get<Q>(&self, key: &Q) -> Option<Breaker>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.inner.keys.find(key).map(|engine| Breaker { engine })
    }

    /// Forgets a key and its circuit. Calls under way end as they will, and change nothing.
    pub fn remove<Q>(&self, key: &Q) -> Option<Breaker>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.inner.keys.remove(key).map(|engine| Breaker { engine })
    }

    /// The keys whose circuit is in this state.
    pub fn keys_in(&self, state: State) -> Vec<K> {
        let all = self.inner.keys.all();
        all.into_iter().filter(|(_, one)| one.state() == state).map(|(key, _)| key).collect()
    }

    /// How many keys have a circuit.
    pub fn len(&self) -> usize {
        self.inner.keys.len()
    }

    /// Whether no key has one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many calls were let through without a circuit, because there was no room for their key.
    pub fn untracked(&self) -> u64 {
        self.inner.keys.untracked_calls()
    }

    /// Forgets the keys that were not used since the sweep before this one, but those whose circuit is open or in a
    /// state that it was put in by hand. Happens by itself, as new keys come, about every `idle_for`.
    pub fn sweep(&self) {
        self.inner.keys.sweep(&self.inner.shared);
    }

    /// Resets the circuits of all keys.
    pub fn reset(&self) {
        for (_, engine) in self.inner.keys.all() {
            engine.reset();
        }
        self.inner.keys.search_again();
    }

    /// The name.
    pub fn name(&self) -> &Name {
        self.inner.shared.emitter.name()
    }

    /// The settings in force.
    pub fn config(&self) -> BreakerConfig {
        self.inner.shared.live.get()
    }

    /// Owned copies of refusals, changes of state and resets, from now on.
    pub fn events(&self) -> Events {
        self.inner.shared.emitter.events()
    }

    /// Takes new settings, for every key. As [`Breaker::reconfigure`].
    ///
    /// # Errors
    /// The settings cannot work; then the old ones stay.
    pub fn reconfigure(&self, config: BreakerConfig) -> Result<(), ConfigError> {
        self.update(|now| *now = config)
    }

    /// Changes some settings, for every key. As [`Breaker::update`].
    ///
    /// # Errors
    /// As [`reconfigure`](Self::reconfigure).
    pub fn update(&self, change: impl FnOnce(&mut BreakerConfig)) -> Result<(), ConfigError> {
        self.inner.shared.live.change(change, |_, config| self.inner.put(config))?;
        self.inner.shared.tell_settings();
        Ok(())
    }

    /// How many keys there are, and in which states.
    pub fn snapshot(&self) -> KeyedBreakerSnapshot {
        let [closed, open, half_open, isolated, disabled, metrics_only] = self.inner.keys.count(STATES);
        let (keys, untracked) = (self.len(), self.untracked());
        KeyedBreakerSnapshot { keys, untracked, closed, open, half_open, isolated, disabled, metrics_only }
    }
}

/// The keys of a [`KeyedBreaker`], at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KeyedBreakerSnapshot {
    /// How many have a circuit.
    pub keys: usize,
    /// Calls that were let through without a circuit, because there was no room for their key.
    pub untracked: u64,
    /// Those whose circuit is closed.
    pub closed: u64,
    /// Those whose circuit is open.
    pub open: u64,
    /// Those whose circuit is half-open.
    pub half_open: u64,
    /// Those whose circuit is isolated.
    pub isolated: u64,
    /// Those whose circuit is disabled.
    pub disabled: u64,
    /// Those whose circuit only measures.
    pub metrics_only: u64,
}

impl<K: Hash + Eq + Clone> Inner<K> {
    /// The circuit of a key and what it says to a call: made if there is none; the one that lets everything pass, if
    /// there is no room.
    fn admit<Q>(&self, key: &Q, show: impl FnOnce(&Q) -> Option<String>) -> (Arc<Engine>, Admission)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let shown = |owned: &K| match self.shown.get() {
            Some(show) => Some(show(owned)),
            None => show(key),
        };
        let engine = self.keys.find(key).or_else(|| self.keys.make(key, &self.shared, shown));
        let engine = engine.unwrap_or_else(|| self.keys.untracked());
        let admission = engine.admit();
        (engine, admission)
    }

    /// Puts settings in force, with their lock held.
    fn put(&self, config: &BreakerConfig) {
        let rules = Arc::new(config.rules());
        // First for the keys to come, then for those that are here: none can slip through in between.
        self.keys.set_template(rules.clone(), config.initial_state);
        self.shared.settings.set(config);
        for (_, engine) in self.keys.all() {
            engine.take_rules(rules.clone());
        }
    }
}

impl<K> Handle for KeyedBreaker<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    buttress_kit::handle_methods!(&KEYED);

    fn prepare(&self, patch: Patch<'_, '_>) -> Result<Prepared<'_>, ConfigError> {
        let Inner { shared, .. } = &*self.inner;
        shared.live.prepare(patch, |_, config| self.inner.put(config), || shared.tell_settings())
    }
}

impl<K> Clone for KeyedBreaker<K> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<K> fmt::Debug for KeyedBreaker<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.inner.shared.emitter.name();
        f.debug_struct("KeyedBreaker").field("name", name).field("keys", &self.inner.keys.len()).finish()
    }
}
