use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use buttress_core::Rejection;
use pin_project_lite::pin_project;
use tokio::{
    task::coop,
    time::{Instant, Sleep, sleep_until},
};

use crate::{OnTimeout, Refuse, timeout::Flight};

/// A timer noticed later than this after its time was held up: the process was stopped, or starved of CPU.
/// As long is given to what was held up with it, for an answer that is there already to arrive.
const STALL: Duration = Duration::from_millis(10);
/// How often that is given, where the stall goes on.
const GRACES: u8 = 3;

pin_project! {
    /// Resolves as the inner call does, or at its limit to a rejection or the layer's fallback.
    ///
    /// # Cancellation
    /// Dropping it drops the inner call; it is counted as cancelled.
    #[must_use = "futures do nothing unless polled"]
    pub struct TimeoutFuture<F, A = Refuse> {
        #[pin]
        phase: Phase<F>,
        answer: A,
    }
}

pin_project! {
    #[project = PhaseProj]
    enum Phase<F> {
        // Dropped in this order: the inner call is gone before its end is told.
        Calling { #[pin] call: F, #[pin] timer: Option<Sleep>, graces: u8, flight: Flight },
        Refused { why: Option<Rejection> },
        Over,
    }
}

impl<F, A> TimeoutFuture<F, A> {
    #[inline]
    pub(crate) fn admitted(call: F, flight: Flight, answer: A) -> Self {
        Self { phase: Phase::Calling { call, timer: None, graces: GRACES, flight }, answer }
    }

    pub(crate) fn refused(why: Rejection, answer: A) -> Self {
        Self { phase: Phase::Refused { why: Some(why) }, answer }
    }
}

impl<F, A, T, E> Future for TimeoutFuture<F, A>
where
    F: Future<Output = Result<T, E>>,
    A: OnTimeout<T, E>,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let why = match this.phase.as_mut().project() {
            PhaseProj::Calling { mut call, mut timer, graces, flight } => {
                // Of interest only once a timer runs.
                let had_budget = timer.is_some() && coop::has_budget_remaining();
                let mut result = flight.run(|| call.as_mut().poll(cx));
                while result.is_pending() {
                    let Some(deadline) = flight.deadline() else { return Poll::Pending };
                    ready!(poll_timer(timer.as_mut(), deadline, had_budget, cx));
                    // Another thread may have finished it since.
                    result = flight.run(|| call.as_mut().poll(cx));
                    if result.is_ready() {
                        break;
                    }
                    let now = Instant::now();
                    if *graces > 0 && extended(timer.as_mut(), now) {
                        *graces = graces.saturating_sub(1);
                        continue;
                    }
                    let why = flight.timed_out(deadline, now);
                    this.phase.set(Phase::Over);
                    return Poll::Ready(this.answer.answer(why));
                }
                if let Poll::Ready(result) = &result {
                    flight.finished(result.is_ok());
                }
                this.phase.set(Phase::Over);
                return result;
            }
            PhaseProj::Refused { why } => why.take(),
            PhaseProj::Over => None,
        };
        Poll::Ready(this.answer.answer(why.expect("polled after it resolved")))
    }
}

/// Makes the timer on first use, and polls it.
fn poll_timer(
    mut timer: Pin<&mut Option<Sleep>>,
    deadline: Instant,
    had_budget: bool,
    cx: &mut Context<'_>,
) -> Poll<()> {
    if timer.is_none() {
        timer.set(Some(sleep_until(deadline)));
    }
    let Some(sleep) = timer.as_pin_mut() else { return Poll::Pending };
    if had_budget && !coop::has_budget_remaining() {
        // The inner call used up what the task had. Does it so at every poll, a timer that asks for its share
        // of the budget never gets it.
        return Pin::new(&mut coop::unconstrained(sleep)).poll(cx);
    }
    sleep.poll(cx)
}

/// Whether the timer was noticed so late that others were held up as well; it is set to a little later then.
fn extended(timer: Pin<&mut Option<Sleep>>, now: Instant) -> bool {
    let Some(sleep) = timer.as_pin_mut() else { return false };
    if now.saturating_duration_since(sleep.deadline()) <= STALL {
        return false;
    }
    let Some(later) = now.checked_add(STALL) else { return false };
    sleep.reset(later);
    true
}

impl<F, A> fmt::Debug for TimeoutFuture<F, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match &self.phase {
            Phase::Calling { .. } => "Calling",
            Phase::Refused { .. } => "Refused",
            Phase::Over => "Over",
        };
        f.debug_struct("TimeoutFuture").field("phase", &phase).finish()
    }
}
