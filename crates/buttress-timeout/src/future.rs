use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant as StdInstant},
};

use buttress_core::{FromRejection, Outcome, context};
use buttress_kit::call::{Entered, InFlight};
use pin_project_lite::pin_project;
use tokio::{
    task::coop,
    time::{Instant, Sleep, sleep_until},
};

use crate::{
    OnTimeout, Refuse, Timeout,
    deadline::Deadline,
    timeout::{Shared, TimeoutEnd},
};

/// A timer noticed later than this after its time was held up: the process was stopped, or starved of CPU.
/// As long is given to what was held up with it, for an answer that is there already to arrive. Once: a runtime that
/// blocks over and over notices the end of that a block later, so that the call lasts at most twice as long as if it had
/// ended when its limit was noticed. What it holds meanwhile is short just then.
const STALL: Duration = Duration::from_millis(10);
const RESOLVED: &str = "polled after it resolved";

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
        flight: InFlight<Arc<Shared>>,
        deadline: Deadline,
        answer: A,
    }
}

pin_project! {
    #[project = PhaseProj]
    enum Phase<F> {
        Calling { #[pin] call: F, #[pin] timer: Option<Sleep>, graced: bool },
        // The rejection is made at the first poll.
        Refused,
        Over,
    }
}

impl<F, A> TimeoutFuture<F, A> {
    #[inline]
    pub(crate) fn admitted(
        (call, entered): (F, Entered<StdInstant>),
        timeout: &Timeout,
        deadline: Deadline,
        answer: A,
    ) -> Self {
        let phase = Phase::Calling { call, timer: None, graced: false };
        Self { phase, flight: entered.in_flight(timeout.shared.clone()), deadline, answer }
    }

    #[inline]
    pub(crate) fn refused(timeout: &Timeout, deadline: Deadline, answer: A) -> Self {
        Self { phase: Phase::Refused, flight: InFlight::idle(timeout.shared.clone()), deadline, answer }
    }
}

impl Timeout {
    /// Runs `op` within the limit: for what cannot be a service. The time starts now.
    ///
    /// For one policy alone. The error of `op` must be able to carry a refusal: a foreign one gets there by
    /// `.map_err(BoxError::from)`. Under several policies, and with whatever error it has, a function runs through a
    /// stack that ends in `.functions()`, see [`Functions`](buttress_core::Functions).
    ///
    /// ```
    /// # mod buttress { pub use {buttress_core::*, buttress_timeout::*}; }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use buttress::{BoxError, Timeout};
    ///
    /// let timeout = Timeout::builder("query").build()?;
    /// let rows = timeout.call(|| async { Ok::<_, BoxError>(3) }).await;
    /// assert_eq!(rows.unwrap(), 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancellation
    /// Dropping the future drops the operation.
    #[inline]
    pub fn call<O, F, T, E>(&self, op: O) -> TimeoutFuture<F>
    where
        O: FnOnce() -> F,
        F: Future<Output = Result<T, E>>,
        E: FromRejection,
    {
        self.run(None, op)
    }

    /// The same with a limit for this call only. Zero: only an answer that is there at once.
    pub fn call_within<O, F, T, E>(&self, limit: Duration, op: O) -> TimeoutFuture<F>
    where
        O: FnOnce() -> F,
        F: Future<Output = Result<T, E>>,
        E: FromRejection,
    {
        self.run(Some(limit), op)
    }

    #[inline]
    fn run<O: FnOnce() -> F, F>(&self, limit: Option<Duration>, op: O) -> TimeoutFuture<F> {
        match self.admit(limit) {
            (Some(begun), deadline) => {
                TimeoutFuture::admitted(self.enter(begun, &deadline, op), self, deadline, Refuse)
            }
            (None, deadline) => TimeoutFuture::refused(self, deadline, Refuse),
        }
    }
}

impl<F, A, T, E> Future for TimeoutFuture<F, A>
where
    F: Future<Output = Result<T, E>>,
    A: OnTimeout<T, E>,
    E: FromRejection,
{
    type Output = Result<T, E>;

    // Rows `timeout` and `six layers` of docs/benchmarks.md, 223 and 1 079 instructions: 235 and 1 094 without it.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.as_mut().project();
        let mut had_budget = false;
        if let PhaseProj::Calling { call, timer, .. } = this.phase.as_mut().project() {
            // Of interest only once a timer runs.
            had_budget = timer.is_some() && coop::has_budget_remaining();
            let inside = this.flight.inside();
            let shown = this.deadline.show();
            let polled = call.poll(cx);
            drop(shown);
            match polled {
                Poll::Pending => inside.leave(),
                Poll::Ready(Ok(value)) => {
                    this.phase.set(Phase::Over);
                    inside.end(Outcome::Success);
                    return Poll::Ready(Ok(value));
                }
                Poll::Ready(Err(error)) => {
                    inside.leave();
                    return self.failed(error);
                }
            }
        }
        self.poll_on(had_budget, cx)
    }
}

impl<F, A> TimeoutFuture<F, A> {
    /// Drops the inner call, and then tells the end.
    fn over(self: Pin<&mut Self>, outcome: Outcome) {
        let mut this = self.project();
        let inside = this.flight.inside();
        this.phase.set(Phase::Over);
        inside.end(outcome);
    }

