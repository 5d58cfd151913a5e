//! The entries of one shard. Plain data: nothing of other people's runs here but a key's `Eq`, in `find`.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use crate::list::{At, List, NONE};

/// Entries in the order of their use, and where they are by the hash of their key.
pub(super) struct Table<K, V> {
    /// The slot of the last entry with this hash.
    pub(super) slots: HashMap<u64, usize, BuildHasherDefault<AsItIs>>,
    pub(super) entries: List<Entry<K, V>>,
}

pub(super) struct Entry<K, V> {
    pub(super) key: K,
    pub(super) value: V,
    pub(super) hash: u64,
    /// The slot of another entry with the same hash.
    same_hash: usize,
    /// How many keys had come when it was used last.
    pub(super) stamp: u64,
    pub(super) used_since_sweep: bool,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { slots: HashMap::default(), entries: List::default() }
    }
}

impl<K, V> Table<K, V> {
    pub(super) fn find<Q>(&self, hash: u64, key: &Q) -> Option<At>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let mut slot = *self.slots.get(&hash)?;
        loop {
            let at = self.entries.at(slot)?;
            let entry = self.entries.get(at)?;
            if entry.key.borrow() == key {
                return Some(at);
            }
            slot = entry.same_hash;
        }
    }

    /// It is used.
    pub(super) fn touch(&mut self, at: At, stamp: u64) {
        self.send_back(at, stamp);
        if let Some(entry) = self.entries.get_mut(at) {
            entry.used_since_sweep = true;
        }
    }

    /// It goes after all others, as if it were used.
    pub(super) fn send_back(&mut self, at: At, stamp: u64) {
        self.entries.move_to_back(at);
        if let Some(entry) = self.entries.get_mut(at) {
            entry.stamp = stamp;
        }
    }

    /// Puts in a key that is not there.
    pub(super) fn put(&mut self, key: K, value: V, hash: u64, stamp: u64) -> Option<&Entry<K, V>> {
        let same_hash = self.slots.get(&hash).copied().unwrap_or(NONE);
        let entry = Entry { key, value, hash, same_hash, stamp, used_since_sweep: true };
        let at = self.entries.push_back(entry);
        self.slots.insert(hash, at.index());
        self.entries.get(at)
    }

    pub(super) fn take(&mut self, at: At) -> Option<Entry<K, V>> {
        let entry = self.entries.remove(at)?;
        // By the hash that is remembered: the key's own code is not asked.
        let first = self.slots.get(&entry.hash).copied().unwrap_or(NONE);
        if first != at.index() {
            let mut before = self.entries.at(first);
            while let Some(entry_before) = before.and_then(|before| self.entries.get_mut(before)) {
                if entry_before.same_hash == at.index() {
                    entry_before.same_hash = entry.same_hash;
                    break;
                }
                let next = entry_before.same_hash;
                before = self.entries.at(next);
            }
        } else if entry.same_hash == NONE {
            self.slots.remove(&entry.hash);
        } else {
            self.slots.insert(entry.hash, entry.same_hash);
        }
        Some(entry)
    }
}

/// Hashes what is a hash already.
#[derive(Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("hashes are numbers");
    }
}
