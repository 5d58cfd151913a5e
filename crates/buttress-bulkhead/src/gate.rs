//! Who gets a slot, who waits for one and who is refused: without time and without events.
//!
//! The slots are one atomic word. While nobody waits, taking a slot and giving it back change that word and touch
//! nothing else; the queue behind its lock is kit's, with the proof that no wake-up is lost.

use std::{
    ops::ControlFlow::{self, Break, Continue},
    task::Waker,
    time::Duration,
};

use buttress_kit::{
    Mode, Queue,
    queue::{Queued, Slots, Waiting},
    wakers::{Parked, WakerList},
};

use self::slots::AtomicSlots;
use crate::{BulkheadConfig, config::MAX_LIMIT};

mod slots;

/// What came of asking for a slot, or else for a place in the queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Taken,
    /// In shadow mode: with this one, so many more than the limit are in flight.
    TakenOver(u32),
    /// And the timeout in force at that moment.
    Waits(Queued, Option<Duration>),
    Full,
    Closed,
}

/// How things stand at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) in_flight: u32,
    pub(crate) limit: u32,
    pub(crate) queued: u32,
    pub(crate) max_queue: u32,
    pub(crate) closed: bool,
    /// Whether a call that came now would run or wait.
    pub(crate) accepts: bool,
}

/// The settings that those who come to the lock meet, and those who wait for the end of all calls.
#[derive(Debug)]
pub(crate) struct Rules {
    max_queue: u32,
    queue_timeout: Option<Duration>,
    shadow: bool,
    drainers: WakerList,
}

#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) queue: Queue<AtomicSlots>,
}

impl Gate {
    pub(crate) fn new(config: &BulkheadConfig) -> Self {
        let mut rules =
            Rules { max_queue: 0, queue_timeout: None, shadow: false, drainers: WakerList::default() };
        rules.take(config);
        Self { queue: Queue::new(AtomicSlots::new(config.max_concurrent), rules) }
    }

    /// The slots. While nobody waits, taking one needs nothing else.
    #[inline]
    pub(crate) fn slots(&self) -> &AtomicSlots {
        self.queue.slots()
    }

    pub(crate) fn status(&self) -> Status {
        self.queue.with(|slots, rules, waiting| {
            let word = slots.load();
            let runs = rules.shadow || waiting.callers == 0 && word.has_room();
            Status {
                in_flight: word.in_flight(),
                limit: word.limit(),
                queued: u32::try_from(waiting.callers).unwrap_or(u32::MAX),
                max_queue: rules.max_queue,
                closed: word.is_closed(),
                accepts: !word.is_closed() && (runs || rules.may_wait(waiting)),
            }
        })
    }

    /// Takes a slot, or else a place in the queue, by the rules in force. Without a waker it takes a slot that nobody
    /// in the queue is entitled to, or says why there is none.
    pub(crate) fn enter(&self, waker: Option<&Waker>) -> Entry {
        let mut timeout = None;
        let entered = self.queue.enter(waker.unwrap_or(Waker::noop()), 1, |slots, rules, waiting| {
            timeout = rules.queue_timeout;
            slots.ask(rules, waiting, waker.is_some() && rules.may_wait(waiting))
        });
        match entered {
            Continue(queued) => Entry::Waits(queued, timeout),
            Break(entry) => entry,
        }
    }

    /// Gives a slot back, counts a completed call if it was one, and grants the slot to the first of those who wait.
    /// Whether somebody did.
    #[inline]
    pub(crate) fn give_back(&self, completes: bool) -> bool {
        let attended = self.slots().give_back(completes);
        if attended {
            self.settle_attended();
        }
        attended
    }

    /// Lets nobody in any more, and sends all away that wait; how many.
    pub(crate) fn close(&self) -> usize {
        self.queue.close(|slots, _| slots.close())
    }

    /// Puts settings in force. Those in flight stay; call [`settle`](Self::settle) next.
    pub(crate) fn apply(&self, config: &BulkheadConfig) {
        self.queue.with(|slots, rules, _| {
            rules.take(config);
            slots.set_limit(config.max_concurrent);
        });
    }

