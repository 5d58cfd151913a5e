//! Those who wait for one thing, all of whom are woken when it comes.
//!
//! A wake costs as much as there are who wait now, not as the most who ever waited; whoever is woken is off the
//! list, and parks again if it has to. Wakers are other people's code: the last waker of a task may drop the task,
//! and with it what is on this list. So they are woken and dropped with no lock held, and a panic of one keeps
//! nobody else asleep.
//!
//! To miss nothing, park first and look then whether there is still something to wait for; and on the other side
//! change first, and wake then.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    task::Waker,
};

use crate::{
    list::{At, List},
    sync::{Mutex, MutexGuard},
    unpoisoned,
};

/// A waker on a list. Taken off by a wake, it stands for nothing.
#[derive(Debug, PartialEq, Eq)]
pub struct Parked(At);

/// A list of wakers without a lock, for what has one already.
#[derive(Debug, Default)]
pub struct WakerList {
    wakers: List<Waker>,
}

/// A list of wakers behind a lock of its own.
#[derive(Debug, Default)]
pub struct Wakers {
    list: Mutex<WakerList>,
}

impl WakerList {
    /// Keeps a waker until the next wake, as `parked` if that is on the list still. The waker that was kept there
    /// before comes back: drop it with no lock held.
    #[must_use = "drop it with no lock held"]
    pub fn park(&mut self, parked: &mut Option<Parked>, waker: &Waker) -> Option<Waker> {
        match parked.as_ref().and_then(|parked| self.wakers.get_mut(parked.0)) {
            Some(kept) if kept.will_wake(waker) => None,
            Some(kept) => Some(mem::replace(kept, waker.clone())),
            None => {
                *parked = Some(Parked(self.wakers.push_back(waker.clone())));
                None
            }
        }
    }

    /// Takes a waker off the list, if no wake did. Drop it with no lock held.
    #[must_use = "drop it with no lock held"]
    pub fn unpark(&mut self, parked: Parked) -> Option<Waker> {
        self.wakers.remove(parked.0)
    }

    /// Takes all wakers off the list, in the order in which they came: for [`wake_all`], with no lock held.
    #[must_use = "wake them with no lock held"]
    pub fn take(&mut self) -> Vec<Waker> {
        let mut taken = Vec::with_capacity(self.wakers.len());
        while let Some(waker) = self.wakers.front().and_then(|first| self.wakers.remove(first)) {
            taken.push(waker);
        }
        taken
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.wakers.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.wakers.is_empty()
    }
}

impl Wakers {
    fn list(&self) -> MutexGuard<'_, WakerList> {
        // The cloning of a waker is all that is not ours under this lock, and comes before any change.
        unpoisoned(self.list.lock())
    }

    /// Keeps a waker until the next wake, as `parked` if that is on the list still.
    pub fn park(&self, parked: &mut Option<Parked>, waker: &Waker) {
        let former = self.list().park(parked, waker);
        drop(former);
    }

    /// Takes a waker off the list, if no wake did.
    pub fn unpark(&self, parked: Parked) {
        let waker = self.list().unpark(parked);
        drop(waker);
    }

    /// Wakes all that wait.
    pub fn wake_all(&self) {
        let taken = self.list().take();
        wake_all(taken);
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.list().len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.list().is_empty()
    }
}

/// Wakes all of them, though one may panic. To be called with no lock held.
pub fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(wake);
}

/// Wakes one. The panic hook has said what there is to say of a panic; the others must be woken all the same.
pub(crate) fn wake(waker: Waker) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
        // Its drop may panic as well.
        mem::forget(panic);
    }
}

#[cfg(all(test, buttress_loom))]
mod models;
#[cfg(all(test, not(buttress_loom)))]
mod tests;
