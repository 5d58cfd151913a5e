//! The slots and the line before them, without time and without events.
//!
//! One atomic word holds the limit, the numbers of calls in flight and completed, and flags. While nobody waits, taking and
//! giving back a slot touch nothing else. Once somebody waits, `ATTENDED` is set, and whoever takes or gives back
//! a slot comes to the lock.
//!
//! Why no wake-up is lost: whoever wants to wait sets `ATTENDED` by compare-exchange on the very word in which it
//! saw no free slot. A release that comes before makes the exchange fail, and the newcomer looks again; one that
//! comes after sees the flag, and comes to the lock to call the first in line.

use std::{task::Waker, time::Duration};

use buttress_core::Mode;

use crate::{
    BulkheadConfig,
    queue::{Fate, Left, Queue, Ticket},
    sync::{
        AtomicU64, Mutex, MutexGuard,
        Ordering::{AcqRel, Acquire, Relaxed},
    },
};

/// The largest limit: the word has 24 bits for it, and as many for the calls in flight.
pub(crate) const MAX_LIMIT: u32 = (1 << 24) - 1;

// The word, from the low end: two flags, calls in flight, limit, which of two folds came last, calls completed
// since then.

/// Somebody waits, for a slot or for the end: changes of the word go by the lock. Set and cleared under the lock.
const ATTENDED: u64 = 1;
/// No call is let in any more.
const CLOSED: u64 = 1 << 1;
/// One call in flight.
const ONE: u64 = 1 << 2;
const LIMIT_SHIFT: u32 = 26;
/// Changes with every fold.
const FOLD: u64 = 1 << 50;
/// One call completed. In this word, because giving a slot back changes it anyway: a counter of its own would be
/// one more locked operation for every call.
const DONE: u64 = 1 << DONE_SHIFT;
const DONE_SHIFT: u32 = 51;
/// As soon as so many are completed, they are folded away. Half of what there are bits for.
const BATCH: u64 = if cfg!(buttress_loom) { 2 } else { 1 << 12 };

#[derive(Clone, Copy)]
struct Word(u64);

impl Word {
    fn in_flight(self) -> u32 {
        (self.0 / ONE) as u32 & MAX_LIMIT
    }

    fn limit(self) -> u32 {
        (self.0 >> LIMIT_SHIFT) as u32 & MAX_LIMIT
    }

    fn done(self) -> u64 {
        self.0 >> DONE_SHIFT
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
        self.0 & !(u64::from(MAX_LIMIT) << LIMIT_SHIFT) | u64::from(limit.min(MAX_LIMIT)) << LIMIT_SHIFT
    }
}

/// What came of asking for a slot, or else a place in the line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Taken,
    /// In shadow mode: with this one, so many more than the limit are in flight.
    TakenOver(u32),
    Waits(Place),
    Full,
    Closed,
}

/// A place in the line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) ticket: Ticket,
    /// From 1.
    pub(crate) position: usize,
    /// The time-out in force when it was taken.
    pub(crate) timeout: Option<Duration>,
}

/// How things stand at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) in_flight: u32,
    pub(crate) limit: u32,
    pub(crate) queued: u32,
    pub(crate) max_queue: u32,
    pub(crate) closed: bool,
}

#[derive(Debug)]
pub(crate) struct Gate {
    word: AtomicU64,
    /// How many batches of completed calls were folded out of the word.
    folds: AtomicU64,
    /// The most that were in flight at once. No part of the protocol.
    peak: std::sync::atomic::AtomicU32,
    line: Mutex<Line>,
}

#[derive(Debug)]
struct Line {
    /// Here, so that the rules a call meets at the line are of one moment. The limit is in the word, too.
    config: BulkheadConfig,
    queue: Queue<Waker>,
    /// Those who wait for the end of all calls.
    drainers: Vec<(u64, Waker)>,
    next_drainer: u64,
    /// How often the end came while somebody waited for it.
    ends: u64,
}

impl Line {
    fn new(config: BulkheadConfig) -> Self {
        Self { config, queue: Queue::default(), drainers: Vec::new(), next_drainer: 0, ends: 0 }
    }

    fn is_attended(&self) -> bool {
        !self.queue.is_empty() || !self.drainers.is_empty()
    }

    fn is_shadow(&self) -> bool {
        self.config.mode == Mode::Shadow
    }
}

/// Waits for the moment at which nothing runs and nobody waits.
#[derive(Debug)]
pub(crate) struct Drainer {
    number: u64,
    ends: u64,
}

