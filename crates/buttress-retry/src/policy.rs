use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use buttress_core::{
    Applied, Classify, Event, FromRejection, Outcome, Rejection, Replay, Verdict, described,
};
use buttress_kit::call::Ends;

use crate::{
    before::{Before, was_sent},
    decide::{Call, Ending, Failed, Next, Stop},
    engine::Engine,
    words,
};

/// An engine with the strategies of one layer.
pub(crate) struct Policy<C, R> {
    pub(crate) engine: Arc<Engine>,
    pub(crate) classify: C,
    pub(crate) replay: R,
}

impl<C, R> Ends for Policy<C, R> {
    type Ticket = Call;
    type End = Outcome;

    #[inline]
    fn end(&self, call: &Call, outcome: Outcome) {
        self.engine.end(call, outcome);
    }
}

impl<C, R> Policy<C, R> {
    /// The request to send again, if another attempt may follow and the request can be repeated.
    #[inline]
    pub(crate) fn save<Req>(&self, call: &Call, req: &Req) -> Option<Req>
    where
        R: Replay<Req>,
    {
        if call.is_last() || !self.replay.ever() { None } else { self.replay.save(req) }
    }

    /// Decides on an attempt that was no success.
    pub(crate) fn judge<T, E, Req>(
        &self,
        call: &mut Call,
        verdict: Verdict,
        outcome: &Result<T, E>,
        saved: Option<&Req>,
    ) -> Next
    where
        C: Classify<T, E>,
        E: FromRejection,
        R: Replay<Req>,
    {
        let rejection = outcome.as_ref().err().and_then(FromRejection::rejection);
        if !verdict.is_failure() && rejection.is_none() {
            return Next::End(Ending::of(Outcome::Ignored), Duration::ZERO);
        }
        let failed = Failed::new(verdict, rejection, || self.classify.failure_kind(outcome.as_ref()));
        let can_resend = |saved| {
            let sent = failed.was_sent();
            let applied = if sent { self.classify.applied(outcome.as_ref()) } else { Applied::No };
            self.replay.can_resend(saved, applied)
        };
        let next = self.engine.next(call, &failed, || saved.is_some_and(can_resend));
        if let Next::Attempt(delay) = next {
            self.tell_retry(call, outcome, &failed, delay);
        }
        next
    }

    fn tell_retry<T, E>(&self, call: &Call, outcome: &Result<T, E>, failed: &Failed<'_>, delay: Duration)
    where
        C: Classify<T, E>,
        E: FromRejection,
    {
        self.classify.on_retry(call.attempt, outcome.as_ref(), delay);
        let emitter = &self.engine.emitter;
        if emitter.is_on() {
            let reason = match outcome {
                Ok(_) => words::RESPONSE,
                Err(_) if failed.rejection.is_some_and(Rejection::is_timeout) => words::TIMEOUT,
                Err(_) => words::ERROR,
            };
            let tell =
                |error| emitter.emit(Event::Attempt { n: call.attempt, delay, reason, error: Some(error) });
            match outcome.as_ref().map_err(|error| error.as_error()) {
                Err(Some(error)) => tell(error),
                _ => tell(&Described(described(&self.classify, outcome.as_ref()))),
            }
        }
    }

    /// What the call failed with, in words: with `outcome`, or before it if that was a refusal, or if there is none.
    pub(crate) fn described<T, E>(
        &self,
        outcome: Option<&Result<T, E>>,
        before: Option<&Before<T, E>>,
    ) -> String
    where
        C: Classify<T, E>,
        E: FromRejection,
    {
        let failure = before.filter(|before| before.was_sent());
        match (outcome, failure.or(before)) {
            (Some(outcome), None) => described(&self.classify, outcome.as_ref()),
            (Some(outcome), Some(_)) if was_sent(outcome) => described(&self.classify, outcome.as_ref()),
            (_, Some(before)) => before.described(&self.classify),
            (None, None) => String::new(),
        }
    }

    /// What the caller gets: of the last outcome, if the call did not end without one; and of what it failed with before.
    pub(crate) fn answer<T, E>(
        &self,
        call: &Call,
        ending: Ending,
        outcome: Option<Result<T, E>>,
        before: Option<Before<T, E>>,
    ) -> Result<T, E>
    where
        C: Classify<T, E>,
        E: FromRejection,
    {
        let name = self.engine.emitter.name();
        let limit = || Rejection::new(words::TIMED_OUT, name);
        let answer = match (outcome, before) {
            (Some(Err(error)), before) => self.last_error(call, ending, error, before),
            (Some(answer), _) => answer,
            (None, Some(before)) => before.timed_out(limit()),
            (None, None) => Err(E::from_rejection(limit())),
        };
        answer.map_err(|mut error| {
            if ending.why == Some(Stop::MaxAttempts) && self.engine.rules().report_exhaustion {
                error = error.ended_by(Rejection::new(words::EXHAUSTED, name).with_attempts(call.attempt));
            }
            self.classify.last_error(call.attempt, error)
        })
    }

    /// What the caller gets of the last error and of what the call failed with before.
    fn last_error<T, E>(
        &self,
        call: &Call,
        ending: Ending,
        error: E,
        before: Option<Before<T, E>>,
    ) -> Result<T, E>
    where
        E: FromRejection,
    {
        let limit = || Rejection::new(words::TIMED_OUT, self.engine.emitter.name());
        let failure = before.filter(Before::was_sent);
        match (error.rejection(), failure) {
            // Something inside obeys the deadline, and noticed first that it has passed: no failure of its own.
            (Some(rejection), Some(failure)) if rejection.is_timeout() && call.is_late() => {
                failure.timed_out(limit())
            }
            (Some(refusal), Some(failure)) if !refusal.was_sent() => {
                let refusal = refusal.clone();
                failure.refused(error, refusal)
            }
            (Some(refusal), _) if !refusal.was_sent() => Err(error),
            _ if ending.why == Some(Stop::Deadline) => Err(error.ended_by(limit())),
            _ => Err(error),
        }
    }
}

/// What a classifier says, where an error is asked for.
#[derive(Debug)]
struct Described(String);

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Described {}
