use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
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
        phase: Phase<S::Future, S::Response, S::Error>,
        // What a further attempt is made with; `None` where none may follow.
        again: Option<Again<S, Req>>,
        // Behind `phase`: the attempt is gone when the run tells how the call ended.
        run: Run<C, R>,
    }
}

pin_project! {
    // The timers are boxed, and with them the answer that is kept back: a call that succeeds at once needs no room
    // for them, and every copy of it would cost more than all the rest.
    #[project = PhaseProj]
    enum Phase<F, T, E> {
        Calling { #[pin] attempt: F },
        Waiting { timer: Pin<Box<Sleep>> },
        Readying,
        // The answer is there and kept back for a while.
        Pausing { paused: Box<Paused<T, E>> },
        Ended,
    }
}

struct Paused<T, E> {
    timer: Pin<Box<Sleep>>,
    answer: Option<(Result<T, E>, Ending)>,
}

/// A service that is not ready, and the request for it.
pub(crate) struct Again<S, Req> {
    pub(crate) inner: S,
    pub(crate) req: Option<Req>,
}

type Answer<S, Req> = Result<<S as Service<Req>>::Response, <S as Service<Req>>::Error>;

/// After so many attempts without a wait, the task yields.
const ATTEMPTS_PER_POLL: u32 = 64;

impl<S, Req, C, R> RetryFuture<S, Req, C, R>
where
    S: Service<Req>,
{
    #[inline(always)]
    pub(crate) fn calling(attempt: S::Future, again: Option<Again<S, Req>>, run: Run<C, R>) -> Self {
        Self { phase: Phase::Calling { attempt }, again, run }
    }

    /// Drops what attempts were made of, the one that ended first.
    #[inline(always)]
    fn over(self: Pin<&mut Self>) {
        let mut this = self.project();
        this.phase.set(Phase::Ended);
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
        let this = self.as_mut().project();
        let PhaseProj::Calling { attempt } = this.phase.project() else { return self.poll_on(None, cx) };
        this.run.set_busy(true);
        // Matched by value: what is to be dropped again, should the drop of the attempt panic, would be written to
        // memory and copied from there.
        match this.run.inside(|| attempt.poll(cx)) {
            Poll::Pending => {
                this.run.set_busy(false);
                Poll::Pending
            }
            Poll::Ready(Ok(response)) => {
                let verdict = this.run.classify(Ok(&response));
                if verdict != Verdict::Success {
                    return self.poll_on(Some((Ok(response), verdict)), cx);
                }
                self.as_mut().over();
                self.project().run.succeed();
                Poll::Ready(Ok(response))
            }
            Poll::Ready(Err(error)) => self.failed(error, cx),
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
    #[cold]
    fn failed(self: Pin<&mut Self>, error: S::Error, cx: &mut Context<'_>) -> Poll<Answer<S, Req>> {
        let verdict = self.run.classify(Err(&error));
        self.poll_on(Some((Err(error), verdict)), cx)
    }

    /// Goes on from an attempt that ended, or a wait.
    #[inline(never)]
    fn poll_on(
        mut self: Pin<&mut Self>,
        ended: Option<(Answer<S, Req>, Verdict)>,
        cx: &mut Context<'_>,
    ) -> Poll<Answer<S, Req>> {
        let this = self.as_mut().project();
        assert!(!matches!(*this.phase, Phase::Ended), "polled after it resolved");
        this.run.set_busy(true);
        let polled = self.as_mut().advance(ended, cx);
        if polled.is_pending() {
            self.project().run.set_busy(false);
        }
        polled
    }

    fn advance(
        mut self: Pin<&mut Self>,
        mut ended: Option<(Answer<S, Req>, Verdict)>,
        cx: &mut Context<'_>,
    ) -> Poll<Answer<S, Req>> {
        let mut attempts_left = ATTEMPTS_PER_POLL;
        loop {
            if let Some((outcome, verdict)) = ended.take() {
                if let Some(answer) = self.as_mut().judge(outcome, verdict) {
                    return Poll::Ready(answer);
                }
            }
            let mut this = self.as_mut().project();
            let run = this.run;
            match this.phase.as_mut().project() {
                PhaseProj::Calling { attempt } => {
                    let outcome = ready!(run.inside(|| attempt.poll(cx)));
                    let verdict = run.classify(outcome.as_ref());
                    ended = Some((outcome, verdict));
                }
                PhaseProj::Waiting { timer } => {
                    ready!(timer.as_mut().poll(cx));
                    this.phase.set(Phase::Readying);
                }
                PhaseProj::Readying => {
                    let again = this.again.as_mut().expect("kept until the last attempt");
                    if let Err(error) = ready!(run.inside(|| again.inner.poll_ready(cx))) {
                        // Nobody may use a service any more that says so: no further attempt.
                        self.as_mut().over();
                        let run = self.project().run;
                        run.stop(Ending::NOT_READY);
                        run.end(Ending::NOT_READY);
                        return Poll::Ready(Err(run.last_error(error, Ending::NOT_READY)));
                    }
                    let req = again.req.take().expect("saved before the attempt that failed");
                    run.advance();
                    again.req = run.save(&req);
                    let attempt = run.inside(|| again.inner.call(req));
                    if again.req.is_none() {
                        *this.again = None;
                    }
                    this.phase.set(Phase::Calling { attempt });
                    attempts_left -= 1;
                    if attempts_left == 0 {
                        // Nothing made this call wait. Other tasks want their turn.
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                PhaseProj::Pausing { paused } => {
                    ready!(paused.timer.as_mut().poll(cx));
                    let (outcome, ending) = paused.answer.take().expect("kept until the pause is over");
                    this.phase.set(Phase::Ended);
                    run.end(ending);
                    return Poll::Ready(outcome.map_err(|error| run.last_error(error, ending)));
                }
                PhaseProj::Ended => unreachable!("asked by `poll_on`"),
            }
        }
    }

    /// Goes to the phase that follows an attempt, or answers.
    fn judge(mut self: Pin<&mut Self>, outcome: Answer<S, Req>, verdict: Verdict) -> Option<Answer<S, Req>> {
        if verdict == Verdict::Success {
            self.as_mut().over();
            self.project().run.succeed();
            return Some(outcome);
        }
        let mut this = self.as_mut().project();
        let replayable = this.again.as_ref().is_some_and(|again| again.req.is_some());
        match this.run.judge(verdict, &outcome, replayable) {
            // Set at once, here and below: the attempt that has ended may hold a permit of a policy inside for as
            // long as it lives.
            Next::Retry(delay) if delay.is_zero() => this.phase.set(Phase::Readying),
            Next::Retry(delay) => this.phase.set(Phase::Waiting { timer: Box::pin(sleep(delay)) }),
            Next::End(ending) => {
                self.as_mut().over();
                let run = self.project().run;
                run.stop(ending);
                run.end(ending);
                return Some(outcome.map_err(|error| run.last_error(error, ending)));
            }
            Next::Pause(pause, ending) => {
                let paused = Paused { timer: Box::pin(sleep(pause)), answer: Some((outcome, ending)) };
                this.phase.set(Phase::Pausing { paused: Box::new(paused) });
                *this.again = None;
                this.run.stop(ending);
            }
        }
        None
    }
}

impl<S, Req, C, R> fmt::Debug for RetryFuture<S, Req, C, R>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.phase {
            Phase::Calling { .. } => "calling",
            Phase::Waiting { .. } => "waiting",
            Phase::Readying => "readying",
            Phase::Pausing { .. } => "pausing",
            Phase::Ended => "ended",
        };
        f.debug_struct("RetryFuture").field("phase", &phase).finish_non_exhaustive()
    }
}
