//! The plainest slots there are, for tests: so many, of which a caller takes as many as it weighs.

use std::ops::ControlFlow::{self, Break, Continue};

use super::*;
use crate::sync::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

const ATTENDED: u64 = 1;
const CLOSED: u64 = 2;
/// One slot that is free.
const ONE: u64 = 4;

#[derive(Debug)]
pub(super) struct Turnstile<const WAKES_FIRST: bool = false> {
    word: AtomicU64,
}

pub(super) struct Rules {
    pub(super) max: usize,
    /// Those who wait for the end of all calls, and how many slots are free then.
    pub(super) drain: Vec<Waker>,
    pub(super) all: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Taken,
    Full,
    Closed,
}

pub(super) fn turnstile<const W: bool>(slots: u64, max: usize) -> Queue<Turnstile<W>> {
    let word = AtomicU64::new(slots * ONE);
    Queue::new(Turnstile { word }, Rules { max, drain: Vec::new(), all: slots })
}

impl<const W: bool> Turnstile<W> {
    pub(super) fn free(&self) -> u64 {
        self.word.load(Acquire) / ONE
    }

    pub(super) fn is_attended(&self) -> bool {
        self.word.load(Acquire) & ATTENDED != 0
    }

    /// Without the lock, while nobody waits.
    pub(super) fn try_take(&self, weight: u32) -> bool {
        let weight = u64::from(weight) * ONE;
        let take = |word: u64| (word & (ATTENDED | CLOSED) == 0 && word >= weight).then(|| word - weight);
        self.word.fetch_update(Acquire, Relaxed, take).is_ok()
    }
}

impl<const W: bool> Slots for Turnstile<W> {
    type Rules = Rules;
    const WAKES_FIRST: bool = W;

    fn grant(&self, _: &mut Rules, weight: u32) -> bool {
        let weight = u64::from(weight) * ONE;
        let take = |word: u64| (word / ONE >= weight / ONE).then(|| word - weight);
        self.word.fetch_update(AcqRel, Acquire, take).is_ok()
    }

    fn emptied(&self, rules: &mut Rules) -> Vec<Waker> {
        let is_over = self.free() == rules.all;
        if is_over || rules.drain.is_empty() {
            self.word.fetch_and(!ATTENDED, AcqRel);
            return mem::take(&mut rules.drain);
        }
        Vec::new()
    }
}

impl<const W: bool> Queue<Turnstile<W>> {
    pub(super) fn take(&self, waker: &Waker, weight: u32) -> ControlFlow<Answer, Queued> {
        self.enter(waker, weight, |slots, rules, waiting| {
            let (price, mut word) = (u64::from(weight) * ONE, slots.word.load(Acquire));
            loop {
                if word & CLOSED != 0 {
                    return Break(Answer::Closed);
                }
                let is_free = waiting.callers == 0 && word / ONE >= price / ONE;
                if !is_free && waiting.callers >= rules.max {
                    return Break(Answer::Full);
                }
                let new = if is_free { word - price } else { word | ATTENDED };
                match slots.word.compare_exchange_weak(word, new, AcqRel, Acquire) {
                    Ok(_) if is_free => return Break(Answer::Taken),
                    Ok(_) => return Continue(()),
                    Err(now) => word = now,
                }
            }
        })
    }

    pub(super) fn give_back(&self, weight: u32) {
        let before = self.slots().word.fetch_add(u64::from(weight) * ONE, AcqRel);
        if before & ATTENDED != 0 {
            self.settle();
        }
    }

    /// As a caller does whose future is dropped.
    pub(super) fn give_up(&self, ticket: Ticket, weight: u32) -> Option<WaitResult> {
        let result = self.leave(ticket);
        if result == Some(WaitResult::Granted) {
            self.give_back(weight);
        }
        result
    }

    pub(super) fn shut(&self) -> usize {
        self.close(|slots, _| _ = slots.word.fetch_or(CLOSED, AcqRel))
    }
}
