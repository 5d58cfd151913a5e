//! The circuit as plain data: no atomics, no clock, no chance of its own.
//!
//! It is the one place where states change. The lock-free [`front`](crate::front) only counts successes on its
//! behalf, and hands them in with [`Circuit::successes`] before anything else is asked.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, OnceLock},
    time::Duration,
};

use buttress_core::{Note, Transition, Value, Word};
use buttress_kit::BackoffState;

use crate::{
    OnCancel, OpenReason, State,
    rules::{Rules, nanos},
    window::{Counts, Kept},
    words,
};

/// Generations count up to here and start again: what the front's word has room for.
pub(crate) const GENERATIONS: u64 = (1 << 36) - 1;

/// How many successes may pass before the levels are told again, where there is something to tell.
const WATCHED: u64 = 15;

/// The longest first lease where the settings give none: a wait of hours is no measure for a call.
const LEASE: u64 = 60 * 1_000_000_000;

/// What an operation needs to know of the world: the time, a random number in `0.0..1.0`, and how many calls
/// were refused so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: u64,
    pub(crate) unit: f64,
    pub(crate) refused: u64,
}

/// How a call ended, as far as the circuit is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Success,
    Failure {
        timed_out: bool,
    },
    Ignored,
    /// Dropped before it ended.
    Abandoned,
}

/// What a call was admitted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) generation: u64,
    /// 0: not a probe.
    pub(crate) lease: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// To be recorded.
    Admitted(Ticket),
    /// To pass unrecorded.
    Free,
    /// Refused; the wait after which another try makes sense, where that is known: only an isolated circuit cannot.
    Refused(Option<u64>),
}

/// What is to be told, once no lock is held.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    Changed {
        from: State,
        to: State,
        cause: Word,
        detail: Detail,
    },
    Note(Note),
    /// A key's circuit, in this state, came or went.
    Key {
        state: State,
        came: bool,
    },
}

/// What is known of a change of state.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Detail {
    /// What the decision was made on.
    counts: Counts,
    /// How long the new state lasts at least, or, on closing, how long ago the circuit left closed; nanoseconds.
    open_for: Option<u64>,
    /// Calls refused since the circuit was last closed.
    rejected: u64,
}

impl Detail {
    /// The change of state as it is told.
    pub(crate) fn told(&self, from: State, to: State, cause: Word) -> Transition {
        let mut told = Transition::new(from.as_str(), to.as_str(), cause)
            .with(words::CALLS, Value::Count(self.counts.calls))
            .with(words::REJECTED, Value::Count(self.rejected));
        let (failures, slow) = self.counts.ratios();
        for (what, ratio) in [(words::FAILURE_RATIO, failures), (words::SLOW_RATIO, slow)] {
            told.detail.extend(ratio.map(|ratio| (what, Value::Ratio(ratio))));
        }
        told.detail
            .extend(self.open_for.map(|time| (words::OPEN_FOR, Value::Time(Duration::from_nanos(time)))));
        told
    }
}

/// All results since the start or the last reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) successes: u64,
    pub(crate) failures: u64,
    pub(crate) timeouts: u64,
    pub(crate) slow: u64,
    pub(crate) ignored: u64,
    pub(crate) cancelled: u64,
    pub(crate) late: u64,
}

/// The present try to close.
#[derive(Debug, Default)]
struct Trial {
    successes: u64,
    failures: u64,
    slow: u64,
    abandoned: u64,
    /// Leases that ran out; each doubles the next ones, where they have no fixed length.
    expired: u32,
    leases: Vec<Lease>,
}

#[derive(Debug)]
struct Lease {
    number: u32,
    until: u64,
}

#[derive(Debug)]
pub(crate) struct Circuit {
    state: State,
    /// Settings changed, or a bucket ended while somebody looked: the rules must be asked at the next result,
    /// success or not.
    ask_again: bool,
    generation: u64,
    since: u64,
    window: Kept,
    failed_in_a_row: u32,
    abandoned_in_a_row: u32,
    succeeded_in_a_row: u64,
    successes: u64,
    cold: Lazy,
}

