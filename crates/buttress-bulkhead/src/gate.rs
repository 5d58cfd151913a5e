//! The slots and the line before them, without time and without events.
//!
//! One atomic word holds the limit, the number of calls in flight, and two flags. While nobody waits, taking and
//! giving back a slot touch nothing else. Once somebody waits, `ATTENDED` is set, and whoever takes or gives back
//! a slot comes to the lock.
//!
//! Why no wake-up is lost: whoever wants to wait sets `ATTENDED` by compare-exchange on the very word in which it
//! saw no free slot. A release that comes before makes the exchange fail, and the newcomer looks again; one that
//! comes after sees the flag, and comes to the lock to call the first in line.

use std::task::Waker;

use crate::{
    queue::{Fate, Left, Queue, Ticket},
    sync::{
        AtomicU64, Mutex, MutexGuard,
        Ordering::{AcqRel, Acquire, Relaxed},
    },
};

/// The largest limit: the word has 31 bits for it.
pub(crate) const MAX_LIMIT: u32 = (1 << 31) - 1;

/// Somebody waits, for a slot or for the end: changes of the word go by the lock. Set and cleared under the lock.
const ATTENDED: u64 = 1;
/// No call is let in any more.
const CLOSED: u64 = 1 << 1;
/// One call in flight.
const ONE: u64 = 1 << 2;
const LIMIT_SHIFT: u32 = 33;

#[derive(Clone, Copy)]
struct Word(u64);

impl Word {
    fn in_flight(self) -> u32 {
        (self.0 >> 2) as u32 & MAX_LIMIT
    }

    fn limit(self) -> u32 {
        (self.0 >> LIMIT_SHIFT) as u32
    }

    fn has_room(self) -> bool {
        // Not a subtraction: after the limit shrank, more than the limit may be in flight.
        self.in_flight() < self.limit()
    }

    fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    fn is_attended(self) -> bool {
        self.0 & ATTENDED != 0
    }

    fn with_limit(self, limit: u32) -> u64 {
        self.0 & ((1 << LIMIT_SHIFT) - 1) | u64::from(limit) << LIMIT_SHIFT
    }
}

/// What came of asking for a slot, or else a place in the line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Taken,
    /// At this 1-based position.
    Waits(Ticket, usize),
    Full,
    Closed,
}

#[derive(Debug)]
pub(crate) struct Gate {
    word: AtomicU64,
    /// The most that were in flight at once. No part of the protocol.
    peak: std::sync::atomic::AtomicU32,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    queue: Queue<Waker>,
    /// Those who wait for the end of all calls.
    drainers: Vec<(u64, Waker)>,
    next_drainer: u64,
    /// How often the end came while somebody waited for it.
    ends: u64,
}

impl Line {
    fn is_attended(&self) -> bool {
        !self.queue.is_empty() || !self.drainers.is_empty()
    }
}

/// Waits for the moment at which nothing runs and nobody waits.
#[derive(Debug)]
pub(crate) struct Drainer {
    number: u64,
    ends: u64,
}

