//! Values by key, each with the time it was stored, at most so many: the one not used for longest goes first.
//! Plain data, every operation O(1).

use std::{
    collections::HashMap,
    hash::Hash,
    mem,
    time::{Duration, Instant},
};

/// No slot.
const END: usize = usize::MAX;

pub(crate) struct Store<K, V> {
    at: HashMap<K, usize>,
    slots: Vec<Slot<K, V>>,
    /// Used last.
    newest: usize,
    /// Used first: the next to go.
    oldest: usize,
}

struct Slot<K, V> {
    key: K,
    value: V,
    stored: Instant,
    newer: usize,
    older: usize,
}

/// What had to go for a value.
pub(crate) struct Put<V> {
    /// The former value of the key.
    pub(crate) replaced: Option<V>,
    /// The value of another key.
    pub(crate) evicted: Option<V>,
}

impl<K: Hash + Eq + Clone, V> Store<K, V> {
    pub(crate) fn new() -> Self {
        Self { at: HashMap::new(), slots: Vec::new(), newest: END, oldest: END }
    }

    /// Stores a value, evicting one first if there are `max` others. Never more than `max` are held, but
    /// after `max` was lowered: then [`evict_beyond`](Self::evict_beyond) takes the rest.
    pub(crate) fn put(&mut self, key: K, value: V, now: Instant, max: usize) -> Put<V> {
        if let Some(&slot) = self.at.get(&key) {
            self.touch(slot);
            let slot = &mut self.slots[slot];
            slot.stored = now;
            let replaced = Some(mem::replace(&mut slot.value, value));
            return Put { replaced, evicted: self.evict_beyond(max) };
        }
        let evicted = self.evict_beyond(max.saturating_sub(1));
        let slot = self.slots.len();
        self.at.insert(key.clone(), slot);
        self.slots.push(Slot { key, value, stored: now, newer: END, older: END });
        self.link(slot);
        Put { replaced: None, evicted }
    }

    /// The value of a key and its age, unless that is above `max_age`.
    pub(crate) fn get(&mut self, key: &K, now: Instant, max_age: Duration) -> Option<(&V, Duration)> {
        let slot = *self.at.get(key)?;
        let age = now.saturating_duration_since(self.slots[slot].stored);
        if age > max_age {
            return None;
        }
        self.touch(slot);
        Some((&self.slots[slot].value, age))
    }

    /// Takes out the value not used for longest, if there are more than `max`.
    pub(crate) fn evict_beyond(&mut self, max: usize) -> Option<V> {
        if self.slots.len() <= max {
            return None;
        }
        let slot = self.oldest;
        self.unlink(slot);
        let last = self.slots.len().saturating_sub(1);
        let gone = self.slots.swap_remove(slot);
        self.at.remove(&gone.key);
        if slot != last {
            self.moved(last, slot);
        }
        Some(gone.value)
    }

    fn touch(&mut self, slot: usize) {
        self.unlink(slot);
        self.link(slot);
    }

    fn link(&mut self, slot: usize) {
        let before = mem::replace(&mut self.newest, slot);
        self.slots[slot].older = before;
        self.slots[slot].newer = END;
        match before {
            END => self.oldest = slot,
            before => self.slots[before].newer = slot,
        }
    }

    fn unlink(&mut self, slot: usize) {
        let Slot { newer, older, .. } = self.slots[slot];
        self.join(newer, older);
    }

    /// Makes two slots neighbours; `END` stands for the ends of the list.
    fn join(&mut self, newer: usize, older: usize) {
        match newer {
            END => self.newest = older,
            newer => self.slots[newer].older = older,
        }
        match older {
            END => self.oldest = newer,
            older => self.slots[older].newer = newer,
        }
    }

    /// The slot that was `from` is `to` now: its neighbours and the map hear of it.
    fn moved(&mut self, from: usize, to: usize) {
        let Slot { newer, older, .. } = self.slots[to];
        match newer {
            END => self.newest = to,
            newer => self.slots[newer].older = to,
        }
        match older {
            END => self.oldest = to,
            older => self.slots[older].newer = to,
        }
        if let Some(at) = self.at.get_mut(&self.slots[to].key) {
            debug_assert_eq!(*at, from);
            *at = to;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same in the plainest way: a list, the one used last at its end.
    #[derive(Default)]
    struct Model(Vec<(u8, u32, u64)>);

    impl Model {
        fn put(&mut self, key: u8, value: u32, now: u64, max: usize) -> (Option<u32>, Option<u32>) {
            let known = self.0.iter().position(|(k, ..)| *k == key);
            let replaced = known.map(|at| self.0.remove(at).1);
            let evicted = (self.0.len() >= max).then(|| self.0.remove(0).1);
            self.0.push((key, value, now));
            (replaced, evicted)
        }

        fn get(&mut self, key: u8, now: u64, max_age: u64) -> Option<(u32, u64)> {
            let at = self.0.iter().position(|(k, ..)| *k == key)?;
            let age = now.saturating_sub(self.0[at].2);
            if age > max_age {
                return None;
            }
            let entry = self.0.remove(at);
            self.0.push(entry);
            Some((entry.1, age))
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Put(u8),
        Get(u8),
        Wait(u64),
        Max(usize),
    }

    /// One byte a step: cheap to draw, and shrinks well.
    fn step(byte: u8) -> Step {
        let (what, arg) = (byte % 8, byte / 8);
        match what {
            0..=2 => Step::Put(arg % 8),
            3..=5 => Step::Get(arg % 8),
            6 => Step::Wait(arg.into()),
            _ => Step::Max(usize::from(arg % 6) + 1),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100_000, ..ProptestConfig::default() })]

        #[test]
        fn store_does_as_the_plain_list(steps in prop::collection::vec(any::<u8>(), 1..24)) {
            let start = tokio::time::Instant::now().into_std();
            let at = |ms| start.checked_add(Duration::from_millis(ms)).unwrap();
            let (mut store, mut model) = (Store::new(), Model::default());
            let (mut now, mut max, max_age) = (0_u64, 4, 50);
            for (n, step) in (0_u32..).zip(steps.into_iter().map(step)) {
                match step {
                    Step::Put(key) => {
                        let put = store.put(key, n, at(now), max);
                        let (replaced, evicted) = model.put(key, n, now, max);
                        prop_assert_eq!((put.replaced, put.evicted), (replaced, evicted));
                    }
                    Step::Get(key) => {
                        let got = store.get(&key, at(now), Duration::from_millis(max_age));
                        let got = got.map(|(value, age)| (*value, age.as_millis() as u64));
                        prop_assert_eq!(got, model.get(key, now, max_age));
                    }
                    Step::Wait(ms) => now = now.saturating_add(ms),
                    Step::Max(to) => {
                        max = to;
                        while let Some(gone) = store.evict_beyond(max) {
                            prop_assert_eq!(gone, model.0.remove(0).1);
                        }
                        prop_assert!(model.0.len() <= max);
                    }
                }
                prop_assert!(store.slots.len() <= max);
                prop_assert_eq!(store.at.len(), store.slots.len());
            }
        }
    }
}
