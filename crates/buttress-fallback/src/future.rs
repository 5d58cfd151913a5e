use std::{
    fmt,
    future::Ready,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use buttress_core::{FromRejection, Rejection, Standard};
use buttress_kit::call::{Ends, InFlight, begin};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::{Answer, Decide, Decision, Fallback, With, fallback::FallbackEnd};

const CAPTURED: &str = "there until the primary has answered";
const RESOLVED: &str = "polled after it resolved";

/// The engine and the strategies of one layer.
#[derive(Debug)]
pub(crate) struct Plan<A, C> {
    pub(crate) fallback: Fallback,
    pub(crate) answer: A,
    pub(crate) decide: C,
}

impl<A, C> Ends for Plan<A, C> {
    /// When it began, if somebody wants to know how long it takes.
    type Ticket = Option<Instant>;
    type End = FallbackEnd;

    #[inline]
    fn end(&self, started: &Option<Instant>, end: FallbackEnd) {
        self.fallback.ended(end, *started);
    }
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
        flight: InFlight<Arc<Plan<A, C>>>,
    }
}

pin_project! {
    #[project = PhaseProj]
    enum Phase<F, K, G> {
        Primary { #[pin] call: F, captured: Option<K> },
        // And whether the primary had been sent something.
        Answering { #[pin] answer: G, sent: bool },
        Over,
    }
}

impl<F, A, C, K, G> FallbackFuture<F, A, C, K, G> {
    #[inline]
    pub(crate) fn start<Req>(
        plan: &Arc<Plan<A, C>>,
        req: Req,
        capture: impl FnOnce(&A, &Req) -> K,
        call: impl FnOnce(Req) -> F,
    ) -> Self {
        let entering = begin(plan.fallback.started()).entering(&**plan);
        let captured = capture(&plan.answer, &req);
        let call = call(req);
        let flight = entering.entered().in_flight(plan.clone());
        Self { phase: Phase::Primary { call, captured: Some(captured) }, flight }
    }
}

impl Fallback {
    /// Runs `op`, and answers a failure with what `answer` makes of it: for what cannot be a service. It
    /// allocates once.
    ///
    /// ```
    /// # mod buttress { pub use {buttress_core::*, buttress_fallback::*}; }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use buttress::{BoxError, Fallback};
    ///
    /// let greeting = Fallback::builder("greeting").build()?;
    /// let down = || async { Err::<_, BoxError>("down".into()) };
    /// let text = greeting.call(down, |failed| failed.or(Ok("hello".to_owned()))).await;
    /// assert_eq!(text.unwrap(), "hello");
    /// # Ok(())
    /// # }
    /// ```
    pub fn call<O, F, A, T, E>(
        &self,
        op: O,
        answer: A,
    ) -> FallbackFuture<F, With<A>, Standard, (), Ready<Result<T, E>>>
    where
        O: FnOnce() -> F,
        F: Future<Output = Result<T, E>>,
        A: Fn(Result<T, E>) -> Result<T, E>,
        E: FromRejection,
    {
        let plan = Plan { fallback: self.clone(), answer: With::new(answer), decide: Standard };
        FallbackFuture::start(&Arc::new(plan), (), |_, ()| (), |()| op())
    }
}

impl<F, A, C, K, G, T, E> Future for FallbackFuture<F, A, C, K, G>
where
    F: Future<Output = Result<T, E>>,
    A: Answer<K, T, E, Future = G>,
    C: Decide<T, E>,
    G: Future<Output = Result<T, E>>,
    E: FromRejection,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.as_mut().project();
        let PhaseProj::Primary { call, captured } = this.phase.as_mut().project() else {
            return self.poll_answer(cx);
        };
        let inside = this.flight.inside();
        match call.poll(cx) {
            Poll::Pending => {
                inside.leave();
                Poll::Pending
            }
            Poll::Ready(Ok(value)) => {
                let plan = inside.policy();
                match plan.decide.decide(Ok(&value)) {
                    Decision::Handle => {
                        inside.leave();
                        return self.handle(Ok(value), cx);
                    }
                    Decision::Good => {
                        let captured = captured.take().expect(CAPTURED);
                        plan.answer.good(captured, &value, &plan.fallback);
                    }
                    Decision::Pass => {}
                }
                this.phase.set(Phase::Over);
                inside.end(FallbackEnd::Success);
                Poll::Ready(Ok(value))
            }
            Poll::Ready(Err(error)) => {
                inside.leave();
                self.failed(error, cx)
            }
        }
    }
}

impl<F, A, C, K, G> FallbackFuture<F, A, C, K, G> {
    /// What becomes of an error of the primary.
    fn failed<T, E>(mut self: Pin<&mut Self>, error: E, cx: &mut Context<'_>) -> Poll<Result<T, E>>
    where
        A: Answer<K, T, E, Future = G>,
        C: Decide<T, E>,
        G: Future<Output = Result<T, E>>,
        E: FromRejection,
    {
        let flight = self.as_mut().project().flight;
        if flight.run(|plan| plan.decide.decide(Err(&error))) == Decision::Handle {
            return self.handle(Err(error), cx);
        }
        self.over(FallbackEnd::NotHandled);
        Poll::Ready(Err(error))
    }

    /// Has the fallback answer a failure, which is given back if there is no answer.
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
        let sent = failed.as_ref().err().and_then(E::rejection).is_none_or(Rejection::was_sent);
        let captured = match this.phase.as_mut().project() {
            PhaseProj::Primary { captured, .. } => captured.take(),
            _ => None,
        };
        let captured = captured.expect(CAPTURED);
        match this.flight.run(|plan| plan.answer.answer(captured, failed, &plan.fallback)) {
            Ok(answer) => {
                // The primary's call is dropped by this.
                this.flight.run(|_| this.phase.set(Phase::Answering { answer, sent }));
                self.poll_answer(cx)
            }
            Err(failed) => {
                self.over(FallbackEnd::Failed);
                Poll::Ready(failed)
            }
        }
    }

    fn poll_answer<T, E>(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, E>>
    where
        G: Future<Output = Result<T, E>>,
        E: FromRejection,
    {
        let this = self.as_mut().project();
        let PhaseProj::Answering { answer, sent } = this.phase.project() else { panic!("{RESOLVED}") };
        let Poll::Ready(result) = this.flight.run(|_| answer.poll(cx)) else { return Poll::Pending };
        // That a second service was not sent the request must not read as "nothing has happened".
        let sent = *sent;
        self.over(if result.is_ok() { FallbackEnd::Answered } else { FallbackEnd::Failed });
        Poll::Ready(result.map_err(|error| if sent { error.sent_before() } else { error }))
    }

    /// Drops the call or the answer, and then tells the end.
    fn over(self: Pin<&mut Self>, end: FallbackEnd) {
        let mut this = self.project();
        let inside = this.flight.inside();
        this.phase.set(Phase::Over);
        inside.end(end);
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