    /// What becomes of an error of the inner call. A timeout inside obeys this one's deadline, as the queue of a
    /// bulkhead does, and notices it first: what is up then is this one's time, and it is this one that answers.
    fn failed<T, E>(mut self: Pin<&mut Self>, error: E) -> Poll<Result<T, E>>
    where
        A: OnTimeout<T, E>,
        E: FromRejection,
    {
        let deadline = self.as_mut().project().deadline;
        if let Some(inner) = error.rejection().filter(|inner| inner.is_timeout()) {
            deadline.obey(context::deadline);
            let now = Instant::now().into_std();
            if let Some(at) = deadline.inward().filter(|_| deadline.has_passed(now)) {
                // A call that only waited for its turn is nothing to hold against the service.
                let sent = inner.was_sent();
                return self.time_is_up(at, now, sent, Some(error));
            }
        }
        self.over(Outcome::Failure);
        Poll::Ready(Err(error))
    }

    /// Goes on if the inner call was pending, or there is none.
    fn poll_on<T, E>(mut self: Pin<&mut Self>, had_budget: bool, cx: &mut Context<'_>) -> Poll<Result<T, E>>
    where
        F: Future<Output = Result<T, E>>,
        A: OnTimeout<T, E>,
        E: FromRejection,
    {
        let mut this = self.as_mut().project();
        match this.phase.as_mut().project() {
            PhaseProj::Calling { call, timer, graced } => {
                let waited = ready!(wait(call, timer, graced, this.flight, this.deadline, had_budget, cx));
                match waited {
                    Waited::Returned(Ok(value)) => {
                        self.over(Outcome::Success);
                        Poll::Ready(Ok(value))
                    }
                    Waited::Returned(Err(error)) => self.failed(error),
                    Waited::TimeIsUp { at, now } => self.time_is_up(at, now, true, None),
                }
            }
            PhaseProj::Refused => {
                this.phase.set(Phase::Over);
                Poll::Ready(this.answer.answer(this.flight.policy().refusal()))
            }
            PhaseProj::Over => panic!("{RESOLVED}"),
        }
    }

    /// Drops the inner call, tells the end, and answers. `error` is what the inner call ended with, if it did.
    fn time_is_up<T, E>(
        self: Pin<&mut Self>,
        at: StdInstant,
        now: StdInstant,
        sent: bool,
        error: Option<E>,
    ) -> Poll<Result<T, E>>
    where
        A: OnTimeout<T, E>,
    {
        let mut this = self.project();
        let started = this.flight.ticket().unwrap_or(now);
        let why = this.flight.policy().timed_out(started, at, now).with_sent(sent);
        // Its time was up before, also if what is dropped now panics.
        let ends = EndsWhenDropped { flight: this.flight, end: TimeoutEnd::timed_out(now) };
        this.phase.set(Phase::Over);
        drop(ends);
        Poll::Ready(match error {
            Some(error) => this.answer.answer_after(why, error),
            None => this.answer.answer(why),
        })
    }
}

struct EndsWhenDropped<'a> {
    flight: &'a mut InFlight<Arc<Shared>>,
    end: TimeoutEnd,
}

impl Drop for EndsWhenDropped<'_> {
    fn drop(&mut self) {
        self.flight.end(self.end);
    }
}

/// What became of a wait.
enum Waited<T> {
    Returned(T),
    TimeIsUp { at: StdInstant, now: StdInstant },
}

/// Waits for the timer, after the inner call was pending: what that returned meanwhile, or the time is up.
fn wait<F: Future>(
    mut call: Pin<&mut F>,
    mut timer: Pin<&mut Option<Sleep>>,
    graced: &mut bool,
    flight: &mut InFlight<Arc<Shared>>,
    deadline: &mut Deadline,
    had_budget: bool,
    cx: &mut Context<'_>,
) -> Poll<Waited<F::Output>> {
    // Asked at every poll: a future may be polled in another context than it was made in.
    deadline.obey(context::deadline);
    let Some(at) = deadline.at() else { return Poll::Pending };
    let until = Instant::from_std(at);
    if let Some(sleep) = timer.as_mut().as_pin_mut() {
        // Polled in another context since, which has an earlier deadline. A grace that was given stays.
        if !*graced && until < sleep.deadline() {
            sleep.reset(until);
        }
    }
    loop {
        ready!(poll_timer(timer.as_mut(), until, had_budget, cx));
        // Another thread may have finished it since.
        let polled = flight.run(|_| {
            let _shown = deadline.show();
            call.as_mut().poll(cx)
        });
        if let Poll::Ready(result) = polled {
            return Poll::Ready(Waited::Returned(result));
        }
        let now = Instant::now();
        if !*graced && extended(timer.as_mut(), now) {
            *graced = true;
            continue;
        }
        return Poll::Ready(Waited::TimeIsUp { at, now: now.into_std() });
    }
}

/// Makes the timer on first use, and polls it.
#[inline]
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
        // The inner call used up what the task had. If it does so at every poll, a timer that asks for its share of
        // the budget never gets it.
        return Pin::new(&mut coop::unconstrained(sleep)).poll(cx);
    }
    sleep.poll(cx)
}

/// Whether the timer was noticed so late that others were held up as well; it is set to a little later then.
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
#[allow(clippy::disallowed_methods)] // the one question that only the other clock can answer
fn clock_is_real() -> bool {
    let before = StdInstant::now();
    let now = Instant::now().into_std();
    before <= now && now <= StdInstant::now()
}

impl<F, A> fmt::Debug for TimeoutFuture<F, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match &self.phase {
            Phase::Calling { .. } => "Calling",
            Phase::Refused => "Refused",
            Phase::Over => "Over",
        };
        f.debug_struct("TimeoutFuture").field("phase", &phase).finish()
    }
}
