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
    #[project = PhaseProj]
    enum Phase<F, T, E> {
        Calling { #[pin] attempt: F },
        Waiting { #[pin] timer: Sleep },
        Readying,
        // The answer is there and kept back for a while. Boxed, so that all other calls need no room for it.
        Pausing { #[pin] timer: Sleep, answer: Option<Box<(Result<T, E>, Ending)>> },
        Ended,
    }
}

/// A service that is not ready, and the request for it.
pub(crate) struct Again<S, Req> {
    pub(crate) inner: S,
    pub(crate) req: Option<Req>,
}

/// After so many attempts without a wait, the task yields.
const ATTEMPTS_PER_POLL: u32 = 64;

impl<S, Req, C, R> RetryFuture<S, Req, C, R>
where
    S: Service<Req>,
{
    #[inline]
    pub(crate) fn calling(attempt: S::Future, again: Option<Again<S, Req>>, run: Run<C, R>) -> Self {
        Self { phase: Phase::Calling { attempt }, again, run }
    }
}

impl<S, Req, C, R> RetryFuture<S, Req, C, R>
where
    S: Service<Req>,
    S::Error: FromRejection,
    C: Classify<S::Response, S::Error>,
    R: Replay<Req>,
{
    #[inline]
    fn advance(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<S::Response, S::Error>> {
        let mut this = self.project();
        let run = this.run;
        let mut attempts_left = ATTEMPTS_PER_POLL;
        loop {
            match this.phase.as_mut().project() {
                PhaseProj::Calling { attempt } => {
                    let outcome = ready!(run.inside(|| attempt.poll(cx)));
                    let verdict = run.classify(&outcome);
                    if verdict == Verdict::Success {
                        this.phase.set(Phase::Ended);
                        *this.again = None;
                        run.succeed();
                        return Poll::Ready(outcome);
                    }
                    let replayable = this.again.as_ref().is_some_and(|again| again.req.is_some());
                    match run.judge(verdict, &outcome, replayable) {
                        // Set at once, here and below: the attempt that has ended may hold a permit of a policy
                        // inside for as long as it lives.
                        Next::Retry(delay) if delay.is_zero() => this.phase.set(Phase::Readying),
                        Next::Retry(delay) => this.phase.set(Phase::Waiting { timer: sleep(delay) }),
                        Next::End(ending) => {
                            this.phase.set(Phase::Ended);
                            *this.again = None;
                            run.stop(ending);
                            run.end(ending);
                            return Poll::Ready(outcome.map_err(|error| run.last_error(error, ending)));
                        }
                        Next::Pause(pause, ending) => {
                            let answer = Some(Box::new((outcome, ending)));
                            this.phase.set(Phase::Pausing { timer: sleep(pause), answer });
                            *this.again = None;
                            run.stop(ending);
                        }
                    }
                }
                PhaseProj::Waiting { timer } => {
                    ready!(timer.poll(cx));
                    this.phase.set(Phase::Readying);
                }
                PhaseProj::Readying => {
                    let again = this.again.as_mut().expect("kept until the last attempt");
                    if let Err(error) = ready!(run.inside(|| again.inner.poll_ready(cx))) {
                        // Nobody may use a service any more that says so: no further attempt.
                        this.phase.set(Phase::Ended);
                        *this.again = None;
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
                PhaseProj::Pausing { timer, answer } => {
                    ready!(timer.poll(cx));
                    let (outcome, ending) = *answer.take().expect("kept until the pause is over");
                    this.phase.set(Phase::Ended);
                    run.end(ending);
                    return Poll::Ready(outcome.map_err(|error| run.last_error(error, ending)));
                }
                PhaseProj::Ended => panic!("polled after it resolved"),
            }
        }
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

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.as_mut().project().run.set_busy(true);
        let polled = self.as_mut().advance(cx);
        self.project().run.set_busy(false);
        polled
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
