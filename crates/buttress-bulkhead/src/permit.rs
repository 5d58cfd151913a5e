use std::{
    pin::Pin,
    task::{Context, Poll},
};

use buttress_core::{Outcome, Rejection, Verdict};

use crate::{Bulkhead, entering::Entering};

/// A slot of a [`Bulkhead`]; dropping it gives the slot back, and the first in the queue gets it.
///
/// Dropped without a word it counts as completed ([`Outcome::Ignored`] in events).
#[derive(Debug)]
#[must_use = "dropping the permit gives the slot back"]
pub struct Permit {
    slot: Entering,
}

/// Waits for a slot; made by [`Bulkhead::acquire`].
///
/// Dropping it gives up the place in the queue.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Acquire {
    entering: Option<Entering>,
}

impl Bulkhead {
    /// Takes a slot if one is free and nobody waits for it.
    ///
    /// # Errors
    /// `BULKHEAD_QUEUE_FULL`, or `BULKHEAD_CLOSED`. Either counts as rejected.
    pub fn try_acquire(&self) -> Result<Permit, Rejection> {
        let mut slot = Entering::new(self.shared.clone());
        slot.try_slot()?;
        Ok(Permit { slot })
    }

    /// Takes a slot, waiting for it as a call does: for work whose begin and end are in different places.
    ///
    /// # Errors
    /// See [the crate](crate#refusals).
    ///
    /// # Cancellation
    /// Dropping the future gives up the place in the queue. Until it is polled, it has none.
    pub fn acquire(&self) -> Acquire {
        Acquire { entering: Some(Entering::new(self.shared.clone())) }
    }
}

impl Permit {
    /// Gives the slot back and says how the work ended.
    pub fn record(mut self, verdict: Verdict) {
        self.slot.flight().end(Outcome::from(verdict));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.slot.flight().end(Outcome::Ignored);
    }
}

impl Acquire {
    /// The 1-based position in the queue, while it waits. Walks the queue.
    pub fn queue_position(&self) -> Option<usize> {
        self.entering.as_ref()?.position()
    }
}

impl Future for Acquire {
    type Output = Result<Permit, Rejection>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.entering.take().expect("polled after it resolved");
        match slot.poll_slot(cx) {
            Poll::Ready(taken) => Poll::Ready(taken.map(|()| Permit { slot })),
            Poll::Pending => {
                self.entering = Some(slot);
                Poll::Pending
            }
        }
    }
}
