use std::{
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use buttress_core::{Rejection, context};
use buttress_kit::{Rare, call::InFlight, queue::Ticket};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::bulkhead::{Admission, Begun, Shared};

/// One call's way to a slot, and the slot. Gives back what it has when it is dropped.
#[derive(Debug)]
pub(crate) struct Entering {
    flight: InFlight<Arc<Shared>>,
    /// Boxed, because a timer is ten times the rest, and a call that need not wait should not carry its room.
    waiting: Rare<Waiting>,
}

pin_project! {
    #[derive(Debug)]
    struct Waiting {
        ticket: Option<Ticket>,
        since: Instant,
        #[pin]
        timer: Option<Sleep>,
    }
}

impl Entering {
    #[inline]
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { flight: InFlight::idle(shared), waiting: Rare::NONE }
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

    /// Takes a slot if one is free for the taking. Not to be called once there was one.
    #[inline]
    pub(crate) fn take_free(&mut self) -> bool {
        let begun = if self.waiting.is_some() { None } else { self.flight.policy().take_free() };
        let Some(begun) = begun else { return false };
        self.begin(begun);
        true
    }

    /// Takes a slot or waits for one. Not to be called again once it was ready.
    pub(crate) fn poll_slot(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        if !self.waiting.is_some() && self.ask(Some(cx.waker()))? {
            return Poll::Ready(Ok(()));
        }
        self.poll_wait(cx)
    }

    /// Takes a slot or is refused.
    pub(crate) fn try_slot(&mut self) -> Result<(), Rejection> {
        self.ask(None).map(drop)
    }

    /// Whether there is a slot; else the call waits now, as only one with a waker does.
    fn ask(&mut self, waker: Option<&Waker>) -> Result<bool, Rejection> {
        match self.flight.policy().admit(waker)? {
            Admission::Admitted(begun) => {
                self.begin(begun);
                Ok(true)
            }
            Admission::Queued(ticket, timeout) => {
                self.wait(ticket, timeout);
                Ok(false)
            }
        }
    }

    fn wait(&mut self, ticket: Ticket, timeout: Option<Duration>) {
        let since = Instant::now();
        let own = timeout.and_then(|timeout| since.checked_add(timeout));
        let callers = context::current().deadline.map(Instant::from_std);
        let deadline = own.into_iter().chain(callers).min();
        // The ticket gets its owner before the timer is made, which panics outside of a runtime.
        let waiting = self.waiting.set(Waiting { ticket: Some(ticket), since, timer: None });
        waiting.project().timer.set(deadline.map(sleep_until));
        self.flight.policy().queued();
    }

    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        let Some(waiting) = self.waiting.get_mut() else { return Poll::Pending };
        let (shared, waiting) = (self.flight.policy(), waiting.project());
        // The queue is asked before the clock: a slot that was granted in time is not lost because this task was
        // polled late.
        let result = match shared.gate.queue.poll(waiting.ticket, cx.waker()) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => {
                let Some(timer) = waiting.timer.as_pin_mut() else { return Poll::Pending };
                ready!(timer.poll(cx));
                // A slot that is granted at this very moment comes before or after, never in between.
                waiting.ticket.take().and_then(|ticket| shared.gate.queue.leave(ticket))
            }
        };
        let begun = shared.wait_ended(result, *waiting.since);
        self.waiting.clear();
        self.begin(begun?);
        Poll::Ready(Ok(()))
    }

    /// The end of every way in.
    #[inline]
    fn begin(&mut self, begun: Begun) {
        self.flight.begin(begun);
        self.flight.policy().admitted();
    }

    /// The 1-based position in the queue, while it waits.
    pub(crate) fn position(&self) -> Option<usize> {
        self.flight.policy().gate.queue.position(self.waiting.get()?.ticket.as_ref()?)
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
