//! Entries in the order in which they came, in slots that are used again. Plain data, every operation O(1).
//!
//! The order is a doubly linked list of slots; an entry leaves it anywhere. It may also leave the order and keep its
//! slot, so that its owner still finds something there.

/// An entry's slot. It goes with one use of the slot: after that it finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    index: usize,
    number: u64,
}

impl At {
    /// The number of the slot, by which [`List::at`] finds what is there now.
    pub(crate) fn index(self) -> usize {
        self.index
    }
}

#[derive(Debug)]
pub(crate) struct List<T> {
    slots: Vec<Slot<T>>,
    /// The first vacant slot; each knows the next one as `after`.
    vacant: usize,
    front: usize,
    back: usize,
    /// Entries in order.
    len: usize,
    /// Entries in order, and those that have left it and kept their slot.
    used: usize,
    next_number: u64,
}

#[derive(Debug)]
struct Slot<T> {
    number: u64,
    before: usize,
    after: usize,
    in_order: bool,
    entry: Option<T>,
}

/// The number of no slot.
pub(crate) const NONE: usize = usize::MAX;

/// An empty list with room for more than this gives its memory back.
const KEEP: usize = 1024;

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), vacant: NONE, front: NONE, back: NONE, len: 0, used: 0, next_number: 0 }
    }
}

