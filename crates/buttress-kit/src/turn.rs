//! Ordered events and levels on their way to listeners: a ring, a bit for each level, and the turn to tell them.
//!
//! A change is put here with the lock held that it was made under; without that lock, [`Lane::run`] tells it. One
//! thread at a time has the turn, so all is told in order. A thread that finds the turn taken leaves at once.
//!
//! Why nothing stays behind: a thread that leaves has put its change here before it swapped the turn and found it
//! taken. The turn is given back by a swap as well, which reads what that thread swapped in, so the look at ring and
//! bits that follows sees the change. A plain store does not read, and that look could come before it.
//!
//! Only the bound on what one caller tells leaves something behind; it is told with the next event.

use std::collections::VecDeque;

use crate::{
    lock::unpoisoned,
    sync::{
        AtomicBool, AtomicU32, Mutex,
        Ordering::{AcqRel, Acquire, Release},
    },
};

#[cfg(all(test, buttress_loom))]
mod models;

/// The most ordered events that one caller tells, those of other callers included.
pub(crate) const QUOTA: u32 = 32;
/// The most that wait; then the oldest goes.
pub(crate) const RING: usize = 256;

/// What is to be told next.
pub(crate) enum Next<T> {
    Event(T),
    /// The level with this number has moved: it is read now, so the last value told is the last value.
    Level(u32),
}

pub(crate) struct Lane<T> {
    ring: Mutex<VecDeque<T>>,
    /// Whether the ring has something, looked at without its lock and changed with it.
    waiting: AtomicBool,
    /// A bit for each level that is to be read and told again.
    stale: AtomicU32,
    taken: AtomicBool,
}

impl<T> Lane<T> {
    pub(crate) fn new() -> Self {
        let (waiting, taken) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { ring: Mutex::new(VecDeque::new()), waiting, stale: AtomicU32::new(0), taken }
    }

    /// Puts an event at the end. Returns the oldest one if there was no room.
    #[must_use]
    pub(crate) fn push(&self, event: T) -> Option<T> {
        let mut ring = unpoisoned(self.ring.lock());
        let oldest = if ring.len() >= RING { ring.pop_front() } else { None };
        ring.push_back(event);
        self.waiting.store(true, Release);
        oldest
    }

    /// Notes that these levels have moved, a bit for each. Without a bit it only puts the caller before or after every
    /// telling of levels.
    pub(crate) fn mark(&self, levels: u32) {
        self.stale.fetch_or(levels, AcqRel);
    }

    pub(crate) fn is_idle(&self) -> bool {
        !self.waiting.load(Acquire) && self.stale.load(Acquire) == 0
    }

    fn pop(&self) -> Option<T> {
        if !self.waiting.load(Acquire) {
            return None;
        }
        let mut ring = unpoisoned(self.ring.lock());
        let next = ring.pop_front();
        self.waiting.store(!ring.is_empty(), Release);
        next
    }

    /// Tells what waits, if nobody is at it: at most [`QUOTA`] events, and after them each level that moved, so that
    /// a flood of events does not hold up the levels.
    pub(crate) fn run(&self, mut tell: impl FnMut(Next<T>)) {
        let mut left = QUOTA;
        while left > 0 && !self.is_idle() {
            if self.taken.swap(true, AcqRel) {
                return;
            }
            let _turn = Turn(&self.taken);
            while left > 0 {
                let Some(event) = self.pop() else { break };
                left -= 1;
                tell(Next::Event(event));
            }
            let stale = self.stale.swap(0, AcqRel);
            for number in (0..u32::BITS).filter(|number| stale & (1 << number) != 0) {
                left = left.saturating_sub(1);
                tell(Next::Level(number));
            }
        }
    }
}

/// The turn; given back when it is dropped, also by a panic.
struct Turn<'a>(&'a AtomicBool);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // A swap and no store: see the top of the file.
        self.0.swap(false, AcqRel);
    }
}
