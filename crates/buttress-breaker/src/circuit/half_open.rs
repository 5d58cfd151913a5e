//! Half-open: probes, their leases, and the verdict.

use buttress_core::{Note, Word};

use super::{Circuit, Decision, Ending, Meaning, Notice, Now, Ticket, notice::Detail};
use crate::{
    OpenReason, State,
    rules::{Rules, nanos},
    window::Counts,
    words,
};

/// The longest first lease if the settings give none: a wait of hours is no measure for a call.
const LEASE: u64 = 60 * 1_000_000_000;

/// Fewer dropped probes mean nothing, however small the sample is and however long each of them was waited for.
const DROPPED: u64 = 3;

/// The present try to close.
#[derive(Debug, Default)]
pub(super) struct HalfOpen {
    pub(super) successes: u64,
    pub(super) failures: u64,
    slow: u64,
    pub(super) abandoned: u64,
    /// Leases that ran out; each doubles the next ones, if they have no fixed length.
    expired: u32,
    pub(super) leases: Vec<Lease>,
    /// Without a verdict by then, the circuit opens again (for a wait that this number decides on) or closes.
    pub(super) until: u64,
    pub(super) unit: f64,
}

#[derive(Debug)]
pub(super) struct Lease {
    number: u32,
    until: u64,
}

impl HalfOpen {
    pub(super) fn counts(&self) -> Counts {
        let Self { successes, failures, slow, .. } = *self;
        Counts { calls: successes.saturating_add(failures), failures, slow, abandoned: 0 }
    }

    /// From when on a probe may be taken. 0: now.
    pub(super) fn free_at(&self, rules: &Rules) -> u64 {
        if self.leases.len() < rules.probes {
            return 0;
        }
        self.leases.iter().map(|lease| lease.until).min().unwrap_or(0)
    }

    /// Why the circuit opens again, or whether it closes: as soon as no further probe could change that.
    fn verdict(&self, rules: &Rules) -> Result<bool, OpenReason> {
        if self.failures >= rules.failed_probes {
            return Err(OpenReason::ProbesFailed);
        }
        if self.slow >= rules.slow_probes {
            return Err(OpenReason::ProbesSlow);
        }
        if self.abandoned >= rules.sample.max(DROPPED) {
            return Err(OpenReason::Abandoned);
        }
        let fast = self.successes.saturating_add(self.failures).saturating_sub(self.slow);
        let cannot_fail = self.successes.saturating_add(rules.failed_probes) > rules.sample;
        let cannot_be_slow = fast.saturating_add(rules.slow_probes) > rules.sample;
        Ok(cannot_fail && cannot_be_slow)
    }
}

impl Circuit {
    pub(super) fn half_open(&mut self, rules: &Rules, cause: Word, now: Now) {
        let history = self.history_mut();
        if history.wait == 0 {
            // It never was open: its leases need a length all the same.
            history.wait = nanos(rules.open.next(&mut Default::default(), now.unit)).max(1);
        }
        self.transition(State::HalfOpen, cause, Detail::default(), now);
        let half_open = &mut self.history_mut().half_open;
        half_open.until = now.time.saturating_add(rules.half_open);
        half_open.unit = now.unit;
    }

    /// Opens or closes, as of when it was over, if it was half-open for too long.
    pub(crate) fn end_half_open(&mut self, rules: &Rules, time: u64, refused: u64) {
        let HalfOpen { until, unit, .. } = self.history().half_open;
        if self.state == State::HalfOpen && time >= until {
            let over = Now { time: until, unit, refused };
            if rules.half_open_closes {
                self.close(rules, words::RULE, over);
            } else {
                self.open(rules, OpenReason::HalfOpenTimeout, words::RULE, None, over);
            }
        }
    }

    pub(super) fn probe(&mut self, rules: &Rules, now: Now) -> Decision {
        let history = self.history_mut();
        let half_open = &mut history.half_open;
        // More than one, if new settings allow fewer probes than are under way.
        while half_open.leases.len() >= rules.probes {
            let Some(expired) = half_open.leases.iter().position(|lease| lease.until <= now.time) else {
                let left = self.blocked_until(rules).saturating_sub(now.time);
                return Decision::Refused(Some(left.min(self.longest_wait())));
            };
            half_open.leases.swap_remove(expired);
            half_open.expired = half_open.expired.saturating_add(1);
            history.notices.push(Notice::Note(Note::new(words::LEASE_EXPIRED)));
        }
        let length = rules.lease.unwrap_or_else(|| {
            // A service slower than the wait is long must not lose every lease in turn.
            history.wait.min(LEASE).saturating_mul(1 << half_open.expired.min(20))
        });
        // 0 stands for "no probe".
        history.last_lease = history.last_lease.checked_add(1).unwrap_or(1);
        let number = history.last_lease;
        half_open.leases.push(Lease { number, until: now.time.saturating_add(length) });
        Decision::Admitted(Ticket { generation: self.generation, lease: number })
    }

    pub(super) fn record_probe(
        &mut self,
        rules: &Rules,
        ticket: Ticket,
        ending: Ending,
        slow: bool,
        now: Now,
    ) {
        let leases = &mut self.history_mut().half_open.leases;
        let Some(place) = leases.iter().position(|lease| lease.number == ticket.lease) else {
            // The lease ran out and another call took the slot.
            self.add_late();
            return;
        };
        leases.swap_remove(place);
        let meaning = self.meaning(rules, ending, slow);
        self.add_to_totals(ending, slow, now);
        let history = self.history_mut();
        let half_open = &mut history.half_open;
        match meaning {
            Meaning::Call { failed, slow } => {
                half_open.failures = half_open.failures.saturating_add(failed.into());
                half_open.successes = half_open.successes.saturating_add((ending == Ending::Success).into());
                half_open.slow = half_open.slow.saturating_add(slow.into());
                half_open.abandoned = 0;
                if ending == Ending::Success {
                    // Those in a row are of the closed state.
                    history.row_began = history.row_began.saturating_add(1);
                }
            }
            Meaning::Abandoned => half_open.abandoned = half_open.abandoned.saturating_add(1),
            Meaning::Nothing => {}
        }
        match half_open.verdict(rules) {
            Err(reason) => self.open(rules, reason, words::RULE, None, now),
            Ok(true) => self.close(rules, words::RULE, now),
            Ok(false) => {}
        }
    }
}
