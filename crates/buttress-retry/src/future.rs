use std::{
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant as StdInstant},
};

use buttress_core::{Classify, FromRejection, Outcome, Replay, Verdict};
use buttress_kit::{
    Rare,
    call::{Ends, InFlight, Inside},
};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tower_service::Service;

use crate::{
    before::Before,
    decide::{Ending, Next},
    policy::Policy,
};

pin_project! {
    /// Resolves as the attempt does that succeeded, or was the last.
    ///
    /// # Cancellation
    /// Dropping it drops the running attempt, or the timer of the wait. A retry that was taken out of the budget and is
    /// waited for is given back.
    #[must_use = "futures do nothing unless polled"]
    pub struct RetryFuture<S, Req, C, R>
    where
        S: Service<Req>,
    {
        #[pin]
        attempt: Option<S::Future>,
        // There from the first failure on.
        after: Rare<AfterFailure<S::Response, S::Error>>,
        // What a further attempt is made with; `None` if none may follow.
        again: Option<Again<S, Req>>,
        // Behind `attempt`: that is gone when the end of the call is told.
        flight: InFlight<Arc<Policy<C, R>>>,
    }
}

pin_project! {
    /// What a call needs that did not succeed at once.
    struct AfterFailure<T, E> {
        between: Between<Result<T, E>>,
        // What it failed with so far.
        before: Option<Before<T, E>>,
    }
}

/// What a call does between two attempts, or after the last one.
enum Between<A> {
    Waiting(Pin<Box<Sleep>>),
    /// Not looked at while there is an attempt. The timer of the deadline, once the service was not ready.
    Readying(Option<Pin<Box<Sleep>>>),
    /// No further attempt: the answer is kept back for a while.
    Pausing(Pin<Box<Sleep>>, A, Outcome),
}

/// A service that is not ready, and the request for it.
pub(crate) struct Again<S, Req> {
    pub(crate) inner: S,
    pub(crate) req: Option<Req>,
}

/// How an attempt ended, and what that means if that was asked already.
type Ended<S, Req> = (Answer<S, Req>, Option<Verdict>);

type Answer<S, Req> = Result<<S as Service<Req>>::Response, <S as Service<Req>>::Error>;

/// After so many attempts without a wait, the task yields.
const ATTEMPTS_PER_POLL: u32 = 64;

impl<S, Req, C, R> RetryFuture<S, Req, C, R>
where
    S: Service<Req>,
{
    #[inline]
    pub(crate) fn calling(
        attempt: S::Future,
        again: Option<Again<S, Req>>,
        flight: InFlight<Arc<Policy<C, R>>>,
    ) -> Self {
        Self { attempt: Some(attempt), after: Rare::NONE, again, flight }
    }
}

impl<S, Req, C, R> Future for RetryFuture<S, Req, C, R>
where
    S: Service<Req>,
    S::Error: FromRejection,
    C: Classify<S::Response, S::Error>,
    R: Replay<Req>,
{
    type Output = Answer<S, Req>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.as_mut().project();
        let Some(attempt) = this.attempt.as_mut().as_pin_mut() else { return self.poll_on(None, cx) };
        let mut inside = this.flight.inside();
        let (policy, call) = under_way(&mut inside);
        let shown = call.show();
        let polled = attempt.poll(cx);
        drop(shown);
        match polled {
            Poll::Pending => {
                inside.leave();
                if this.after.is_some() { self.pending() } else { Poll::Pending }
            }
            // Taken apart at once: a whole `Result` that is borrowed is written to memory.
            Poll::Ready(Ok(response)) => {
                let verdict = policy.classify.classify(Ok(&response));
                if verdict == Verdict::Success {
                    this.attempt.set(None);
                    *this.again = None;
                    inside.end(Outcome::Success);
                    return Poll::Ready(Ok(response));
                }
                inside.leave();
                self.poll_on(Some((Ok(response), Some(verdict))), cx)
            }
            Poll::Ready(Err(error)) => {
                inside.leave();
                self.poll_on(Some((Err(error), None)), cx)
            }
        }
    }
}