impl Gate {
    pub(crate) fn new(config: BulkheadConfig) -> Self {
        Self {
            word: AtomicU64::new(Word(0).with_limit(config.max_concurrent)),
            folds: AtomicU64::new(0),
            peak: std::sync::atomic::AtomicU32::new(0),
            line: Mutex::new(Line::new(config)),
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

    pub(crate) fn config(&self) -> BulkheadConfig {
        self.line().config.clone()
    }

    pub(crate) fn standing(&self) -> Standing {
        let line = self.line();
        let word = self.load();
        Standing {
            in_flight: word.in_flight(),
            limit: word.limit(),
            queued: u32::try_from(line.queue.len()).unwrap_or(u32::MAX),
            max_queue: line.config.max_queue,
            closed: word.is_closed(),
        }
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
            self.raise_peak(in_flight);
        }
    }

    #[cold]
    fn raise_peak(&self, in_flight: u32) {
        self.peak.fetch_max(in_flight, Relaxed);
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

    /// Takes a slot, or else a place in the line, by the rules in force.
    pub(crate) fn enter(&self, waker: &Waker) -> Entry {
        self.enter_as(Some(waker))
    }

    /// Takes a slot that nobody in the line is entitled to, or says why there is none.
    pub(crate) fn enter_or_refuse(&self) -> Entry {
        self.enter_as(None)
    }

    fn enter_as(&self, waker: Option<&Waker>) -> Entry {
        let mut line = self.line();
        let mut word = self.load();
        loop {
            if word.is_closed() {
                return Entry::Closed;
            }
            let is_free = word.has_room() && line.queue.is_empty();
            if is_free || line.is_shadow() {
                // The count must not run into the limit's bits.
                if word.in_flight() == MAX_LIMIT {
                    return Entry::Full;
                }
                if let Err(now) = self.exchange(word, word.0 + ONE) {
                    word = now;
                    continue;
                }
                let in_flight = word.in_flight() + 1;
                self.note_peak(in_flight);
                return if is_free {
                    Entry::Taken
                } else {
                    Entry::TakenOver(in_flight.saturating_sub(word.limit()))
                };
            }
            let Some(waker) = waker.filter(|_| line.queue.len() < line.config.max_queue as usize) else {
                return Entry::Full;
            };
            if !word.is_attended() {
                if let Err(now) = self.exchange(word, word.0 | ATTENDED) {
                    word = now;
                    continue;
                }
            }
            let ticket = line.queue.push_back(waker.clone());
            return Entry::Waits(Place {
                ticket,
                position: line.queue.len(),
                timeout: line.config.queue_timeout,
            });
        }
    }

    fn exchange(&self, seen: Word, new: u64) -> Result<(), Word> {
        self.word.compare_exchange_weak(seen.0, new, AcqRel, Acquire).map(|_| ()).map_err(Word)
    }

    /// Gives a slot back, and calls the first in line.
    #[inline]
    pub(crate) fn release(&self) {
        self.give_back(0);
    }

    /// The same, and counts a completed call.
    #[inline]
    pub(crate) fn complete(&self) {
        self.give_back(DONE);
    }

    #[inline]
    fn give_back(&self, done: u64) {
        // Release: see `try_take`. Acquire: for the drain, which hears of the end from here.
        let before = Word(self.word.fetch_add(done.wrapping_sub(ONE), AcqRel));
        debug_assert!(before.in_flight() > 0, "a slot was given back twice");
        if before.is_attended() {
            self.settle();
        }
        if before.done() >= BATCH - 1 {
            self.fold();
        }
    }

    /// Moves a batch of completed calls out of the word, before its bits are used up.
    ///
    /// Whoever sees a full batch does, so that it never comes to that, however long one of them is held up.
    #[cold]
    fn fold(&self) {
        let mut word = self.load();
        while word.done() >= BATCH {
            match self.exchange(word, (word.0 ^ FOLD) - BATCH * DONE) {
                Ok(()) => {
                    self.folds.fetch_add(1, AcqRel);
                    return;
                }
                Err(now) => word = now,
            }
        }
    }

    /// How many calls were completed, ever.
    pub(crate) fn completed(&self) -> u64 {
        loop {
            let folds = self.folds.load(Acquire);
            let word = self.load();
            // Not amid a fold, which changes the word first and `folds` then.
            let is_whole = (folds % 2 == 1) == (word.0 & FOLD != 0);
            if is_whole && self.folds.load(Acquire) == folds {
                return folds.wrapping_mul(BATCH).wrapping_add(word.done());
            }
            crate::sync::spin_loop();
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
                self.unattend(&line);
                return None;
            }
            line.ends = line.ends.wrapping_add(1);
            let drainers = std::mem::take(&mut line.drainers);
            self.unattend(&line);
            drop(line);
            drainers.into_iter().for_each(|(_, waker)| waker.wake());
            return None;
        }
        // In shadow mode nobody waits: those who did when it was set go on.
        if !word.has_room() && !line.is_shadow() {
            return None;
        }
        // No compare-exchange: `ATTENDED` keeps `try_take` out, the lock everybody else, and a release in
        // between only makes more room.
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
        drop(line);
        // Who waits for the end need not be called here: while somebody waited, slots were held, and the last of
        // them that is given back comes to the lock.
        match left {
            Left::Settled(fate) => Some(fate),
            Left::Waiting(_) => None,
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
        count
    }

    /// Changes the rules. Those in flight stay; those who wait are let in as far as there is room now.
    pub(crate) fn reconfigure(&self, change: impl FnOnce(&mut BulkheadConfig)) {
        let mut line = self.line();
        change(&mut line.config);
        let mut word = self.load();
        while let Err(now) = self.exchange(word, word.with_limit(line.config.max_concurrent)) {
            word = now;
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
            // As in `enter_as`.
            if word.is_attended() {
                break;
            }
            match self.exchange(word, word.0 | ATTENDED) {
                Ok(()) => break,
                Err(now) => word = now,
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

#[cfg(all(test, buttress_loom))]
mod models;
#[cfg(all(test, not(buttress_loom)))]
mod tests;
