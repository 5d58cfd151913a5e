//! Callers that wait in order for what a pattern shares out: first in, first out.
//!
//! A pattern keeps what it shares out in one atomic word of its own ([`Slots`]), so that taking and giving back
//! touch nothing else while nobody waits. The queue, behind its lock, is for those who found nothing free.
//!
//! **Why no wake-up is lost.** One flag of the word says that somebody waits.
//! - A newcomer comes to the queue's lock ([`enter`](Queue::enter)), and sets the flag by compare-exchange on the
//!   very word in which it saw no free slot. A slot given back before that makes the exchange fail, and the newcomer
//!   looks again; whoever gives one back after it sees the flag, and calls [`settle`](Queue::settle).
//! - While the flag is set nothing is taken without the lock: so nobody overtakes those who wait.
//! - `settle` grants to the first for as long as there are slots for it, with the lock held. Whatever else may make
//!   room for the one who is first then ends in `settle`: a limit that was raised, and a caller who leaves the front.
//! - The flag is cleared with the lock held, and only when the queue is empty.
//! - The result of a wait is kept from the moment it ended until its owner takes it, with the ticket. So a grant is
//!   never lost, and never told twice: a waiter that goes away instead finds it, and gives it back.
//!
//! Strict order has its price where weights differ: the first waits until there is enough for it, and those behind
//! wait too, though there may be enough for them.

use std::{
    fmt, mem,
    ops::ControlFlow,
    task::{Poll, Waker},
};

use crate::{
    list::{At, List},
    sync::{Mutex, MutexGuard},
    unpoisoned,
    wakers::{wake, wake_all},
};

/// What a pattern shares out: an atomic word with a flag that somebody waits.
pub trait Slots {
    /// What is decided by beside the word, and must be of one moment with the queue: settings, for example.
    type Rules;

    /// Whether a waiter is woken when it becomes the first, to see for itself when its turn is: for what comes with
    /// time and is given back by nobody.
    const WAKES_FIRST: bool = false;

    /// Takes `weight` for the first of those who wait, if there is as much. The flag is set, and the lock is held.
    fn grant(&self, rules: &mut Self::Rules, weight: u32) -> bool;

    /// Clears the flag. Nobody waits in the queue, and its lock is held. The wakers of others who hear of that are
    /// woken afterwards; while such others wait for more than that, the flag may stay.
    fn emptied(&self, rules: &mut Self::Rules) -> Vec<Waker>;
}

/// A queue of callers before some [`Slots`].
pub struct Queue<S: Slots> {
    slots: S,
    inner: Mutex<Inner<S::Rules>>,
}

struct Inner<R> {
    rules: R,
    waiters: List<Waiter>,
    /// The weights of those who wait, added up.
    weight: u64,
    /// Who was woken as the first.
    woken: Option<At>,
}

enum Waiter {
    Waiting { waker: Waker, weight: u32 },
    Ended(WaitResult),
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitResult {
    /// The waiter has its slots; whoever takes this result owes them back.
    Granted,
    /// The queue was cleared by hand.
    Cleared,
    /// The queue was closed.
    Closed,
}

/// What a caller that waits is known by. Not `Clone`: its one owner must take the result with [`Queue::poll`], or [`Queue::leave`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "nobody else can take it out of the queue"]
pub struct Ticket(At);

/// A caller that waits, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Queued {
    /// What it is polled and left with.
    pub ticket: Ticket,
    /// From 1.
    pub position: usize,
}

/// Those who wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How many there are.
    pub callers: usize,
    /// Their weights, added up.
    pub weight: u64,
}

impl<S: Slots> Queue<S> {
    /// Makes an empty queue.
    pub fn new(slots: S, rules: S::Rules) -> Self {
        let inner = Inner { rules, waiters: List::default(), weight: 0, woken: None };
        Self { slots, inner: Mutex::new(inner) }
    }

    /// What is shared out.
    #[inline]
    pub fn slots(&self) -> &S {
        &self.slots
    }

