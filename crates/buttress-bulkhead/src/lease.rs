//! One call's way through the bulkhead: waiting, holding a slot, done. Gives everything back when dropped.

use std::{
    fmt,
    pin::Pin,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll, ready},
};

use buttress_core::{Event, Outcome, Rejection, RejectionKind, Verdict, context};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    Bulkhead,
    gate::{Drainer, Entry, Place},
    queue::{Fate, Ticket},
};

pub(crate) struct Lease {
    bulkhead: Bulkhead,
    /// Boxed, because a timer is ten times the rest, and a call that need not wait should not carry its room.
    /// Beside the state and not in it, so that changing the state drops nothing.
    waiting: Option<Pin<Box<Waiting>>>,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    /// Has asked for nothing yet, or waits.
    Idle,
    /// Has a slot, since then if anybody wants to know.
    Held { since: Option<Instant> },
    /// Has given all back.
    Over,
}

pin_project! {
    struct Waiting {
        ticket: Option<Ticket>,
        since: Instant,
        #[pin]
        timer: Option<Sleep>,
    }
}

impl Lease {
    pub(crate) fn new(bulkhead: Bulkhead) -> Self {
        Self { bulkhead, waiting: None, state: State::Idle }
    }

    #[inline]
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.state, State::Held { .. })
    }

    /// Takes a slot or waits for one.
    #[inline(always)]
    pub(crate) fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        let fresh = matches!(self.state, State::Idle) && self.waiting.is_none();
        if fresh && self.bulkhead.shared.gate.try_take() {
            return Poll::Ready(self.admitted());
        }
        self.poll_enter(cx)
    }

    /// Goes on where no slot is free for the taking.
    #[inline(never)]
    fn poll_enter(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        match self.state {
            State::Idle if self.waiting.is_some() => self.poll_wait(cx),
            State::Idle => self.enter(cx),
            State::Held { .. } => Poll::Ready(Ok(())),
            State::Over => panic!("polled after it resolved"),
        }
    }

    /// Takes a slot or is refused.
    pub(crate) fn try_take(&mut self) -> Result<(), Rejection> {
        let shared = &self.bulkhead.shared;
        if shared.gate.try_take() {
            return self.admitted();
        }
        match shared.gate.enter_or_refuse() {
            Entry::Taken => self.admitted(),
            // It would not have waited, so the line counts for nothing.
            Entry::TakenOver(_) => {
                shared.would_refuse();
                self.admitted()
            }
            Entry::Closed => Err(self.refused(RejectionKind::BulkheadClosed)),
            Entry::Full | Entry::Waits(_) => Err(self.refused(RejectionKind::BulkheadQueueFull)),
        }
    }

    #[cold]
    fn enter(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        let shared = &self.bulkhead.shared;
        match shared.gate.enter(cx.waker()) {
            Entry::Taken => Poll::Ready(self.admitted()),
            Entry::TakenOver(excess) => {
                // As if those over the limit stood in the line.
                if excess > shared.gate.standing().max_queue {
                    shared.would_refuse();
                }
                Poll::Ready(self.admitted())
            }
            Entry::Waits(place) => {
                self.wait(place);
                self.poll_wait(cx)
            }
            Entry::Full => Poll::Ready(Err(self.refused(RejectionKind::BulkheadQueueFull))),
            Entry::Closed => Poll::Ready(Err(self.refused(RejectionKind::BulkheadClosed))),
        }
    }

    fn wait(&mut self, place: Place) {
        let since = Instant::now();
        let own = place.timeout.and_then(|timeout| since.checked_add(timeout));
        let callers = context::current().deadline.map(Instant::from_std);
        let deadline = own.into_iter().chain(callers).min();
        let waiting = Box::pin(Waiting { ticket: Some(place.ticket), since, timer: None });
        // The ticket gets its owner before the timer is made, which panics outside of a runtime.
        let waiting = self.waiting.insert(waiting);
        waiting.as_mut().project().timer.set(deadline.map(sleep_until));
        self.bulkhead.shared.tell_queued();
    }

    #[inline(never)]
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        let Some(waiting) = &mut self.waiting else { return Poll::Pending };
        let gate = &self.bulkhead.shared.gate;
        let waiting = waiting.as_mut().project();
        // The line is asked before the clock: a slot that was granted in time is not lost because this task was
        // polled late.
        let mut fate = gate.poll_wait(waiting.ticket, cx.waker());
        if fate.is_none() {
            let Some(timer) = waiting.timer.as_pin_mut() else { return Poll::Pending };
            ready!(timer.poll(cx));
            // Whoever grants a slot at this very moment comes before or after, never in between.
            fate = waiting.ticket.take().and_then(|ticket| gate.leave(ticket));
        }
        self.bulkhead.shared.tell_wait_ended(*waiting.since);
        self.waiting = None;
        Poll::Ready(match fate {
            Some(Fate::Granted) => self.admitted(),
            Some(Fate::Cleared) => Err(self.refused(RejectionKind::BulkheadQueueCleared)),
            Some(Fate::Closed) => Err(self.refused(RejectionKind::BulkheadClosed)),
            None => Err(self.refused(RejectionKind::BulkheadQueueTimeout)),
        })
    }

    /// The end of every way in; always `Ok`.
    #[inline]
    fn admitted(&mut self) -> Result<(), Rejection> {
        self.state = State::Held { since: self.bulkhead.shared.start() };
        if self.bulkhead.shared.emitter.is_on() {
            self.bulkhead.shared.tell_admitted();
        }
        Ok(())
    }

    fn refused(&mut self, kind: RejectionKind) -> Rejection {
        self.state = State::Over;
        self.bulkhead.shared.refuse(kind)
    }

    /// Gives the slot back. Without effect the second time.
    #[inline]
    pub(crate) fn finish(&mut self, outcome: Outcome) {
        let State::Held { since } = self.state else { return };
        self.state = State::Over;
        let shared = &self.bulkhead.shared;
        if since.is_some() || shared.emitter.is_on() {
            return shared.end_and_tell(outcome, since);
        }
        shared.end(outcome);
    }

    /// The 1-based place in the line, while it waits.
    pub(crate) fn position(&self) -> Option<usize> {
        self.bulkhead.shared.gate.position(self.waiting.as_ref()?.ticket.as_ref()?)
    }

    /// Gives back what a call has that was dropped before its end.
    #[cold]
    #[inline(never)]
    fn give_up(&mut self) {
        match self.state {
            State::Held { .. } => self.finish(Outcome::Cancelled),
            State::Idle | State::Over => {}
        }
        if self.waiting.is_some() {
            self.abandon();
        }
    }

    fn abandon(&mut self) {
        let Some(mut waiting) = self.waiting.take() else { return };
        let shared = &self.bulkhead.shared;
        let waiting = waiting.as_mut().project();
        let Some(ticket) = waiting.ticket.take() else { return };
        match shared.gate.leave(ticket) {
            // Sent away already, and counted as that where the line was cleared.
            Some(Fate::Cleared) => {}
            // Granted and dropped at the same time: the next in line gets it.
            Some(Fate::Granted) => {
                shared.gate.release();
                shared.stats.cancelled.fetch_add(1, Relaxed);
            }
            Some(Fate::Closed) | None => {
                shared.stats.cancelled.fetch_add(1, Relaxed);
            }
        }
        shared.tell_wait_ended(*waiting.since);
        // It was never let in, and ended all the same: endings add up to the calls that were made.
        shared.tell(|| Event::Done {
            outcome: Outcome::Cancelled,
            elapsed: None,
            slow: false,
            attempts: 0,
            error: None,
        });
    }
}

