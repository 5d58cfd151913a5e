//! How calls end.

use std::{
    error::Error as StdError,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use buttress_core::Outcome;
use buttress_kit::call::Ends;

use super::{
    Engine,
    admit::{Admission, NO_TIME, UNTRACKED},
};
use crate::circuit::Ending;

impl Engine {
    /// Records that a call succeeded.
    #[inline]
    pub(crate) fn succeed(&self, call: Admission) {
        let untimed = call.time == NO_TIME && self.circuit.valid_until() == u64::MAX;
        // No probe gets past this: while the circuit is half-open, the word leaves no success to count.
        if untimed && self.circuit.success(call.generation) {
            self.tell_done(Outcome::Success, None, false, None);
            return;
        }
        self.succeed_at(call);
    }

    /// As [`succeed`](Self::succeed), if a clock has to be read or the circuit has to hear of it.
    fn succeed_at(&self, call: Admission) {
        if call.generation == UNTRACKED && !self.shared.emitter.is_on() {
            return;
        }
        let time = self.shared.now();
        let slow = self.is_slow(call, time);
        if call.lease == 0 && !slow && self.count_success(call, time) {
            self.tell_done(Outcome::Success, elapsed(call, time), false, None);
        } else {
            self.record(call, time, Ending::Success, Outcome::Success, None);
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

    /// Records that a call ended in another way than [`succeed`](Self::succeed) does.
    pub(crate) fn end_with(
        &self,
        call: Admission,
        outcome: Outcome,
        timed_out: bool,
        error: Option<&(dyn StdError + 'static)>,
    ) {
        let ending = match outcome {
            Outcome::Success => Ending::Success,
            Outcome::Failure | Outcome::Panicked | Outcome::TimedOut => Ending::Failure { timed_out },
            Outcome::Ignored => Ending::Ignored,
            Outcome::Cancelled => Ending::Abandoned,
        };
        if call.generation == UNTRACKED && !self.shared.emitter.is_on() {
            return;
        }
        let time = self.shared.now();
        let present = call.generation == self.circuit.word().generation();
        if ending == Ending::Ignored && call.lease == 0 && present {
            self.ignored.fetch_add(1, Relaxed);
            self.tell_done(outcome, elapsed(call, time), self.is_slow(call, time), error);
        } else {
            self.record(call, time, ending, outcome, error);
        }
    }

    /// Lets the circuit hear of the end of a call, and tells it.
    fn record(
        &self,
        call: Admission,
        time: u64,
        ending: Ending,
        outcome: Outcome,
        error: Option<&(dyn StdError + 'static)>,
    ) {
        let slow = self.is_slow(call, time);
        if call.generation == UNTRACKED {
            return self.tell_done(outcome, elapsed(call, time), slow, error);
        }
        let (opened, after) = self.locked(|guard| {
            let opened = guard.record(call.ticket(), call.time, ending, slow, self.now(time));
            self.ratios_moved();
            opened
        });
        if after.noticed || call.lease != 0 {
            // A probe's slot is free, if nothing else has happened: those who wait at the gate may want it.
            self.shared.wakers.wake_all();
        }
        if let Some(generation) = opened {
            let text = shown(error, ending);
            self.circuit.lock().circuit().set_last_error(generation, text);
        }
        self.tell_done(outcome, elapsed(call, time), slow, error);
        self.tell(&after);
    }

    fn is_slow(&self, call: Admission, time: u64) -> bool {
        let limit = self.shared.settings.slow.load(Relaxed);
        call.began().is_some_and(|began| time.saturating_sub(began) > limit)
    }

    #[inline]
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

/// What the error says that opened the circuit. With no lock held: its `Display` is somebody else's code. A panic of it
/// must not keep those who wait from being woken, nor the caller from its error.
fn shown(error: Option<&(dyn StdError + 'static)>, ending: Ending) -> Arc<str> {
    match (error, ending) {
        (Some(error), _) => match catch_unwind(AssertUnwindSafe(|| error.to_string())) {
            Ok(text) => text.into(),
            Err(panic) => {
                // Its drop may panic as well.
                mem::forget(panic);
                "an error that cannot be shown".into()
            }
        },
        (None, Ending::Abandoned) => "the calls were dropped before they ended".into(),
        (None, Ending::Success) => "the calls were too slow".into(),
        (None, _) => "the call failed".into(),
    }
}

impl Ends for Engine {
    type Ticket = Admission;
    type End = Outcome;

    #[inline]
    fn end(&self, call: &Admission, outcome: Outcome) {
        match outcome {
            Outcome::Success => self.succeed(*call),
            other => self.end_with(*call, other, other == Outcome::TimedOut, None),
        }
    }
}
