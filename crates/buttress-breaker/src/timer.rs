//! Timers in memory that is used again.

use std::{
    cell::RefCell,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// As many boxes are kept by a thread; about 8 KiB.
const KEPT: usize = 64;

type Place = Pin<Box<Option<Sleep>>>;

thread_local! {
    /// Places that nobody uses. All are empty: a timer must not outlive its runtime.
    static SPARE: RefCell<Vec<Place>> = const { RefCell::new(Vec::new()) };
}

/// A timer that is made when it is first needed.
///
/// It is boxed, since in place it would make every future five times as large, and every call slower for being
/// moved. The box comes from those that other timers of the same thread have left, so a call that has to wait
/// allocates nothing, once as many have waited at the same time.
#[derive(Default)]
pub(crate) struct Timer(Option<Place>);

impl Timer {
    /// When it ends, if it runs.
    pub(crate) fn end(&self) -> Option<Instant> {
        self.0.as_ref()?.as_ref().as_pin_ref().map(|sleep| sleep.deadline())
    }

    /// Whether `end` has come; else the task is woken then.
    ///
    /// # Panics
    /// Outside of a runtime of tokio with time enabled.
    pub(crate) fn poll_until(&mut self, end: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let place = self.0.get_or_insert_with(take);
        match place.as_mut().as_pin_mut() {
            None => place.set(Some(sleep_until(end))),
            Some(sleep) if sleep.deadline() != end => sleep.reset(end),
            Some(_) => {}
        }
        place.as_mut().as_pin_mut().map_or(Poll::Ready(()), |sleep| sleep.poll(cx))
    }

    /// Has the task woken at `end`, if there is one; whether it is time is not asked of the timer.
    ///
    /// # Panics
    /// As [`poll_until`](Self::poll_until), if there is an `end`.
    pub(crate) fn wake_at(&mut self, end: Option<Instant>, cx: &mut Context<'_>) {
        match end {
            None => *self = Self::default(),
            Some(end) => _ = self.poll_until(end, cx),
        }
    }
}

impl Drop for Timer {
    #[inline]
    fn drop(&mut self) {
        if let Some(place) = self.0.take() {
            give_back(place);
        }
    }
}

// Nothing of somebody else's runs while the list is borrowed. If it is gone, because the thread ends, boxes are
// made and freed as usual.

fn take() -> Place {
    let spare = SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten();
    spare.unwrap_or_else(|| Box::pin(None))
}

fn give_back(mut place: Place) {
    place.set(None);
    let _ = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < KEPT {
            spare.push(place);
        }
    });
}
