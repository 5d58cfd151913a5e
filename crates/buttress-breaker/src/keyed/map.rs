use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::Note;
use buttress_kit::unpoisoned;

use crate::{
    State,
    engine::{Engine, shortened},
    rules::{Rules, nanos},
    shared::Shared,
    words,
};

/// Fewer keys than this are in one shard, so that the cap is met exactly.
const SHARDED_FROM: usize = 1_024;
const SHARDS: usize = 16;

type Circuits<K> = HashMap<K, Arc<Engine>, RandomState>;

/// A key is shown up to this length: it may come from a request.
const LONGEST_KEY: usize = 128;

/// After a search that found little room in a shard, none is made for this long: 100 ms.
const SEARCH_AGAIN: u64 = 100_000_000;

/// A bounded map from keys to circuits, which knows when each was used last.
///
/// Why not kit's: that one knows the order of use by itself, which takes a hundred bytes a key; here it is four bytes in
/// the circuit. A panic of a key's own `Hash`, `Eq` or `Clone` leaves the map as it was, or without the new key.
pub(super) struct Keys<K> {
    shards: Box<[RwLock<Circuits<K>>]>,
    /// Until when each shard is taken to be full, without a search.
    full_until: Box<[AtomicU64]>,
    hasher: RandomState,
    len: AtomicUsize,
    max_per_shard: usize,
    idle_for: u64,
    swept_at: AtomicU64,
    /// Grows with each key that comes, and each sweep. A circuit that is used takes it down: so there is an order of
    /// use, as exact as keys come, and uses write nothing that others read.
    tick: AtomicU32,
    /// The tick of the last sweep.
    swept: AtomicU32,
    template: Mutex<Template>,
    /// What calls go through whose key has no circuit: it admits everything and records nothing.
    untracked: Arc<Engine>,
    untracked_calls: AtomicU64,
}

/// What a new key's circuit is made of.
#[derive(Clone)]
struct Template {
    rules: Arc<Rules>,
    state: State,
}

impl<K: Hash + Eq + Clone> Keys<K> {
    pub(super) fn new(
        shared: &Arc<Shared>,
        rules: Arc<Rules>,
        state: State,
        max: usize,
        idle_for: Duration,
    ) -> Self {
        let shards = if max < SHARDED_FROM { 1 } else { SHARDS };
        let hasher = RandomState::new();
        Self {
            shards: (0..shards).map(|_| RwLock::new(HashMap::with_hasher(hasher.clone()))).collect(),
            full_until: (0..shards).map(|_| AtomicU64::new(0)).collect(),
            hasher,
            len: AtomicUsize::new(0),
            max_per_shard: max / shards,
            idle_for: nanos(idle_for),
            swept_at: AtomicU64::new(shared.now()),
            tick: AtomicU32::new(0),
            swept: AtomicU32::new(0),
            untracked: Engine::new(shared.clone(), rules.clone(), State::Disabled, None),
            template: Mutex::new(Template { rules, state }),
            untracked_calls: AtomicU64::new(0),
        }
    }

