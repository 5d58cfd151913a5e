use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{Classify, FromRejection, Rejection, RejectionKind, Standard, Verdict};
use pin_project_lite::pin_project;
use tokio::time::Sleep;

use crate::{Permit, config::nanos, permit::Held};

pin_project! {
    /// Resolves as the inner call does, or at once to a rejection.
    ///
    /// # Cancellation
    /// Dropping it cancels the call; `on_cancel` says what that means to the circuit.
    pub struct BreakerFuture<F, C = Standard> {
        #[pin]
        phase: Phase<F, C>,
    }
}

pin_project! {
    #[project = PhaseProj]
    enum Phase<F, C> {
        Admitted {
            permit: Permit,
            classify: C,
            #[pin]
            call: F,
            // Boxed, and made only where a call with a limit of its own has to wait: in place it would make
            // every future five times as large, and every call slower for being moved.
            limit: Option<Pin<Box<Sleep>>>,
        },
        Refused { why: Option<Rejection> },
        Ended,
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
        let phase = match self.phase {
            Phase::Admitted { permit, call, limit, .. } => Phase::Admitted { permit, classify, call, limit },
            Phase::Refused { why } => Phase::Refused { why },
            Phase::Ended => Phase::Ended,
        };
        BreakerFuture { phase }
    }
}

impl<F, C> BreakerFuture<F, C> {
    #[inline]
    pub(crate) fn admitted(mut permit: Permit, classify: C, call: impl FnOnce() -> F) -> Self {
        permit.held = Held::Busy;
        let call = call();
        permit.held = Held::Idle;
        Self { phase: Phase::Admitted { permit, classify, call, limit: None } }
    }

    pub(crate) fn refused(why: Rejection) -> Self {
        Self { phase: Phase::Refused { why: Some(why) } }
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
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        let mut phase = self.project().phase;
        match phase.as_mut().project() {
            PhaseProj::Admitted { permit, classify, call, limit } => {
                // Until the verdict is in: a drop in between is a panic, of the call or of the classifier.
                permit.held = Held::Busy;
                // The call first: one that has finished wins over a limit that has passed.
                if let Poll::Ready(outcome) = call.poll(cx) {
                    settle(permit, classify, &outcome);
                    return Poll::Ready(outcome);
                }
                permit.held = Held::Idle;
                match poll_limit(permit, limit, cx) {
                    None => Poll::Pending,
                    Some(why) => {
                        permit.time_out(&why);
                        phase.set(Phase::Ended);
                        Poll::Ready(Err(E::from_rejection(why)))
                    }
                }
            }
            PhaseProj::Refused { why } => {
                let why = why.take().expect("polled after it resolved");
                Poll::Ready(Err(E::from_rejection(why)))
            }
            PhaseProj::Ended => panic!("polled after it resolved"),
        }
    }
}

#[inline]
fn settle<C, T, E>(permit: &mut Permit, classify: &C, outcome: &Result<T, E>)
where
    C: Classify<T, E>,
    E: FromRejection,
{
    let verdict = classify.classify(outcome.as_ref());
    match outcome {
        Err(error) if verdict.is_failure() => {
            let timed_out = error.rejection().is_some_and(|why| why.was_sent() && why.is_timeout());
            permit.settle(verdict, timed_out, error.as_error());
        }
        _ => permit.settle(verdict, false, None),
    }
}

/// The rejection, once the breaker's own limit has passed. The timer is made when it is first needed.
fn poll_limit(
    permit: &Permit,
    limit: &mut Option<Pin<Box<Sleep>>>,
    cx: &mut Context<'_>,
) -> Option<Rejection> {
    let started = permit.started()?;
    let shared = &permit.shared().common;
    let timer = match limit {
        Some(timer) => timer,
        none => {
            let end = started.saturating_add(nanos(shared.call_timeout()?));
            none.insert(Box::pin(tokio::time::sleep_until(shared.instant(end))))
        }
    };
    match timer.as_mut().poll(cx) {
        Poll::Pending => None,
        Poll::Ready(()) => {
            let limit = timer.deadline().saturating_duration_since(shared.instant(started));
            let elapsed = Duration::from_nanos(shared.now().saturating_sub(started));
            Some(Rejection::timed_out(RejectionKind::CircuitTimeout, shared.emitter.name(), limit, elapsed))
        }
    }
}

impl<F, C> BreakerFuture<F, C> {
    /// Whether the call was refused.
    pub fn is_refused(&self) -> bool {
        matches!(self.phase, Phase::Refused { .. })
    }
}

impl<F, C> fmt::Debug for BreakerFuture<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match &self.phase {
            Phase::Admitted { .. } => "admitted",
            Phase::Refused { .. } => "refused",
            Phase::Ended => "ended",
        };
        f.debug_struct("BreakerFuture").field("phase", &phase).finish_non_exhaustive()
    }
}
