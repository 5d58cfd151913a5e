use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant as StdInstant},
};

use buttress_core::{FromRejection, Rejection};
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
        // Dropped in this order: the inner call is gone before its end is told.
        #[pin]
        phase: Phase<F>,
        flight: Option<Flight>,
        answer: A,
    }
}

pin_project! {
    #[project = PhaseProj]
    enum Phase<F> {
        Calling { #[pin] call: F, #[pin] timer: Option<Sleep>, graces: u8 },
        Over,
    }
}

impl<F, A> TimeoutFuture<F, A> {
    #[inline(always)]
    pub(crate) fn admitted(call: F, flight: Flight, answer: A) -> Self {
        Self { phase: Phase::Calling { call, timer: None, graces: GRACES }, flight: Some(flight), answer }
    }

    /// `refused` holds what the rejection is made of at the first poll. With a rejection in here, or in the phase,
    /// the compiler copies the room for call and timer back and forth at every call.
    #[inline(always)]
    pub(crate) fn refused(refused: Flight, answer: A) -> Self {
        Self { phase: Phase::Over, flight: Some(refused), answer }
    }
}

impl<F, A, T, E> Future for TimeoutFuture<F, A>
where
    F: Future<Output = Result<T, E>>,
    A: OnTimeout<T, E>,
    E: FromRejection,
{
    type Output = Result<T, E>;

    // Inlined into whoever awaits it, as `call` is: a call that is ready at once costs a quarter less. What waits
    // and what fails stays outside.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.as_mut().project();
        let mut had_budget = false;
        if let (PhaseProj::Calling { call, timer, .. }, Some(flight)) =
            (this.phase.as_mut().project(), this.flight.as_mut())
        {
            // Of interest only once a timer runs.
            had_budget = timer.is_some() && coop::has_budget_remaining();
            if let Poll::Ready(result) = flight.run(|| call.poll(cx)) {
                // Matched by value: what is to be dropped again, should the drop of the call panic, would be
                // written to memory and copied from there.
                return match result {
                    Ok(value) => {
                        flight.succeeded();
                        self.over();
                        Poll::Ready(Ok(value))
                    }
                    Err(error) => self.failed(error),
                };
            }
        }
        self.poll_on(had_budget, cx)
    }
}

impl<F, A> TimeoutFuture<F, A> {
    /// Drops the inner call, and then tells the end.
    #[inline(always)]
    fn over(self: Pin<&mut Self>) {
        let mut this = self.project();
        this.phase.set(Phase::Over);
        *this.flight = None;
    }

    /// What becomes of an error of the inner call.
    #[inline(never)]
    fn failed<T, E>(mut self: Pin<&mut Self>, error: E) -> Poll<Result<T, E>>
    where
        A: OnTimeout<T, E>,
        E: FromRejection,
    {
        let flight = self.as_mut().project().flight.as_mut().expect("what failed is in flight");
        let why = flight.failed(error.rejection());
        self.as_mut().over();
        Poll::Ready(match why {
            Some(why) => self.project().answer.answer(why),
            None => Err(error),
        })
    }

    /// Goes on where the inner call was pending, or there is none.
    fn poll_on<T, E>(mut self: Pin<&mut Self>, had_budget: bool, cx: &mut Context<'_>) -> Poll<Result<T, E>>
    where
        F: Future<Output = Result<T, E>>,
        A: OnTimeout<T, E>,
        E: FromRejection,
    {
        let this = self.as_mut().project();
        let flight = this.flight.as_mut().expect("polled after it resolved");
        let why = match this.phase.project() {
            PhaseProj::Calling { call, timer, graces } => {
                match ready!(wait(call, timer, graces, flight, had_budget, cx)) {
                    Ok(Ok(value)) => {
                        flight.succeeded();
                        self.over();
                        return Poll::Ready(Ok(value));
                    }
                    Ok(Err(error)) => return self.failed(error),
                    Err(why) => why,
                }
            }
            PhaseProj::Over => flight.refusal().expect("polled after it resolved"),
        };
        self.as_mut().over();
        Poll::Ready(self.project().answer.answer(why))
    }
}

/// Waits for the timer, after the inner call was pending: what that returned meanwhile, or the time is up.
fn wait<F: Future>(
    mut call: Pin<&mut F>,
    mut timer: Pin<&mut Option<Sleep>>,
    graces: &mut u8,
    flight: &mut Flight,
    had_budget: bool,
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, Rejection>> {
    let Some(deadline) = flight.deadline() else { return Poll::Pending };
    if let Some(sleep) = timer.as_mut().as_pin_mut() {
        // Polled in another context since, which has an earlier deadline. A grace that was given stays.
        if *graces == GRACES && deadline < sleep.deadline() {
            sleep.reset(deadline);
        }
    }
    loop {
        ready!(poll_timer(timer.as_mut(), deadline, had_budget, cx));
        // Another thread may have finished it since.
        if let Poll::Ready(result) = flight.run(|| call.as_mut().poll(cx)) {
            return Poll::Ready(Ok(result));
        }
        let now = Instant::now();
        if *graces > 0 && extended(timer.as_mut(), now) {
            *graces = graces.saturating_sub(1);
            continue;
        }
        return Poll::Ready(Err(flight.timed_out(deadline, now)));
    }
}

/// Makes the timer on first use, and polls it.
#[inline(always)]
fn poll_timer(
    mut timer: Pin<&mut Option<Sleep>>,
    deadline: Instant,
    had_budget: bool,
    cx: &mut Context<'_>,
) -> Poll<()> {
    if timer.is_none() {
        start(timer.as_mut(), deadline);
    }
    let Some(sleep) = timer.as_pin_mut() else { return Poll::Pending };
    if had_budget && !coop::has_budget_remaining() {
        // The inner call used up what the task had. Does it so at every poll, a timer that asks for its share
        // of the budget never gets it.
        return Pin::new(&mut coop::unconstrained(sleep)).poll(cx);
    }
    sleep.poll(cx)
}

/// Makes the timer. On its own, so that it is copied once: it is made outside of the future, and only then is what
/// was there dropped.
#[inline(never)]
fn start(mut timer: Pin<&mut Option<Sleep>>, deadline: Instant) {
    timer.set(Some(sleep_until(deadline)));
}

/// Whether the timer was noticed so late that others were held up as well; it is set to a little later then.
#[cold]
fn extended(timer: Pin<&mut Option<Sleep>>, now: Instant) -> bool {
    let Some(sleep) = timer.as_pin_mut() else { return false };
    if now.saturating_duration_since(sleep.deadline()) <= STALL || !clock_is_real() {
        return false;
    }
    let Some(later) = now.checked_add(STALL) else { return false };
    sleep.reset(later);
    true
}

/// Whether tokio's clock is not paused. In a test that moves it by an hour nothing was held up.
#[cold]
#[allow(clippy::disallowed_methods)] // the one question that only the other clock can answer
fn clock_is_real() -> bool {
    let before = StdInstant::now();
    let now = Instant::now().into_std();
    before <= now && now <= StdInstant::now()
}

impl<F, A> fmt::Debug for TimeoutFuture<F, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match (&self.phase, &self.flight) {
            (_, None) => "Over",
            (Phase::Calling { .. }, _) => "Calling",
            (Phase::Over, _) => "Refused",
        };
        f.debug_struct("TimeoutFuture").field("phase", &phase).finish()
    }
}
