//! The waiting line as plain data: first in, first out; leaving it anywhere is O(1).
//!
//! A place outlives the wait by one step: who is called out of the line (`settle_front`) keeps the place, with the
//! fate written in it, until its owner takes it (`remove`). So a fate is never lost and never told twice.

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// A slot is the waiter's; whoever takes the fate owes it back.
    Granted,
    /// The line was cleared by hand.
    Cleared,
    /// The bulkhead was closed.
    Closed,
}

/// What was found at a place that was given up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left<T> {
    /// The wait had not ended. What calls the waiter: drop it without a lock held.
    Waiting(T),
    /// The wait had ended, like this.
    Settled(Fate),
}

/// A place in the line. Not `Clone`: its one owner must hand it to [`Queue::remove`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    index: usize,
    // Places are used again; a ticket of an earlier use must find nothing.
    number: u64,
}

/// The line. `T` is what calls a waiter: its waker.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    places: Vec<Place<T>>,
    vacant: usize,
    front: usize,
    back: usize,
    len: usize,
    /// Places in use: those that wait and those whose fate was not taken yet.
    used: usize,
    next_number: u64,
}

#[derive(Debug)]
struct Place<T> {
    number: u64,
    /// The neighbours of one who waits; of a vacant place, `after` is the next vacant one.
    before: usize,
    after: usize,
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    Vacant,
    Waiting(T),
    Settled(Fate),
}

const NONE: usize = usize::MAX;

/// An empty line with room for more than this gives its memory back.
const KEEP: usize = 1024;

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { places: Vec::new(), vacant: NONE, front: NONE, back: NONE, len: 0, used: 0, next_number: 0 }
    }
}