/// What a circuit that only ever saw successes has no need of: a keyed breaker has many such.
#[derive(Debug, Default)]
struct Cold {
    /// What the window held when the circuit was last closed.
    frozen: Counts,
    /// The rules whose threshold was passed while none may act; each is told once.
    exceeded: [bool; 4],
    trial: Trial,
    last_lease: u32,
    open_until: u64,
    /// The length of the present or last wait.
    wait: u64,
    /// Half-open without a verdict by then, it opens again (for a wait that this number decides on) or closes.
    half_open_until: u64,
    half_open_unit: f64,
    backoff: BackoffState,
    /// When the circuit began to refuse, and how many calls had been refused by then.
    left_closed: Option<(u64, u64)>,
    ramp_until: u64,
    reason: Option<OpenReason>,
    last_error: Option<Arc<str>>,
    last_failure: Option<u64>,
    tally: Tally,
    said: Vec<Said>,
}

/// A [`Cold`] that is made when it is first written to.
#[derive(Debug, Default)]
struct Lazy(Option<Box<Cold>>);

impl Deref for Lazy {
    type Target = Cold;

    fn deref(&self) -> &Cold {
        static EMPTY: OnceLock<Cold> = OnceLock::new();
        self.0.as_deref().unwrap_or_else(|| EMPTY.get_or_init(Cold::default))
    }
}

impl DerefMut for Lazy {
    fn deref_mut(&mut self) -> &mut Cold {
        self.0.get_or_insert_default()
    }
}

impl Circuit {
    pub(crate) fn new(state: State, rules: &Rules, at: Moment) -> Self {
        let mut circuit = Self {
            state: State::Closed,
            ask_again: false,
            generation: 0,
            since: at.now,
            window: Kept::new(rules.window),
            failed_in_a_row: 0,
            succeeded_in_a_row: 0,
            abandoned_in_a_row: 0,
            successes: 0,
            cold: Lazy::default(),
        };
        circuit.window.clear(at.now);
        match state {
            State::Closed => {}
            State::Open => circuit.open(rules, OpenReason::Initial, words::MANUAL, None, at),
            State::HalfOpen => circuit.half_open(rules, words::MANUAL, at),
            other => circuit.go(other, words::MANUAL, Detail::default(), at),
        }
        // Nothing changed yet: it began like this.
        if circuit.has_said() {
            circuit.cold.said.clear();
        }
        circuit
    }

    // ---- calls

    pub(crate) fn admit(&mut self, rules: &Rules, at: Moment) -> Admission {
        self.catch_up(rules, at);
        match self.state {
            State::Closed | State::MetricsOnly => {
                Admission::Admitted(Ticket { generation: self.generation, lease: 0 })
            }
            State::Disabled => Admission::Free,
            State::Isolated => Admission::Refused(None),
            State::Open => Admission::Refused(Some(self.cold.open_until.saturating_sub(at.now))),
            State::HalfOpen => self.probe(rules, at),
        }
    }

    fn probe(&mut self, rules: &Rules, at: Moment) -> Admission {
        // More than one, where new settings allow fewer probes than are under way.
        while self.cold.trial.leases.len() >= rules.probes {
            let mut leases = self.cold.trial.leases.iter();
            let Some(expired) = leases.position(|lease| lease.until <= at.now) else { break };
            self.cold.trial.leases.swap_remove(expired);
            self.cold.trial.expired = self.cold.trial.expired.saturating_add(1);
            self.cold.said.push(Said::Note(Note::new(words::LEASE_EXPIRED)));
        }
        if self.cold.trial.leases.len() >= rules.probes {
            let left = self.blocked_until(rules).saturating_sub(at.now);
            return Admission::Refused(Some(left.min(self.longest_wait())));
        }
        let length = rules.lease.unwrap_or_else(|| {
            // A service slower than the wait is long must not lose every lease in turn.
            self.cold.wait.min(LEASE).saturating_mul(1 << self.cold.trial.expired.min(20))
        });
        // 0 stands for "no probe".
        self.cold.last_lease = self.cold.last_lease.checked_add(1).unwrap_or(1);
        let lease = Lease { number: self.cold.last_lease, until: at.now.saturating_add(length) };
        self.cold.trial.leases.push(lease);
        Admission::Admitted(Ticket { generation: self.generation, lease: self.cold.last_lease })
    }

