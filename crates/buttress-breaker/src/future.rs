use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{Classify, FromRejection, Outcome, Rejection, Standard, Verdict, described};
use buttress_kit::call::{InFlight, begin};
use pin_project_lite::pin_project;

use crate::{
    Breaker,
    engine::{Admission, End, Engine},
    permit::outcome,
    rules::nanos,
    timer::Timer,
    words,
};

pin_project! {
    /// Resolves as the inner call does, or at once to a rejection.
    ///
    /// # Cancellation
    /// Dropping it cancels the call; `on_cancel` says what that means to the circuit.
    #[must_use = "futures do nothing unless polled"]
    pub struct BreakerFuture<F, C = Standard> {
        // Dropped in this order: the call is gone before its end is told.
        #[pin]
        phase: Phase<F>,
        flight: InFlight<Arc<Engine>>,
        classify: C,
        // Runs only if a call with a limit of its own has to wait.
        limit: Timer,
    }
}

pin_project! {
    #[project = PhaseProj]
    enum Phase<F> {
        Calling { #[pin] call: F },
        // The wait only: the rejection is built at the first poll, so that the future of a call that is let in has
        // nothing more to drop.
        Refused { wait: u64 },
        // Ended at the breaker's own limit.
        TimedOut,
    }
}

impl Breaker {
    /// Makes one call under the breaker, for what cannot be a service.
    ///
    /// The decision falls here and not at the first poll: a refusal does not run `f`, and a call that was let in
    /// holds its permit until the future ends or is dropped. [`BreakerFuture::classify_with`] says what counts as
    /// a failure.
    ///
    /// For one policy alone. The error of `f` must be able to carry a refusal: a foreign one gets there by
    /// `.map_err(BoxError::from)`. Under several policies, and with whatever error it has, a function runs through a
    /// stack that ends in `.functions()`, see [`Functions`](buttress_core::Functions).
    ///
    /// ```
    /// # tokio_test::block_on(async {
    /// # mod buttress { pub use {buttress_breaker::*, buttress_core::*}; }
    /// use buttress::{BoxError, Breaker, rejection};
    ///
    /// let breaker = Breaker::builder("db").consecutive_failures(1).build().unwrap();
    /// breaker.call(|| async { Err::<(), BoxError>("gone".into()) }).await.unwrap_err();
    /// let refused = breaker.call(|| async { Ok::<_, BoxError>(()) }).await.unwrap_err();
    /// assert_eq!(rejection(&*refused).unwrap().code(), "CIRCUIT_OPEN");
    /// # });
    /// ```
    pub fn call<F, Fut>(&self, f: F) -> BreakerFuture<Fut>
    where
        F: FnOnce() -> Fut,
    {
        BreakerFuture::of(&self.engine, self.engine.admit(), f)
    }
}

impl<F> BreakerFuture<F> {
    /// With this closure for what is a failure.
    pub fn classify_with<Res, Err, D>(self, classify: D) -> BreakerFuture<F, D>
    where
        D: Fn(Result<&Res, &Err>) -> Verdict,
    {
        self.classify(classify)
    }

    /// Makes the call, if it was let in.
    pub(crate) fn of(engine: &Arc<Engine>, admission: Admission, make: impl FnOnce() -> F) -> Self {
        if admission.is_refused() {
            return Self::refused(engine.clone(), admission, Standard);
        }
        Self::admitted(engine, admission, || (make(), Standard))
    }

    /// With this rule for what is a failure, such as an [`OnlyErrors`](buttress_core::OnlyErrors).
    pub fn classify<D>(self, classify: D) -> BreakerFuture<F, D> {
        let Self { phase, flight, limit, .. } = self;
        BreakerFuture { phase, flight, classify, limit }
    }
}

impl<F, C> BreakerFuture<F, C> {
    /// The future of a call that was let in: makes it.
    #[inline]
    pub(crate) fn admitted(
        engine: &Arc<Engine>,
        admission: Admission,
        make: impl FnOnce() -> (F, C),
    ) -> Self {
        let entering = begin(admission).entering(&**engine);
        let (call, classify) = make();
        let flight = entering.entered().in_flight(engine.clone());
        Self { phase: Phase::Calling { call }, flight, classify, limit: Timer::default() }
    }

    /// The future of a call that was refused.
    #[inline]
    pub(crate) fn refused(engine: Arc<Engine>, admission: Admission, classify: C) -> Self {
        let wait = admission.time;
        engine.count_refusal(wait);
        let flight = InFlight::idle(engine);
        Self { phase: Phase::Refused { wait }, flight, classify, limit: Timer::default() }
    }

    /// Whether the call was refused.
    pub fn is_refused(&self) -> bool {
        matches!(self.phase, Phase::Refused { .. })
    }
}

impl<F, C, T, E> Future for BreakerFuture<F, C>
where
    F: Future<Output = Result<T, E>>,
    C: Classify<T, E>,
    E: FromRejection,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        let this = self.as_mut().project();
        let flight = this.flight;
        // What is told once is not told again, whatever the inner future does when it is polled too often.
        if let (PhaseProj::Calling { call }, true) = (this.phase.project(), flight.ticket().is_some()) {
            // Until the verdict is in: the call and the classifier are somebody else's code.
            let inside = flight.inside();
            // The call first: one that has finished wins over a limit that has passed.
            match call.poll(cx) {
                Poll::Ready(Ok(value)) => {
                    let verdict = this.classify.classify(Ok(&value));
                    if verdict.is_failure() {
                        inside.leave();
                        Failure::of_answer(verdict)
                            .end(flight, || described::<C, T, E>(this.classify, Ok(&value)));
                    } else {
                        inside.end(outcome(verdict));
                    }
                    return Poll::Ready(Ok(value));
                }
                Poll::Ready(Err(error)) => {
                    let failure = Failure::of(this.classify.classify(Err(&error)), &error);
                    inside.leave();
                    failure.end(flight, || described::<C, T, E>(this.classify, Err(&error)));
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => inside.leave(),
            }
            let (engine, call) = flight.parts();
            if let Some(call) = call {
                engine.waits(call);
                if call.began().is_none() {
                    return Poll::Pending;
                }
            }
        }
        self.poll_on(cx)
    }
}

