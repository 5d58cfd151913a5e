use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{Event, observe::Note};

use crate::{
    Permit, State,
    config::{Rules, nanos},
    engine::{Common, Shared},
};

/// Fewer keys than this are in one shard, so that the cap is met exactly.
const SHARDED_FROM: usize = 1_024;
const SHARDS: usize = 16;

type Circuits<K> = HashMap<K, Arc<Shared>, RandomState>;

/// A bounded map from keys to circuits.
pub(super) struct Keys<K> {
    shards: Box<[RwLock<Circuits<K>>]>,
    hasher: RandomState,
    len: AtomicUsize,
    max_per_shard: usize,
    idle_for: u64,
    swept_at: AtomicU64,
    template: Mutex<Template>,
    /// What calls go through whose key has no circuit: it admits everything and records nothing.
    free: Arc<Shared>,
    untracked: AtomicU64,
}

/// What a new key's circuit is made of.
#[derive(Clone)]
struct Template {
    rules: Arc<Rules>,
    state: State,
}

impl<K: Hash + Eq + Clone> Keys<K> {
    pub(super) fn new(
        common: &Arc<Common>,
        rules: Arc<Rules>,
        state: State,
        max: usize,
        idle_for: Duration,
    ) -> Self {
        let shards = if max < SHARDED_FROM { 1 } else { SHARDS };
        let hasher = RandomState::new();
        Self {
            shards: (0..shards).map(|_| RwLock::new(HashMap::with_hasher(hasher.clone()))).collect(),
            hasher,
            len: AtomicUsize::new(0),
            max_per_shard: max / shards,
            idle_for: nanos(idle_for),
            swept_at: AtomicU64::new(common.now()),
            free: Shared::one(common.clone(), rules.clone(), State::Disabled),
            template: Mutex::new(Template { rules, state }),
            untracked: AtomicU64::new(0),
        }
    }

    fn shard<Q: Hash + ?Sized>(&self, key: &Q) -> &RwLock<Circuits<K>> {
        // The upper bits: the map inside uses the lower ones of the same hash.
        let hash = self.hasher.hash_one(key) >> 48;
        &self.shards[hash as usize % self.shards.len()]
    }

    pub(super) fn find<Q>(&self, key: &Q) -> Option<Arc<Shared>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let found = reading(self.shard(key)).get(key).cloned()?;
        if !found.used.load(Relaxed) {
            found.used.store(true, Relaxed);
        }
        Some(found)
    }

    /// Makes the circuit of a key. `None`: every key matters, and there is no room for another one.
    #[cold]
    pub(super) fn make<Q>(&self, key: &Q, common: &Arc<Common>) -> Option<Arc<Shared>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let now = common.now();
        if now.saturating_sub(self.swept_at.load(Relaxed)) >= self.idle_for {
            self.sweep(common);
        }
        let mut gone = Vec::new();
        let made = {
            let mut shard = writing(self.shard(key));
            if let Some(other) = shard.get(key) {
                return Some(other.clone());
            }
            if shard.len() >= self.max_per_shard {
                self.make_room(&mut shard, &mut gone);
            }
            if shard.len() < self.max_per_shard {
                let Template { rules, state } = unpoisoned(&self.template).clone();
                let circuit = Shared::one(common.clone(), rules, state);
                shard.insert(key.to_owned(), circuit.clone());
                self.len.fetch_add(1, Relaxed);
                Some(circuit)
            } else {
                None
            }
        };
        self.evicted(&gone, common);
        if let Some(made) = &made {
            common.count_key(made.stored_state(), true);
        }
        made
    }

    /// Drops keys that nothing is lost with, up to an eighth of the shard at a time: the unused ones, and where
    /// that is not enough, others.
    fn make_room(&self, shard: &mut Circuits<K>, gone: &mut Vec<Arc<Shared>>) {
        let enough = (shard.len() / 8).max(1);
        for also_used in [false, true] {
            if gone.is_empty() {
                shard.retain(|_, circuit| {
                    let goes = gone.len() < enough
                        && (also_used || !circuit.used.load(Relaxed))
                        && Arc::strong_count(circuit) == 1
                        && circuit.knows_nothing();
                    if goes {
                        gone.push(circuit.clone());
                    }
                    !goes
                });
            }
        }
    }

    /// Drops the keys that were not used since the last sweep, and marks the others as unused.
    pub(super) fn sweep(&self, common: &Arc<Common>) {
        self.swept_at.store(common.now(), Relaxed);
        let mut gone = Vec::new();
        for shard in &self.shards {
            writing(shard).retain(|_, circuit| {
                let kept = circuit.used.swap(false, Relaxed)
                    || Arc::strong_count(circuit) > 1
                    || circuit.stored_state() == State::Isolated;
                if !kept {
                    gone.push(circuit.clone());
                }
                kept
            });
        }
        self.evicted(&gone, common);
    }

    fn evicted(&self, gone: &[Arc<Shared>], common: &Common) {
        self.len.fetch_sub(gone.len(), Relaxed);
        for circuit in gone {
            common.count_key(circuit.stored_state(), false);
            if common.emitter.is_on() {
                common.emitter.emit(Event::Note(Note::Evicted));
            }
        }
    }

    pub(super) fn remove<Q>(&self, key: &Q) -> Option<Arc<Shared>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let removed = writing(self.shard(key)).remove(key)?;
        self.len.fetch_sub(1, Relaxed);
        Some(removed)
    }

    pub(super) fn all(&self) -> Vec<(K, Arc<Shared>)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(reading(shard).iter().map(|(key, one)| (key.clone(), one.clone())));
        }
        all
    }

    pub(super) fn set_template(&self, rules: Arc<Rules>, state: State) {
        *unpoisoned(&self.template) = Template { rules, state };
    }

    pub(super) fn untracked(&self) -> Permit {
        self.untracked.fetch_add(1, Relaxed);
        self.free.free_permit()
    }
}

impl<K> Keys<K> {
    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    pub(super) fn untracked_calls(&self) -> u64 {
        self.untracked.load(Relaxed)
    }
}

// A panic of a key's own `Hash`, `Eq` or `Clone` leaves the map as it was, or without the new key.

fn reading<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn writing<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
