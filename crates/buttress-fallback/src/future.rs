use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use buttress_core::Outcome;
use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::{Answer, Fallback, Handles, Judgement};

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
        Answering { #[pin] answer: G },
        Over,
    }
}

impl<F, A, C, K, G> FallbackFuture<F, A, C, K, G> {
    #[inline]
    pub(crate) fn start<Req>(
        plan: Arc<Plan<A, C>>,
        req: Req,
        keep: impl FnOnce(&A, &Req) -> K,
        call: impl FnOnce(Req) -> F,
    ) -> Self {
        let started = plan.fallback.started();
        let mut flight = Flight { plan, started, busy: false, outcome: Outcome::Cancelled };
        let kept = flight.run(|plan| keep(&plan.answer, &req));
        let call = flight.run(|_| call(req));
        Self { phase: Phase::Primary { call, kept: Some(kept) }, flight: Some(flight) }
    }
}

impl<F, A, C, K, G, T, E> Future for FallbackFuture<F, A, C, K, G>
where
    F: Future<Output = Result<T, E>>,
    A: Answer<K, T, E, Future = G>,
    C: Handles<T, E>,
    G: Future<Output = Result<T, E>>,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let flight = this.flight.as_mut().expect("polled after it resolved");
        let result = loop {
            match this.phase.as_mut().project() {
                PhaseProj::Primary { call, kept } => {
                    let result = ready!(flight.run(|_| call.poll(cx)));
                    let kept = kept.take().expect("kept until the primary has answered");
                    match flight.settle(kept, result) {
                        Ok(answer) => this.phase.set(Phase::Answering { answer }),
                        Err(result) => break result,
                    }
                }
                PhaseProj::Answering { answer } => {
                    let result = ready!(flight.run(|_| answer.poll(cx)));
                    flight.outcome =
                        if result.is_ok() { Outcome::FallbackSuccess } else { Outcome::FallbackFailure };
                    break result;
                }
                PhaseProj::Over => unreachable!("a flight is there until the phase is `Over`"),
            }
        };
        this.phase.set(Phase::Over);
        *this.flight = None;
        Poll::Ready(result)
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

/// One call, from `call` to its end. Told and counted once, when it is dropped: `Cancelled` or `Panicked`
/// unless it was settled before.
struct Flight<A, C> {
    plan: Arc<Plan<A, C>>,
    started: Option<Instant>,
    /// Set while foreign code runs: still set on drop, it panicked.
    busy: bool,
    outcome: Outcome,
}

impl<A, C> Flight<A, C> {
    #[inline]
    fn run<T>(&mut self, foreign: impl FnOnce(&Plan<A, C>) -> T) -> T {
        self.busy = true;
        let out = foreign(&self.plan);
        self.busy = false;
        out
    }

    /// What the primary's outcome leads to: the answer's future, or, as `Err`, the end.
    #[inline]
    fn settle<K, T, E>(&mut self, kept: K, result: Result<T, E>) -> Result<A::Future, Result<T, E>>
    where
        A: Answer<K, T, E>,
        C: Handles<T, E>,
    {
        let judgement = self.run(|plan| plan.handles.judge(result.as_ref()));
        if judgement == Judgement::Handle {
            let answer = self.run(|plan| plan.answer.answer(kept, result, &plan.fallback));
            if answer.is_err() {
                self.outcome = Outcome::FallbackFailure;
            }
            return answer;
        }
        self.outcome = if result.is_ok() { Outcome::Success } else { Outcome::NotHandled };
        if let (Judgement::Good, Ok(res)) = (judgement, &result) {
            self.run(|plan| plan.answer.good(kept, res, &plan.fallback));
        }
        Err(result)
    }
}

impl<A, C> Drop for Flight<A, C> {
    #[inline]
    fn drop(&mut self) {
        let outcome = if self.busy { Outcome::Panicked } else { self.outcome };
        self.plan.fallback.ended(outcome, self.started);
    }
}
