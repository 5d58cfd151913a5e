//! Values by key, at most so many: the one not used for longest goes first.
//!
//! Keys come from requests, and so from strangers. That is why the cap is hard, why recency is exact, and why a key
//! may stay while its value matters ([`Keeper`]): a flood of made-up keys neither fills the memory, nor makes the
//! map forget a key in constant use.
//!
//! **Other people's code.** A key's `Hash`, `Clone` and `Drop`, and the closures that make values, run with no lock
//! held. Its `Eq` (and its `Clone`, where all keys are listed) runs under a lock and before anything changes: the
//! map remembers hashes and does not ask again. So whichever of them panics, the map is as it was. The `Keeper` and
//! the values are the pattern's own.
//!
//! **Recency.** Entries are in a doubly linked list in the order of their use; to find one moves it to its end, O(1).
//! A large map is cut into shards, each with a list of its own, so that threads seldom meet; the cap is one for all.
//! At each use an entry is stamped with the number of keys that had come before, and the shard whose oldest stamp is
//! the least has to give. So of two keys the one goes first after whose last use more keys came; if those are equally
//! many, the order of their shard decides. A key used since the last one came goes only if all others were used, too.
//!
//! **Memory.** Less than 200 bytes for each key, beside key and value, and as much as the most keys at once needed.

mod table;

