use std::{
    error::Error as StdError,
    fmt,
    future::Ready,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use buttress_core::{Classify, FailedTwice, FromRejection, Rejection, Standard};
use buttress_kit::call::{Ends, InFlight, begin};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::{Answer, Answering, Decide, Decision, Fallback, First, With, fallback::FallbackEnd};

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
        self.fallback.ended(end, *started, None);
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
    /// For one policy alone. The error of `op` must be able to carry a refusal: a foreign one gets there by
    /// `.map_err(BoxError::from)`. Under several policies, and with whatever error it has, a function runs through a
    /// stack that ends in `.functions()`, see [`Functions`](buttress_core::Functions).
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
    G: Future<Output = Result<T, E>> + Answering<E>,
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
        G: Future<Output = Result<T, E>> + Answering<E>,
        E: FromRejection,
    {
        let flight = self.as_mut().project().flight;
        if flight.run(|plan| plan.decide.decide(Err(&error))) == Decision::Handle {
            return self.handle(Err(error), cx);
        }
        self.over(FallbackEnd::NotHandled, || error.as_error());
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
        C: Decide<T, E>,
        G: Future<Output = Result<T, E>> + Answering<E>,
        E: FromRejection,
    {
        let mut this = self.as_mut().project();
        let sent = failed.as_ref().err().and_then(E::rejection).is_none_or(Rejection::was_sent);
        let captured = match this.phase.as_mut().project() {
            PhaseProj::Primary { captured, .. } => captured.take(),
            _ => None,
        };
        let captured = captured.expect(CAPTURED);
        let answer = this.flight.run(|plan| {
            let Plan { fallback, answer, decide } = &**plan;
            answer.answer(captured, failed, fallback, decide)
        });
        match answer {
            Ok(answer) => {
                // The primary's call is dropped by this.
                this.flight.run(|_| this.phase.set(Phase::Answering { answer, sent }));
                self.poll_answer(cx)
            }
            Err(failed) => {
                self.over(FallbackEnd::Failed, || failed.as_ref().err()?.as_error());
                Poll::Ready(failed)
            }
        }
    }

    fn poll_answer<T, E>(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, E>>
    where
        G: Future<Output = Result<T, E>> + Answering<E>,
        E: FromRejection,
    {
        let this = self.as_mut().project();
        let PhaseProj::Answering { mut answer, sent } = this.phase.project() else { panic!("{RESOLVED}") };
        let Poll::Ready(result) = this.flight.run(|_| answer.as_mut().poll(cx)) else { return Poll::Pending };
        match result {
            Ok(value) => {
                self.over(FallbackEnd::Answered, || None);
                Poll::Ready(Ok(value))
            }
            Err(error) => {
                let (first, sent) = (answer.first(), *sent);
                Poll::Ready(Err(self.failed_twice(error, first, sent)))
            }
        }
    }

    /// Ends a call for which the fallback failed too. The error for the caller.
    fn failed_twice<E: FromRejection>(
        mut self: Pin<&mut Self>,
        error: E,
        first: Option<First<E>>,
        sent: bool,
    ) -> E {
        let flight = self.as_mut().project().flight;
        let (error, texts) = flight.run(|plan| {
            // That a second service was not sent the request must not read as "nothing has happened".
            let error = if sent { error.sent_before() } else { error };
            match first {
                Some(first) => both(error, first, plan.fallback.is_heard()),
                None => (error, None),
            }
        });
        self.over(FallbackEnd::Failed, || match &texts {
            Some(texts) => Some(texts),
            None => error.as_error(),
        });
        error
    }

    /// Drops the call or the answer, and then tells the end, with what the caller gets if that is an error.
    fn over<'a>(
        self: Pin<&mut Self>,
        end: FallbackEnd,
        error: impl FnOnce() -> Option<&'a (dyn StdError + 'static)>,
    ) {
        let mut this = self.project();
        let error = this.flight.run(|_| {
            this.phase.set(Phase::Over);
            error()
        });
        if let Some(started) = this.flight.take() {
            this.flight.policy().fallback.ended(end, started, error);
        }
    }
}

/// The failure of the fallback, and of whom it stood in for: in one error, if its type has room for both; and as text
/// for who listens, if it has not.
fn both<E: FromRejection>(last: E, first: First<E>, heard: bool) -> (E, Option<FailedTwice>) {
    let texts = heard.then(|| {
        let first = match &first {
            First::Error(error) => text(error),
            First::Answer(said) => said.clone(),
        };
        FailedTwice::new(text(&last), first)
    });
    let first = match first {
        First::Error(error) => Some(error),
        First::Answer(said) => E::from_text(said),
    };
    let error = match first {
        Some(first) => last.after(first),
        None => last,
    };
    let tells_both = error.as_error().is_some_and(<dyn StdError>::is::<FailedTwice>);
    (error, texts.filter(|_| !tells_both))
}

/// What an error says, with its sources.
fn text<E: FromRejection>(error: &E) -> String {
    let mut text = Described(error).to_string();
    let sources = std::iter::successors(error.as_error().and_then(StdError::source), |&error| error.source());
    for source in sources.take(16) {
        text.push_str(": ");
        text.push_str(&source.to_string());
    }
    text
}

struct Described<'a, E>(&'a E);

impl<E: FromRejection> fmt::Display for Described<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Classify::<(), E>::describe(&Standard, Err(self.0), f)
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
