use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use buttress_core::{Rejection, context};
use buttress_kit::{
    call::{Begun, InFlight},
    queue::Ticket,
};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::bulkhead::{Admission, Shared};

/// One call's way to a slot, and the slot. Gives back what it has when it is dropped.
pub(crate) struct Entering {
    flight: InFlight<Arc<Shared>>,
    /// Boxed, because a timer is ten times the rest, and a call that need not wait should not carry its room.
    waiting: Option<Pin<Box<Waiting>>>,
}

pin_project! {
    struct Waiting {
        ticket: Option<Ticket>,
        since: Instant,
        #[pin]
        timer: Option<Sleep>,
    }
}

impl Entering {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { flight: InFlight::idle(shared), waiting: None }
    }

    /// The guard of the call; it is under way from the moment the call has a slot.
    #[inline]
    pub(crate) fn flight(&mut self) -> &mut InFlight<Arc<Shared>> {
        &mut self.flight
    }

    #[inline]
    pub(crate) fn has_slot(&self) -> bool {
        self.flight.ticket().is_some()
    }

    /// Takes a slot or waits for one. Not to be called again once it was ready.
    #[inline]
    pub(crate) fn poll_slot(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        if self.waiting.is_none() {
            if let Some(begun) = self.flight.policy().try_admit() {
                self.begin(begun);
                return Poll::Ready(Ok(()));
            }
        }
        self.poll_slow(cx)
    }

    /// Takes a slot or is refused.
    pub(crate) fn try_slot(&mut self) -> Result<(), Rejection> {
        let begun = self.flight.policy().admit_or_refuse()?;
        self.begin(begun);
        Ok(())
    }

    /// Goes on if no slot is free for the taking.
    fn poll_slow(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        if self.waiting.is_none() {
            match self.flight.policy().admit(cx.waker())? {
                Admission::Admitted(begun) => {
                    self.begin(begun);
                    return Poll::Ready(Ok(()));
                }
                Admission::Queued(ticket, timeout) => self.wait(ticket, timeout),
            }
        }
        let begun = ready!(self.poll_wait(cx));
        self.waiting = None;
        self.begin(begun?);
        Poll::Ready(Ok(()))
    }

    fn wait(&mut self, ticket: Ticket, timeout: Option<std::time::Duration>) {
        let since = Instant::now();
        let own = timeout.and_then(|timeout| since.checked_add(timeout));
        let callers = context::current().deadline.map(Instant::from_std);
        let deadline = own.into_iter().chain(callers).min();
        let waiting = Box::pin(Waiting { ticket: Some(ticket), since, timer: None });
        // The ticket gets its owner before the timer is made, which panics outside of a runtime.
        let waiting = self.waiting.insert(waiting);
        waiting.as_mut().project().timer.set(deadline.map(sleep_until));
        self.flight.policy().tell_queued();
    }

    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<Begun<Option<Instant>>, Rejection>> {
        let Some(waiting) = &mut self.waiting else { return Poll::Pending };
        let (shared, waiting) = (self.flight.policy(), waiting.as_mut().project());
        // The queue is asked before the clock: a slot that was granted in time is not lost because this task was
        // polled late.
        if let Poll::Ready(ended) = shared.poll_queued(waiting.ticket, *waiting.since, cx.waker()) {
            return Poll::Ready(ended);
        }
        let Some(timer) = waiting.timer.as_pin_mut() else { return Poll::Pending };
        ready!(timer.poll(cx));
        Poll::Ready(shared.time_out(waiting.ticket, *waiting.since))
    }

    /// The end of every way in.
    #[inline]
    fn begin(&mut self, begun: Begun<Option<Instant>>) {
        self.flight.begin(begun);
        self.flight.policy().tell_admitted();
    }

    /// The 1-based position in the queue, while it waits.
    pub(crate) fn position(&self) -> Option<usize> {
        self.flight.policy().position(self.waiting.as_ref()?.ticket.as_ref()?)
    }

    fn abandon(&mut self) {
        let Some(mut waiting) = self.waiting.take() else { return };
        let waiting = waiting.as_mut().project();
        if let Some(ticket) = waiting.ticket.take() {
            self.flight.policy().abandon(ticket, *waiting.since);
        }
    }
}

impl Drop for Entering {
    #[inline]
    fn drop(&mut self) {
        if self.waiting.is_some() {
            self.abandon();
        }
    }
}

impl fmt::Debug for Entering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.has_slot(), self.waiting.is_some()) {
            (true, _) => "has a slot",
            (false, true) => "waiting",
            (false, false) => "idle",
        };
        f.write_str(state)
    }
}
