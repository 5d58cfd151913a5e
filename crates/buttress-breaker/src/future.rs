use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{Classify, FromRejection, Rejection, Standard, Verdict};
use pin_project_lite::pin_project;

use crate::{
    Permit,
    engine::{Pass, Shared},
    permit::{Entering, Held},
    rules::nanos,
    timer::Timer,
    words,
};

pin_project! {
    /// Resolves as the inner call does, or at once to a rejection.
    ///
    /// # Cancellation
    /// Dropping it cancels the call; `on_cancel` says what that means to the circuit.
    pub struct BreakerFuture<F, C = Standard> {
        permit: Permit,
        #[pin]
        call: Call<F>,
        classify: C,
        // Runs only where a call with a limit of its own has to wait.
        limit: Timer,
    }
}

pin_project! {
    #[project = CallProj]
    enum Call<F> {
        Made { #[pin] call: F },
        // Refused, or ended at the breaker's own limit.
        None,
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

    /// With this rule for what is a failure, such as an [`OnlyErrors`](buttress_core::OnlyErrors).
    pub fn classify<D>(self, classify: D) -> BreakerFuture<F, D> {
        let Self { permit, call, limit, .. } = self;
        BreakerFuture { permit, call, classify, limit }
    }
}

impl<F, C> BreakerFuture<F, C> {
    /// The future of a call that was let in and made.
    #[inline(always)]
    pub(crate) fn made(call: F, shared: Arc<Shared>, pass: Pass, classify: C) -> Self {
        let permit = Permit::held_by(Held::Idle, shared, pass);
        Self { permit, call: Call::Made { call }, classify, limit: Timer::default() }
    }

    /// The future of a call that was refused. It holds what the rejection is made of when it is polled: one more
    /// thing to drop in here, and the compiler moves whole futures back and forth at every call.
    #[inline(always)]
    pub(crate) fn refused(shared: Arc<Shared>, pass: Pass, classify: C) -> Self {
        shared.count_refusal(pass.time);
        let permit = Permit::held_by(Held::Refused, shared, pass);
        Self { permit, call: Call::None, classify, limit: Timer::default() }
    }

    /// Makes a call, if it is let in.
    #[inline]
    pub(crate) fn of(shared: Arc<Shared>, classify: C, call: impl FnOnce() -> F) -> Self {
        let pass = shared.enter();
        if pass.refused {
            return Self::refused(shared, pass, classify);
        }
        let entering = Entering::new(&shared, pass);
        let call = call();
        entering.done();
        Self::made(call, shared, pass, classify)
    }
}

impl<F, C, T, E> Future for BreakerFuture<F, C>
where
    F: Future<Output = Result<T, E>>,
    C: Classify<T, E>,
    E: FromRejection,
{
    type Output = Result<T, E>;

    // Inlined into whoever awaits it, as the service's `call` is, so that the future is made where it stays. What
    // waits, fails or was refused goes on outside.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        let this = self.as_mut().project();
        let permit = this.permit;
        // What is told once is not told again, whatever the inner future does when it is polled too often.
        if let (CallProj::Made { call }, true) = (this.call.project(), permit.held < Held::Settled) {
            // Until the verdict is in: a drop in between is a panic, of the call or of the classifier.
            permit.held = Held::Busy;
            // The call first: one that has finished wins over a limit that has passed.
            match call.poll(cx) {
                Poll::Ready(Ok(value)) => {
                    match this.classify.classify(Ok(&value)) {
                        Verdict::Success => permit.succeed(),
                        verdict => permit.settle(verdict, false, None),
                    }
                    return Poll::Ready(Ok(value));
                }
                Poll::Ready(Err(error)) => {
                    let verdict = this.classify.classify(Err(&error));
                    fail(permit, verdict, &error);
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => permit.held = Held::Idle,
            }
            if permit.started().is_none() {
                return Poll::Pending;
            }
        }
        self.poll_on(cx)
    }
}

impl<F, C> BreakerFuture<F, C> {
    /// Goes on where the inner call is pending, or there is none.
    #[inline(never)]
    fn poll_on<T, E: FromRejection>(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        let mut this = self.project();
        let permit = this.permit;
        if permit.held == Held::Refused {
            return Poll::Ready(Err(E::from_rejection(permit.rejection())));
        }
        assert!(permit.held != Held::Settled, "polled after it resolved");
        let Some(why) = poll_limit(permit, this.limit, cx) else { return Poll::Pending };
        permit.time_out(&why);
        this.call.set(Call::None);
        Poll::Ready(Err(E::from_rejection(why)))
    }
}

#[cold]
fn fail<E: FromRejection>(permit: &mut Permit, verdict: Verdict, error: &E) {
    if verdict.is_failure() {
        let timed_out = error.rejection().is_some_and(|why| why.was_sent() && why.is_timeout());
        permit.settle(verdict, timed_out, error.as_error());
    } else {
        permit.settle(verdict, false, None);
    }
}

/// The rejection, once the breaker's own limit has passed. The timer is made when it is first needed.
fn poll_limit(permit: &Permit, limit: &mut Timer, cx: &mut Context<'_>) -> Option<Rejection> {
    let started = permit.started()?;
    let shared = &permit.shared().common;
    let end = match limit.end() {
        Some(end) => end,
        None => shared.instant(started.saturating_add(nanos(shared.call_timeout()?))),
    };
    match limit.poll_until(end, cx) {
        Poll::Pending => None,
        Poll::Ready(()) => {
            let limit = end.saturating_duration_since(shared.instant(started));
            let elapsed = Duration::from_nanos(shared.now().saturating_sub(started));
            Some(Rejection::timed_out(words::CALL_TIMEOUT, shared.emitter.name(), limit, elapsed))
        }
    }
}

impl<F, C> BreakerFuture<F, C> {
    /// Whether the call was refused.
    pub fn is_refused(&self) -> bool {
        self.permit.held == Held::Refused
    }
}

impl<F, C> fmt::Debug for BreakerFuture<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.permit.held {
            Held::Refused => "refused",
            Held::Settled => "ended",
            _ => "admitted",
        };
        f.debug_struct("BreakerFuture").field("phase", &phase).finish_non_exhaustive()
    }
}
