//! One call as the policy sees it: which attempt it is at, whether another one follows, how it ended.

use std::{sync::Arc, time::Duration};

use buttress_core::{
    Applied, Class, Classify, Event, FailureKind, FromRejection, Outcome, Rejection, Replay, Verdict, Word,
    context,
};
use buttress_kit::BackoffState;
use tokio::time::Instant;

use crate::{RetryAfter, decide, engine::Engine, words};

/// An engine with the strategies of one layer.
pub(crate) struct Policy<C, R> {
    pub(crate) engine: Arc<Engine>,
    pub(crate) classify: C,
    pub(crate) replay: R,
}

impl<C, R> Policy<C, R> {
    /// Begins a call.
    #[inline(always)]
    pub(crate) fn begin(&self) -> Begun {
        let engine = &*self.engine;
        let started = if engine.is_plain() { None } else { engine.start() };
        // Made once: new settings do not move the deadline of a call that has begun.
        let deadline = if started.is_some() { deadline(started, engine.max_elapsed()) } else { None };
        Begun { started, deadline, max_attempts: engine.max_attempts() }
    }
}

/// A call until its first attempt has a future. Plain data, and not part of the [`Run`] until then: what `call`
/// makes is put where it stays, without a copy of a half-made future, which would cost more than all the rest of a
/// call that succeeds at once.
#[derive(Clone, Copy)]
pub(crate) struct Begun {
    started: Option<Instant>,
    deadline: Option<std::time::Instant>,
    max_attempts: u32,
}

impl Begun {
    #[inline(always)]
    pub(crate) fn is_last(self) -> bool {
        self.max_attempts <= 1
    }

    /// Tells of a panic, unless it is forgotten.
    #[inline(always)]
    pub(crate) fn unwound(self, engine: &Engine) -> Unwound<'_> {
        Unwound { engine, started: self.started }
    }

    /// Runs a piece of the inner service, which sees the number of the attempt.
    #[inline(always)]
    pub(crate) fn inside<T>(self, inner: impl FnOnce() -> T) -> T {
        inside(self.deadline, 1, self.max_attempts, inner)
    }

    /// The call under way.
    #[inline(always)]
    pub(crate) fn run<C, R>(self, policy: &Arc<Policy<C, R>>) -> Run<C, R> {
        Run {
            policy: policy.clone(),
            started: self.started,
            deadline: self.deadline,
            sent: false,
            backoff: BackoffState::default(),
            attempt: 1,
            max_attempts: self.max_attempts,
            retried: None,
            state: State::Idle,
        }
    }
}

/// Tells of a call that panicked before its first attempt had a future.
pub(crate) struct Unwound<'a> {
    engine: &'a Engine,
    started: Option<Instant>,
}

impl Drop for Unwound<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.engine.panicked(self.started);
    }
}

/// Runs a piece of the inner service. The caller's context is asked at every poll and not kept: who is outside puts
/// it in force around every poll. The policy's own deadline was made when the call began.
#[inline(always)]
fn inside<T>(
    deadline: Option<std::time::Instant>,
    attempt: u32,
    max_attempts: u32,
    inner: impl FnOnce() -> T,
) -> T {
    // Where there is one attempt only, that of a retry outside stays.
    let shown = if max_attempts > 1 { attempt } else { context::current().attempt };
    let _attempt = context::enter_attempt(shown);
    // One way to `inner` and not one for each case: a future that comes out of two is made in memory that other
    // code knows of, and every layer outside copies it whole.
    let _deadline = context::enter_deadline(deadline);
    inner()
}

/// When no further attempt may start, by the policy's own `max_elapsed`.
fn deadline(started: Option<Instant>, max_elapsed: Option<Duration>) -> Option<std::time::Instant> {
    started?.checked_add(max_elapsed?).map(Instant::into_std)
}

/// One call under way. Tells how it ended when it is dropped, unless that was told before.
pub(crate) struct Run<C, R> {
    policy: Arc<Policy<C, R>>,
    started: Option<Instant>,
    deadline: Option<std::time::Instant>,
    /// An attempt before this one may have reached the service.
    sent: bool,
    backoff: BackoffState,
    attempt: u32,
    max_attempts: u32,
    // What the retry was made after that the budget still counts: the last one that it granted, until that failed.
    retried: Option<FailureKind>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between polls: dropped now, the caller has cancelled the call.
    Idle,
    /// Code of others runs: dropped now, it has panicked.
    Busy,
    /// Told.
    Done,
}

/// What follows an attempt.
pub(crate) enum Next {
    /// Another one, after this wait.
    Retry(Duration),
    /// Nothing.
    End(Ending),
    /// Nothing, but the caller gets the answer only after this time.
    Pause(Duration, Ending),
}

