//! The circuit as plain data: no atomics, no clock, no chance of its own, and no listener.
//!
//! It is the one place where states change. The lock-free [`atomic`](crate::atomic) front only counts successes on its
//! behalf, and hands them in with [`Circuit::end_grant`] before anything else is asked.

mod abandoned;
mod half_open;
mod manual;
mod notice;
mod trip;
mod view;

use std::sync::{Arc, OnceLock};

use buttress_core::Word;
use buttress_kit::BackoffState;

pub(crate) use self::{
    abandoned::{Mean, Waited, remembered},
    notice::Notice,
    view::View,
};
use self::{
    half_open::HalfOpen,
    notice::{Detail, Said},
    trip::RULES,
};
use crate::{
    OnCancel, OpenReason, State,
    rules::{Rules, nanos},
    window::{Counts, Window},
    words,
};

/// Generations count up to here and start again: what the word of the atomic front has room for.
pub(crate) const GENERATIONS: u64 = (1 << 36) - 1;

/// What an operation needs to know of the world.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Nanoseconds since some beginning.
    pub(crate) time: u64,
    /// A random number in `0.0..1.0`.
    pub(crate) unit: f64,
    /// How many calls were refused so far.
    pub(crate) refused: u64,
}

/// How a call ended, as far as the circuit is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Success,
    Failure {
        timed_out: bool,
        /// The service said for how long it should be left alone, in nanoseconds; else 0.
        retry_after: u64,
    },
    Ignored,
    /// Dropped before it ended.
    Abandoned(Waited),
}

/// What a call was admitted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) generation: u64,
    /// 0: not a probe.
    pub(crate) lease: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// To be recorded.
    Admitted(Ticket),
    /// To pass unrecorded.
    Untracked,
    /// Refused; the wait after which another try makes sense, if that is known: only an isolated circuit cannot.
    Refused(Option<u64>),
}

/// A result opened the circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    /// The generation that began.
    pub(crate) generation: u64,
    pub(crate) reason: Option<OpenReason>,
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

#[derive(Debug)]
pub(crate) struct Circuit {
    state: State,
    /// Evaluate the rules at the next result, even a success: the settings changed, or a bucket of the window ended
    /// during a look at the circuit, which does not evaluate them.
    rules_due: bool,
    generation: u64,
    since: u64,
    window: Window,
    failed_in_a_row: u32,
    abandoned_in_a_row: u32,
    successes: u64,
    /// How many successes may be counted at present without asking the circuit.
    granted: u32,
    /// Of a keyed breaker: no longer one of its circuits, so its changes of state are not counted.
    pub(crate) gone: bool,
    /// Made when it is first written to: a keyed breaker has many circuits that only ever saw successes.
    history: Option<Box<History>>,
}

/// What a circuit that only ever saw successes has no need of.
#[derive(Debug, Default)]
struct History {
    /// What the window held when the circuit was last closed.
    frozen: Counts,
    /// The rules whose threshold was passed while none may act; each is told once.
    exceeded: [bool; RULES],
    half_open: HalfOpen,
    last_lease: u32,
    open_until: u64,
    /// The length of the present or last wait.
    wait: u64,
    backoff: BackoffState,
    /// When the circuit began to refuse, and how many calls had been refused by then.
    left_closed: Option<(u64, u64)>,
    ramp_until: u64,
    reason: Option<OpenReason>,
    last_error: Option<Arc<str>>,
    last_failure: Option<u64>,
    /// The successes by the time of the last failure, or as the circuit was closed last.
    row_began: u64,
    tally: Tally,
    notices: Vec<Notice>,
}

impl Circuit {
    pub(crate) fn new(state: State, rules: &Rules, now: Now) -> Self {
        let mut circuit = Self {
            state: State::Closed,
            rules_due: false,
            generation: 0,
            since: now.time,
            window: Window::new(rules.window),
            failed_in_a_row: 0,
            abandoned_in_a_row: 0,
            successes: 0,
            granted: 0,
            gone: false,
            history: None,
        };
        circuit.window.clear(now.time);
        match state {
            State::Closed => {}
            State::Open => circuit.open(rules, OpenReason::Initial, words::MANUAL, None, now),
            State::HalfOpen => circuit.half_open(rules, words::MANUAL, now),
            other => circuit.transition(other, words::MANUAL, Detail::default(), now),
        }
        if let Some(history) = &mut circuit.history {
            // Nothing changed yet: it began like this.
            history.notices.clear();
        }
        circuit
    }

    fn history(&self) -> &History {
        static NONE: OnceLock<History> = OnceLock::new();
        self.history.as_deref().unwrap_or_else(|| NONE.get_or_init(History::default))
    }

    fn history_mut(&mut self) -> &mut History {
        self.history.get_or_insert_default()
    }

