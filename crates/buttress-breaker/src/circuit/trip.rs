//! The rules that open a circuit.

use buttress_core::{Note, Value, Word};

use super::{Circuit, Notice, Now};
use crate::{
    OnCancel, OpenReason, State,
    rules::Rules,
    window::{Counts, Window},
    words,
};

/// How many rules there are.
pub(super) const RULES: usize = 4;

impl Circuit {
    /// Evaluates every rule, and opens if one says so; after every recorded call, successes too.
    pub(super) fn evaluate(&mut self, rules: &Rules, now: Now) {
        self.rules_due = false;
        let tripped = self.tripped(rules);
        let Some(first) = tripped.into_iter().flatten().next() else { return };
        if self.state == State::MetricsOnly {
            let history = self.history_mut();
            for (told, rule) in history.exceeded.iter_mut().zip(tripped) {
                if let (Some(rule), false) = (rule, *told) {
                    *told = true;
                    let which = Value::Word(name(rule));
                    history.notices.push(Notice::Note(Note::with(words::EXCEEDED, which)));
                }
            }
            return;
        }
        let reason = if self.stand_in(rules).is_some() { OpenReason::Abandoned } else { first };
        self.open(rules, reason, words::RULE, None, now);
    }

    /// The rules whose threshold is reached.
    fn tripped(&self, rules: &Rules) -> [Option<OpenReason>; RULES] {
        let counts = self.counts(rules);
        if counts.calls < rules.minimum {
            return [None; RULES];
        }
        let in_a_row = self.stand_in(rules).unwrap_or_else(|| self.failed_in_a_row.into());
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

    /// How many there were of what the rule counts that opens the circuit.
    pub(super) fn counted(&self, rule: OpenReason, counts: Counts) -> Option<u64> {
        let half_open = &self.history().half_open;
        match rule {
            OpenReason::ConsecutiveFailures => Some(self.failed_in_a_row.into()),
            OpenReason::FailureRate | OpenReason::FailureCount => Some(counts.failures),
            OpenReason::SlowCallRate | OpenReason::ProbesSlow => Some(counts.slow),
            OpenReason::ProbesFailed => Some(half_open.failures),
            OpenReason::Abandoned if self.state == State::HalfOpen => Some(half_open.abandoned),
            OpenReason::Abandoned => Some(counts.calls),
            OpenReason::HalfOpenTimeout | OpenReason::Manual | OpenReason::Initial => None,
        }
    }

    /// What the rules look at: the window, or the abandoned calls that stand in for it.
    pub(super) fn counts(&self, rules: &Rules) -> Counts {
        match self.stand_in(rules) {
            Some(calls) => Counts { calls, failures: calls, slow: 0, abandoned: 0 },
            None => self.window.counts(),
        }
    }

    /// The abandoned calls, if they are a whole window without one that ended.
    fn stand_in(&self, rules: &Rules) -> Option<u64> {
        let run = u64::from(self.abandoned_in_a_row);
        if rules.on_cancel != OnCancel::WhenAll || run == 0 {
            return None;
        }
        let counts = self.window.counts();
        let calls = match &self.window {
            Window::None => Some(run),
            Window::Time(_) => (counts.calls == 0).then_some(counts.abandoned),
            // Dropped calls take no place in the ring, so a full ring of them is a run that is as long.
            Window::Count(ring) => (counts.calls == 0 || run >= ring.size()).then_some(run),
        };
        // One dropped call means nothing, however few calls the rules ask for.
        calls.filter(|calls| *calls > 1)
    }

    /// Says how many successes may be counted from now on without asking the circuit, up to `most`.
    pub(crate) fn grant(&mut self, rules: &Rules, most: u32) -> u32 {
        let allowance = self.allowance(rules, most.into());
        self.granted = u32::try_from(allowance).unwrap_or(most);
        self.granted
    }

    /// As long as no rule can say anything but "stay closed", and not longer than it takes the successes to push out
    /// of a count window what is in it.
    fn allowance(&self, rules: &Rules, most: u64) -> u64 {
        if !self.is_counting() || self.rules_due {
            return 0;
        }
        let counts = self.window.counts();
        if counts.failures.saturating_add(counts.slow) == 0 {
            return most;
        }
        match rules.rate_minimum.saturating_sub(counts.calls) {
            // Further successes only lower the shares. With time they rise only at the end of a bucket, which sends
            // the call here as well. When the last failure is gone, the shares have settled.
            0 => most.min(self.window.size()),
            // The success that completes the minimum may open the circuit.
            missing => most.min(missing.saturating_sub(1)),
        }
    }
}

/// What a rule is called if it may not act.
fn name(rule: OpenReason) -> Word {
    match rule {
        OpenReason::ConsecutiveFailures => "consecutive",
        OpenReason::SlowCallRate => "slow_rate",
        OpenReason::FailureCount => "failure_count",
        _ => "failure_rate",
    }
}