    /// Lets those who wait in as far as there is room now. Whether somebody waited.
    pub(crate) fn settle(&self) -> bool {
        let attended = self.slots().load().is_attended();
        if attended {
            self.settle_attended();
        }
        attended
    }

    // No closure and not generic, so that calls which end while nobody waits do not have it within them.
    fn settle_attended(&self) {
        self.queue.settle();
    }

    /// Whether all is over, or was since `parked` was set; if not, `waker` is woken when it is.
    pub(crate) fn poll_drained(&self, parked: &mut Option<Parked>, waker: &Waker) -> bool {
        let (over, _former) = self.queue.with(|slots, rules, waiting| {
            let known = parked.take().map(|known| rules.drainers.unpark(known));
            let over = match &known {
                // A wake took it off the list: the end came.
                Some(former) => former.is_none(),
                None => !slots.attend_busy(waiting),
            };
            if !over {
                // Nothing was kept there, so nothing comes back.
                let _none = rules.drainers.park(parked, waker);
            }
            (over, known)
        });
        over
    }

    /// Somebody does not wait for the end any more.
    pub(crate) fn forget_drainer(&self, parked: Parked) {
        let waker = self.queue.with(|_, rules, _| rules.drainers.unpark(parked));
        drop(waker);
        // The flag may have been set for that one alone.
        self.queue.settle();
    }
}

impl Rules {
    fn take(&mut self, config: &BulkheadConfig) {
        self.max_queue = config.max_queue;
        self.queue_timeout = config.queue_timeout;
        self.shadow = config.mode == Mode::Shadow;
    }

    fn may_wait(&self, waiting: Waiting) -> bool {
        waiting.callers < self.max_queue as usize
    }
}

impl AtomicSlots {
    /// Takes a slot or says why there is none; or sets the flag for a caller that may wait. With the lock held.
    fn ask(&self, rules: &Rules, waiting: Waiting, may_wait: bool) -> ControlFlow<Entry> {
        let mut word = self.load();
        loop {
            if word.is_closed() {
                return Break(Entry::Closed);
            }
            let is_free = word.has_room() && waiting.callers == 0;
            let lets_in = is_free || rules.shadow;
            // The count must not run into the limit's bits.
            if if lets_in { word.in_flight() == MAX_LIMIT } else { !may_wait } {
                return Break(Entry::Full);
            }
            let changed = if lets_in { self.take(word).map(Some) } else { self.attend(word).map(|()| None) };
            match changed {
                Ok(None) => return Continue(()),
                Ok(Some(_)) if is_free => return Break(Entry::Taken),
                Ok(Some(now)) => return Break(Entry::TakenOver(now.saturating_sub(word.limit()))),
                Err(now) => word = now,
            }
        }
    }

    /// Sets the flag for somebody who waits for the end of all calls, unless that is now. With the lock held.
    fn attend_busy(&self, waiting: Waiting) -> bool {
        let mut word = self.load();
        loop {
            if waiting.callers == 0 && word.in_flight() == 0 {
                return false;
            }
            match self.attend(word) {
                Ok(()) => return true,
                Err(now) => word = now,
            }
        }
    }
}

impl Slots for AtomicSlots {
    type Rules = Rules;

    fn grant(&self, rules: &mut Rules, _weight: u32) -> bool {
        let mut word = self.load();
        // In shadow mode nobody waits: those who did when it was set go on.
        while word.has_room() || rules.shadow && word.in_flight() < MAX_LIMIT {
            match self.take(word) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    fn emptied(&self, rules: &mut Rules) -> Vec<Waker> {
        let drained = match self.load().in_flight() {
            0 => rules.drainers.take(),
            _ => Vec::new(),
        };
        if rules.drainers.is_empty() {
            self.unattend();
        }
        drained
    }
}

#[cfg(all(test, buttress_loom))]
mod models;
#[cfg(all(test, not(buttress_loom)))]
mod tests;