    fn inner(&self) -> MutexGuard<'_, Inner<S::Rules>> {
        // Nothing of other people's runs under this lock but the cloning of a waker, before any change of the
        // queue. A flag that was set for it is cleared when the next slot comes back. Wakers are called and dropped
        // without it: the last waker of a task may drop the task, and with it a call that gives its slot back.
        unpoisoned(self.inner.lock())
    }

    /// Looks at the rules and at those who wait, at one moment; or changes the rules: then call
    /// [`settle`](Self::settle) next, if that may have made room.
    pub fn with<T>(&self, f: impl FnOnce(&S, &mut S::Rules, Waiting) -> T) -> T {
        let mut inner = self.inner();
        let waiting = inner.waiting();
        f(&self.slots, &mut inner.rules, waiting)
    }

    /// Asks for slots, and waits for them if there is another answer than `Break`.
    ///
    /// `ask` runs with the lock held. Unless somebody waits already it may take slots and answer so. It answers as
    /// well if the caller must not wait. Else it continues, having set the flag on the very word in which it saw that
    /// there was not enough.
    pub fn enter<T>(
        &self,
        waker: &Waker,
        weight: u32,
        ask: impl FnOnce(&S, &mut S::Rules, Waiting) -> ControlFlow<T>,
    ) -> ControlFlow<T, Queued> {
        let mut inner = self.inner();
        let waiting = inner.waiting();
        ask(&self.slots, &mut inner.rules, waiting)?;
        let waker = waker.clone();
        let at = inner.waiters.push_back(Waiter::Waiting { waker, weight });
        inner.weight += u64::from(weight);
        if waiting.callers == 0 {
            // It is about to look for itself.
            inner.woken = Some(at);
        }
        ControlFlow::Continue(Queued { ticket: Ticket(at), position: inner.waiters.len() })
    }

    /// Grants to those who wait, in order, as far as there is enough. To be called when something was given back to a
    /// word with the flag, and when it may suffice for more than before.
    pub fn settle(&self) {
        // One at a time, so that nothing is allocated and wakers are called without the lock.
        while let Some(waker) = self.grant_first() {
            wake(waker);
        }
    }

    fn grant_first(&self) -> Option<Waker> {
        let mut inner = self.inner();
        let granted = match inner.first() {
            Some((at, weight)) if self.slots.grant(&mut inner.rules, weight) => {
                inner.end(at, WaitResult::Granted)
            }
            _ => None,
        };
        self.changed(inner, granted.is_none());
        granted
    }

    /// The last step of a change of the queue: gives the lock back, and wakes who was waiting for the change.
    /// `settled`: the one who is first is not about to get its slots.
    fn changed(&self, mut guard: MutexGuard<'_, Inner<S::Rules>>, settled: bool) {
        let inner = &mut *guard;
        let first = inner.waiters.front();
        let others = match first {
            Some(_) => Vec::new(),
            None => self.slots.emptied(&mut inner.rules),
        };
        let called = first.filter(|_| S::WAKES_FIRST && settled && first != inner.woken).and_then(|at| {
            inner.woken = Some(at);
            inner.waiters.get(at)?.waker().cloned()
        });
        drop(guard);
        wake_all(others);
        called.into_iter().for_each(wake);
    }

    /// The end of a wait, if it came; then the ticket is used up. `Granted` means that the caller has its slots.
    pub fn poll(&self, ticket: &mut Option<Ticket>, waker: &Waker) -> Poll<WaitResult> {
        let mut inner = self.inner();
        let Some(at) = ticket.as_ref().map(|ticket| ticket.0) else { return Poll::Pending };
        if let Some(Waiter::Waiting { waker: known, .. }) = inner.waiters.get_mut(at) {
            let former = (!known.will_wake(waker)).then(|| mem::replace(known, waker.clone()));
            drop(inner);
            drop(former);
            return Poll::Pending;
        }
        *ticket = None;
        match inner.waiters.remove(at) {
            Some(Waiter::Ended(result)) => Poll::Ready(result),
            Some(Waiter::Waiting { .. }) | None => Poll::Pending,
        }
    }

    /// Takes a caller out of the queue. `Some`: the wait had ended before, like this; if with `Granted`, the caller has
    /// its slots.
    pub fn leave(&self, ticket: Ticket) -> Option<WaitResult> {
        let mut inner = self.inner();
        let was_first = inner.waiters.front() == Some(ticket.0);
        match inner.waiters.remove(ticket.0)? {
            Waiter::Ended(result) => Some(result),
            Waiter::Waiting { waker, weight } => {
                inner.weight -= u64::from(weight);
                let next = was_first && !inner.waiters.is_empty();
                self.changed(inner, !next);
                drop(waker);
                if next {
                    // There may be enough for the next one, which asks for less.
                    self.settle();
                }
                None
            }
        }
    }

    /// The 1-based position, while it waits. O(n).
    pub fn position(&self, ticket: &Ticket) -> Option<usize> {
        self.inner().waiters.iter().position(|(at, _)| at == ticket.0).map(|index| index + 1)
    }

    /// Whether it waits, and nobody before it.
    pub fn is_first(&self, ticket: &Ticket) -> bool {
        self.inner().waiters.front() == Some(ticket.0)
    }

    /// Sends all away that wait; how many. `cleared` is given that number with the lock held, before anybody can hear
    /// of it: for counts, and events in order.
    pub fn clear(&self, cleared: impl FnOnce(usize)) -> usize {
        self.send_away(self.inner(), WaitResult::Cleared, cleared)
    }

    /// Sends all away that wait; how many. Nobody comes between them and `shut`, which must see to it that nothing is
    /// taken and nobody waits from now on.
    pub fn close(&self, shut: impl FnOnce(&S, &mut S::Rules)) -> usize {
        let mut inner = self.inner();
        shut(&self.slots, &mut inner.rules);
        self.send_away(inner, WaitResult::Closed, drop)
    }

    fn send_away(
        &self,
        mut inner: MutexGuard<'_, Inner<S::Rules>>,
        result: WaitResult,
        tell: impl FnOnce(usize),
    ) -> usize {
        let first = |inner: &Inner<_>| inner.waiters.front();
        let wakers: Vec<_> =
            std::iter::from_fn(|| first(&inner).and_then(|at| inner.end(at, result))).collect();
        let count = wakers.len();
        tell(count);
        self.changed(inner, true);
        wake_all(wakers);
        count
    }
}

