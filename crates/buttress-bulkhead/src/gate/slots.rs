//! The slots: one atomic word, which taking and giving back a slot change while nobody waits.

use crate::{
    config::MAX_LIMIT,
    sync::{
        AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed},
        spin_loop,
    },
};

// The word, from the low end: two flags, calls in flight (24 bits), limit (24 bits), the parity of the folds, completed
// calls (13 bits).
//
// Completed calls are counted in the word, because giving a slot back changes it anyway: a counter of its own would be
// one more locked operation for every call. Before its 13 bits are used up, a batch of them is taken out of the word and
// counted in `folds`; that is a *fold*. The bit in the word that changes with every fold says whether word and `folds`
// are of one moment.

/// Somebody waits, for a slot or for the end of all calls: the word is changed with the queue's lock. Set and cleared
/// with that lock.
const ATTENDED: u64 = 1;
/// No call is let in any more.
const CLOSED: u64 = 1 << 1;
/// One call in flight.
const ONE: u64 = 1 << 2;
const LIMIT_SHIFT: u32 = 26;
/// Whether the number of folds is odd.
const FOLD: u64 = 1 << 50;
const DONE_SHIFT: u32 = 51;
/// One completed call.
const DONE: u64 = 1 << DONE_SHIFT;
/// How many completed calls one fold takes out of the word: half of what there are bits for.
pub(super) const BATCH: u64 = if cfg!(buttress_loom) { 2 } else { 1 << 12 };

#[derive(Clone, Copy)]
pub(crate) struct Word(u64);

impl Word {
    pub(crate) fn in_flight(self) -> u32 {
        (self.0 / ONE) as u32 & MAX_LIMIT
    }

    pub(crate) fn limit(self) -> u32 {
        (self.0 >> LIMIT_SHIFT) as u32 & MAX_LIMIT
    }

    pub(super) fn has_room(self) -> bool {
        // Not a subtraction: after the limit shrank, more than the limit may be in flight.
        self.in_flight() < self.limit()
    }

    pub(crate) fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    pub(super) fn is_attended(self) -> bool {
        self.0 & ATTENDED != 0
    }

    fn completed(self) -> u64 {
        self.0 >> DONE_SHIFT
    }

    fn with_limit(self, limit: u32) -> u64 {
        self.0 & !(u64::from(MAX_LIMIT) << LIMIT_SHIFT) | u64::from(limit.min(MAX_LIMIT)) << LIMIT_SHIFT
    }
}

#[derive(Debug)]
pub(crate) struct AtomicSlots {
    word: AtomicU64,
    folds: AtomicU64,
    /// The most calls that were in flight at once. Nothing is decided by it, so models need not see it.
    peak: std::sync::atomic::AtomicU32,
}

impl AtomicSlots {
    pub(super) fn new(limit: u32) -> Self {
        Self {
            word: AtomicU64::new(Word(0).with_limit(limit)),
            folds: AtomicU64::new(0),
            peak: std::sync::atomic::AtomicU32::new(0),
        }
    }

    pub(crate) fn load(&self) -> Word {
        Word(self.word.load(Acquire))
    }

    fn exchange(&self, seen: Word, new: u64) -> Result<(), Word> {
        self.word.compare_exchange_weak(seen.0, new, AcqRel, Acquire).map(|_| ()).map_err(Word)
    }

    /// Takes a slot if one is free and nobody waits, without the lock.
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

    /// Takes a slot, if the word is still the one that was seen. How many calls are in flight then.
    pub(super) fn take(&self, seen: Word) -> Result<u32, Word> {
        self.exchange(seen, seen.0 + ONE)?;
        let in_flight = seen.in_flight() + 1;
        self.note_peak(in_flight);
        Ok(in_flight)
    }

    /// Gives a slot back, and counts a completed call if it was one. Whether somebody waits.
    #[inline]
    pub(super) fn give_back(&self, completes: bool) -> bool {
        let done = if completes { DONE } else { 0 };
        // Release: see `try_take`. Acquire: for those who wait for the end of all calls, and hear of it from here.
        let before = Word(self.word.fetch_add(done.wrapping_sub(ONE), AcqRel));
        debug_assert!(before.in_flight() > 0, "a slot was given back twice");
        if before.completed() >= BATCH - 1 {
            self.fold();
        }
        before.is_attended()
    }

    /// Sets the flag that somebody waits, if the word is still the one that was seen.
    pub(super) fn attend(&self, seen: Word) -> Result<(), Word> {
        if seen.is_attended() {
            return Ok(());
        }
        self.exchange(seen, seen.0 | ATTENDED)
    }

    /// Nobody waits any more: the word is used without the lock again.
    pub(super) fn unattend(&self) {
        self.word.fetch_and(!ATTENDED, AcqRel);
    }

    pub(super) fn close(&self) {
        self.word.fetch_or(CLOSED, AcqRel);
    }

    pub(super) fn set_limit(&self, limit: u32) {
        let mut word = self.load();
        while let Err(now) = self.exchange(word, word.with_limit(limit)) {
            word = now;
        }
    }

    /// Every thread that sees a full batch tries to fold, so the bits are never used up, however long one of the
    /// threads is held up.
    fn fold(&self) {
        let mut word = self.load();
        while word.completed() >= BATCH {
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
            // A fold changes the word first and `folds` then.
            let is_whole = (folds % 2 == 1) == (word.0 & FOLD != 0);
            if is_whole && self.folds.load(Acquire) == folds {
                return folds.wrapping_mul(BATCH).wrapping_add(word.completed());
            }
            spin_loop();
        }
    }

    pub(crate) fn peak(&self) -> u32 {
        self.peak.load(Relaxed)
    }

    /// Forgets the peak but for the calls in flight.
    pub(crate) fn reset_peak(&self) {
        self.peak.store(self.load().in_flight(), Relaxed);
    }

    #[inline]
    fn note_peak(&self, in_flight: u32) {
        // The plain load keeps the line of the word, which is ours already, from a second locked operation.
        if in_flight > self.peak.load(Relaxed) {
            self.raise_peak(in_flight);
        }
    }

    fn raise_peak(&self, in_flight: u32) {
        self.peak.fetch_max(in_flight, Relaxed);
    }
}