impl Gate {
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            word: AtomicU64::new(Word(0).with_limit(limit.min(MAX_LIMIT))),
            peak: std::sync::atomic::AtomicU32::new(0),
            line: Mutex::default(),
        }
    }

    fn load(&self) -> Word {
        Word(self.word.load(Acquire))
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // No user code runs under this lock but the cloning of a waker, and a panic there leaves the line as it
        // was. Wakers are called and dropped without it: the last waker of a task may drop the task, and with it
        // a call that gives its place back.
        self.line.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.load().in_flight()
    }

    pub(crate) fn limit(&self) -> u32 {
        self.load().limit()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.load().is_closed()
    }

    pub(crate) fn queued(&self) -> usize {
        self.line().queue.len()
    }

    /// In flight, limit and queued of one moment.
    pub(crate) fn levels(&self) -> (u32, u32, usize) {
        let line = self.line();
        let word = self.load();
        (word.in_flight(), word.limit(), line.queue.len())
    }

    pub(crate) fn peak(&self) -> u32 {
        self.peak.load(Relaxed)
    }

    /// Forgets the peak but for the calls in flight.
    pub(crate) fn reset_peak(&self) {
        self.peak.store(self.in_flight(), Relaxed);
    }

    #[inline]
    fn note_peak(&self, in_flight: u32) {
        // The plain load keeps the line of the word, which is ours already, from a second locked operation.
        if in_flight > self.peak.load(Relaxed) {
            self.peak.fetch_max(in_flight, Relaxed);
        }
    }

    /// Takes a slot if one is free and nobody waits. No lock.
    #[inline]
    pub(crate) fn try_take(&self) -> bool {
        let mut word = Word(self.word.load(Relaxed));
        loop {
            if word.0 & (ATTENDED | CLOSED) != 0 || !word.has_room() {
                return false;
            }
            // Acquire: what the last holder of this slot did happened before.
            match self.word.compare_exchange_weak(word.0, word.0 + ONE, Acquire, Relaxed) {
                Ok(_) => {
                    self.note_peak(word.in_flight() + 1);
                    return true;
                }
                Err(now) => word = Word(now),
            }
        }
    }

    /// Takes a slot, or else a place in the line if fewer than `max_queue` wait.
    pub(crate) fn enter(&self, max_queue: usize, waker: &Waker) -> Entry {
        self.enter_with(|line| (line.queue.len() < max_queue).then(|| waker.clone()))
    }

    /// Takes a slot that no waiter is entitled to, or says why there is none.
    pub(crate) fn take_or_refuse(&self) -> Entry {
        self.enter_with(|_| None)
    }

    fn enter_with(&self, may_wait: impl Fn(&Line) -> Option<Waker>) -> Entry {
        let mut line = self.line();
        let mut word = self.load();
        loop {
            if word.is_closed() {
                return Entry::Closed;
            }
            if line.queue.is_empty() && word.has_room() {
                match self.word.compare_exchange_weak(word.0, word.0 + ONE, AcqRel, Acquire) {
                    Ok(_) => {
                        self.note_peak(word.in_flight() + 1);
                        return Entry::Taken;
                    }
                    Err(now) => word = Word(now),
                }
                continue;
            }
            let Some(waker) = may_wait(&line) else { return Entry::Full };
            if !word.is_attended() {
                let set = self.word.compare_exchange_weak(word.0, word.0 | ATTENDED, AcqRel, Acquire);
                if let Err(now) = set {
                    word = Word(now);
                    continue;
                }
            }
            let ticket = line.queue.push_back(waker);
            return Entry::Waits(ticket, line.queue.len());
        }
    }

    /// Takes a slot whether one is free or not, for rules that only watch. Gives how many more than the limit
    /// are in flight now; `None`: closed.
    pub(crate) fn take_anyway(&self) -> Option<u32> {
        let mut word = self.load();
        loop {
            // The count must not run into the limit's bits; two thousand million calls do not fit into memory.
            if word.is_closed() || word.in_flight() == MAX_LIMIT {
                return None;
            }
            match self.word.compare_exchange_weak(word.0, word.0 + ONE, AcqRel, Acquire) {
                Ok(_) => {
                    self.note_peak(word.in_flight() + 1);
                    return Some((word.in_flight() + 1).saturating_sub(word.limit()));
                }
                Err(now) => word = Word(now),
            }
        }
    }

    /// Gives a slot back, and calls the first in line.
    #[inline]
    pub(crate) fn release(&self) {
        // Release: see `try_take`. Acquire: for the drain, which hears of the end from here.
        let before = Word(self.word.fetch_sub(ONE, AcqRel));
        debug_assert!(before.in_flight() > 0, "a slot was given back twice");
        if before.is_attended() {
            self.settle();
        }
    }

    /// Grants free slots to those who wait, in order; then, if all is over, calls those who wait for that.
    #[cold]
    pub(crate) fn settle(&self) {
        // One at a time, so that nothing is allocated and wakers are called without the lock.
        while let Some(waker) = self.grant_one() {
            waker.wake();
        }
    }

    fn grant_one(&self) -> Option<Waker> {
        let mut line = self.line();
        let word = self.load();
        if line.queue.is_empty() {
            if word.in_flight() > 0 || line.drainers.is_empty() {
                return None;
            }
            line.ends = line.ends.wrapping_add(1);
            let drainers = std::mem::take(&mut line.drainers);
            self.unattend(&line);
            drop(line);
            drainers.into_iter().for_each(|(_, waker)| waker.wake());
            return None;
        }
        if !word.has_room() {
            return None;
        }
        // No compare-exchange: `ATTENDED` keeps `try_take` out, the lock everybody else, and a release in
        // between only makes more room. (`take_anyway` may come between; it asks for no room.)
        let before = Word(self.word.fetch_add(ONE, AcqRel));
        self.note_peak(before.in_flight() + 1);
        let waker = line.queue.settle_front(Fate::Granted);
        self.unattend(&line);
        waker
    }

    /// Lets the word be used without the lock again, if nobody waits.
    fn unattend(&self, line: &Line) {
        if !line.is_attended() {
            self.word.fetch_and(!ATTENDED, AcqRel);
        }
    }

    /// The end of a wait, if it came; then the ticket is used up. `Granted` means that the caller has a slot.
    pub(crate) fn poll_wait(&self, ticket: &mut Option<Ticket>, waker: &Waker) -> Option<Fate> {
        let mut line = self.line();
        if let Some(known) = ticket.as_ref().and_then(|ticket| line.queue.waiting_mut(ticket)) {
            let former = (!known.will_wake(waker)).then(|| std::mem::replace(known, waker.clone()));
            drop(line);
            drop(former);
            return None;
        }
        match line.queue.remove(ticket.take()?)? {
            Left::Settled(fate) => Some(fate),
            Left::Waiting(_) => None,
        }
    }

    /// Gives a place in the line up. `Some`: the wait had ended before, with this fate; if with `Granted`, the
    /// caller has a slot.
    pub(crate) fn leave(&self, ticket: Ticket) -> Option<Fate> {
        let mut line = self.line();
        let left = line.queue.remove(ticket)?;
        self.unattend(&line);
        let settle = line.queue.is_empty() && !line.drainers.is_empty();
        drop(line);
        match left {
            Left::Settled(fate) => Some(fate),
            Left::Waiting(_) => {
                if settle {
                    self.settle();
                }
                None
            }
        }
    }

    /// The 1-based place in the line.
    pub(crate) fn position(&self, ticket: &Ticket) -> Option<usize> {
        self.line().queue.position(ticket)
    }

    /// Sends all away that wait; how many.
    pub(crate) fn clear(&self) -> usize {
        let line = self.line();
        self.send_away(line, Fate::Cleared)
    }

    /// Lets nobody in any more, and sends all away that wait; how many. Calls in flight go on.
    pub(crate) fn close(&self) -> usize {
        let line = self.line();
        self.word.fetch_or(CLOSED, AcqRel);
        self.send_away(line, Fate::Closed)
    }

    fn send_away(&self, mut line: MutexGuard<'_, Line>, fate: Fate) -> usize {
        let wakers: Vec<_> = std::iter::from_fn(|| line.queue.settle_front(fate)).collect();
        self.unattend(&line);
        drop(line);
        let count = wakers.len();
        wakers.into_iter().for_each(Waker::wake);
        // Those who wait for the end may have waited for the line only.
        self.settle();
        count
    }

    /// Changes the limit. Those in flight stay; those who wait are let in as far as there is room now.
    pub(crate) fn set_limit(&self, limit: u32) {
        let line = self.line();
        let mut word = self.load();
        while let Err(now) = self.word.compare_exchange_weak(word.0, word.with_limit(limit), AcqRel, Acquire)
        {
            word = Word(now);
        }
        drop(line);
        self.settle();
    }

    /// Whether all is over; if not, `waker` is called when it is.
    pub(crate) fn poll_drained(&self, drainer: &mut Option<Drainer>, waker: &Waker) -> bool {
        let mut line = self.line();
        if let Some(known) = drainer {
            if known.ends != line.ends {
                *drainer = None;
                return true;
            }
            let listed = line.drainers.iter_mut().find(|(number, _)| *number == known.number);
            let former = listed.map(|(_, former)| std::mem::replace(former, waker.clone()));
            drop(line);
            drop(former);
            return false;
        }
        let mut word = self.load();
        loop {
            if line.queue.is_empty() && word.in_flight() == 0 {
                return true;
            }
            // As in `enter_with`.
            if word.is_attended() {
                break;
            }
            match self.word.compare_exchange_weak(word.0, word.0 | ATTENDED, AcqRel, Acquire) {
                Ok(_) => break,
                Err(now) => word = Word(now),
            }
        }
        let number = line.next_drainer;
        line.next_drainer = line.next_drainer.wrapping_add(1);
        line.drainers.push((number, waker.clone()));
        *drainer = Some(Drainer { number, ends: line.ends });
        false
    }

    /// No longer waits for the end.
    pub(crate) fn forget_drainer(&self, drainer: &Drainer) {
        let mut line = self.line();
        let listed = line.drainers.iter().position(|(number, _)| *number == drainer.number);
        let former = listed.map(|index| line.drainers.swap_remove(index));
        self.unattend(&line);
        drop(line);
        drop(former);
    }
}