    /// From when on a probe may be taken. 0: now.
    fn probe_free_at(&self, rules: &Rules) -> u64 {
        if self.cold.trial.leases.len() < rules.probes {
            return 0;
        }
        self.cold.trial.leases.iter().map(|lease| lease.until).min().unwrap_or(0)
    }

    /// Records `calls` that succeeded in time in the present generation, up to now.
    pub(crate) fn successes(&mut self, calls: u64) {
        if calls == 0 {
            return;
        }
        self.window.successes(calls);
        self.failed_in_a_row = 0;
        self.abandoned_in_a_row = 0;
        self.succeeded_in_a_row = self.succeeded_in_a_row.saturating_add(calls);
        self.successes = self.successes.saturating_add(calls);
    }

    /// Records how one call ended. `began`: when it was let in; asked only where counts begin anew by time. Returns
    /// the new generation, if this very result has opened the circuit.
    pub(crate) fn settle(
        &mut self,
        rules: &Rules,
        ticket: Ticket,
        began: u64,
        ending: Ending,
        slow: bool,
        at: Moment,
    ) -> Option<u64> {
        self.end_trial(rules, at.now, at.refused);
        if ticket.generation != self.generation {
            self.cold.tally.late = self.cold.tally.late.saturating_add(1);
            return None;
        }
        self.window.advance(at.now);
        let flowing = matches!(self.state, State::Closed | State::MetricsOnly);
        if flowing && began < self.window.settled_until().saturating_sub(rules.interval) && rules.interval > 0
        {
            // Let in while other counts were kept: an older generation as well.
            self.cold.tally.late = self.cold.tally.late.saturating_add(1);
            return None;
        }
        match self.state {
            State::HalfOpen => self.settle_probe(rules, ticket, ending, slow, at),
            State::Closed | State::MetricsOnly => {
                self.record(rules, ending, slow, at);
                self.ask_rules(rules, at);
            }
            // No call is admitted in these with their own generation.
            State::Open | State::Isolated | State::Disabled => {}
        }
        (self.state == State::Open && self.generation != ticket.generation).then_some(self.generation)
    }

    fn record(&mut self, rules: &Rules, ending: Ending, slow: bool, at: Moment) {
        self.count(ending, slow, at);
        match self.meaning(rules, ending, slow) {
            Meaning::Call { failed, slow } => {
                if failed {
                    self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
                    self.succeeded_in_a_row = 0;
                } else if ending == Ending::Success {
                    self.failed_in_a_row = 0;
                    self.succeeded_in_a_row = self.succeeded_in_a_row.saturating_add(1);
                }
                self.abandoned_in_a_row = 0;
                self.window.call(failed, slow);
            }
            Meaning::Abandoned => {
                self.abandoned_in_a_row = self.abandoned_in_a_row.saturating_add(1);
                self.window.abandoned();
            }
            Meaning::Nothing => {}
        }
    }

    /// Adds a result to the totals.
    fn count(&mut self, ending: Ending, slow: bool, at: Moment) {
        if ending == Ending::Success && !slow {
            self.successes = self.successes.saturating_add(1);
            return;
        }
        let cold = &mut *self.cold;
        let tally = &mut cold.tally;
        let counter = match ending {
            Ending::Success => &mut self.successes,
            Ending::Failure { .. } => {
                cold.last_failure = Some(at.now);
                &mut tally.failures
            }
            Ending::Abandoned => &mut tally.cancelled,
            Ending::Ignored => &mut tally.ignored,
        };
        *counter = counter.saturating_add(1);
        tally.timeouts =
            tally.timeouts.saturating_add((ending == Ending::Failure { timed_out: true }).into());
        tally.slow = tally.slow.saturating_add(slow.into());
    }