/// How a call ends without success.
#[derive(Clone, Copy)]
pub(crate) struct Ending {
    outcome: Outcome,
    /// Why no further attempt was made, if one was wanted or possible.
    why: Option<Word>,
}

impl Ending {
    /// The service failed when it was asked for readiness.
    pub(crate) const NOT_READY: Self = Self { outcome: Outcome::Failure, why: Some(words::NOT_READY) };
}

impl<C, R> Run<C, R> {
    pub(crate) fn replay(&self) -> &R {
        &self.policy.replay
    }

    pub(crate) fn is_last(&self) -> bool {
        self.attempt >= self.max_attempts
    }

    /// The request to send again, where another attempt may follow and the request can be repeated.
    #[inline]
    pub(crate) fn save<Req>(&self, req: &Req) -> Option<Req>
    where
        R: Replay<Req>,
    {
        if self.is_last() || !self.replay().ever() { None } else { self.replay().save(req) }
    }

    /// Goes to the next attempt.
    pub(crate) fn advance(&mut self) {
        self.attempt = self.attempt.saturating_add(1);
        self.policy.engine.count_retry();
    }

    /// Whether it was told how the call ended.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Runs a piece of the inner service, which sees the number of the attempt.
    #[inline(always)]
    pub(crate) fn inside<T>(&self, inner: impl FnOnce() -> T) -> T {
        inside(self.deadline, self.attempt, self.max_attempts, inner)
    }

    #[inline(always)]
    pub(crate) fn set_busy(&mut self, busy: bool) {
        self.state = if busy { State::Busy } else { State::Idle };
    }

    /// What an attempt that has ended says about the service.
    #[inline(always)]
    pub(crate) fn classify<T, E>(&self, outcome: Result<&T, &E>) -> Verdict
    where
        C: Classify<T, E>,
    {
        self.policy.classify.classify(outcome)
    }

    /// Decides on an attempt that was no success.
    #[cold]
    pub(crate) fn judge<T, E, Req>(
        &mut self,
        verdict: Verdict,
        outcome: &Result<T, E>,
        saved: Option<&Req>,
    ) -> Next
    where
        C: Classify<T, E>,
        E: FromRejection,
        R: Replay<Req>,
    {
        let ended = if verdict.is_failure() { Outcome::Failure } else { Outcome::Ignored };
        let rejection = outcome.as_ref().err().and_then(FromRejection::rejection);
        if !verdict.is_failure() && rejection.is_none() {
            return Next::End(Ending { outcome: ended, why: None });
        }
        let failure = match rejection {
            Some(rejection) if rejection.code().class() == Class::TooMany => FailureKind::Throttled,
            Some(rejection) if rejection.is_timeout() => FailureKind::TimedOut,
            _ => self.policy.classify.failure_kind(outcome.as_ref()),
        };
        let before = self.backoff;
        let policy = self.policy.clone();
        let applied = || match rejection {
            Some(refused) if !refused.was_sent() => Applied::No,
            _ => policy.classify.applied(outcome.as_ref()),
        };
        let can_resend = || saved.is_some_and(|req| policy.replay.can_resend(req, applied()));
        match self.next(verdict, rejection, failure, can_resend) {
            Ok(delay) => {
                self.sent |= rejection.is_none_or(Rejection::was_sent);
                self.tell_retry(outcome, rejection, delay);
                Next::Retry(delay)
            }
            Err(why) => {
                let ending = Ending { outcome: ended, why: Some(why) };
                match self.pause(why, before) {
                    Some(pause) => Next::Pause(pause, ending),
                    None => Next::End(ending),
                }
            }
        }
    }

