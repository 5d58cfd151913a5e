//! One call as the policy sees it: which attempt it is at, whether another one follows, how it ended.

use std::{sync::Arc, time::Duration};

use buttress_core::{
    BackoffState, Classify, Event, FromRejection, Outcome, Rejection, RejectionKind, Replay, Verdict,
    context::{self, CallContext},
    observe::{AttemptReason, StopReason},
};
use tokio::time::Instant;

use crate::{decide, retry::Engine};

/// An engine with the strategies of one layer.
pub(crate) struct Policy<C, R> {
    pub(crate) engine: Arc<Engine>,
    pub(crate) classify: C,
    pub(crate) replay: R,
}

impl<C, R> Policy<C, R> {
    /// Begins a call. What is returned counts as panicking until it is told otherwise.
    pub(crate) fn begin(self: Arc<Self>) -> Run<C, R> {
        let engine = &*self.engine;
        engine.count_call();
        let max_elapsed = engine.max_elapsed();
        let needs_clock = max_elapsed.is_some() || engine.budget.is_some() || engine.emitter.is_timed();
        let started = needs_clock.then(Instant::now);
        if let (Some(budget), Some(now)) = (&engine.budget, started) {
            budget.deposit(now.into_std());
        }
        let deadline = match (started, max_elapsed) {
            (Some(now), Some(max)) => now.checked_add(max).map(Instant::into_std),
            _ => None,
        };
        let max_attempts = engine.max_attempts();
        let state = State::Busy;
        let backoff = BackoffState::default();
        Run { policy: self, started, deadline, backoff, attempt: 1, max_attempts, state }
    }
}

/// One call under way. Tells how it ended when it is dropped, unless that was told before.
pub(crate) struct Run<C, R> {
    policy: Arc<Policy<C, R>>,
    started: Option<Instant>,
    deadline: Option<std::time::Instant>,
    backoff: BackoffState,
    attempt: u32,
    max_attempts: u32,
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
    /// Nothing: the call ends so.
    End(Outcome, Option<StopReason>),
}

impl<C, R> Run<C, R> {
    pub(crate) fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    pub(crate) fn replay(&self) -> &R {
        &self.policy.replay
    }

    pub(crate) fn is_last(&self) -> bool {
        self.attempt >= self.max_attempts
    }

    /// The request to send again, where another attempt may follow and the request can be repeated.
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

    /// Runs a piece of the inner service, which sees the number of the attempt.
    pub(crate) fn inside<T>(&self, inner: impl FnOnce() -> T) -> T {
        if self.max_attempts == 1 && self.deadline.is_none() {
            return inner();
        }
        let _entered = context::enter(self.context());
        inner()
    }

    fn context(&self) -> CallContext {
        // Read at every poll and not kept: whoever is outside puts it in force around every poll as well.
        let context = context::current().attempt(self.attempt);
        match self.deadline {
            Some(deadline) => context.until(deadline),
            None => context,
        }
    }

    pub(crate) fn set_busy(&mut self, busy: bool) {
        if self.state != State::Done {
            self.state = if busy { State::Busy } else { State::Idle };
        }
    }

    /// Decides on an attempt that has ended.
    pub(crate) fn judge<T, E>(&mut self, outcome: &Result<T, E>, replayable: bool) -> Next
    where
        C: Classify<T, E>,
        E: FromRejection,
    {
        match self.policy.classify.classify(outcome.as_ref()) {
            Verdict::Success => Next::End(Outcome::Success, None),
            verdict => self.judge_failure(verdict, outcome, replayable),
        }
    }

    #[cold]
    fn judge_failure<T, E>(&mut self, verdict: Verdict, outcome: &Result<T, E>, replayable: bool) -> Next
    where
        C: Classify<T, E>,
        E: FromRejection,
    {
        let ended = if verdict.is_failure() { Outcome::Failure } else { Outcome::Ignored };
        let rejection = outcome.as_ref().err().and_then(FromRejection::rejection);
        match self.next(verdict, rejection, replayable) {
            Ok(delay) => {
                self.tell_retry(outcome, rejection, delay);
                Next::Retry(delay)
            }
            Err(why) => Next::End(ended, Some(why)),
        }
    }