/// The policy, and the call while it is under way.
#[inline]
fn under_way<'a, P: Ends>(inside: &'a mut Inside<'_, P>) -> (&'a P, &'a mut P::Ticket) {
    let (policy, Some(call)) = inside.parts() else { panic!("polled after it resolved") };
    (policy, call)
}

impl<S, Req, C, R> RetryFuture<S, Req, C, R>
where
    S: Service<Req>,
    S::Error: FromRejection,
    C: Classify<S::Response, S::Error>,
    R: Replay<Req>,
{
    /// Goes on from an attempt that ended without success, or a wait.
    fn poll_on(
        mut self: Pin<&mut Self>,
        mut ended: Option<Ended<S, Req>>,
        cx: &mut Context<'_>,
    ) -> Poll<Answer<S, Req>> {
        let mut attempts_left = ATTEMPTS_PER_POLL;
        loop {
            if let Some((outcome, verdict)) = ended {
                if let Some(answer) = self.as_mut().judge(outcome, verdict) {
                    return Poll::Ready(answer);
                }
            }
            if let Some(answer) = ready!(self.as_mut().begin_next(cx)) {
                return Poll::Ready(answer);
            }
            attempts_left -= 1;
            if attempts_left == 0 {
                // Nothing made this call wait. Other tasks want their turn.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let this = self.as_mut().project();
            ended = None;
            if let Some(attempt) = this.attempt.as_pin_mut() {
                let mut inside = this.flight.inside();
                let (_, call) = under_way(&mut inside);
                let shown = call.show();
                let polled = attempt.poll(cx);
                drop(shown);
                inside.leave();
                let Poll::Ready(outcome) = polled else { return self.pending() };
                ended = Some((outcome, None));
            }
        }
    }

    /// An attempt after a failure is pending: unless the time of the call is up. Whoever outside gives the call up at its
    /// deadline knows nothing of the failure before this attempt.
    fn pending(mut self: Pin<&mut Self>) -> Poll<Answer<S, Req>> {
        let this = self.as_mut().project();
        let was_sent = this.after.get().and_then(|after| after.before.as_ref()).is_some_and(Before::was_sent);
        if was_sent && this.flight.ticket().is_some_and(|call| call.is_over()) {
            return Poll::Ready(self.end(None, Ending::TIME_IS_UP));
        }
        Poll::Pending
    }

    /// Goes from an attempt to what follows it, or answers.
    fn judge(
        mut self: Pin<&mut Self>,
        outcome: Answer<S, Req>,
        verdict: Option<Verdict>,
    ) -> Option<Answer<S, Req>> {
        let mut this = self.as_mut().project();
        let mut inside = this.flight.inside();
        let (policy, call) = under_way(&mut inside);
        let verdict = verdict.unwrap_or_else(|| policy.classify.classify(outcome.as_ref()));
        if verdict == Verdict::Success {
            this.attempt.set(None);
            *this.again = None;
            inside.end(Outcome::Success);
            return Some(outcome);
        }
        let saved = this.again.as_ref().and_then(|again| again.req.as_ref());
        let next = policy.judge(call, verdict, &outcome, saved);
        // At once: the attempt that has ended may hold a permit of a policy inside for as long as it lives.
        this.attempt.set(None);
        match next {
            Next::Attempt(delay) => {
                let after = this.after.get_or_set(AfterFailure::new).project();
                Before::keep(after.before, outcome, &policy.classify);
                *after.between = match delay {
                    Duration::ZERO => Between::Readying(None),
                    _ => Between::Waiting(Box::pin(sleep(delay))),
                };
            }
            Next::End(ending, Duration::ZERO) => {
                inside.leave();
                return Some(self.end(Some(outcome), ending));
            }
            Next::End(ending, pause) => {
                *this.again = None;
                let after = this.after.get_or_set(AfterFailure::new).project();
                policy.engine.stop(ending, || policy.described(Some(&outcome), after.before.as_ref()));
                *after.between = Between::Pausing(Box::pin(sleep(pause)), outcome, ending.outcome);
            }
        }
        inside.leave();
        None
    }

    /// Makes the next attempt once the wait is over and the inner service is ready; answers if there is none.
    fn begin_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Answer<S, Req>>> {
        let mut this = self.as_mut().project();
        let mut inside = this.flight.inside();
        let (policy, call) = under_way(&mut inside);
        let between = this.after.get_or_set(AfterFailure::new).project().between;
        let waits = match between {
            Between::Waiting(timer) | Between::Pausing(timer, ..) => timer.as_mut().poll(cx).is_pending(),
            Between::Readying(_) => false,
        };
        let is_pausing = matches!(between, Between::Pausing(..));
        if !is_pausing && call.is_late() {
            inside.leave();
            return Poll::Ready(Some(self.end(None, Ending::TIME_IS_UP)));
        }
        if waits {
            inside.leave();
            return Poll::Pending;
        }
        match mem::replace(between, Between::Readying(None)) {
            Between::Pausing(_, outcome, ended) => {
                inside.leave();
                // Why was told when the pause began.
                return Poll::Ready(Some(self.end(Some(outcome), Ending::of(ended))));
            }
            Between::Waiting(_) => {}
            readying @ Between::Readying(_) => *between = readying,
        }
        let again = this.again.as_mut().expect("kept until the last attempt");
        let shown = call.show();
        let ready = again.inner.poll_ready(cx);
        drop(shown);
        if let Poll::Ready(Ok(())) = &ready {
            let req = again.req.take().expect("saved before the attempt that failed");
            policy.engine.advance(call);
            again.req = policy.save(call, &req);
            let shown = call.show();
            let attempt = again.inner.call(req);
            drop(shown);
            if again.req.is_none() {
                *this.again = None;
            }
            this.attempt.set(Some(attempt));
        }
        let late = ready.is_pending() && between.is_late(call.deadline_in_force(), cx);
        inside.leave();
        match ready {
            Poll::Pending if late => Poll::Ready(Some(self.end(None, Ending::TIME_IS_UP))),
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => Poll::Ready(None),
            // Nobody may use a service any more that says so: no further attempt.
            Poll::Ready(Err(error)) => Poll::Ready(Some(self.end(Some(Err(error)), Ending::NOT_READY))),
        }
    }

    /// The call ends without success: with this outcome, or in a wait or an attempt for which its time is up.
    fn end(self: Pin<&mut Self>, outcome: Option<Answer<S, Req>>, ending: Ending) -> Answer<S, Req> {
        let mut this = self.project();
        let mut inside = this.flight.inside();
        let (policy, call) = under_way(&mut inside);
        let call = *call;
        this.attempt.set(None);
        *this.again = None;
        let before = this.after.get_mut().and_then(|after| after.project().before.take());
        policy.engine.stop(ending, || policy.described(outcome.as_ref(), before.as_ref()));
        inside.end(ending.outcome);
        this.flight.policy().answer(&call, ending, outcome, before)
    }
}

impl<T, E> AfterFailure<T, E> {
    fn new() -> Self {
        Self { between: Between::Readying(None), before: None }
    }
}

impl<A> Between<A> {
    /// Whether the deadline passed while the service was not ready; it is waited for as well.
    fn is_late(&mut self, deadline: Option<StdInstant>, cx: &mut Context<'_>) -> bool {
        let (Self::Readying(timer), Some(deadline)) = (self, deadline) else { return false };
        let deadline = Instant::from_std(deadline);
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx).is_ready()
    }
}

impl<S, Req, C, R> fmt::Debug for RetryFuture<S, Req, C, R>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.after.get().map(|after| &after.between) {
            _ if self.flight.ticket().is_none() => "ended",
            _ if self.attempt.is_some() => "calling",
            Some(Between::Waiting(_) | Between::Pausing(..)) => "waiting",
            _ => "readying",
        };
        f.debug_struct("RetryFuture").field("phase", &phase).finish_non_exhaustive()
    }
}