    fn place<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        // The upper bits: the map inside uses the lower ones of the same hash.
        let hash = self.hasher.hash_one(key) >> 48;
        hash as usize % self.shards.len()
    }

    fn shard<Q: Hash + ?Sized>(&self, key: &Q) -> &RwLock<Circuits<K>> {
        &self.shards[self.place(key)]
    }

    /// There may be room again.
    pub(super) fn search_again(&self) {
        for full_until in &self.full_until {
            full_until.store(0, Relaxed);
        }
    }

    pub(super) fn find<Q>(&self, key: &Q) -> Option<Arc<Engine>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let found = unpoisoned(self.shard(key).read()).get(key).cloned()?;
        let tick = self.tick.load(Relaxed);
        // A plain look first: most uses change nothing.
        if found.used.load(Relaxed) != tick {
            found.used.store(tick, Relaxed);
        }
        Some(found)
    }

    /// The next tick.
    fn tick(&self) -> u32 {
        self.tick.fetch_add(1, Relaxed).wrapping_add(1)
    }

    /// Makes the circuit of a key. `None`: every key matters, and there is no room for another one.
    /// `show`: the key as it is shown, if it is.
    pub(super) fn make<Q>(
        &self,
        key: &Q,
        shared: &Arc<Shared>,
        show: impl FnOnce(&K) -> Option<String>,
    ) -> Option<Arc<Engine>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let now = shared.now();
        if now.saturating_sub(self.swept_at.load(Relaxed)) >= self.idle_for {
            self.sweep(shared);
        }
        let place = self.place(key);
        let full_until = &self.full_until[place];
        if now < full_until.load(Relaxed) {
            return None;
        }
        // The key's own code, before anything changes.
        let owned = key.to_owned();
        let name = show(&owned).map(|text| shared.emitter.name().with_key(shortened(text, LONGEST_KEY)));
        let mut gone = Vec::new();
        let made = {
            let mut shard = unpoisoned(self.shards[place].write());
            if let Some(other) = shard.get(key) {
                return Some(other.clone());
            }
            if shard.len() >= self.max_per_shard && !self.make_room(&mut shard, &mut gone) {
                // A search looks at every key of the shard: a flood must not have one made for each of its own.
                full_until.store(now.saturating_add(SEARCH_AGAIN), Relaxed);
            }
            if shard.len() < self.max_per_shard {
                let Template { rules, state } = unpoisoned(self.template.lock()).clone();
                let circuit = Engine::new(shared.clone(), rules, state, name);
                circuit.used.store(self.tick(), Relaxed);
                shard.insert(owned, circuit.clone());
                self.len.fetch_add(1, Relaxed);
                Some((circuit, state))
            } else {
                None
            }
        };
        self.evicted(&gone, shared);
        let (made, state) = made?;
        shared.tell_keys(made.join(state));
        Some(made)
    }

    /// Drops keys that nothing is lost with, those not used for longest first, up to an eighth of the shard at a time.
    /// Whether it found so many.
    fn make_room(&self, shard: &mut Circuits<K>, gone: &mut Vec<Arc<Engine>>) -> bool {
        let enough = (shard.len() / 8).max(1);
        let tick = self.tick.load(Relaxed);
        let age = |engine: &Engine| tick.wrapping_sub(engine.used.load(Relaxed));
        let may_go = |engine: &Arc<Engine>| Arc::strong_count(engine) == 1 && engine.knows_nothing();
        let mut ages: Vec<u32> = shard.values().filter(|one| may_go(one)).map(|one| age(one)).collect();
        ages.sort_unstable_by(|one, other| other.cmp(one));
        let Some(least) = ages.get(enough.min(ages.len()).saturating_sub(1)).copied() else { return false };
        shard.retain(|_, engine| {
            let goes = gone.len() < enough && age(engine) >= least && may_go(engine);
            if goes {
                gone.push(engine.clone());
            }
            !goes
        });
        gone.len() >= enough
    }

    /// Drops the keys that were not used since the last sweep. Those whose circuit is open stay until its wait is over:
    /// nobody calls them because it is open.
    pub(super) fn sweep(&self, shared: &Arc<Shared>) {
        self.swept_at.store(shared.now(), Relaxed);
        let last = self.swept.swap(self.tick(), Relaxed);
        let used_since = |engine: &Engine| engine.used.load(Relaxed).wrapping_sub(last) <= u32::MAX / 2;
        let mut gone = Vec::new();
        // A new circuit of the key would not be in the state that this one is in, and should be.
        let begins = unpoisoned(self.template.lock()).state;
        let held = |state| state != begins && !matches!(state, State::Closed | State::HalfOpen);
        for shard in &self.shards {
            unpoisoned(shard.write()).retain(|_, circuit| {
                let kept = used_since(circuit) || Arc::strong_count(circuit) > 1 || held(circuit.state());
                if !kept {
                    gone.push(circuit.clone());
                }
                kept
            });
        }
        self.search_again();
        self.evicted(&gone, shared);
    }

    /// Counts those that were dropped, and tells it. With no lock held.
    fn evicted(&self, gone: &[Arc<Engine>], shared: &Shared) {
        self.len.fetch_sub(gone.len(), Relaxed);
        for circuit in gone {
            shared.tell_keys(circuit.leave());
            shared.note(Note::new(words::EVICTED));
            shared.emitter.deliver();
        }
    }

    pub(super) fn remove<Q>(&self, key: &Q) -> Option<Arc<Engine>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let place = self.place(key);
        let removed = unpoisoned(self.shards[place].write()).remove(key)?;
        self.full_until[place].store(0, Relaxed);
        self.len.fetch_sub(1, Relaxed);
        removed.shared.tell_keys(removed.leave());
        Some(removed)
    }

    /// How many keys are in each of these states.
    pub(super) fn count(&self, states: [State; 6]) -> [u64; 6] {
        let mut counts = [0; 6];
        for shard in &self.shards {
            for engine in unpoisoned(shard.read()).values() {
                let state = engine.state();
                let place = states.iter().position(|one| *one == state);
                if let Some(count) = place.and_then(|place| counts.get_mut(place)) {
                    *count += 1;
                }
            }
        }
        counts
    }

    pub(super) fn all(&self) -> Vec<(K, Arc<Engine>)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(unpoisoned(shard.read()).iter().map(|(key, one)| (key.clone(), one.clone())));
        }
        all
    }

    pub(super) fn set_template(&self, rules: Arc<Rules>, state: State) {
        *unpoisoned(self.template.lock()) = Template { rules, state };
    }

    pub(super) fn untracked(&self) -> Arc<Engine> {
        self.untracked_calls.fetch_add(1, Relaxed);
        self.untracked.clone()
    }
}

impl<K> Keys<K> {
    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    pub(super) fn untracked_calls(&self) -> u64 {
        self.untracked_calls.load(Relaxed)
    }
}
