use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use buttress_core::{Classify, FromRejection, Outcome, Replay, Verdict};
use buttress_kit::{
    Rare,
    call::{Ends, InFlight, Inside},
};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower_service::Service;

use crate::{
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
        // What is waited for while there is no attempt; nothing: that the service is ready for the next one.
        pause: Rare<Pause<Answer<S, Req>>>,
        // What a further attempt is made with; `None` if none may follow.
        again: Option<Again<S, Req>>,
        // Behind `attempt`: that is gone when the end of the call is told.
        flight: InFlight<Arc<Policy<C, R>>>,
    }
}

pin_project! {
    struct Pause<A> {
        #[pin]
        timer: Sleep,
        // No further attempt: the answer is kept back for a while.
        kept: Option<(A, Outcome)>,
    }
}

/// A service that is not ready, and the request for it.
pub(crate) struct Again<S, Req> {
    pub(crate) inner: S,
    pub(crate) req: Option<Req>,
}

type Answer<S, Req> = Result<<S as Service<Req>>::Response, <S as Service<Req>>::Error>;

/// How an attempt ended, and what that means if that was asked already.
type Ended<S, Req> = (Answer<S, Req>, Option<Verdict>);

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
        Self { attempt: Some(attempt), pause: Rare::NONE, again, flight }
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
                Poll::Pending
            }
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
            if let Some((outcome, verdict)) = ended.take() {
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
            if let Some(attempt) = this.attempt.as_pin_mut() {
                let mut inside = this.flight.inside();
                let (_, call) = under_way(&mut inside);
                let shown = call.show();
                let polled = attempt.poll(cx);
                drop(shown);
                inside.leave();
                ended = Some((ready!(polled), None));
            }
        }
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
        let (time, kept) = match next {
            Next::Attempt(delay) => (delay, None),
            Next::End(ending, Duration::ZERO) => {
                inside.leave();
                return Some(self.end(outcome, ending));
            }
            Next::End(ending, pause) => {
                *this.again = None;
                policy.engine.stop(ending);
                (pause, Some((outcome, ending.outcome)))
            }
        };
        if !time.is_zero() {
            this.pause.set(Pause { timer: sleep(time), kept });
        }
        inside.leave();
        None
    }

    /// Makes the next attempt once the wait is over and the inner service is ready; answers if there is none.
    fn begin_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Answer<S, Req>>> {
        let mut this = self.as_mut().project();
        let mut inside = this.flight.inside();
        let (policy, call) = under_way(&mut inside);
        if let Some(pause) = this.pause.get_mut() {
            let pause = pause.project();
            if pause.timer.poll(cx).is_pending() {
                inside.leave();
                return Poll::Pending;
            }
            let kept = pause.kept.take();
            this.pause.clear();
            if let Some((outcome, ended)) = kept {
                inside.leave();
                // Why was told when the pause began.
                return Poll::Ready(Some(self.end(outcome, Ending::of(ended))));
            }
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
        inside.leave();
        match ready {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => Poll::Ready(None),
            // Nobody may use a service any more that says so: no further attempt.
            Poll::Ready(Err(error)) => Poll::Ready(Some(self.end(Err(error), Ending::NOT_READY))),
        }
    }

    /// The call ends without success.
    fn end(self: Pin<&mut Self>, outcome: Answer<S, Req>, ending: Ending) -> Answer<S, Req> {
        let mut this = self.project();
        let mut inside = this.flight.inside();
        let (policy, call) = under_way(&mut inside);
        let call = *call;
        this.attempt.set(None);
        *this.again = None;
        policy.engine.stop(ending);
        inside.end(ending.outcome);
        outcome.map_err(|error| this.flight.policy().last_error(&call, ending, error))
    }
}

impl<S, Req, C, R> fmt::Debug for RetryFuture<S, Req, C, R>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.pause.get() {
            _ if self.flight.ticket().is_none() => "ended",
            _ if self.attempt.is_some() => "calling",
            Some(_) => "waiting",
            None => "readying",
        };
        f.debug_struct("RetryFuture").field("phase", &phase).finish_non_exhaustive()
    }
}