    fn meaning(&self, rules: &Rules, ending: Ending, slow: bool) -> Meaning {
        match ending {
            Ending::Success => Meaning::Call { failed: false, slow },
            Ending::Failure { .. } => Meaning::Call { failed: true, slow },
            Ending::Ignored => Meaning::Nothing,
            Ending::Abandoned => match rules.on_cancel {
                OnCancel::Failure => Meaning::Call { failed: true, slow },
                OnCancel::Ignore => Meaning::Nothing,
                OnCancel::WhenAll if slow && rules.slow_rate.is_some() => {
                    Meaning::Call { failed: false, slow: true }
                }
                OnCancel::WhenAll => Meaning::Abandoned,
            },
        }
    }

    /// Asks every rule, and opens if one says so; after every recorded call, successes too.
    fn ask_rules(&mut self, rules: &Rules, at: Moment) {
        self.ask_again = false;
        let answers = self.answers(rules);
        if self.state == State::MetricsOnly {
            if answers == [None; 4] {
                return;
            }
            let cold = &mut *self.cold;
            for (told, answer) in cold.exceeded.iter_mut().zip(answers) {
                if let Some(rule) = answer {
                    if !std::mem::replace(told, true) {
                        cold.said.push(Said::Note(Note::with(words::EXCEEDED, Value::Word(exceeded(rule)))));
                    }
                }
            }
        } else if let Some(reason) = answers.into_iter().flatten().next() {
            let reason = if self.stands_in(rules).is_some() { OpenReason::Abandoned } else { reason };
            self.open(rules, reason, words::RULE, None, at);
        }
    }

    fn answers(&self, rules: &Rules) -> [Option<OpenReason>; 4] {
        let counts = self.counts(rules);
        if counts.calls < rules.minimum {
            return [None; 4];
        }
        let in_a_row = self.stands_in(rules).unwrap_or_else(|| self.failed_in_a_row.into());
        let met = |part: u64, rate: Option<f64>| {
            counts.calls >= rules.rate_minimum
                && rate.is_some_and(|rate| rules.comparison.met(part, counts.calls, rate))
        };
        [
            (in_a_row >= rules.consecutive).then_some(OpenReason::ConsecutiveFailures),
            met(counts.failures, rules.failure_rate).then_some(OpenReason::FailureRate),
            (counts.failures >= rules.failure_count).then_some(OpenReason::FailureCount),
            met(counts.slow, rules.slow_rate).then_some(OpenReason::SlowCallRate),
        ]
    }

    /// What the rules look at: the window, or the abandoned calls that stand in for it.
    fn counts(&self, rules: &Rules) -> Counts {
        match self.stands_in(rules) {
            Some(calls) => Counts { calls, failures: calls, slow: 0, abandoned: 0 },
            None => self.window.counts(),
        }
    }

    /// The abandoned calls, where they are a whole window without one that ended.
    fn stands_in(&self, rules: &Rules) -> Option<u64> {
        let run = u64::from(self.abandoned_in_a_row);
        if rules.on_cancel != OnCancel::WhenAll || run == 0 {
            return None;
        }
        let counts = self.window.counts();
        let calls = match &self.window {
            Kept::None => Some(run),
            Kept::Time(_) => (counts.calls == 0).then_some(counts.abandoned),
            // Dropped calls take no place in the ring, so a full ring of them is a run that is as long.
            Kept::Count(ring) => (counts.calls == 0 || run >= ring.size()).then_some(run),
        };
        // One dropped call means nothing, however few calls the rules ask for.
        calls.filter(|calls| *calls > 1)
    }