impl<T> List<T> {
    /// How many are in order.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn push_back(&mut self, entry: T) -> At {
        let number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1);
        let slot = Slot { number, before: NONE, after: NONE, in_order: false, entry: Some(entry) };
        let index = match self.slots.get_mut(self.vacant) {
            Some(vacant) => {
                let index = self.vacant;
                self.vacant = vacant.after;
                *vacant = slot;
                index
            }
            None => {
                if self.slots.len() == self.slots.capacity() {
                    // By a quarter and not by twice: a map at its cap should not hold room for as many again.
                    self.slots.reserve_exact((self.slots.len() / 4).max(16));
                }
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        self.used += 1;
        self.link_back(index);
        At { index, number }
    }

    /// What has this slot now.
    pub(crate) fn at(&self, index: usize) -> Option<At> {
        self.slots.get(index).map(|slot| At { index, number: slot.number })
    }

    pub(crate) fn get(&self, at: At) -> Option<&T> {
        self.slots.get(at.index).filter(|slot| slot.number == at.number)?.entry.as_ref()
    }

    pub(crate) fn get_mut(&mut self, at: At) -> Option<&mut T> {
        self.slots.get_mut(at.index).filter(|slot| slot.number == at.number)?.entry.as_mut()
    }

    /// The first in order.
    pub(crate) fn front(&self) -> Option<At> {
        self.at(self.front)
    }

    /// The one behind this one, in order.
    pub(crate) fn after(&self, at: At) -> Option<At> {
        self.slots
            .get(at.index)
            .filter(|slot| slot.number == at.number && slot.in_order)
            .and_then(|slot| self.at(slot.after))
    }

    /// The entries in order, from the front.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (At, &T)> {
        let mut index = self.front;
        std::iter::from_fn(move || {
            let slot = self.slots.get(index)?;
            let at = At { index, number: slot.number };
            index = slot.after;
            slot.entry.as_ref().map(|entry| (at, entry))
        })
    }

    pub(crate) fn move_to_back(&mut self, at: At) {
        if self.back != at.index && self.unlink(at) {
            self.link_back(at.index);
        }
    }

    /// Takes an entry out of the order; it keeps its slot. Whether it was in order.
    pub(crate) fn unlink(&mut self, at: At) -> bool {
        let Some(slot) = self.slots.get_mut(at.index).filter(|slot| slot.number == at.number) else {
            return false;
        };
        if !std::mem::take(&mut slot.in_order) {
            return false;
        }
        let (before, after) = (slot.before, slot.after);
        match self.slots.get_mut(before) {
            Some(before) => before.after = after,
            None => self.front = after,
        }
        match self.slots.get_mut(after) {
            Some(after) => after.before = before,
            None => self.back = before,
        }
        self.len -= 1;
        true
    }

    /// Takes an entry out, and gives its slot up.
    pub(crate) fn remove(&mut self, at: At) -> Option<T> {
        let entry = self.slots.get_mut(at.index).filter(|slot| slot.number == at.number)?.entry.take()?;
        self.unlink(at);
        self.slots[at.index].after = self.vacant;
        self.vacant = at.index;
        self.used -= 1;
        if self.used == 0 && self.slots.capacity() > KEEP {
            self.slots = Vec::new();
            self.vacant = NONE;
        }
        Some(entry)
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    fn link_back(&mut self, index: usize) {
        let before = std::mem::replace(&mut self.back, index);
        match self.slots.get_mut(before) {
            Some(before) => before.after = index,
            None => self.front = index,
        }
        let slot = &mut self.slots[index];
        (slot.before, slot.after, slot.in_order) = (before, NONE, true);
        self.len += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// Who is in order, and all owners of a slot.
    #[derive(Default)]
    struct Model {
        order: VecDeque<u32>,
        owners: Vec<(u32, At)>,
        next: u32,
    }

    fn check(seeds: &[u32]) {
        let mut list = List::default();
        let mut model = Model::default();
        for seed in seeds {
            let owner = match model.owners.len() {
                0 => None,
                owners => Some((*seed as usize / 8) % owners),
            };
            match (seed % 8, owner) {
                (5, Some(owner)) => {
                    let (name, at) = model.owners[owner];
                    assert_eq!(list.unlink(at), model.order.contains(&name));
                    model.order.retain(|other| *other != name);
                }
                (6, Some(owner)) => {
                    let (name, at) = model.owners[owner];
                    list.move_to_back(at);
                    if let Some(place) = model.order.iter().position(|other| *other == name) {
                        model.order.remove(place);
                        model.order.push_back(name);
                    }
                }
                (3 | 4 | 7, Some(owner)) => {
                    let (name, at) = model.owners.swap_remove(owner);
                    assert_eq!(list.remove(at), Some(name));
                    model.order.retain(|other| *other != name);
                    // It works once, also after its slot went to somebody else.
                    assert_eq!(list.get(at), None);
                    assert_eq!((list.remove(at), list.unlink(at)), (None, false));
                }
                _ => {
                    model.owners.push((model.next, list.push_back(model.next)));
                    model.order.push_back(model.next);
                    model.next += 1;
                }
            }
            assert!(list.iter().map(|(_, name)| name).eq(&model.order));
            assert_eq!((list.len(), list.is_empty()), (model.order.len(), model.order.is_empty()));
            assert_eq!(list.front().and_then(|at| list.get(at)), model.order.front());
            assert!(model.owners.iter().all(|(name, at)| list.get(*at) == Some(name)));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]
        #[test]
        fn list_behaves_as_a_list_of_names(seeds in prop::collection::vec(any::<u32>(), 0..48)) {
            check(&seeds);
        }
    }

    /// The same again and again, without what proptest costs. Prints the number of the sequence that fails.
    #[test]
    fn list_behaves_as_a_list_of_names_in_twenty_thousand_sequences() {
        for sequence in 0..20_000 {
            let chance = crate::Chance::seeded(sequence);
            let seeds: Vec<u32> = (0..chance.bits() % 48).map(|_| (chance.bits() >> 32) as u32).collect();
            let outcome = std::panic::catch_unwind(|| check(&seeds));
            assert!(outcome.is_ok(), "sequence {sequence}");
        }
    }

    #[test]
    fn slots_are_used_again_and_a_long_list_gives_its_memory_back() {
        let mut list = List::default();
        for _ in 0..3 {
            let entries: Vec<_> = (0..100).map(|n| list.push_back(n)).collect();
            assert_eq!(list.slots.len(), 100);
            entries.into_iter().for_each(|at| {
                list.remove(at);
            });
        }
        let entries: Vec<_> = (0..5_000).map(|n| list.push_back(n)).collect();
        entries.into_iter().rev().for_each(|at| {
            list.remove(at);
        });
        assert_eq!((list.capacity(), list.len()), (0, 0));
    }
}
