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

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use std::{
        collections::VecDeque,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
        task::Wake,
    };

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[derive(Debug)]
    enum Op {
        TryTake,
        Enter,
        EnterOrRefuse,
        Release { completes: bool },
        Poll(usize),
        Leave(usize),
        Clear,
        Reconfigure { limit: u32, max_queue: u32, shadow: bool },
        Drain,
        ForgetDrain,
        Close,
    }

    impl Op {
        /// Of a number, because that is ten times faster to make than a tree of strategies.
        fn of(seed: u32) -> Self {
            let (kind, value) = (seed % 64, seed / 64);
            match kind {
                0..8 => Self::TryTake,
                8..20 => Self::Enter,
                20..24 => Self::EnterOrRefuse,
                24..39 => Self::Release { completes: value % 4 > 0 },
                39..47 => Self::Poll(value as usize),
                47..54 => Self::Leave(value as usize),
                54 => Self::Clear,
                55..59 => Self::Reconfigure {
                    limit: value % 5 + 1,
                    max_queue: value / 5 % 6,
                    shadow: value / 30 % 10 == 0,
                },
                59..62 => Self::Drain,
                62 => Self::ForgetDrain,
                _ if value % 8 == 0 => Self::Close,
                _ => Self::Release { completes: false },
            }
        }
    }

    struct Waiter {
        name: u32,
        ticket: Option<Ticket>,
        bell: Arc<Bell>,
        fate: Option<Fate>,
    }

    /// What a bulkhead is, said in the simplest way.
    struct Model {
        in_flight: u32,
        completed: u64,
        limit: u32,
        max_queue: u32,
        shadow: bool,
        closed: bool,
        line: VecDeque<u32>,
        waiters: Vec<Waiter>,
        /// The wait for the end, whether the end came, and what is to ring.
        drain: Option<(Drainer, bool, Arc<Bell>)>,
    }

    impl Model {
        fn tell_front(&mut self, fate: Fate) {
            let front = self.line.pop_front();
            for waiter in self.waiters.iter_mut().filter(|waiter| Some(waiter.name) == front) {
                waiter.fate = Some(fate);
            }
        }

        fn send_away(&mut self, fate: Fate) {
            while !self.line.is_empty() {
                self.tell_front(fate);
            }
        }

        fn settle(&mut self) {
            while !self.line.is_empty() && (self.in_flight < self.limit || self.shadow) {
                self.tell_front(Fate::Granted);
                self.in_flight += 1;
            }
            if let (Some((_, ended, _)), true, 0) = (&mut self.drain, self.line.is_empty(), self.in_flight) {
                *ended = true;
            }
        }
    }

    fn config(limit: u32, max_queue: u32, shadow: bool) -> BulkheadConfig {
        BulkheadConfig {
            max_concurrent: limit,
            max_queue,
            mode: if shadow { Mode::Shadow } else { Mode::Enforce },
            ..BulkheadConfig::default()
        }
    }

    fn check(limit: u32, max_queue: u32, seeds: &[u32]) {
        let gate = Gate::new(config(limit, max_queue, false));
        let mut next = 0;
        let mut peak = 0;
        let mut model = Model {
            in_flight: 0,
            completed: 0,
            limit,
            max_queue,
            shadow: false,
            closed: false,
            line: VecDeque::new(),
            waiters: Vec::new(),
            drain: None,
        };
        for op in seeds.iter().copied().map(Op::of) {
            let is_free = model.line.is_empty() && model.in_flight < model.limit;
            match op {
                Op::TryTake => {
                    let taken = gate.try_take();
                    // While somebody waits for the end, the way is by the lock.
                    if model.drain.is_none() {
                        assert_eq!(taken, is_free && !model.closed);
                    }
                    model.in_flight += u32::from(taken);
                }
                Op::Enter | Op::EnterOrRefuse => {
                    let bell = Arc::<Bell>::default();
                    let may_wait = matches!(op, Op::Enter);
                    let entry = match may_wait {
                        true => gate.enter(&bell.clone().into()),
                        false => gate.enter_or_refuse(),
                    };
                    match entry {
                        Entry::Closed => assert!(model.closed),
                        _ if model.closed => panic!("let in after the close"),
                        Entry::Taken => {
                            assert!(is_free);
                            model.in_flight += 1;
                        }
                        Entry::TakenOver(excess) => {
                            assert!(model.shadow && !is_free);
                            model.in_flight += 1;
                            assert_eq!(excess, model.in_flight - model.limit);
                        }
                        Entry::Waits(place) => {
                            assert!(may_wait && !is_free && !model.shadow);
                            assert!(model.line.len() < model.max_queue as usize);
                            model.line.push_back(next);
                            assert_eq!(place.position, model.line.len());
                            let ticket = Some(place.ticket);
                            model.waiters.push(Waiter { name: next, ticket, bell, fate: None });
                            next += 1;
                        }
                        Entry::Full => {
                            assert!(!is_free && !model.shadow);
                            assert!(!may_wait || model.line.len() >= model.max_queue as usize);
                        }
                    }
                }
                Op::Release { completes } => {
                    // Those that were granted and not collected yet are in flight, but not ours to release.
                    let collected = model.in_flight
                        - model.waiters.iter().filter(|waiter| waiter.fate == Some(Fate::Granted)).count()
                            as u32;
                    if collected > 0 {
                        match completes {
                            true => gate.complete(),
                            false => gate.release(),
                        }
                        model.completed += u64::from(completes);
                        model.in_flight -= 1;
                        model.settle();
                    }
                }
                Op::Poll(index) if !model.waiters.is_empty() => {
                    let index = index % model.waiters.len();
                    let waiter = &mut model.waiters[index];
                    let waker = waiter.bell.clone().into();
                    assert_eq!(gate.poll_wait(&mut waiter.ticket, &waker), waiter.fate);
                    if waiter.fate.is_some() {
                        model.waiters.swap_remove(index);
                    }
                }
                Op::Leave(index) if !model.waiters.is_empty() => {
                    let waiter = model.waiters.swap_remove(index % model.waiters.len());
                    assert_eq!(gate.leave(waiter.ticket.unwrap()), waiter.fate);
                    model.line.retain(|name| *name != waiter.name);
                    if waiter.fate == Some(Fate::Granted) {
                        gate.release();
                        model.in_flight -= 1;
                    }
                    model.settle();
                }
                Op::Poll(_) | Op::Leave(_) => {}
                Op::Clear => {
                    assert_eq!(gate.clear(), model.line.len());
                    model.send_away(Fate::Cleared);
                    model.settle();
                }
                Op::Close => {
                    assert_eq!(gate.close(), model.line.len());
                    model.closed = true;
                    model.send_away(Fate::Closed);
                    model.settle();
                }
                Op::Reconfigure { limit, max_queue, shadow } => {
                    gate.reconfigure(|old| *old = config(limit, max_queue, shadow));
                    (model.limit, model.max_queue, model.shadow) = (limit, max_queue, shadow);
                    model.settle();
                }
                Op::Drain => {
                    let (drainer, ended, bell) = match model.drain.take() {
                        Some((drainer, ended, bell)) => (Some(drainer), ended, bell),
                        None => (None, model.in_flight == 0 && model.line.is_empty(), Arc::default()),
                    };
                    let mut drainer = drainer;
                    assert_eq!(gate.poll_drained(&mut drainer, &bell.clone().into()), ended);
                    model.drain = drainer.map(|drainer| (drainer, ended, bell));
                    assert_eq!(model.drain.is_some(), !ended);
                }
                Op::ForgetDrain => {
                    if let Some((drainer, ..)) = model.drain.take() {
                        gate.forget_drainer(&drainer);
                    }
                }
            }
            peak = peak.max(model.in_flight);
            // Whoever has a fate was called, and nobody else was.
            for waiter in &model.waiters {
                assert_eq!(waiter.bell.0.load(SeqCst) > 0, waiter.fate.is_some());
            }
            if let Some((_, ended, bell)) = &model.drain {
                assert_eq!(bell.0.load(SeqCst) > 0, *ended);
            }
            let standing = Standing {
                in_flight: model.in_flight,
                limit: model.limit,
                queued: model.line.len() as u32,
                max_queue: model.max_queue,
                closed: model.closed,
            };
            assert_eq!((gate.standing(), gate.peak()), (standing, peak));
            assert_eq!(gate.completed(), model.completed);
            // The way without the lock is open again as soon as nobody waits.
            let waits = !model.line.is_empty() || matches!(model.drain, Some((_, false, _)));
            assert_eq!(gate.load().is_attended(), waits);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 5_000, ..ProptestConfig::default() })]
        // S1-046, S1-049, S1-053
        #[test]
        fn gate_behaves_as_its_model(
            limit in 1..5u32,
            max_queue in 0..5u32,
            seeds in prop::collection::vec(any::<u32>(), 0..40),
        ) {
            check(limit, max_queue, &seeds);
        }
    }

    #[test]
    fn completed_calls_are_counted_beyond_what_the_word_holds() {
        let gate = Gate::new(config(3, 0, false));
        assert!(gate.try_take());
        for count in 0..5 * BATCH + 7 {
            assert_eq!(gate.completed(), count);
            assert!(gate.try_take());
            gate.complete();
        }
        let Standing { in_flight, limit, .. } = gate.standing();
        assert_eq!((in_flight, limit), (1, 3));
    }

    /// The same again and again, without what proptest costs. Prints the number of the sequence that fails.
    #[test]
    fn gate_behaves_as_its_model_in_a_hundred_thousand_sequences() {
        for sequence in 0..100_000u64 {
            let chance = buttress_core::Chance::seeded(sequence);
            let next = || (chance.bits() >> 32) as u32;
            let (limit, max_queue) = (next() % 4 + 1, next() % 5);
            let seeds: Vec<u32> = (0..next() % 40).map(|_| next()).collect();
            let outcome = std::panic::catch_unwind(|| check(limit, max_queue, &seeds));
            assert!(outcome.is_ok(), "sequence {sequence}");
        }
    }
}