    fn settle_probe(&mut self, rules: &Rules, ticket: Ticket, ending: Ending, slow: bool, at: Moment) {
        let Some(place) = self.cold.trial.leases.iter().position(|lease| lease.number == ticket.lease) else {
            // The lease ran out and another call took the place.
            self.cold.tally.late = self.cold.tally.late.saturating_add(1);
            return;
        };
        self.cold.trial.leases.swap_remove(place);
        self.count(ending, slow, at);
        let meaning = self.meaning(rules, ending, slow);
        let trial = &mut self.cold.trial;
        match meaning {
            Meaning::Call { failed, slow } => {
                trial.failures = trial.failures.saturating_add(failed.into());
                trial.successes = trial.successes.saturating_add((ending == Ending::Success).into());
                trial.slow = trial.slow.saturating_add(slow.into());
                trial.abandoned = 0;
            }
            Meaning::Abandoned => trial.abandoned = trial.abandoned.saturating_add(1),
            Meaning::Nothing => {}
        }
        self.decide(rules, at);
    }

    /// Opens again, or closes, as soon as no further probe could change that.
    fn decide(&mut self, rules: &Rules, at: Moment) {
        let trial = &self.cold.trial;
        let reason = if trial.failures >= rules.failed_probes {
            Some(OpenReason::ProbesFailed)
        } else if trial.slow >= rules.slow_probes {
            Some(OpenReason::ProbesSlow)
        } else if trial.abandoned >= rules.sample.max(2) {
            // One dropped probe means nothing, however small the sample is.
            Some(OpenReason::Abandoned)
        } else {
            None
        };
        if let Some(reason) = reason {
            self.open(rules, reason, words::RULE, None, at);
            return;
        }
        let fast = trial.successes.saturating_add(trial.failures).saturating_sub(trial.slow);
        let cannot_fail = trial.successes.saturating_add(rules.failed_probes) > rules.sample;
        let cannot_be_slow = fast.saturating_add(rules.slow_probes) > rules.sample;
        if cannot_fail && cannot_be_slow {
            self.close(rules, words::RULE, at);
        }
    }

    // ---- changes of state

    /// Does what time alone has done already: an open circuit whose wait is over is half-open.
    fn catch_up(&mut self, rules: &Rules, at: Moment) {
        self.end_trial(rules, at.now, at.refused);
        if self.state == State::Open && at.now >= self.cold.open_until {
            self.half_open(rules, words::RULE, at);
        }
    }

    /// Opens or closes, as of when it was over, where it was half-open for too long.
    pub(crate) fn end_trial(&mut self, rules: &Rules, now: u64, refused: u64) {
        if self.state == State::HalfOpen && now >= self.cold.half_open_until {
            let over = Moment { now: self.cold.half_open_until, unit: self.cold.half_open_unit, refused };
            if rules.half_open_closes {
                self.close(rules, words::RULE, over);
            } else {
                self.open(rules, OpenReason::HalfOpenTimeout, words::RULE, None, over);
            }
        }
    }

    fn go(&mut self, to: State, cause: Word, mut detail: Detail, at: Moment) {
        let from = std::mem::replace(&mut self.state, to);
        // Whatever was admitted until now belongs to the past, also where the state stays the same.
        self.generation = self.generation.wrapping_add(1) & GENERATIONS;
        self.since = at.now;
        self.cold.exceeded = [false; 4];
        self.cold.trial = Trial::default();
        self.cold.ramp_until = 0;
        if matches!(from, State::Closed | State::MetricsOnly) {
            self.window.advance(at.now);
            self.cold.frozen = self.window.counts();
        }
        if matches!(to, State::Closed | State::MetricsOnly) {
            self.window.clear(at.now);
            self.cold.frozen = Counts::default();
            (self.failed_in_a_row, self.succeeded_in_a_row, self.abandoned_in_a_row) = (0, 0, 0);
        }
        self.reckon(to, &mut detail, at);
        if from != to {
            self.cold.said.push(Said::Changed { from, to, cause, detail });
        }
    }

