use std::{
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use buttress_core::{FromRejection, Rejection};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::{Answer, Decision, Fallback, Handles, fallback::FallbackEnd};

const KEPT: &str = "kept until the primary has answered";
const IN_FLIGHT: &str = "there until the future resolves";

/// The engine and the strategies of one layer.
#[derive(Debug)]
pub(crate) struct Plan<A, C> {
    pub(crate) fallback: Fallback,
    pub(crate) answer: A,
    pub(crate) handles: C,
}

pin_project! {
    /// Resolves as the primary does, or to the fallback's answer.
    ///
    /// # Cancellation
    /// Dropping it drops the primary's call, or the answer that is under way; it is counted as cancelled.
    #[must_use = "futures do nothing unless polled"]
    pub struct FallbackFuture<F, A, C, K, G> {
        // Dropped in this order: the call is gone before its end is told.
        #[pin]
        phase: Phase<F, K, G>,
        flight: Option<Flight<A, C>>,
    }
}

pin_project! {
    #[project = PhaseProj]
    enum Phase<F, K, G> {
        Primary { #[pin] call: F, kept: Option<K> },
        // And whether the primary had been sent something.
        Answering { #[pin] answer: G, sent: bool },
        Over,
    }
}

impl<F, A, C, K, G> FallbackFuture<F, A, C, K, G> {
    #[inline(always)]
    pub(crate) fn start<Req>(
        plan: &Arc<Plan<A, C>>,
        req: Req,
        keep: impl FnOnce(&A, &Req) -> K,
        call: impl FnOnce(Req) -> F,
    ) -> Self {
        let started = plan.fallback.started();
        let unless_returned = Unwound { fallback: &plan.fallback, started };
        let kept = keep(&plan.answer, &req);
        let call = call(req);
        mem::forget(unless_returned);
        let flight = Flight { plan: plan.clone(), started, outcome: FallbackEnd::Cancelled };
        Self { phase: Phase::Primary { call, kept: Some(kept) }, flight: Some(flight) }
    }

    /// Drops the call, and then tells the end.
    #[inline(always)]
    fn over(self: Pin<&mut Self>) {
        let mut this = self.project();
        this.phase.set(Phase::Over);
        *this.flight = None;
    }
}

impl<F, A, C, K, G, T, E> Future for FallbackFuture<F, A, C, K, G>
where
    F: Future<Output = Result<T, E>>,
    A: Answer<K, T, E, Future = G>,
    C: Handles<T, E>,
    G: Future<Output = Result<T, E>>,
    E: FromRejection,
{
    type Output = Result<T, E>;

    // Inlined into whoever awaits it, as `call` is, so that what the primary answers goes where it stays without
    // a copy. Failures and answers stay outside.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.as_mut().project();
        let (PhaseProj::Primary { call, kept }, Some(flight)) =
            (this.phase.as_mut().project(), this.flight.as_mut())
        else {
            return self.poll_answer(cx);
        };
        // Taken apart at once: a whole `Result` that is borrowed for the decision is written to memory.
        match ready!(flight.run(|_| call.poll(cx))) {
            Ok(value) => {
                let decision = flight.run(|plan| plan.handles.decide(Ok(&value)));
                if decision == Decision::Handle {
                    return self.handle(Ok(value), cx);
                }
                flight.outcome = FallbackEnd::Success;
                if decision == Decision::Good {
                    flight.good(kept, &value);
                }
                self.over();
                Poll::Ready(Ok(value))
            }
            Err(error) => self.failed(error, cx),
        }
    }
}

impl<F, A, C, K, G> FallbackFuture<F, A, C, K, G> {
    /// What becomes of an error of the primary.
    #[inline(never)]
    fn failed<T, E>(mut self: Pin<&mut Self>, error: E, cx: &mut Context<'_>) -> Poll<Result<T, E>>
    where
        A: Answer<K, T, E, Future = G>,
        C: Handles<T, E>,
        G: Future<Output = Result<T, E>>,
        E: FromRejection,
    {
        let flight = self.as_mut().project().flight.as_mut().expect(IN_FLIGHT);
        if flight.run(|plan| plan.handles.decide(Err(&error))) == Decision::Handle {
            return self.handle(Err(error), cx);
        }
        flight.outcome = FallbackEnd::NotHandled;
        self.over();
        Poll::Ready(Err(error))
    }

    /// Has the fallback answer a failure, which is given back where there is no answer.
    #[inline(never)]
    fn handle<T, E>(
        mut self: Pin<&mut Self>,
        failed: Result<T, E>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<T, E>>
    where
        A: Answer<K, T, E, Future = G>,
        G: Future<Output = Result<T, E>>,
        E: FromRejection,
    {
        let mut this = self.as_mut().project();
        let flight = this.flight.as_mut().expect(IN_FLIGHT);
        let sent = failed.as_ref().err().and_then(E::rejection).is_none_or(Rejection::was_sent);
        let kept = match this.phase.as_mut().project() {
            PhaseProj::Primary { kept, .. } => kept.take(),
            _ => None,
        };
        let kept = kept.expect(KEPT);
        match flight.run(|plan| plan.answer.answer(kept, failed, &plan.fallback)) {
            Ok(answer) => {
                this.phase.set(Phase::Answering { answer, sent });
                self.poll_answer(cx)
            }
            Err(failed) => {
                flight.outcome = FallbackEnd::Failed;
                self.over();
                Poll::Ready(failed)
            }
        }
    }

    #[inline(never)]
    fn poll_answer<T, E>(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, E>>
    where
        G: Future<Output = Result<T, E>>,
        E: FromRejection,
    {
        let this = self.as_mut().project();
        let flight = this.flight.as_mut().expect("polled after it resolved");
        let PhaseProj::Answering { answer, sent } = this.phase.project() else {
            unreachable!("the primary is polled by `poll`, and with `Over` the flight is gone");
        };
        let result = ready!(flight.run(|_| answer.poll(cx)));
        flight.outcome = if result.is_ok() { FallbackEnd::Answered } else { FallbackEnd::Failed };
        // That a second service was not sent the request must not read as "nothing has happened".
        let sent = *sent;
        self.over();
        Poll::Ready(result.map_err(|error| if sent { error.sent_before() } else { error }))
    }
}

impl<F, A, C, K, G> fmt::Debug for FallbackFuture<F, A, C, K, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match &self.phase {
            Phase::Primary { .. } => "Primary",
            Phase::Answering { .. } => "Answering",
            Phase::Over => "Over",
        };
        f.debug_struct("FallbackFuture").field("phase", &phase).finish()
    }
}

/// Settles a call whose inner `call` panicked.
struct Unwound<'a> {
    fallback: &'a Fallback,
    started: Option<Instant>,
}

impl Drop for Unwound<'_> {
    #[cold]
    fn drop(&mut self) {
        self.fallback.ended(FallbackEnd::Panicked, self.started);
    }
}

/// One call, from the return of the inner `call` to its end. Told and counted once, when it is dropped.
struct Flight<A, C> {
    plan: Arc<Plan<A, C>>,
    started: Option<Instant>,
    /// What it is, should it be dropped now: `Panicked` while foreign code runs, `Cancelled` until it is settled.
    outcome: FallbackEnd,
}

impl<A, C> Flight<A, C> {
    #[inline(always)]
    fn run<T>(&mut self, foreign: impl FnOnce(&Plan<A, C>) -> T) -> T {
        let before = mem::replace(&mut self.outcome, FallbackEnd::Panicked);
        let out = foreign(&self.plan);
        self.outcome = before;
        out
    }

    /// Tells the fallback of a good answer of the primary.
    #[inline(always)]
    fn good<K, T, E>(&mut self, kept: &mut Option<K>, value: &T)
    where
        A: Answer<K, T, E>,
    {
        let kept = kept.take().expect(KEPT);
        self.run(|plan| plan.answer.good(kept, value, &plan.fallback));
    }
}

impl<A, C> Drop for Flight<A, C> {
    #[inline(always)]
    fn drop(&mut self) {
        self.plan.fallback.ended(self.outcome, self.started);
    }
}