    fn is_counting(&self) -> bool {
        matches!(self.state, State::Closed | State::MetricsOnly)
    }

    // ---- calls

    pub(crate) fn admit(&mut self, rules: &Rules, now: Now) -> Decision {
        self.advance_time(rules, now);
        match self.state {
            State::Closed | State::MetricsOnly => {
                Decision::Admitted(Ticket { generation: self.generation, lease: 0 })
            }
            State::Disabled => Decision::Untracked,
            State::Isolated => Decision::Refused(None),
            State::Open => Decision::Refused(Some(self.history().open_until.saturating_sub(now.time))),
            State::HalfOpen => self.probe(rules, now),
        }
    }

    /// Takes over the successes counted so far, all in time and in the present generation; `left` of those granted were
    /// not. No more may be counted.
    pub(crate) fn end_grant(&mut self, left: u64) {
        let calls = u64::from(std::mem::take(&mut self.granted)).saturating_sub(left);
        if calls == 0 {
            return;
        }
        self.window.add_successes(calls);
        self.failed_in_a_row = 0;
        self.abandoned_in_a_row = 0;
        self.successes = self.successes.saturating_add(calls);
    }

    /// Records how one call ended. `began`: when it was let in; asked only if counts begin anew by time. If this very
    /// result has opened the circuit, the caller is to [say](Self::set_last_error) what it was.
    pub(crate) fn record(
        &mut self,
        rules: &Rules,
        ticket: Ticket,
        began: u64,
        ending: Ending,
        slow: bool,
        now: Now,
    ) -> Option<Opening> {
        self.end_half_open(rules, now.time, now.refused);
        if ticket.generation != self.generation {
            self.add_late();
            return None;
        }
        self.window.advance(now.time);
        let counts_began = self.window.valid_until().saturating_sub(rules.interval);
        if self.is_counting() && rules.interval > 0 && began < counts_began {
            // Let in while other counts were kept: an older generation as well.
            self.add_late();
            return None;
        }
        match self.state {
            State::HalfOpen => self.record_probe(rules, ticket, ending, slow, now),
            State::Closed | State::MetricsOnly => {
                self.count(rules, ending, slow, now);
                self.evaluate(rules, now);
            }
            // No call is admitted in these with their own generation.
            State::Open | State::Isolated | State::Disabled => {}
        }
        if self.state != State::Open || self.generation == ticket.generation {
            return None;
        }
        if let Ending::Failure { retry_after, .. } = ending {
            self.lengthen(rules, retry_after, now);
        }
        self.await_error();
        Some(Opening { generation: self.generation, reason: self.history().reason })
    }

    fn add_late(&mut self) {
        let late = &mut self.history_mut().tally.late;
        *late = late.saturating_add(1);
    }

    /// Adds a result to the window and to the rows.
    fn count(&mut self, rules: &Rules, ending: Ending, slow: bool, now: Now) {
        self.add_to_totals(ending, slow, now);
        match self.meaning(rules, ending, slow) {
            Meaning::Call { failed, slow } => {
                if failed {
                    self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
                    self.history_mut().row_began = self.successes;
                } else if ending == Ending::Success {
                    self.failed_in_a_row = 0;
                }
                self.abandoned_in_a_row = 0;
                self.window.add_call(failed, slow);
            }
            Meaning::Abandoned => {
                self.abandoned_in_a_row = self.abandoned_in_a_row.saturating_add(1);
                self.window.add_abandoned();
            }
            Meaning::Nothing => {}
        }
    }

    fn add_to_totals(&mut self, ending: Ending, slow: bool, now: Now) {
        if ending == Ending::Success {
            self.successes = self.successes.saturating_add(1);
            if !slow {
                return;
            }
        }
        let history = self.history_mut();
        let tally = &mut history.tally;
        match ending {
            Ending::Success => {}
            Ending::Failure { timed_out, .. } => {
                history.last_failure = Some(now.time);
                tally.failures = tally.failures.saturating_add(1);
                tally.timeouts = tally.timeouts.saturating_add(timed_out.into());
            }
            Ending::Abandoned(_) => tally.cancelled = tally.cancelled.saturating_add(1),
            Ending::Ignored => tally.ignored = tally.ignored.saturating_add(1),
        }
        tally.slow = tally.slow.saturating_add(slow.into());
    }

    // ---- changes of state

    /// Does what time alone has done already: an open circuit whose wait is over is half-open.
    fn advance_time(&mut self, rules: &Rules, now: Now) {
        self.end_half_open(rules, now.time, now.refused);
        if self.state == State::Open && now.time >= self.history().open_until {
            self.half_open(rules, words::RULE, now);
        }
    }