    /// Adds how many calls were refused since the circuit was last closed, and on closing, since when.
    fn reckon(&mut self, to: State, detail: &mut Detail, at: Moment) {
        if matches!(to, State::Open | State::HalfOpen | State::Isolated) {
            self.cold.left_closed.get_or_insert((at.now, at.refused));
        }
        let Some((when, refused)) = self.cold.left_closed else { return };
        detail.rejected = at.refused.saturating_sub(refused);
        if to == State::Closed {
            detail.open_for = Some(at.now.saturating_sub(when));
            self.cold.left_closed = None;
        }
    }

    fn open(&mut self, rules: &Rules, reason: OpenReason, cause: Word, wait: Option<u64>, at: Moment) {
        let wait = wait.unwrap_or_else(|| nanos(rules.open.next(&mut self.cold.backoff, at.unit)).max(1));
        let counts = if self.state == State::HalfOpen { self.trial_counts() } else { self.counts(rules) };
        self.cold.wait = wait;
        self.cold.open_until = at.now.saturating_add(wait);
        self.cold.reason = Some(reason);
        let detail = Detail { counts, open_for: Some(wait), rejected: 0 };
        self.go(State::Open, cause, detail, at);
    }

    fn half_open(&mut self, rules: &Rules, cause: Word, at: Moment) {
        if self.cold.wait == 0 {
            // It never was open: its leases need a length all the same.
            self.cold.wait = nanos(rules.open.next(&mut BackoffState::default(), at.unit)).max(1);
        }
        self.cold.half_open_until = at.now.saturating_add(rules.half_open);
        self.cold.half_open_unit = at.unit;
        self.go(State::HalfOpen, cause, Detail::default(), at);
    }

    fn close(&mut self, rules: &Rules, cause: Word, at: Moment) {
        let detail = Detail { counts: self.trial_counts(), ..Detail::default() };
        self.cold.backoff = BackoffState::default();
        self.cold.last_error = None;
        let was_closed = self.state == State::Closed;
        self.go(State::Closed, cause, detail, at);
        if rules.ramp > 0 && !was_closed && cause == words::RULE {
            self.cold.ramp_until = at.now.saturating_add(rules.ramp);
        }
    }

    fn trial_counts(&self) -> Counts {
        let Trial { successes, failures, slow, .. } = self.cold.trial;
        Counts { calls: successes.saturating_add(failures), failures, slow, abandoned: 0 }
    }

    // ---- by hand

    /// Opens. `wait`: for this long, which does not count as a further opening; else for as long as the settings
    /// say.
    pub(crate) fn force_open(&mut self, rules: &Rules, wait: Option<u64>, at: Moment) {
        self.catch_up(rules, at);
        // Open already: the same wait starts again, it does not grow.
        let again = (self.state == State::Open).then_some(self.cold.wait);
        self.open(rules, OpenReason::Manual, words::MANUAL, wait.or(again), at);
    }

    pub(crate) fn force_half_open(&mut self, rules: &Rules, at: Moment) -> Result<(), State> {
        self.catch_up(rules, at);
        match self.state {
            State::Open | State::HalfOpen | State::Isolated => {
                self.half_open(rules, words::MANUAL, at);
                Ok(())
            }
            from => Err(from),
        }
    }

    pub(crate) fn force_close(&mut self, rules: &Rules, at: Moment) {
        self.catch_up(rules, at);
        self.close(rules, words::MANUAL, at);
    }

    /// Isolates, disables, or only measures.
    pub(crate) fn force(&mut self, rules: &Rules, to: State, at: Moment) {
        self.catch_up(rules, at);
        self.go(to, words::MANUAL, Detail::default(), at);
    }

