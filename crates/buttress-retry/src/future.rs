use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use buttress_core::{Classify, FromRejection, Replay, Verdict};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower_service::Service;

use crate::policy::{Ending, Next, Run};

pin_project! {
    /// Resolves as the attempt does that succeeded, or was the last.
    ///
    /// # Cancellation
    /// Dropping it drops the running attempt, or the timer of the wait. A retry that was taken out of the budget
    /// stays taken: the wait had been granted.
    pub struct RetryFuture<S, Req, C, R>
    where
        S: Service<Req>,
    {
        #[pin]
        attempt: Option<S::Future>,
        // What is done where there is no attempt.
        between: Between<S::Response, S::Error>,
        // What a further attempt is made with; `None` where none may follow.
        again: Option<Again<S, Req>>,
        // Behind `attempt`: that is gone when the run tells how the call ended.
        run: Run<C, R>,
    }
}

/// What a call does between two attempts, or after the last one. Apart from the attempt, and its timer in a box,
/// because a call that succeeds at once then needs room for little more than the attempt, and one look to drop it.
enum Between<T, E> {
    /// Nothing, but to poll the attempt while there is one.
    Nothing,
    Waiting(Seldom<Pin<Box<Wait<T, E>>>>),
    Readying,
}

/// What is seldom there: how it is dropped is kept out of the way, so that to drop what it is a part of takes one
/// look. Never `None` but while it is dropped.
struct Seldom<T>(Option<T>);

impl<T> Drop for Seldom<T> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(there) = self.0.take() {
            drop_seldom(there);
        }
    }
}

#[cold]
#[inline(never)]
fn drop_seldom<T>(there: T) {
    drop(there);
}

pin_project! {
    struct Wait<T, E> {
        #[pin]
        timer: Sleep,
        // Not for a further attempt: the answer is there and kept back for a while.
        answer: Option<(Result<T, E>, Ending)>,
    }
}

impl<T, E> Between<T, E> {
    fn wait(delay: Duration, answer: Option<(Result<T, E>, Ending)>) -> Self {
        Self::Waiting(Seldom(Some(Box::pin(Wait { timer: sleep(delay), answer }))))
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
    #[inline(always)]
    pub(crate) fn calling(attempt: S::Future, again: Option<Again<S, Req>>, run: Run<C, R>) -> Self {
        Self { attempt: Some(attempt), between: Between::Nothing, again, run }
    }

    /// Drops the attempt that has ended, and what another one would be made with.
    #[inline(always)]
    fn over(self: Pin<&mut Self>) {
        let mut this = self.project();
        this.attempt.set(None);
        *this.again = None;
    }
}

impl<S, Req, C, R> Future for RetryFuture<S, Req, C, R>
where
    S: Service<Req>,
    S::Error: FromRejection,
    C: Classify<S::Response, S::Error>,
    R: Replay<Req>,
{
    type Output = Result<S::Response, S::Error>;

    // Inlined into whoever awaits it, as `call` is: the future is then made where it stays. What fails and what
    // waits stays outside.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.as_mut().project();
        let ended = match this.attempt.as_mut().as_pin_mut() {
            None => None,
            Some(attempt) => {
                this.run.set_busy(true);
                // Matched by value: what is to be dropped again, should the drop of the attempt panic, would be
                // written to memory and copied from there.
                match this.run.inside(|| attempt.poll(cx)) {
                    Poll::Pending => {
                        this.run.set_busy(false);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(response)) => {
                        let verdict = this.run.classify(Ok(&response));
                        if verdict == Verdict::Success {
                            self.as_mut().over();
                            self.project().run.succeed();
                            return Poll::Ready(Ok(response));
                        }
                        Some((Ok(response), Some(verdict)))
                    }
                    Poll::Ready(Err(error)) => Some((Err(error), None)),
                }
            }
        };
        // What a function returns that is not inlined goes through memory. Apart from the answer of a call that
        // succeeds at once, which would go the same way.
        let mut answer = None;
        self.poll_on(ended, &mut answer, cx);
        match answer {
            None => Poll::Pending,
            Some(Ok(response)) => Poll::Ready(Ok(response)),
            Some(Err(error)) => Poll::Ready(Err(error)),
        }
    }
}