use std::{
    borrow::Borrow,
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    mem,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use self::table::{Entry, Table};
use crate::{list::At, unpoisoned};

/// What a pattern knows of the values in its map.
pub trait Keeper<V> {
    /// Whether this value must stay, though there is no room for another key. A lock of the map is held.
    fn must_stay(&self, value: &V) -> bool {
        let _ = value;
        false
    }

    /// Whether this value must stay, though its key was not used for long. A lock of the map is held.
    fn outlasts_idleness(&self, value: &V) -> bool {
        self.must_stay(value)
    }

    /// A value came. A lock of the map is held: nobody else has found it yet.
    fn came(&self, value: &V) {
        let _ = value;
    }

    /// A value went because there was no room, or because its key was idle.
    fn went(&self, value: V) {
        drop(value);
    }
}

/// Every value may go.
impl<V> Keeper<V> for () {}

/// A bounded map of values by key, with recency.
pub struct KeyedMap<K, V> {
    shards: Box<[Shard<K, V>]>,
    hasher: RandomState,
    max: AtomicUsize,
    len: AtomicUsize,
    /// How many keys have come. Read at every use, and written for new keys only.
    came: AtomicU64,
    idle_for: Option<Duration>,
    times: Mutex<Times>,
}

struct Times {
    swept: Instant,
    /// Until then the map is taken to be full of what must stay, without a search.
    full_until: Option<Instant>,
}

struct Shard<K, V> {
    table: Mutex<Table<K, V>>,
    /// The stamp of the entry not used for longest; `u64::MAX` if there is none. Written with the lock held.
    oldest: AtomicU64,
}

/// A map of fewer keys is one shard, and its recency exact.
const SHARDED_FROM: usize = 1_024;
const SHARDS: usize = 16;

/// A search that passes over more values than this (or an eighth of all, if that is more) was a dear one.
const DEAR: usize = 64;

/// After a dear search none is made for this long: a flood must not have one made for each of its keys.
const SEARCH_AGAIN: Duration = Duration::from_millis(100);

/// Room for a key, in a shard that is locked.
enum Room<'a, K, V> {
    /// It is there already.
    Taken(Locked<'a, K, V>, At),
    Free(Locked<'a, K, V>),
    None,
}

impl<K, V> KeyedMap<K, V> {
    /// Makes a map of at most `max` keys. Those not used for `idle_for` go when others come; never, if it is `None`.
    pub fn new(max: usize, idle_for: Option<Duration>, now: Instant) -> Self {
        let shards = if max < SHARDED_FROM { 1 } else { SHARDS };
        Self {
            shards: (0..shards).map(|_| Shard::default()).collect(),
            hasher: RandomState::new(),
            max: AtomicUsize::new(max),
            len: AtomicUsize::new(0),
            came: AtomicU64::new(0),
            idle_for,
            times: Mutex::new(Times { swept: now, full_until: None }),
        }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Another cap. What is beyond it goes when the next key is put in.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Relaxed);
    }

    /// Looks for room again at once, because values that had to stay may go now.
    pub fn search_again(&self) {
        unpoisoned(self.times.lock()).full_until = None;
    }

    /// The values there are.
    pub fn values(&self) -> Vec<V>
    where
        V: Clone,
    {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            all.extend(shard.lock().table.entries.iter().map(|(_, entry)| entry.value.clone()));
        }
        all
    }

    /// The keys there are, with their values.
    pub fn entries(&self) -> Vec<(K, V)>
    where
        K: Clone,
        V: Clone,
    {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            let locked = shard.lock();
            all.extend(
                locked.table.entries.iter().map(|(_, entry)| (entry.key.clone(), entry.value.clone())),
            );
        }
        all
    }

    /// Lets the keys go that were not used since the sweep before this one, but those whose value outlasts that.
    /// Happens by itself, as keys come, about every `idle_for`.
    pub fn sweep(&self, keeper: &impl Keeper<V>, now: Instant) {
        unpoisoned(self.times.lock()).swept = now;
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for shard in &self.shards {
            let mut locked = shard.lock();
            let mut next = locked.table.entries.front();
            while let Some(at) = next {
                next = locked.table.entries.after(at);
                let Some(entry) = locked.table.entries.get_mut(at) else { break };
                if mem::take(&mut entry.used_since_sweep) || keeper.outlasts_idleness(&entry.value) {
                    continue;
                }
                if let Some(entry) = locked.table.take(at) {
                    self.len.fetch_sub(1, Relaxed);
                    keys.push(entry.key);
                    values.push(entry.value);
                }
            }
        }
        values.into_iter().for_each(|value| keeper.went(value));
        // The keys go last: a panic of their drop is nobody's loss.
        drop(keys);
    }

    /// Lets the value go that was not used for longest and may go. `false`: there is none.
    fn evict(&self, keeper: &impl Keeper<V>, now: Instant) -> bool {
        if unpoisoned(self.times.lock()).is_full(now) {
            return false;
        }
        let (mut tried, mut passed) = (0_u32, 0);
        let gone = loop {
            let untried = (0..self.shards.len()).filter(|index| tried & 1 << index == 0);
            let next = untried.min_by_key(|index| self.shards[*index].oldest.load(Relaxed));
            let Some(next) = next else { break None };
            tried |= 1 << next;
            let gone = self.evict_of(&self.shards[next], keeper, &mut passed);
            if gone.is_some() {
                break gone;
            }
        };
        if passed > (self.len() / 8).max(DEAR) {
            unpoisoned(self.times.lock()).full_until = now.checked_add(SEARCH_AGAIN);
        }
        let Some(Entry { key, value, .. }) = gone else { return false };
        keeper.went(value);
        drop(key);
        true
    }

    fn evict_of(
        &self,
        shard: &Shard<K, V>,
        keeper: &impl Keeper<V>,
        passed: &mut usize,
    ) -> Option<Entry<K, V>> {
        let mut locked = shard.lock();
        for _ in 0..locked.table.entries.len() {
            let at = locked.table.entries.front()?;
            if keeper.must_stay(&locked.table.entries.get(at)?.value) {
                // It is looked at again when all others were: the next search begins behind it.
                *passed += 1;
                locked.table.send_back(at, self.came.load(Relaxed));
                continue;
            }
            self.len.fetch_sub(1, Relaxed);
            return locked.table.take(at);
        }
        None
    }

    /// Counts a key that is about to come, if that is within the cap.
    fn take_room(&self) -> bool {
        let max = self.max.load(Relaxed);
        self.len.fetch_update(Relaxed, Relaxed, |len| (len < max).then_some(len + 1)).is_ok()
    }
}