    pub(crate) fn reset(&mut self, rules: &Rules, at: Moment) {
        self.force_close(rules, at);
        self.successes = 0;
        self.cold.tally = Tally::default();
        self.cold.last_failure = None;
        self.cold.reason = None;
        self.cold.said.push(Said::Note(Note::new(Note::RESET)));
    }

    /// Takes new settings. The window keeps what it holds unless `reshaped`.
    pub(crate) fn reconfigure(&mut self, rules: &Rules, reshaped: bool, at: Moment) {
        if reshaped {
            self.window = Kept::new(rules.window);
            self.window.clear(at.now);
        }
        if self.cold.ramp_until > 0 {
            // One under way goes on where a new one of what is left would be.
            self.cold.ramp_until = self.cold.ramp_until.min(at.now.saturating_add(rules.ramp));
        }
        self.ask_again = true;
    }

    pub(crate) fn set_last_error(&mut self, generation: u64, error: Arc<str>) {
        if self.generation == generation {
            self.cold.last_error = Some(error);
        }
    }

    // ---- looking

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    #[cfg(test)]
    pub(crate) fn set_generation(&mut self, generation: u64) {
        self.generation = generation;
    }

    /// Takes what is to be told.
    pub(crate) fn said(&mut self) -> std::vec::Drain<'_, Said> {
        self.cold.said.drain(..)
    }

    pub(crate) fn has_said(&self) -> bool {
        !self.cold.said.is_empty()
    }

    /// How many successes may be counted without asking the rules, up to `most`: as long as none can say
    /// anything but "stay closed". `watched`: somebody wants to hear how the shares of failures and slow calls
    /// fall, which is told when the circuit is asked.
    pub(crate) fn allowance(&self, rules: &Rules, most: u64, watched: bool) -> u64 {
        if !matches!(self.state, State::Closed | State::MetricsOnly) || self.ask_again {
            return 0;
        }
        let counts = self.window.counts();
        if counts.failures.saturating_add(counts.slow) == 0 {
            return most;
        }
        let most = if watched { most.min(WATCHED) } else { most };
        match rules.rate_minimum.saturating_sub(counts.calls) {
            // Further successes only lower the shares. With time they rise only at the end of a bucket, which
            // sends the call here as well.
            0 => most,
            // The success that completes the minimum may open the circuit.
            missing => most.min(missing.saturating_sub(1)),
        }
    }

    /// Until when the front may go by what it was told: no bucket ends, and no half-open state is over.
    pub(crate) fn settled_until(&self) -> u64 {
        if self.state == State::HalfOpen { self.cold.half_open_until } else { self.window.settled_until() }
    }

    /// The state as a call made `now` would find it, and until when such calls are refused.
    pub(crate) fn found(&self, rules: &Rules, now: u64) -> (State, u64) {
        let open_until = match self.state {
            State::Open => self.cold.open_until,
            State::HalfOpen if now >= self.cold.half_open_until && rules.half_open_closes => {
                return (State::Closed, 0);
            }
            State::HalfOpen if now >= self.cold.half_open_until => self.reopened_until(rules),
            state => return (state, self.blocked_until(rules)),
        };
        if now < open_until { (State::Open, open_until) } else { (State::HalfOpen, 0) }
    }

    /// Half-open without a verdict, it is open from `half_open_until` to then.
    fn reopened_until(&self, rules: &Rules) -> u64 {
        let wait = rules.open.next(&mut self.cold.backoff.clone(), self.cold.half_open_unit);
        self.cold.half_open_until.saturating_add(nanos(wait).max(1))
    }

    /// Before this time every call is refused, in the states that refuse, unless somebody settles it earlier; the
    /// end of the ramp, when closed.
    pub(crate) fn blocked_until(&self, rules: &Rules) -> u64 {
        match self.state {
            State::Open => self.cold.open_until,
            State::HalfOpen => match self.probe_free_at(rules) {
                free if free < self.cold.half_open_until => free,
                _ if rules.half_open_closes => self.cold.half_open_until,
                _ => self.reopened_until(rules),
            },
            State::Closed => self.cold.ramp_until,
            // Isolation has no end: a call that finds this just as it begins asks the circuit.
            State::Isolated | State::Disabled | State::MetricsOnly => 0,
        }
    }

    /// How long whoever is refused should wait at most: a probe comes back long before a long lease runs out.
    pub(crate) fn longest_wait(&self) -> u64 {
        if self.state == State::HalfOpen { self.cold.wait } else { u64::MAX }
    }

    pub(crate) fn end_ramp(&mut self) {
        self.cold.ramp_until = 0;
    }

    /// Moves the window on, for a look at it.
    pub(crate) fn look(&mut self, now: u64) -> View<'_> {
        if matches!(self.state, State::Closed | State::MetricsOnly) && self.window.advance(now) {
            // The share of failures may have risen. Who only looks does not open the circuit; the next call asks.
            self.ask_again = true;
        }
        View { circuit: self, now }
    }
}

