use std::sync::{
    Weak,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use buttress_core::{
    Event, Outcome, Recorder,
    observe::{Level, Levels},
};

use crate::{
    catalog::{
        CIRCUIT_BREAKER_CALL_DURATION_SECONDS, CIRCUIT_BREAKER_CALLS_TOTAL, CIRCUIT_BREAKER_FAILURE_RATIO,
        CIRCUIT_BREAKER_KEYS, CIRCUIT_BREAKER_LAST_TRANSITION_TIMESTAMP_SECONDS,
        CIRCUIT_BREAKER_SLOW_CALLS_TOTAL, CIRCUIT_BREAKER_SLOW_RATIO, CIRCUIT_BREAKER_STATE,
        CIRCUIT_BREAKER_STATE_CHANGES_TOTAL, CIRCUIT_BREAKER_WOULD_REJECT_TOTAL, STATES,
    },
    clock,
    panel::{At, CounterSlot, Family, GaugeSlot, HistogramSlot, Panel, Start},
};

/// Changes that the rules make. They are counted from 0 on, or `increase` would miss the first opening; those by hand
/// have a series once they were made.
const BY_RULE: [(&str, &str); 4] =
    [("closed", "open"), ("open", "half_open"), ("half_open", "open"), ("half_open", "closed")];

pub(crate) struct Breaker {
    panel: Panel,
    by_rule: [CounterSlot; BY_RULE.len()],
    success: Ended,
    failure: Ended,
    ignored: Ended,
    cancelled: Ended,
    rejected: CounterSlot,
    would_reject: CounterSlot,
    states: Family<GaugeSlot>,
    keys: Family<GaugeSlot>,
    failure_ratio: GaugeSlot,
    slow_ratio: GaugeSlot,
    last_transition: GaugeSlot,
    /// One with keys is in many states at a time, and so in none.
    keyed: AtomicBool,
}

/// The series of calls that ended in one way.
struct Ended {
    calls: CounterSlot,
    slow_calls: CounterSlot,
    duration: HistogramSlot,
}

impl Breaker {
    pub(crate) fn new(mut panel: Panel) -> Self {
        let calls = panel.counters(&CIRCUIT_BREAKER_CALLS_TOTAL);
        let slow_calls = panel.counters(&CIRCUIT_BREAKER_SLOW_CALLS_TOTAL);
        let durations = panel.histograms(&CIRCUIT_BREAKER_CALL_DURATION_SECONDS);
        let change =
            |(from, to)| panel.counter(&CIRCUIT_BREAKER_STATE_CHANGES_TOTAL, &[from, to], Start::AtZero);
        let by_rule = BY_RULE.map(change);
        let ended = |result| Ended {
            calls: calls.of(result),
            slow_calls: slow_calls.of(result),
            duration: durations.of(result),
        };
        Self {
            by_rule,
            success: ended("success"),
            failure: ended("failure"),
            ignored: ended("ignored"),
            cancelled: ended("cancelled"),
            rejected: calls.of("rejected"),
            would_reject: panel.counter(&CIRCUIT_BREAKER_WOULD_REJECT_TOTAL, &[], Start::WhenCounted),
            states: panel.gauges(&CIRCUIT_BREAKER_STATE, Some(0.0)),
            keys: panel.gauges(&CIRCUIT_BREAKER_KEYS, Some(0.0)),
            failure_ratio: panel.gauge(&CIRCUIT_BREAKER_FAILURE_RATIO, &[], Some(f64::NAN)),
            slow_ratio: panel.gauge(&CIRCUIT_BREAKER_SLOW_RATIO, &[], Some(f64::NAN)),
            last_transition: panel.gauge(&CIRCUIT_BREAKER_LAST_TRANSITION_TIMESTAMP_SECONDS, &[], None),
            keyed: AtomicBool::new(false),
            panel: panel.ready(),
        }
    }

    fn is_in(&self, at: &At<'_>, state: &str) {
        if !STATES.contains(&state) {
            return;
        }
        for (one, slot) in self.states.iter() {
            at.set(slot, f64::from(u8::from(one == state)));
        }
    }
}

impl Recorder for Breaker {
    fn record(&self, event: &Event<'_>) {
        match *event {
            Event::Done { outcome, elapsed, slow, .. } => {
                let ended = match outcome {
                    Outcome::Success => &self.success,
                    Outcome::Ignored => &self.ignored,
                    Outcome::Cancelled => &self.cancelled,
                    _ => &self.failure,
                };
                let at = self.panel.fresh(self);
                at.count(ended.calls);
                if slow {
                    at.count(ended.slow_calls);
                }
                if let Some(elapsed) = elapsed {
                    at.observe(ended.duration, elapsed);
                }
            }
            Event::Refused { shadow: true, .. } => self.panel.fresh(self).count(self.would_reject),
            // A call that was passed on and then cut short ends with `Done`.
            Event::Refused { rejection, .. } if !rejection.was_sent() => {
                self.panel.fresh(self).count(self.rejected);
            }
            Event::Transition { from, to, .. } => {
                let at = self.panel.fresh(self);
                if let Some(which) = BY_RULE.iter().position(|change| *change == (from, to)) {
                    at.count(self.by_rule[which]);
                } else if STATES.contains(&from) && STATES.contains(&to) {
                    at.count_rare(&CIRCUIT_BREAKER_STATE_CHANGES_TOTAL, &[from, to]);
                }
                if self.keyed.load(Relaxed) {
                    return;
                }
                self.is_in(&at, to);
                at.set(self.last_transition, clock::unix_seconds());
                if matches!(to, "closed" | "half_open") {
                    // The window begins anew; the ratio that opened the circuit is of the past.
                    at.set(self.failure_ratio, f64::NAN);
                    at.set(self.slow_ratio, f64::NAN);
                }
            }
            Event::Level { what, value } => match what {
                Level::State(state) => self.is_in(&self.panel.fresh(self), state),
                Level::FailureRatio => self.panel.latest().set(self.failure_ratio, value),
                Level::SlowRatio => self.panel.latest().set(self.slow_ratio, value),
                Level::Keys(state) => {
                    self.keyed.store(true, Relaxed);
                    if let Some(keys) = self.keys.get(state) {
                        self.panel.fresh(self).set(keys, value);
                    }
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn timed(&self) -> bool {
        self.panel.wants_durations()
    }

    fn follow(&self, levels: &Weak<dyn Levels>) {
        self.panel.follow(levels);
    }
}