impl<K: Hash + Eq, V> KeyedMap<K, V> {
    /// The value of a key, which is used by that.
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        self.find(key, |value| Some(value.clone()))
    }

    /// Looks at the value of a key, with a lock of the map held. The key is used if that gives something.
    pub fn find<Q, T>(&self, key: &Q, look: impl FnOnce(&V) -> Option<T>) -> Option<T>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hasher.hash_one(key);
        let mut locked = self.shard(hash).lock();
        let at = locked.table.find(hash, key)?;
        let found = look(&locked.table.entries.get(at)?.value)?;
        locked.table.touch(at, self.came.load(Relaxed));
        Some(found)
    }

    /// The value of a key, made if there is none. `None`: the map is full of values that must stay.
    pub fn get_or_make<Q>(
        &self,
        key: &Q,
        keeper: &impl Keeper<V>,
        now: Instant,
        make: impl FnOnce() -> V,
    ) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        V: Clone,
    {
        if let Some(found) = self.get(key) {
            return Some(found);
        }
        self.sweep_if_due(keeper, now);
        if self.is_full(now) {
            return None;
        }
        let (owned, value) = (key.to_owned(), make());
        let hash = self.hasher.hash_one(key);
        match self.room(hash, key, keeper, now) {
            Room::Taken(mut locked, at) => {
                locked.table.touch(at, self.came.load(Relaxed));
                locked.table.entries.get(at).map(|entry| entry.value.clone())
            }
            Room::Free(mut locked) => {
                let stamp = self.stamp();
                _ = locked.table.put(owned, value.clone(), hash, stamp);
                keeper.came(&value);
                Some(value)
            }
            Room::None => None,
        }
    }

    /// Puts a value in; gives the one that was there.
    ///
    /// # Errors
    /// The value itself, if the map is full of values that must stay.
    pub fn put(&self, key: K, value: V, keeper: &impl Keeper<V>, now: Instant) -> Result<Option<V>, V> {
        self.sweep_if_due(keeper, now);
        let hash = self.hasher.hash_one(&key);
        let former = match self.room(hash, &key, keeper, now) {
            Room::Taken(mut locked, at) => {
                locked.table.touch(at, self.came.load(Relaxed));
                let entry = locked.table.entries.get_mut(at);
                entry.map(|entry| mem::replace(&mut entry.value, value))
            }
            Room::Free(mut locked) => {
                let stamp = self.stamp();
                if let Some(entry) = locked.table.put(key, value, hash, stamp) {
                    keeper.came(&entry.value);
                }
                None
            }
            Room::None => return Err(value),
        };
        while self.len() > self.max.load(Relaxed) && self.evict(keeper, now) {}
        Ok(former)
    }

    /// Takes a key out.
    pub fn remove<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hasher.hash_one(key);
        let mut locked = self.shard(hash).lock();
        let at = locked.table.find(hash, key)?;
        let Entry { key, value, .. } = locked.table.take(at)?;
        self.len.fetch_sub(1, Relaxed);
        drop(locked);
        drop(key);
        Some(value)
    }

    fn shard(&self, hash: u64) -> &Shard<K, V> {
        // Not the bits that the table inside finds its own places by.
        &self.shards[(hash >> 48) as usize % self.shards.len()]
    }

    /// The stamp of a key that comes: less than that of every use after it.
    fn stamp(&self) -> u64 {
        self.came.fetch_add(1, Relaxed)
    }

    fn room<Q>(&self, hash: u64, key: &Q, keeper: &impl Keeper<V>, now: Instant) -> Room<'_, K, V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        loop {
            let locked = self.shard(hash).lock();
            if let Some(at) = locked.table.find(hash, key) {
                return Room::Taken(locked, at);
            }
            if self.take_room() {
                return Room::Free(locked);
            }
            // What has to go may be in another shard; no two are ever locked at once.
            drop(locked);
            if !self.evict(keeper, now) {
                return Room::None;
            }
        }
    }

    fn is_full(&self, now: Instant) -> bool {
        self.len() >= self.max.load(Relaxed) && unpoisoned(self.times.lock()).is_full(now)
    }

    fn sweep_if_due(&self, keeper: &impl Keeper<V>, now: Instant) {
        let Some(idle_for) = self.idle_for else { return };
        let swept = unpoisoned(self.times.lock()).swept;
        if now.saturating_duration_since(swept) >= idle_for {
            self.sweep(keeper, now);
        }
    }
}

impl Times {
    fn is_full(&self, now: Instant) -> bool {
        self.full_until.is_some_and(|until| now < until)
    }
}

impl<K, V> Default for Shard<K, V> {
    fn default() -> Self {
        Self { table: Mutex::new(Table::default()), oldest: AtomicU64::new(u64::MAX) }
    }
}

/// A shard that is locked; as it is given back, it says how old its oldest entry is.
struct Locked<'a, K, V> {
    table: MutexGuard<'a, Table<K, V>>,
    oldest: &'a AtomicU64,
}

impl<K, V> Shard<K, V> {
    fn lock(&self) -> Locked<'_, K, V> {
        Locked { table: unpoisoned(self.table.lock()), oldest: &self.oldest }
    }
}

impl<K, V> Drop for Locked<'_, K, V> {
    fn drop(&mut self) {
        let entries = &self.table.entries;
        let oldest = entries.front().and_then(|at| entries.get(at)).map_or(u64::MAX, |entry| entry.stamp);
        // A plain look first: most uses change nothing, and others read it.
        if self.oldest.load(Relaxed) != oldest {
            self.oldest.store(oldest, Relaxed);
        }
    }
}

impl<K, V> fmt::Debug for KeyedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let max = self.max.load(Relaxed);
        f.debug_struct("KeyedMap").field("keys", &self.len()).field("max", &max).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests;