impl<T> Queue<T> {
    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the last place.
    pub(crate) fn push_back(&mut self, waiter: T) -> Ticket {
        let number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1);
        let place = Place { number, before: self.back, after: NONE, state: State::Waiting(waiter) };
        let index = match self.places.get_mut(self.vacant) {
            Some(vacant) => {
                let index = self.vacant;
                self.vacant = vacant.after;
                *vacant = place;
                index
            }
            None => {
                self.places.push(place);
                self.places.len() - 1
            }
        };
        match self.places.get_mut(self.back) {
            Some(last) => last.after = index,
            None => self.front = index,
        }
        self.back = index;
        self.len += 1;
        self.used += 1;
        Ticket { index, number }
    }

    /// Ends the wait of the first in line; gives what calls it.
    pub(crate) fn settle_front(&mut self, fate: Fate) -> Option<T> {
        let front = self.front;
        self.unlink(front)?;
        match std::mem::replace(&mut self.places[front].state, State::Settled(fate)) {
            State::Waiting(waiter) => Some(waiter),
            State::Vacant | State::Settled(_) => None,
        }
    }

    /// Gives the place up. `None`: the ticket was used before.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<Left<T>> {
        let place = self.places.get_mut(ticket.index).filter(|place| place.number == ticket.number)?;
        let left = match std::mem::replace(&mut place.state, State::Vacant) {
            State::Vacant => return None,
            State::Waiting(waiter) => {
                self.unlink(ticket.index);
                Left::Waiting(waiter)
            }
            State::Settled(fate) => Left::Settled(fate),
        };
        let place = &mut self.places[ticket.index];
        place.after = self.vacant;
        self.vacant = ticket.index;
        self.used -= 1;
        if self.used == 0 && self.places.capacity() > KEEP {
            self.places = Vec::new();
            self.vacant = NONE;
        }
        Some(left)
    }

    /// What calls the waiter, while it waits. `None` once its fate is settled.
    pub(crate) fn waiting_mut(&mut self, ticket: &Ticket) -> Option<&mut T> {
        match self.places.get_mut(ticket.index) {
            Some(Place { number, state: State::Waiting(waiter), .. }) if *number == ticket.number => {
                Some(waiter)
            }
            _ => None,
        }
    }

    /// The 1-based place in line, while it waits. O(n).
    pub(crate) fn position(&self, ticket: &Ticket) -> Option<usize> {
        let (mut index, mut position) = (self.front, 1);
        while let Some(place) = self.places.get(index) {
            if index == ticket.index {
                return (place.number == ticket.number).then_some(position);
            }
            index = place.after;
            position += 1;
        }
        None
    }

    /// Takes one that waits out of the list of those who wait.
    fn unlink(&mut self, index: usize) -> Option<()> {
        let place = self.places.get(index)?;
        let (before, after) = (place.before, place.after);
        match self.places.get_mut(before) {
            Some(before) => before.after = after,
            None => self.front = after,
        }
        match self.places.get_mut(after) {
            Some(after) => after.before = before,
            None => self.back = before,
        }
        self.len -= 1;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug)]
    enum Op {
        Push,
        SettleFront(Fate),
        Remove(usize),
        Look(usize),
    }

    impl Op {
        fn of(seed: u32) -> Self {
            let (kind, value) = (seed % 8, seed as usize / 8);
            match kind {
                0..3 => Self::Push,
                3..5 => Self::SettleFront([Fate::Granted, Fate::Cleared, Fate::Closed][value % 3]),
                5..7 => Self::Remove(value),
                _ => Self::Look(value),
            }
        }
    }

    /// Those who wait, in order, and all owners of a ticket with what is to be told to them.
    #[derive(Default)]
    struct Model {
        line: VecDeque<u32>,
        owners: Vec<(u32, Ticket, Option<Fate>)>,
        next: u32,
    }

    fn check(seeds: &[u32]) {
        let mut queue = Queue::default();
        let mut model = Model::default();
        for op in seeds.iter().copied().map(Op::of) {
            match op {
                Op::Push => {
                    let ticket = queue.push_back(model.next);
                    model.line.push_back(model.next);
                    model.owners.push((model.next, ticket, None));
                    model.next += 1;
                }
                Op::SettleFront(fate) => {
                    let front = model.line.pop_front();
                    assert_eq!(queue.settle_front(fate), front);
                    for (name, _, told) in &mut model.owners {
                        if Some(*name) == front {
                            *told = Some(fate);
                        }
                    }
                }
                Op::Remove(index) if !model.owners.is_empty() => {
                    let (name, ticket, told) = model.owners.swap_remove(index % model.owners.len());
                    let used = Ticket { index: ticket.index, number: ticket.number };
                    let left = told.map_or(Left::Waiting(name), Left::Settled);
                    assert_eq!(queue.remove(ticket), Some(left));
                    model.line.retain(|other| *other != name);
                    // A ticket works once, also after its place went to somebody else.
                    assert!(queue.waiting_mut(&used).is_none());
                    assert_eq!(queue.position(&used), None);
                    assert_eq!(queue.remove(used), None);
                }
                Op::Look(index) if !model.owners.is_empty() => {
                    let (name, ticket, told) = &model.owners[index % model.owners.len()];
                    let position = model.line.iter().position(|other| other == name).map(|at| at + 1);
                    assert_eq!(queue.position(ticket), position);
                    assert_eq!(queue.waiting_mut(ticket).copied(), told.is_none().then_some(*name));
                }
                Op::Remove(_) | Op::Look(_) => {}
            }
            assert_eq!(queue.len(), model.line.len());
            assert_eq!(queue.is_empty(), model.line.is_empty());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 5_000, ..ProptestConfig::default() })]
        #[test]
        fn line_behaves_as_a_list_of_names(seeds in prop::collection::vec(any::<u32>(), 0..48)) {
            check(&seeds);
        }
    }

    /// The same again and again, without what proptest costs. Prints the number of the sequence that fails.
    #[test]
    fn line_behaves_as_a_list_of_names_in_a_hundred_thousand_sequences() {
        for sequence in 0..100_000u64 {
            let chance = buttress_kit::Chance::seeded(sequence);
            let seeds: Vec<u32> = (0..chance.bits() % 48).map(|_| (chance.bits() >> 32) as u32).collect();
            let outcome = std::panic::catch_unwind(|| check(&seeds));
            assert!(outcome.is_ok(), "sequence {sequence}");
        }
    }

    #[test]
    fn places_are_used_again_and_a_long_line_gives_its_memory_back() {
        let mut queue = Queue::default();
        for _ in 0..3 {
            let tickets: Vec<_> = (0..100).map(|n| queue.push_back(n)).collect();
            assert_eq!(queue.places.len(), 100);
            tickets.into_iter().for_each(|ticket| {
                queue.remove(ticket);
            });
        }
        let tickets: Vec<_> = (0..5_000).map(|n| queue.push_back(n)).collect();
        tickets.into_iter().rev().for_each(|ticket| {
            queue.remove(ticket);
        });
        assert_eq!((queue.places.capacity(), queue.len()), (0, 0));
    }
}