    fn transition(&mut self, to: State, cause: Word, mut detail: Detail, now: Now) {
        let from = std::mem::replace(&mut self.state, to);
        // Whatever was admitted until now belongs to the past, also if the state stays the same.
        self.generation = self.generation.wrapping_add(1) & GENERATIONS;
        self.since = now.time;
        let history = self.history.get_or_insert_default();
        history.exceeded = [false; RULES];
        history.half_open = HalfOpen::default();
        history.ramp_until = 0;
        if matches!(from, State::Closed | State::MetricsOnly) {
            self.window.advance(now.time);
            history.frozen = self.window.counts();
        }
        if matches!(to, State::Closed | State::MetricsOnly) {
            self.window.clear(now.time);
            history.frozen = Counts::default();
            history.row_began = self.successes;
            (self.failed_in_a_row, self.abandoned_in_a_row) = (0, 0);
        }
        history.add_rejections(to, &mut detail, now);
        if from != to {
            history.notices.push(Notice::Changed { from, to, cause, detail });
        }
    }

    fn open(&mut self, rules: &Rules, reason: OpenReason, cause: Word, wait: Option<u64>, now: Now) {
        let counts = if self.state == State::HalfOpen {
            self.history().half_open.counts()
        } else {
            self.counts(rules)
        };
        let by_rule = (cause == words::RULE).then(|| (reason, self.counted(reason, counts)));
        let history = self.history_mut();
        let wait = wait.unwrap_or_else(|| nanos(rules.open.next(&mut history.backoff, now.unit)).max(1));
        history.wait = wait;
        history.open_until = now.time.saturating_add(wait);
        history.reason = Some(reason);
        let error = match &history.last_error {
            // No call says anything, so that is the last that is known.
            Some(error) if reason == OpenReason::HalfOpenTimeout => Said::Text(error.clone()),
            _ => Said::Nothing,
        };
        let detail = Detail { counts, rule: by_rule, error, open_for: Some(wait), rejected: 0 };
        self.transition(State::Open, cause, detail, now);
    }

    /// Stays open for as long as the failure that opened it asked for, within bounds, if that is longer.
    fn lengthen(&mut self, rules: &Rules, asked: u64, now: Now) {
        let (asked, history) = (asked.min(rules.retry_after), self.history_mut());
        if asked <= history.wait {
            return;
        }
        history.wait = asked;
        history.open_until = now.time.saturating_add(asked);
        if let Some(Notice::Changed { detail, .. }) = history.notices.last_mut() {
            detail.open_for = Some(asked);
        }
    }

    fn close(&mut self, rules: &Rules, cause: Word, now: Now) {
        let detail = Detail::of(self.history().half_open.counts());
        let was_closed = self.state == State::Closed;
        let history = self.history_mut();
        history.backoff = BackoffState::default();
        history.last_error = None;
        self.transition(State::Closed, cause, detail, now);
        if rules.ramp > 0 && !was_closed && cause == words::RULE {
            self.history_mut().ramp_until = now.time.saturating_add(rules.ramp);
        }
    }

    #[cfg(test)]
    pub(crate) fn set_generation(&mut self, generation: u64) {
        self.generation = generation;
    }
}

impl History {
    /// Adds how many calls were refused since the circuit was last closed, and on closing, since when.
    fn add_rejections(&mut self, to: State, detail: &mut Detail, now: Now) {
        if matches!(to, State::Open | State::HalfOpen | State::Isolated) {
            self.left_closed.get_or_insert((now.time, now.refused));
        }
        let Some((when, refused)) = self.left_closed else { return };
        detail.rejected = now.refused.saturating_sub(refused);
        if to == State::Closed {
            detail.open_for = Some(now.time.saturating_sub(when));
            self.left_closed = None;
        }
    }
}

/// What an ending means to the rules.
enum Meaning {
    /// A call in the window.
    Call {
        failed: bool,
        slow: bool,
    },
    /// A call that was dropped after so long that it stands in for a failure.
    Abandoned,
    Nothing,
}

impl Circuit {
    fn meaning(&self, rules: &Rules, ending: Ending, slow: bool) -> Meaning {
        match ending {
            Ending::Success => Meaning::Call { failed: false, slow },
            Ending::Failure { .. } => Meaning::Call { failed: true, slow },
            Ending::Ignored => Meaning::Nothing,
            Ending::Abandoned(waited) => match rules.on_cancel {
                OnCancel::Failure => Meaning::Call { failed: true, slow },
                OnCancel::Ignore => Meaning::Nothing,
                OnCancel::WhenAll if slow && rules.slow_rate.is_some() => {
                    Meaning::Call { failed: false, slow: true }
                }
                OnCancel::WhenAll if self.hangs(rules, waited) => Meaning::Abandoned,
                OnCancel::WhenAll => Meaning::Nothing,
            },
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod worlds;
