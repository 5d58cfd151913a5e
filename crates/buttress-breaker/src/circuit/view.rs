//! What others may know of a circuit: calls that pass by without its lock, and reports.

use std::sync::Arc;

use super::{Circuit, Tally};
use crate::{
    OpenReason, State,
    census::Course,
    rules::{Rules, nanos},
    window::Counts,
};

impl Circuit {
    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Until when calls may go by what they were told: no bucket ends, and no half-open state is over.
    pub(crate) fn valid_until(&self) -> u64 {
        match self.state {
            State::HalfOpen => self.history().half_open.until,
            _ => self.window.valid_until(),
        }
    }

    /// The state as a call made at this time would find it, and until when such calls are refused.
    pub(crate) fn found(&self, rules: &Rules, time: u64) -> (State, u64) {
        let half_open_is_over = || time >= self.history().half_open.until;
        let open_until = match self.state {
            State::Open => self.history().open_until,
            State::HalfOpen if half_open_is_over() && rules.half_open_closes => return (State::Closed, 0),
            State::HalfOpen if half_open_is_over() => self.reopened_until(rules),
            state => return (state, self.blocked_until(rules)),
        };
        if time < open_until { (State::Open, open_until) } else { (State::HalfOpen, 0) }
    }

    /// Half-open without a verdict, the circuit is open from the end of that state to then.
    fn reopened_until(&self, rules: &Rules) -> u64 {
        let history = self.history();
        let mut backoff = history.backoff;
        let wait = rules.open.next(&mut backoff, history.half_open.unit);
        history.half_open.until.saturating_add(nanos(wait).max(1))
    }

    /// Before this time every call is refused, in the states that refuse, unless a probe ends earlier; the end of the
    /// ramp, when closed.
    pub(crate) fn blocked_until(&self, rules: &Rules) -> u64 {
        let history = self.history();
        match self.state {
            State::Open => history.open_until,
            State::HalfOpen => match history.half_open.free_at(rules) {
                free if free < history.half_open.until => free,
                _ if rules.half_open_closes => history.half_open.until,
                _ => self.reopened_until(rules),
            },
            State::Closed => history.ramp_until,
            // Isolation has no end: a call that finds this just as it begins asks the circuit.
            State::Isolated | State::Disabled | State::MetricsOnly => 0,
        }
    }

    /// How long a caller that is refused should wait at most: a probe comes back long before a long lease runs out.
    pub(crate) fn longest_wait(&self) -> u64 {
        if self.state == State::HalfOpen { self.history().wait } else { u64::MAX }
    }

    /// Whether time alone will make it another state.
    pub(crate) fn changes_by_itself(&self) -> bool {
        match self.state {
            State::Open => true,
            State::HalfOpen => self.history().half_open.until != u64::MAX,
            _ => false,
        }
    }

    /// The state, and which ones time alone will make of it for a call; see [`found`](Self::found).
    pub(crate) fn course(&self, rules: &Rules) -> Course {
        let half_open_until = self.history().half_open.until;
        let then = match self.state {
            State::Open => [Some((self.history().open_until, State::HalfOpen)), None],
            State::HalfOpen if half_open_until == u64::MAX => [None, None],
            State::HalfOpen if rules.half_open_closes => [Some((half_open_until, State::Closed)), None],
            State::HalfOpen => {
                let reopened_until = self.reopened_until(rules);
                [Some((half_open_until, State::Open)), Some((reopened_until, State::HalfOpen))]
            }
            _ => [None, None],
        };
        Course { state: self.state, then }
    }

    /// Moves the window on, for a look at it.
    pub(crate) fn view(&mut self, time: u64) -> View<'_> {
        if self.is_counting() && self.window.advance(time) {
            // The share of failures may have risen. A look does not open the circuit; the next call does.
            self.rules_due = true;
        }
        View { circuit: self, time }
    }
}

/// The parts of a circuit that reports show.
pub(crate) struct View<'a> {
    circuit: &'a Circuit,
    time: u64,
}

impl View<'_> {
    /// The state as a call made now would find it, and for how long such calls are refused.
    pub(crate) fn found(&self, rules: &Rules) -> (State, u64) {
        let (state, until) = self.circuit.found(rules, self.time);
        (state, until.saturating_sub(self.time))
    }

    pub(crate) fn window(&self) -> Counts {
        if self.circuit.is_counting() { self.circuit.window.counts() } else { self.circuit.history().frozen }
    }

    /// The shares of failures and slow calls, if enough calls are known.
    pub(crate) fn ratios(&self, rules: &Rules) -> (Option<f64>, Option<f64>) {
        let counts = self.window();
        if counts.calls < rules.rate_minimum { (None, None) } else { counts.ratios() }
    }

    pub(crate) fn has_seen_no_failure(&self) -> bool {
        let window = self.window();
        window.failures == 0 && window.slow == 0 && self.circuit.failed_in_a_row == 0
    }

    pub(crate) fn tally(&self) -> Tally {
        Tally { successes: self.circuit.successes, ..self.circuit.history().tally }
    }

    pub(crate) fn in_a_row(&self) -> (u64, u64) {
        let succeeded = self.circuit.successes.saturating_sub(self.circuit.history().row_began);
        (succeeded, self.circuit.failed_in_a_row.into())
    }

    pub(crate) fn since(&self) -> u64 {
        self.circuit.since
    }

    pub(crate) fn last_failure(&self) -> Option<u64> {
        self.circuit.history().last_failure
    }

    pub(crate) fn reason(&self) -> Option<OpenReason> {
        self.circuit.history().reason
    }

    pub(crate) fn last_error(&self) -> Option<Arc<str>> {
        self.circuit.history().last_error.clone()
    }

    /// Successful and failed probes, and those under way.
    pub(crate) fn probes(&self) -> (u64, u64, usize) {
        let half_open = &self.circuit.history().half_open;
        (half_open.successes, half_open.failures, half_open.leases.len())
    }

    pub(crate) fn openings(&self) -> u32 {
        self.circuit.history().backoff.retries()
    }
}