impl<F, C> BreakerFuture<F, C> {
    /// Goes on if the inner call is pending, or there is none.
    fn poll_on<T, E: FromRejection>(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        let mut this = self.project();
        let (engine, admission) = (this.flight.policy(), this.flight.ticket());
        if let PhaseProj::Refused { wait } = this.phase.as_mut().project() {
            return Poll::Ready(Err(E::from_rejection(engine.rejection(*wait))));
        }
        let admission = admission.expect("polled after it resolved");
        let Some(why) = poll_limit(engine, admission, this.limit, cx) else { return Poll::Pending };
        if let Some(call) = this.flight.take() {
            let says = || why.to_string();
            let end =
                End { timed_out: true, error: Some(&why), says: Some(&says), ..End::of(Outcome::TimedOut) };
            this.flight.policy().end_with(call, end);
        }
        this.phase.set(Phase::TimedOut);
        Poll::Ready(Err(E::from_rejection(why)))
    }
}

/// What a failed answer or an error comes to.
struct Failure<'a> {
    outcome: Outcome,
    timed_out: bool,
    retry_after: Option<Duration>,
    error: Option<&'a (dyn std::error::Error + 'static)>,
}

impl<'a> Failure<'a> {
    fn of_answer(verdict: Verdict) -> Self {
        let retry_after = match verdict {
            Verdict::Failure { retry_after, .. } => retry_after,
            _ => None,
        };
        Self { outcome: outcome(verdict), timed_out: false, retry_after, error: None }
    }

    fn of<E: FromRejection>(verdict: Verdict, error: &'a E) -> Self {
        let judged = Self::of_answer(verdict);
        if !verdict.is_failure() {
            return judged;
        }
        let timed_out = error.rejection().is_some_and(|why| why.was_sent() && why.is_timeout());
        Self { timed_out, error: error.as_error(), ..judged }
    }

    fn end(self, flight: &mut InFlight<Arc<Engine>>, says: impl Fn() -> String) {
        let Self { outcome, timed_out, retry_after, error } = self;
        if let Some(call) = flight.take() {
            flight.policy().end_with(call, End { outcome, timed_out, retry_after, error, says: Some(&says) });
        }
    }
}

/// The rejection, once the breaker's own limit has passed. The timer is made when it is first needed.
fn poll_limit(
    engine: &Engine,
    admission: Admission,
    limit: &mut Timer,
    cx: &mut Context<'_>,
) -> Option<Rejection> {
    let began = admission.began()?;
    let shared = &engine.shared;
    let end = match limit.end() {
        Some(end) => end,
        None => shared.instant(began.saturating_add(nanos(shared.call_timeout()?))),
    };
    match limit.poll_until(end, cx) {
        Poll::Pending => None,
        Poll::Ready(()) => {
            let limit = end.saturating_duration_since(shared.instant(began));
            let elapsed = Duration::from_nanos(shared.now().saturating_sub(began));
            Some(Rejection::timed_out(words::CALL_TIMEOUT, engine.name(), limit, elapsed))
        }
    }
}

impl<F, C> fmt::Debug for BreakerFuture<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match (&self.phase, self.flight.ticket()) {
            (Phase::Refused { .. }, _) => "refused",
            (_, None) => "ended",
            _ => "admitted",
        };
        f.debug_struct("BreakerFuture").field("phase", &phase).finish_non_exhaustive()
    }
}