impl<R> Inner<R> {
    fn waiting(&self) -> Waiting {
        Waiting { callers: self.waiters.len(), weight: self.weight }
    }

    fn first(&self) -> Option<(At, u32)> {
        let at = self.waiters.front()?;
        match self.waiters.get(at)? {
            Waiter::Waiting { weight, .. } => Some((at, *weight)),
            Waiter::Ended(_) => None,
        }
    }

    /// Ends a wait; gives what wakes the waiter.
    fn end(&mut self, at: At, result: WaitResult) -> Option<Waker> {
        self.waiters.unlink(at);
        match mem::replace(self.waiters.get_mut(at)?, Waiter::Ended(result)) {
            Waiter::Waiting { waker, weight } => {
                self.weight -= u64::from(weight);
                Some(waker)
            }
            Waiter::Ended(_) => None,
        }
    }
}

impl Waiter {
    fn waker(&self) -> Option<&Waker> {
        match self {
            Self::Waiting { waker, .. } => Some(waker),
            Self::Ended(_) => None,
        }
    }
}

impl<S: Slots + fmt::Debug> fmt::Debug for Queue<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.inner().waiting();
        f.debug_struct("Queue").field("slots", &self.slots).field("waiting", &waiting).finish()
    }
}

#[cfg(all(test, buttress_loom))]
mod models;
#[cfg(all(test, not(buttress_loom)))]
mod tests;
#[cfg(test)]
mod turnstile;