/// The parts of a circuit that reports show.
pub(crate) struct View<'a> {
    circuit: &'a Circuit,
    now: u64,
}

impl View<'_> {
    /// The state as a call made now would find it, and for how long such calls are refused.
    pub(crate) fn found(&self, rules: &Rules) -> (State, u64) {
        let (state, until) = self.circuit.found(rules, self.now);
        (state, until.saturating_sub(self.now))
    }

    pub(crate) fn window(&self) -> Counts {
        match self.circuit.state {
            State::Closed | State::MetricsOnly => self.circuit.window.counts(),
            _ => self.circuit.cold.frozen,
        }
    }

    /// The shares of failures and slow calls, where enough calls are known.
    pub(crate) fn ratios(&self, rules: &Rules) -> (Option<f64>, Option<f64>) {
        let counts = self.window();
        if counts.calls == 0 || counts.calls < rules.rate_minimum {
            return (None, None);
        }
        counts.ratios()
    }

    /// The same for those who listen. Half-open, there is none: what opened the circuit is of the past.
    pub(crate) fn told_ratios(&self, rules: &Rules) -> (Option<f64>, Option<f64>) {
        if self.found(rules).0 == State::HalfOpen { (None, None) } else { self.ratios(rules) }
    }

    pub(crate) fn has_seen_no_failure(&self) -> bool {
        let window = self.window();
        window.failures == 0 && window.slow == 0 && self.circuit.failed_in_a_row == 0
    }

    pub(crate) fn tally(&self) -> Tally {
        Tally { successes: self.circuit.successes, ..self.circuit.cold.tally }
    }

    pub(crate) fn in_a_row(&self) -> (u64, u64) {
        (self.circuit.succeeded_in_a_row, self.circuit.failed_in_a_row.into())
    }

    pub(crate) fn since(&self) -> u64 {
        self.circuit.since
    }

    pub(crate) fn last_failure(&self) -> Option<u64> {
        self.circuit.cold.last_failure
    }

    pub(crate) fn reason(&self) -> Option<OpenReason> {
        self.circuit.cold.reason
    }

    pub(crate) fn last_error(&self) -> Option<Arc<str>> {
        self.circuit.cold.last_error.clone()
    }

    pub(crate) fn trial(&self) -> (u64, u64, usize) {
        let trial = &self.circuit.cold.trial;
        (trial.successes, trial.failures, trial.leases.len())
    }

    pub(crate) fn openings(&self) -> u32 {
        self.circuit.cold.backoff.retries()
    }
}

enum Meaning {
    /// A call in the window.
    Call {
        failed: bool,
        slow: bool,
    },
    Abandoned,
    Nothing,
}

/// What a rule is called where it may not act.
fn exceeded(rule: OpenReason) -> &'static str {
    match rule {
        OpenReason::ConsecutiveFailures => "consecutive",
        OpenReason::SlowCallRate => "slow_rate",
        OpenReason::FailureCount => "failure_count",
        _ => "failure_rate",
    }
}

#[cfg(test)]
mod tests;
