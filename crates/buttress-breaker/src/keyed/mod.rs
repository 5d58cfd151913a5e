//! One circuit for each key: tenant, host, endpoint.

mod map;
mod service;

use std::{
    borrow::Borrow,
    fmt,
    hash::Hash,
    sync::{Arc, Weak},
};

use buttress_core::{ByFn, ConfigError, Levels, Name, Rejection};
use buttress_kit::{self as kit, Events};

pub use self::service::{KeyedLayer, KeyedService};
use crate::{
    Breaker, BreakerBuilder, BreakerConfig, BreakerFuture, KIND, Permit, State,
    engine::{Common, Shared},
    keyed::map::Keys,
};

/// A circuit breaker for each key, with one set of settings. Clones share the circuits.
///
/// Keys come from requests, so their number is bounded: there are never more than `max_keys`. Where there is no
/// room, keys go that nothing would be lost with (closed, no failure seen, longest unused first); where every key
/// matters, a new one is let through without a circuit ([`untracked`](Self::untracked)). So a flood of made-up
/// keys neither fills the memory, nor opens or forgets the circuits of others, nor is anybody refused for it.
///
/// Observers hear how many keys are in which state, never which: a label must not have as many values as there
/// are users. [`get`](Self::get) shows one key's circuit, [`keys_in`](Self::keys_in) lists them by state.
///
/// ```
/// # tokio_test::block_on(async {
/// use buttress_breaker::{Breaker, State};
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
    shared: Arc<Keyed<K>>,
}

struct Keyed<K> {
    common: Arc<Common>,
    keys: Keys<K>,
}

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
        let (config, emitter, chance, form) = self.checked()?;
        let (rules, state) = (Arc::new(config.rules()), config.initial_state);
        let common = Common::new(emitter, config, chance, true);
        let keys = Keys::new(&common, rules, state, form.max_keys, form.idle_for);
        let levels: Weak<dyn Levels> = Arc::downgrade(&(common.clone() as Arc<dyn Levels>));
        common.emitter.set_levels(levels);
        Ok(KeyedBreaker { shared: Arc::new(Keyed { common, keys }) })
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
    /// Where its circuit refuses.
    pub fn try_acquire<Q>(&self, key: &Q) -> Result<Permit, Rejection>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.shared.circuit(key).admit()
    }

    /// Makes one call of this key under its circuit. As [`Breaker::call`].
    pub fn call<Q, F, Fut>(&self, key: &Q, f: F) -> BreakerFuture<Fut>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        F: FnOnce() -> Fut,
    {
        BreakerFuture::of(self.shared.circuit(key), buttress_core::Standard, f)
    }

    /// The circuit of this key, if it has one: to see and steer it. Its settings are those of all.
    pub fn get<Q>(&self, key: &Q) -> Option<Breaker>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.shared.keys.find(key).map(|shared| Breaker { shared })
    }

    /// Forgets a key and its circuit. Calls under way end as they will, and change nothing.
    pub fn remove<Q>(&self, key: &Q) -> Option<Breaker>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let shared = self.shared.keys.remove(key)?;
        self.shared.common.tell();
        Some(Breaker { shared })
    }

    /// The keys whose circuit is in this state.
    pub fn keys_in(&self, state: State) -> Vec<K> {
        let all = self.shared.keys.all();
        all.into_iter().filter(|(_, one)| one.state() == state).map(|(key, _)| key).collect()
    }

    /// How many keys have a circuit.
    pub fn len(&self) -> usize {
        self.shared.keys.len()
    }

    /// Whether no key has one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many calls were let through without a circuit, because there was no room for their key.
    pub fn untracked(&self) -> u64 {
        self.shared.keys.untracked_calls()
    }

    /// Forgets the keys that were not used since the sweep before this one, except those whose circuit is open or
    /// in a state it was put in by hand. Also happens by itself, as new keys
    /// come, about every `idle_for`.
    pub fn sweep(&self) {
        self.shared.keys.sweep(&self.shared.common);
    }

    /// Resets the circuits of all keys.
    pub fn reset_all(&self) {
        for (_, shared) in self.shared.keys.all() {
            Breaker { shared }.reset();
        }
        self.shared.keys.search_again();
    }

    /// The name.
    pub fn name(&self) -> &Name {
        self.shared.common.emitter.name()
    }

    /// The settings in force.
    pub fn config(&self) -> BreakerConfig {
        self.shared.common.live.get()
    }

    /// Owned copies of refusals and resets, from now on.
    pub fn events(&self) -> Events {
        self.shared.common.emitter.events()
    }

    /// Takes new settings, for every key. As [`Breaker::reconfigure`].
    ///
    /// # Errors
    /// Where the settings cannot work; then the old ones stay.
    pub fn reconfigure(&self, config: BreakerConfig) -> Result<(), ConfigError> {
        self.shared.common.live.replace(config, |_, config| {
            let rules = Arc::new(config.rules());
            // First for the keys to come, then for those that are here: none can slip through in between.
            self.shared.keys.set_template(rules.clone(), config.initial_state);
            self.shared.common.hot.set(config);
            for (_, one) in self.shared.keys.all() {
                one.take_rules(rules.clone());
            }
        })?;
        self.shared.common.wake();
        self.shared.common.tell();
        Ok(())
    }
}

impl<K: Hash + Eq + Clone> Keyed<K> {
    /// The circuit of a key, made where there is none; the one that lets everything pass, where there is no room.
    fn circuit<Q>(&self, key: &Q) -> Arc<Shared>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let circuit = self.keys.find(key).or_else(|| self.keys.make(key, &self.common));
        circuit.unwrap_or_else(|| self.keys.untracked())
    }
}

impl<K> Clone for KeyedBreaker<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<K> fmt::Debug for KeyedBreaker<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.shared.common.emitter.name();
        f.debug_struct("KeyedBreaker").field("name", name).field("keys", &self.shared.keys.len()).finish()
    }
}
