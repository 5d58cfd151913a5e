//! How calls end.

use std::{
    error::Error as StdError,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use buttress_core::{Outcome, Verdict};
use buttress_kit::call::Ends;

use super::{
    Engine,
    admit::{Admission, NO_TIME, UNTRACKED},
};
use crate::{
    OpenReason,
    circuit::{Ending, Opening, Waited},
    rules::nanos,
};

/// What is said of a failure of which nothing is known.
const FAILED: &str = "the call failed";
/// Of a text more than so many bytes is cut off: it is kept and logged, and an answer may be a page long.
const LONGEST: usize = 1_024;

/// How a call ended, and what is known of that.
#[derive(Clone, Copy)]
pub(crate) struct End<'a> {
    pub(crate) outcome: Outcome,
    pub(crate) timed_out: bool,
    /// For how long the service wants to be left alone.
    pub(crate) retry_after: Option<Duration>,
    /// For listeners.
    pub(crate) error: Option<&'a (dyn StdError + 'static)>,
    /// Puts it in words, if the circuit opens. Somebody else's code.
    pub(crate) says: Option<&'a dyn Fn() -> String>,
}

impl End<'_> {
    pub(crate) fn of(outcome: Outcome) -> Self {
        Self { outcome, timed_out: false, retry_after: None, error: None, says: None }
    }
}

impl Engine {
    /// Records that a call succeeded.
    #[inline]
    fn succeed(&self, call: &Admission) {
        let untimed = call.time == NO_TIME && self.circuit.valid_until() == u64::MAX;
        // No probe gets past this: while the circuit is half-open, the word leaves no success to count.
        if untimed && self.circuit.success(call.generation) {
            if self.shared.emitter.is_on() {
                self.tell_done(Outcome::Success, None, false, None);
            }
            return;
        }
        self.succeed_at(call);
    }

    /// As [`succeed`](Self::succeed), if a clock has to be read or the circuit has to hear of it.
    fn succeed_at(&self, call: &Admission) {
        let call = *call;
        if call.generation == UNTRACKED && !self.shared.emitter.is_on() {
            return;
        }
        if call.began().is_none()
            && self.circuit.valid_until() == u64::MAX
            && self.circuit.success(call.generation)
        {
            // As above, and somebody waited.
            self.took(call, None);
            self.tell_done(Outcome::Success, None, false, None);
            return;
        }
        let time = self.shared.now();
        self.took(call, Some(time));
        let slow = self.is_slow(call, time);
        if call.lease() == 0 && !slow && self.count_success(call, time) {
            self.tell_done(Outcome::Success, elapsed(call, time), false, None);
        } else {
            self.record(call, time, Ending::Success, End::of(Outcome::Success));
        }
    }

    /// Learns from some of the successes how long calls take. Those that nobody had to wait for say nothing.
    fn took(&self, call: Admission, ended: Option<u64>) {
        if let (Some(since), true) = (call.waited_for_since(), self.mean.is_due()) {
            let ended = ended.unwrap_or_else(|| self.shared.now());
            self.mean.add(ended.saturating_sub(since));
        }
    }

    /// Counts a success that was in time, without the lock if that is possible.
    fn count_success(&self, call: Admission, time: u64) -> bool {
        let until = self.circuit.valid_until();
        let interval = self.shared.settings.interval.load(Relaxed);
        if interval > 0 && call.time < until.saturating_sub(interval) {
            return false;
        }
        // At the end of a bucket one call moves the window on, under the lock. Calls that find the lock taken then do
        // not wait for it: they are counted with the new bucket, if not with the old one.
        (time < until || self.circuit.is_busy()) && self.circuit.success(call.generation)
    }

    /// Records that a call ended like this.
    pub(crate) fn end_as(&self, call: Admission, verdict: Verdict) {
        match verdict {
            Verdict::Success => self.succeed(&call),
            Verdict::Failure { retry_after, .. } => {
                self.end_with(call, End { retry_after, ..End::of(Outcome::Failure) });
            }
            other => self.end_with(call, End::of(other.into())),
        }
    }