/// Every interleaving of two threads, without a bound on preemptions.
#[cfg(all(test, buttress_loom))]
mod models {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        task::Wake,
    };

    use loom::{cell::UnsafeCell, sync::Arc, thread};

    use super::*;

    /// Not one of loom's: read only after the threads were joined.
    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    impl Bell {
        fn rang(&self) -> bool {
            self.0.load(SeqCst) > 0
        }
    }

    fn bell() -> (std::sync::Arc<Bell>, Waker) {
        let bell = std::sync::Arc::<Bell>::default();
        (bell.clone(), bell.into())
    }

    fn gate(limit: u32) -> Arc<Gate> {
        Arc::new(Gate::new(BulkheadConfig { max_concurrent: limit, ..BulkheadConfig::default() }))
    }

    /// What a task does that was called: it takes its slot. Panics if it was not called.
    fn must_be_called(gate: &Gate, entry: Entry, bell: &Bell) {
        match entry {
            Entry::Taken => {}
            Entry::Waits(place) => {
                assert!(bell.rang(), "nobody called the waiter");
                let fate = gate.poll_wait(&mut Some(place.ticket), Waker::noop());
                assert_eq!(fate, Some(Fate::Granted));
            }
            other => panic!("{other:?}"),
        }
    }

    /// Nothing is held, nobody waits, and the way without the lock is open.
    fn must_be_idle(gate: &Gate, limit: u32) {
        let word = gate.load();
        assert_eq!((word.in_flight(), word.limit(), word.is_attended()), (0, limit, false));
        assert!(gate.try_take());
    }

    #[test]
    fn release_and_enter_meet() {
        loom::model(|| {
            let gate = gate(1);
            assert!(gate.try_take());
            let (bell, waker) = bell();
            let other = gate.clone();
            let release = thread::spawn(move || other.release());
            let entry = gate.enter(&waker);
            release.join().unwrap();
            must_be_called(&gate, entry, &bell);
            gate.release();
            must_be_idle(&gate, 1);
        });
    }

    #[test]
    fn release_and_cancelled_head_of_the_line_meet() {
        loom::model(|| {
            let gate = gate(1);
            assert!(gate.try_take());
            let Entry::Waits(first) = gate.enter(Waker::noop()) else { panic!() };
            let (bell, waker) = bell();
            let second = gate.enter(&waker);
            let other = gate.clone();
            let release = thread::spawn(move || other.release());
            if gate.leave(first.ticket) == Some(Fate::Granted) {
                gate.release();
            }
            release.join().unwrap();
            must_be_called(&gate, second, &bell);
            gate.release();
            must_be_idle(&gate, 1);
        });
    }

    #[test]
    fn release_and_cancelled_only_waiter_meet_a_newcomer() {
        loom::model(|| {
            let gate = gate(1);
            assert!(gate.try_take());
            let Entry::Waits(first) = gate.enter(Waker::noop()) else { panic!() };
            let other = gate.clone();
            let release = thread::spawn(move || other.release());
            if gate.leave(first.ticket) == Some(Fate::Granted) {
                gate.release();
            }
            let (bell, waker) = bell();
            let newcomer = gate.enter(&waker);
            release.join().unwrap();
            must_be_called(&gate, newcomer, &bell);
            gate.release();
            must_be_idle(&gate, 1);
        });
    }

    #[test]
    fn two_releases_and_two_waiters_meet() {
        loom::model(|| {
            let gate = gate(2);
            assert!(gate.try_take() && gate.try_take());
            let (first_bell, first_waker) = bell();
            let (second_bell, second_waker) = bell();
            let first = gate.enter(&first_waker);
            let other = gate.clone();
            let release = thread::spawn(move || other.release());
            let second = gate.enter(&second_waker);
            gate.release();
            release.join().unwrap();
            must_be_called(&gate, first, &first_bell);
            must_be_called(&gate, second, &second_bell);
            gate.release();
            gate.release();
            must_be_idle(&gate, 2);
        });
    }

    #[test]
    fn one_slot_is_held_by_one_at_a_time_and_hands_on_what_was_written() {
        loom::model(|| {
            let gate = gate(1);
            let cell = Arc::new(UnsafeCell::new(0));
            // loom reports two accesses that are not ordered, without the pointer being used.
            let work = |gate: &Gate, cell: &UnsafeCell<i32>| {
                let taken = gate.try_take() || gate.enter_or_refuse() == Entry::Taken;
                if taken {
                    cell.with_mut(|_| {});
                    gate.release();
                }
                taken
            };
            let (other, others) = (gate.clone(), cell.clone());
            let thread = thread::spawn(move || work(&other, &others));
            let here = work(&gate, &cell);
            // Refused means that the other one had it.
            assert!(thread.join().unwrap() || here);
            must_be_idle(&gate, 1);
        });
    }

    #[test]
    fn granted_slot_hands_on_what_was_written() {
        loom::model(|| {
            let gate = gate(1);
            let cell = Arc::new(UnsafeCell::new(0));
            assert!(gate.try_take());
            let (other, others) = (gate.clone(), cell.clone());
            let release = thread::spawn(move || {
                others.with_mut(|_| {});
                other.release();
            });
            let granted = match gate.enter(Waker::noop()) {
                Entry::Taken => true,
                Entry::Waits(place) => {
                    gate.poll_wait(&mut Some(place.ticket), Waker::noop()) == Some(Fate::Granted)
                }
                other => panic!("{other:?}"),
            };
            if granted {
                cell.with_mut(|_| {});
            }
            release.join().unwrap();
        });
    }

    #[test]
    fn completed_calls_of_two_threads_are_all_counted() {
        // Batches are of two here, so that the two fold against each other.
        loom::model(|| {
            let gate = gate(2);
            let work = |gate: &Gate| {
                for _ in 0..2 {
                    assert!(gate.try_take());
                    gate.complete();
                }
            };
            let other = gate.clone();
            let thread = thread::spawn(move || work(&other));
            work(&gate);
            thread.join().unwrap();
            assert_eq!(gate.completed(), 4);
            must_be_idle(&gate, 2);
        });
    }

    #[test]
    fn count_read_amid_a_fold_is_whole() {
        loom::model(|| {
            let gate = gate(1);
            assert!(gate.try_take());
            gate.complete();
            assert!(gate.try_take());
            let other = gate.clone();
            let thread = thread::spawn(move || other.complete());
            let seen = gate.completed();
            assert!(seen == 1 || seen == 2, "{seen}");
            thread.join().unwrap();
            assert_eq!(gate.completed(), 2);
        });
    }

    #[test]
    fn newcomer_never_overtakes_who_waits() {
        loom::model(|| {
            let gate = gate(1);
            assert!(gate.try_take());
            let (bell, waker) = bell();
            let waiter = gate.enter(&waker);
            let other = gate.clone();
            let release = thread::spawn(move || other.release());
            // Before, amid and after the hand-over.
            assert!(!gate.try_take());
            assert_eq!(gate.enter_or_refuse(), Entry::Full);
            release.join().unwrap();
            must_be_called(&gate, waiter, &bell);
            gate.release();
            must_be_idle(&gate, 1);
        });
    }

    #[test]
    fn drain_hears_of_the_end_when_the_last_waiter_goes() {
        loom::model(|| {
            let gate = gate(1);
            assert!(gate.try_take());
            let Entry::Waits(place) = gate.enter(Waker::noop()) else { panic!() };
            let (bell, waker) = bell();
            let mut drainer = None;
            assert!(!gate.poll_drained(&mut drainer, &waker));
            let other = gate.clone();
            let release = thread::spawn(move || other.release());
            if gate.leave(place.ticket) == Some(Fate::Granted) {
                gate.release();
            }
            release.join().unwrap();
            assert!(bell.rang());
            assert!(gate.poll_drained(&mut drainer, &waker));
            must_be_idle(&gate, 1);
        });
    }

    #[test]
    fn drain_hears_of_the_end_when_the_line_is_cleared() {
        loom::model(|| {
            let gate = gate(1);
            assert!(gate.try_take());
            let Entry::Waits(place) = gate.enter(Waker::noop()) else { panic!() };
            let (bell, waker) = bell();
            let mut drainer = None;
            assert!(!gate.poll_drained(&mut drainer, &waker));
            let other = gate.clone();
            let release = thread::spawn(move || other.release());
            gate.clear();
            release.join().unwrap();
            if gate.leave(place.ticket) == Some(Fate::Granted) {
                gate.release();
            }
            assert!(bell.rang());
            must_be_idle(&gate, 1);
        });
    }

    #[test]
    fn drain_and_waiter_both_hear_of_the_only_release() {
        loom::model(|| {
            let gate = gate(1);
            assert!(gate.try_take());
            let (waiter_bell, waker) = bell();
            let waiter = gate.enter(&waker);
            let (drain_bell, drain_waker) = bell();
            let other = gate.clone();
            let release = thread::spawn(move || other.release());
            let mut drainer = None;
            assert!(!gate.poll_drained(&mut drainer, &drain_waker));
            release.join().unwrap();
            must_be_called(&gate, waiter, &waiter_bell);
            assert!(!drain_bell.rang());
            gate.release();
            assert!(drain_bell.rang());
            assert!(gate.poll_drained(&mut drainer, &drain_waker));
            must_be_idle(&gate, 1);
        });
    }

    #[test]
    fn drain_and_the_last_release_meet() {
        loom::model(|| {
            let gate = gate(1);
            assert!(gate.try_take());
            let (bell, waker) = bell();
            let other = gate.clone();
            let release = thread::spawn(move || other.release());
            let mut drainer = None;
            let at_once = gate.poll_drained(&mut drainer, &waker);
            release.join().unwrap();
            assert!(at_once || bell.rang());
            assert!(gate.poll_drained(&mut drainer, &waker));
            must_be_idle(&gate, 1);
        });
    }

    #[test]
    fn raised_limit_and_enter_meet() {
        loom::model(|| {
            let gate = gate(1);
            assert!(gate.try_take());
            let (bell, waker) = bell();
            let other = gate.clone();
            let raise = thread::spawn(move || other.reconfigure(|config| config.max_concurrent = 2));
            let entry = gate.enter(&waker);
            raise.join().unwrap();
            must_be_called(&gate, entry, &bell);
            gate.release();
            gate.release();
            must_be_idle(&gate, 2);
        });
    }

    #[test]
    fn lowered_limit_and_release_and_take_meet() {
        loom::model(|| {
            let gate = gate(2);
            assert!(gate.try_take());
            let other = gate.clone();
            let lower = thread::spawn(move || other.reconfigure(|config| config.max_concurrent = 1));
            let taken = gate.try_take();
            gate.release();
            lower.join().unwrap();
            assert_eq!(gate.in_flight(), u32::from(taken));
            if taken {
                assert!(!gate.try_take());
                gate.release();
            }
            must_be_idle(&gate, 1);
        });
    }

    #[test]
    fn close_and_enter_meet() {
        loom::model(|| {
            let gate = gate(1);
            assert!(gate.try_take());
            let (bell, waker) = bell();
            let other = gate.clone();
            let close = thread::spawn(move || other.close());
            let entry = gate.enter(&waker);
            let sent_away = close.join().unwrap();
            match entry {
                Entry::Closed => assert_eq!(sent_away, 0),
                Entry::Waits(place) => {
                    assert!(bell.rang());
                    assert_eq!(sent_away, 1);
                    let fate = gate.poll_wait(&mut Some(place.ticket), Waker::noop());
                    assert_eq!(fate, Some(Fate::Closed));
                }
                other => panic!("{other:?}"),
            }
            gate.release();
            assert!(!gate.try_take());
            assert_eq!(gate.in_flight(), 0);
        });
    }

    #[test]
    fn clear_and_release_share_out_the_line() {
        loom::model(|| {
            let gate = gate(1);
            assert!(gate.try_take());
            let (bell, waker) = bell();
            let Entry::Waits(place) = gate.enter(&waker) else { panic!() };
            let other = gate.clone();
            let release = thread::spawn(move || other.release());
            let cleared = gate.clear();
            release.join().unwrap();
            assert!(bell.rang());
            match gate.poll_wait(&mut Some(place.ticket), Waker::noop()) {
                Some(Fate::Granted) => {
                    assert_eq!(cleared, 0);
                    gate.release();
                }
                fate => assert_eq!((fate, cleared), (Some(Fate::Cleared), 1)),
            }
            must_be_idle(&gate, 1);
        });
    }
}