    /// The wait before the next attempt, or why there is none.
    fn next(
        &mut self,
        verdict: Verdict,
        rejection: Option<&Rejection>,
        failure: FailureKind,
        can_resend: impl FnOnce() -> bool,
    ) -> Result<Duration, Word> {
        let engine = &*self.policy.engine;
        let settings = engine.settings();
        let hint = match (verdict, rejection) {
            // A refusal never reached the service. To repeat it works against whoever refused, whatever the
            // classifier thinks of it.
            (_, Some(refused)) if !refused.was_sent() => {
                if !settings.config.retry_rejections.iter().any(|listed| refused.code() == &**listed) {
                    return Err(words::NOT_RETRYABLE);
                }
                refused.retry_after()
            }
            (Verdict::Failure { permanent: false, retry_after }, rejection) => {
                retry_after.or_else(|| rejection?.retry_after())
            }
            _ => return Err(words::NOT_RETRYABLE),
        };
        // What never reached the service is no load on it: neither it nor its repetition is the budget's business.
        let budget = engine.budget.as_ref().filter(|_| rejection.is_none_or(Rejection::was_sent));
        if let Some(budget) = budget {
            budget.failed(self.retried.take());
        }
        if self.is_last() {
            return Err(words::MAX_ATTEMPTS);
        }
        if !can_resend() {
            return Err(words::NOT_REPLAYABLE);
        }
        let backoff = settings.backoff(self.attempt, failure, &mut self.backoff, &engine.chance);
        let delay = decide::wait(&settings.config, backoff, hint).ok_or(words::DEADLINE)?;
        if hint.is_some() && settings.config.retry_after == RetryAfter::Replace {
            self.backoff = BackoffState::default();
        }
        let now = Instant::now();
        decide::fits(delay, now.into_std(), self.deadline_in_force())?;
        // Last, so that no other reason to stop costs a retry of the budget.
        if let Some(budget) = budget {
            let granted = budget.try_withdraw_after(failure, now.into_std());
            engine.tell_budget();
            if !granted {
                return Err(words::BUDGET);
            }
            self.retried = Some(failure);
        }
        Ok(delay)
    }

    /// How long a call that is stopped for this reason keeps its caller waiting, from the backoff as it stood.
    fn pause(&self, why: Word, mut before: BackoffState) -> Option<Duration> {
        let engine = &*self.policy.engine;
        let settings = engine.settings();
        if why != words::BUDGET || !settings.config.pause_without_budget {
            return None;
        }
        // As the AWS SDKs do, by the backoff of ordinary failures also after throttling.
        let pause = settings.backoff(self.attempt, FailureKind::Transient, &mut before, &engine.chance);
        // Nobody waits for an answer after the deadline.
        let now = Instant::now().into_std();
        let left = self.deadline_in_force().map(|deadline| deadline.saturating_duration_since(now));
        let pause = left.map_or(pause, |left| pause.min(left));
        (!pause.is_zero()).then_some(pause)
    }

    /// The caller's deadline or the policy's own, whichever is earlier.
    fn deadline_in_force(&self) -> Option<std::time::Instant> {
        let context = context::current();
        self.deadline.map_or(context, |own| context.until(own)).deadline
    }

    fn tell_retry<T, E>(&self, outcome: &Result<T, E>, rejection: Option<&Rejection>, delay: Duration)
    where
        C: Classify<T, E>,
        E: FromRejection,
    {
        self.policy.classify.on_retry(self.attempt, outcome.as_ref(), delay);
        let emitter = &self.policy.engine.emitter;
        if emitter.is_on() {
            let (reason, error) = match outcome {
                Ok(_) => (words::RESPONSE, None),
                Err(error) if rejection.is_some_and(Rejection::is_timeout) => {
                    (words::TIMEOUT, error.as_error())
                }
                Err(error) => (words::ERROR, error.as_error()),
            };
            emitter.emit(Event::Attempt { n: self.attempt, delay, reason, error });
        }
    }

    /// The error the caller gets for the last one.
    pub(crate) fn last_error<T, E>(&self, mut error: E, ending: Ending) -> E
    where
        C: Classify<T, E>,
        E: FromRejection,
    {
        let engine = &*self.policy.engine;
        if self.sent {
            // That this attempt was not sent must not read as "nothing has happened".
            error = error.sent_before();
        }
        if ending.why == Some(words::MAX_ATTEMPTS) && engine.settings().config.report_exhaustion {
            let name = engine.emitter.name();
            let told = Rejection::new(words::EXHAUSTED, name).with_attempts(self.attempt);
            error = error.ended_by(told);
        }
        self.policy.classify.last_error(self.attempt, error)
    }

    /// The call succeeded.
    #[inline(always)]
    pub(crate) fn succeed(&mut self) {
        self.state = State::Done;
        if self.policy.engine.is_heard() {
            self.policy.engine.succeeded(self.started, self.attempt, self.retried);
        }
    }

    /// No further attempt is made.
    pub(crate) fn stop(&self, ending: Ending) {
        if let Some(why) = ending.why {
            self.policy.engine.count_stop(why);
        }
    }

    /// The call ended without success.
    pub(crate) fn end(&mut self, ending: Ending) {
        self.state = State::Done;
        self.policy.engine.ended(ending.outcome, self.started, self.attempt, self.retried);
    }

    #[cold]
    fn dropped(&self) {
        let outcome = if self.state == State::Busy { Outcome::Panicked } else { Outcome::Cancelled };
        self.policy.engine.ended(outcome, self.started, self.attempt, self.retried);
    }
}

impl<C, R> Drop for Run<C, R> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.state != State::Done {
            self.dropped();
        }
    }
}