impl Drop for Lease {
    #[inline(always)]
    fn drop(&mut self) {
        if !matches!(self.state, State::Over) {
            self.give_up();
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Idle if self.waiting.is_some() => "waiting",
            State::Idle => "idle",
            State::Held { .. } => "held",
            State::Over => "over",
        };
        f.debug_struct("Lease").field("bulkhead", &self.bulkhead.name()).field("state", &state).finish()
    }
}

/// Gives the slot back as `Panicked` unless told that the inner service returned.
///
/// So a panic inside is known from the unwinding itself: the thread may be unwinding for other reasons.
pub(crate) struct Busy<'a>(&'a mut Lease);

impl<'a> Busy<'a> {
    #[inline(always)]
    pub(crate) fn new(lease: &'a mut Lease) -> Self {
        Self(lease)
    }

    /// The inner service returned, and goes on.
    #[inline(always)]
    pub(crate) fn returned(self) {
        std::mem::forget(self);
    }

    /// The inner service returned, and the call is over.
    #[inline(always)]
    pub(crate) fn ended(self, outcome: Outcome) {
        self.0.finish(outcome);
        std::mem::forget(self);
    }
}

impl Drop for Busy<'_> {
    #[cold]
    fn drop(&mut self) {
        self.0.finish(Outcome::Panicked);
    }
}

pub(crate) fn outcome_of(verdict: Verdict) -> Outcome {
    match verdict {
        Verdict::Success => Outcome::Success,
        Verdict::Failure { .. } => Outcome::Failure,
        _ => Outcome::Ignored,
    }
}

/// A slot in a [`Bulkhead`]; dropping it gives the slot back, and the first in line gets it.
///
/// Dropped without a word it counts as completed ([`Outcome::Ignored`] in events).
#[derive(Debug)]
#[must_use = "dropping the permit gives the slot back"]
pub struct Permit {
    lease: Lease,
}

impl Permit {
    pub(crate) fn new(lease: Lease) -> Self {
        Self { lease }
    }

    /// Gives the slot back and says how the work ended.
    pub fn record(mut self, verdict: Verdict) {
        self.lease.finish(outcome_of(verdict));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.lease.finish(Outcome::Ignored);
    }
}

/// Waits for a slot; made by [`Bulkhead::acquire`].
///
/// Dropping it gives up the place in the line.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Acquire {
    lease: Option<Lease>,
}

impl Acquire {
    pub(crate) fn new(lease: Lease) -> Self {
        Self { lease: Some(lease) }
    }

    /// The 1-based place in the line, while it waits. Walks the line.
    pub fn queue_position(&self) -> Option<usize> {
        self.lease.as_ref()?.position()
    }
}

impl Future for Acquire {
    type Output = Result<Permit, Rejection>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut lease = self.lease.take().expect("polled after it resolved");
        match lease.poll_take(cx) {
            Poll::Ready(taken) => Poll::Ready(taken.map(|()| Permit::new(lease))),
            Poll::Pending => {
                self.lease = Some(lease);
                Poll::Pending
            }
        }
    }
}

/// Waits until nothing runs and nobody waits; made by [`Bulkhead::drain`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Drain {
    bulkhead: Bulkhead,
    drainer: Option<Drainer>,
}

impl Drain {
    pub(crate) fn new(bulkhead: Bulkhead) -> Self {
        Self { bulkhead, drainer: None }
    }
}

impl Future for Drain {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { bulkhead, drainer } = &mut *self;
        match bulkhead.shared.gate.poll_drained(drainer, cx.waker()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        if let Some(drainer) = self.drainer.take() {
            self.bulkhead.shared.gate.forget_drainer(&drainer);
        }
    }
}