impl<S, Req, C, R> RetryFuture<S, Req, C, R>
where
    S: Service<Req>,
    S::Error: FromRejection,
    C: Classify<S::Response, S::Error>,
    R: Replay<Req>,
{
    /// Goes on from an attempt that ended, or a wait.
    #[inline(never)]
    fn poll_on(
        mut self: Pin<&mut Self>,
        ended: Option<Ended<S, Req>>,
        answer: &mut Option<Answer<S, Req>>,
        cx: &mut Context<'_>,
    ) {
        assert!(!self.run.is_done(), "polled after it resolved");
        self.as_mut().project().run.set_busy(true);
        match self.as_mut().advance(ended, cx) {
            Poll::Pending => self.project().run.set_busy(false),
            Poll::Ready(outcome) => *answer = Some(outcome),
        }
    }

    fn advance(
        mut self: Pin<&mut Self>,
        mut ended: Option<Ended<S, Req>>,
        cx: &mut Context<'_>,
    ) -> Poll<Answer<S, Req>> {
        let mut attempts_left = ATTEMPTS_PER_POLL;
        loop {
            if let Some((outcome, verdict)) = ended.take() {
                let verdict = verdict.unwrap_or_else(|| self.run.classify(outcome.as_ref()));
                if let Some(answer) = self.as_mut().judge(outcome, verdict) {
                    return Poll::Ready(answer);
                }
            }
            let mut this = self.as_mut().project();
            let run = this.run;
            match this.between {
                Between::Nothing => {
                    let attempt = this.attempt.as_pin_mut().expect("there until the call is over");
                    let outcome = ready!(run.inside(|| attempt.poll(cx)));
                    ended = Some((outcome, None));
                }
                Between::Waiting(wait) => {
                    let wait = wait.0.as_mut().expect("there until it is dropped").as_mut().project();
                    ready!(wait.timer.poll(cx));
                    if let Some((outcome, ending)) = wait.answer.take() {
                        *this.between = Between::Nothing;
                        run.end(ending);
                        return Poll::Ready(outcome.map_err(|error| run.last_error(error, ending)));
                    }
                    *this.between = Between::Readying;
                }
                Between::Readying => {
                    let again = this.again.as_mut().expect("kept until the last attempt");
                    if let Err(error) = ready!(run.inside(|| again.inner.poll_ready(cx))) {
                        // Nobody may use a service any more that says so: no further attempt.
                        return Poll::Ready(self.fail(Err(error), Ending::NOT_READY));
                    }
                    let req = again.req.take().expect("saved before the attempt that failed");
                    run.advance();
                    again.req = run.save(&req);
                    let attempt = run.inside(|| again.inner.call(req));
                    if again.req.is_none() {
                        *this.again = None;
                    }
                    this.attempt.set(Some(attempt));
                    *this.between = Between::Nothing;
                    attempts_left -= 1;
                    if attempts_left == 0 {
                        // Nothing made this call wait. Other tasks want their turn.
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// Goes from an attempt to what follows it, or answers.
    fn judge(mut self: Pin<&mut Self>, outcome: Answer<S, Req>, verdict: Verdict) -> Option<Answer<S, Req>> {
        if verdict == Verdict::Success {
            self.as_mut().over();
            self.project().run.succeed();
            return Some(outcome);
        }
        let mut this = self.as_mut().project();
        let saved = this.again.as_ref().and_then(|again| again.req.as_ref());
        let next = match this.run.judge(verdict, &outcome, saved) {
            Next::Retry(delay) if delay.is_zero() => Between::Readying,
            Next::Retry(delay) => Between::wait(delay, None),
            Next::End(ending) => return Some(self.fail(outcome, ending)),
            Next::Pause(pause, ending) => {
                *this.again = None;
                this.run.stop(ending);
                Between::wait(pause, Some((outcome, ending)))
            }
        };
        // At once: the attempt that has ended may hold a permit of a policy inside for as long as it lives.
        this.attempt.set(None);
        *this.between = next;
        None
    }

    /// The call ends without success.
    fn fail(mut self: Pin<&mut Self>, outcome: Answer<S, Req>, ending: Ending) -> Answer<S, Req> {
        self.as_mut().over();
        let this = self.project();
        *this.between = Between::Nothing;
        this.run.stop(ending);
        this.run.end(ending);
        outcome.map_err(|error| this.run.last_error(error, ending))
    }
}

impl<S, Req, C, R> fmt::Debug for RetryFuture<S, Req, C, R>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.between {
            _ if self.run.is_done() => "ended",
            Between::Nothing => "calling",
            Between::Waiting(_) => "waiting",
            Between::Readying => "readying",
        };
        f.debug_struct("RetryFuture").field("phase", &phase).finish_non_exhaustive()
    }
}
