use std::{sync::Arc, time::Duration};

use buttress_core::{Applied, Classify, Event, FromRejection, Outcome, Rejection, Replay, Verdict};
use buttress_kit::call::Ends;

use crate::{
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
            let (reason, error) = match outcome {
                Ok(_) => (words::RESPONSE, None),
                Err(error) if failed.rejection.is_some_and(Rejection::is_timeout) => {
                    (words::TIMEOUT, error.as_error())
                }
                Err(error) => (words::ERROR, error.as_error()),
            };
            emitter.emit(Event::Attempt { n: call.attempt, delay, reason, error });
        }
    }

    /// The error the caller gets for the last one.
    pub(crate) fn last_error<T, E>(&self, call: &Call, ending: Ending, mut error: E) -> E
    where
        C: Classify<T, E>,
        E: FromRejection,
    {
        if call.sent {
            // That this attempt was not sent must not read as "nothing has happened".
            error = error.sent_before();
        }
        if ending.why == Some(Stop::MaxAttempts) && self.engine.rules().report_exhaustion {
            let name = self.engine.emitter.name();
            let told = Rejection::new(words::EXHAUSTED, name).with_attempts(call.attempt);
            error = error.ended_by(told);
        }
        self.classify.last_error(call.attempt, error)
    }
}