    /// The wait before the next attempt, or why there is none.
    fn next(
        &mut self,
        verdict: Verdict,
        rejection: Option<&Rejection>,
        replayable: bool,
    ) -> Result<Duration, StopReason> {
        let engine = &*self.policy.engine;
        let settings = engine.settings();
        let hint = match (verdict, rejection) {
            // A refusal never reached the service. To repeat it works against whoever refused, whatever the
            // classifier thinks of it.
            (_, Some(refused)) if !refused.was_sent() => {
                if !settings.config.retry_rejections.contains(&refused.kind()) {
                    return Err(StopReason::NotRetryable);
                }
                refused.retry_after()
            }
            (Verdict::Failure { permanent: false, retry_after }, rejection) => {
                retry_after.or_else(|| rejection?.retry_after())
            }
            _ => return Err(StopReason::NotRetryable),
        };
        if self.is_last() {
            return Err(StopReason::MaxAttempts);
        }
        if !replayable {
            return Err(StopReason::NotReplayable);
        }
        let backoff = settings.backoff(self.attempt, &mut self.backoff, &engine.chance);
        let delay = decide::wait(&settings.config, backoff, hint).ok_or(StopReason::Deadline)?;
        let now = Instant::now();
        let deadline = self.context().deadline;
        decide::fits(delay, now.into_std(), deadline)?;
        // Last, so that no other reason to stop costs a retry of the budget.
        if let Some(budget) = &engine.budget {
            let granted = budget.try_withdraw(now.into_std());
            engine.tell_budget(now);
            if !granted {
                return Err(StopReason::Budget);
            }
        }
        Ok(delay)
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
                Ok(_) => (AttemptReason::Response, None),
                Err(error) if rejection.is_some_and(Rejection::is_timeout) => {
                    (AttemptReason::Timeout, error.as_error())
                }
                Err(error) => (AttemptReason::Error, error.as_error()),
            };
            emitter.emit(Event::Attempt { n: self.attempt, delay, reason, error });
        }
    }

    /// The error the caller gets for the last one.
    pub(crate) fn last_error<T, E>(&self, error: E, stopped: Option<StopReason>) -> E
    where
        C: Classify<T, E>,
        E: FromRejection,
    {
        let engine = &*self.policy.engine;
        if stopped == Some(StopReason::MaxAttempts) && engine.settings().config.report_exhaustion {
            let name = engine.emitter.name();
            let told = Rejection::new(RejectionKind::RetriesExhausted, name).with_attempts(self.attempt);
            return error.exhausted(told);
        }
        error
    }

    /// Tells how the call ended. Only the first time counts.
    pub(crate) fn end(&mut self, outcome: Outcome, stopped: Option<StopReason>) {
        if self.state == State::Done {
            return;
        }
        self.state = State::Done;
        let engine = &*self.policy.engine;
        if let Some(reason) = stopped {
            engine.stop(reason);
        }
        if engine.emitter.is_on() {
            self.tell_end(outcome);
        }
    }

    #[cold]
    fn tell_end(&self, outcome: Outcome) {
        let emitter = &self.policy.engine.emitter;
        let elapsed = self.started.filter(|_| emitter.is_timed()).map(|started| started.elapsed());
        emitter.emit(Event::Done { outcome, elapsed, slow: false, attempts: self.attempt });
    }
}

impl<C, R> Drop for Run<C, R> {
    fn drop(&mut self) {
        match self.state {
            State::Done => {}
            State::Idle => self.end(Outcome::Cancelled, None),
            State::Busy => self.end(Outcome::Panicked, None),
        }
    }
}
