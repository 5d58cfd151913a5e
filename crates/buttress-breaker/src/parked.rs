//! Those who wait in `poll_ready` for a change of state.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    task::Waker,
};

/// Where a waker is kept.
#[derive(Debug)]
pub(crate) struct Place(usize);

#[derive(Debug, Default)]
pub(crate) struct Wakers(Mutex<Parked>);

#[derive(Debug, Default)]
struct Parked {
    places: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Wakers {
    fn parked(&self) -> MutexGuard<'_, Parked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a waker until the next change of state, in `place` if there is one.
    pub(crate) fn park(&self, place: &mut Option<Place>, waker: &Waker) {
        let mut guard = self.parked();
        let parked = &mut *guard;
        let Place(at) = place.get_or_insert_with(|| {
            Place(parked.free.pop().unwrap_or_else(|| {
                parked.places.push(None);
                parked.places.len().saturating_sub(1)
            }))
        });
        let former = match &mut parked.places[*at] {
            Some(kept) if kept.will_wake(waker) => None,
            other => other.replace(waker.clone()),
        };
        drop(guard);
        // With no lock held: it may be the last hold on a task, whose services unpark as they are dropped.
        drop(former);
    }

    pub(crate) fn unpark(&self, Place(at): Place) {
        let mut parked = self.parked();
        let waker = parked.places[at].take();
        parked.free.push(at);
        drop(parked);
        drop(waker);
    }

    pub(crate) fn wake_all(&self) {
        let wakers: Vec<Waker> = self.parked().places.iter_mut().filter_map(Option::take).collect();
        wakers.into_iter().for_each(Waker::wake);
    }
}