    /// Records that a call ended in another way than [`succeed`](Self::succeed) does.
    pub(crate) fn end_with(&self, call: Admission, end: End<'_>) {
        let End { outcome, timed_out, retry_after, error, .. } = end;
        if call.generation == UNTRACKED && !self.shared.emitter.is_on() {
            return;
        }
        let time = self.shared.now();
        let ending = match outcome {
            Outcome::Success => Ending::Success,
            Outcome::Failure | Outcome::Panicked | Outcome::TimedOut => {
                Ending::Failure { timed_out, retry_after: retry_after.map_or(0, nanos) }
            }
            Outcome::Ignored => Ending::Ignored,
            Outcome::Cancelled => Ending::Abandoned(self.waited(call, time)),
        };
        let present = call.generation == self.circuit.word().generation();
        if ending == Ending::Ignored && call.lease() == 0 && present {
            self.ignored.fetch_add(1, Relaxed);
            self.tell_done(outcome, elapsed(call, time), self.is_slow(call, time), error);
        } else {
            self.record(call, time, ending, end);
        }
    }

    /// As [`end_with`](Self::end_with), of which nothing more is known.
    fn end_unexplained(&self, call: &Admission, outcome: Outcome) {
        self.end_with(*call, End { timed_out: outcome == Outcome::TimedOut, ..End::of(outcome) });
    }

    /// Lets the circuit hear of the end of a call, and tells it.
    fn record(&self, call: Admission, time: u64, ending: Ending, end: End<'_>) {
        let End { outcome, error, .. } = end;
        let slow = self.is_slow(call, time);
        if call.generation == UNTRACKED {
            return self.tell_done(outcome, elapsed(call, time), slow, error);
        }
        let (opened, after) = self.locked(|guard| {
            let opened = guard.record(call.ticket(), call.time, ending, slow, self.now(time));
            self.ratios_moved();
            opened
        });
        if after.noticed || call.lease() != 0 {
            // A probe's slot is free, if nothing else has happened: those who wait at the gate may want it.
            self.shared.wakers.wake_all();
        }
        if let Some(Opening { generation, reason }) = opened {
            let text = shown(end.says, ending, reason);
            let ((), _) = self.locked(|guard| guard.circuit().set_last_error(generation, text));
        }
        self.tell_done(outcome, elapsed(call, time), slow, error);
        self.tell(&after);
    }

    fn waited(&self, call: Admission, time: u64) -> Waited {
        let since = call.waited_for_since().unwrap_or(time);
        Waited { time: time.saturating_sub(since), settled: call.settled(), mean: self.mean.nanos() }
    }

    fn is_slow(&self, call: Admission, time: u64) -> bool {
        let limit = self.shared.settings.slow.load(Relaxed);
        call.began().is_some_and(|began| time.saturating_sub(began) > limit)
    }

    fn tell_done(
        &self,
        outcome: Outcome,
        elapsed: Option<Duration>,
        slow: bool,
        error: Option<&(dyn StdError + 'static)>,
    ) {
        self.shared.emitter.done(outcome, outcome.as_str(), elapsed, slow, 1, error);
    }
}

fn elapsed(call: Admission, time: u64) -> Option<Duration> {
    call.began().map(|began| Duration::from_nanos(time.saturating_sub(began)))
}

/// What is said of the result that opened the circuit. With no lock held: it is somebody else's code that says it. A
/// panic of that must not keep those who wait from being woken, nor the caller from its error.
fn shown(says: Option<&dyn Fn() -> String>, ending: Ending, reason: Option<OpenReason>) -> Arc<str> {
    match (says, ending) {
        (Some(says), _) => match catch_unwind(AssertUnwindSafe(says)) {
            Ok(text) => shortened(text, LONGEST).into(),
            Err(panic) => {
                // Its drop may panic as well.
                mem::forget(panic);
                "an error that cannot be shown".into()
            }
        },
        (None, Ending::Abandoned(_)) => "the calls were dropped before they ended".into(),
        (None, Ending::Success) => match reason {
            Some(OpenReason::SlowCallRate | OpenReason::ProbesSlow) => "the calls were too slow".into(),
            // With it there are enough to judge by, or it is the first of a new bucket.
            _ => "too many calls failed".into(),
        },
        (None, _) => FAILED.into(),
    }
}

/// Text of so many bytes at most, and a sign that it was longer.
pub(crate) fn shortened(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}

impl Ends for Engine {
    type Ticket = Admission;
    type End = Outcome;

    #[inline]
    fn end(&self, call: &Admission, outcome: Outcome) {
        match outcome {
            Outcome::Success => self.succeed(call),
            other => self.end_unexplained(call, other),
        }
    }
}
