use buttress_core::{Event, Outcome, Recorder};

use crate::{
    catalog::{TIMEOUT_OPERATION_DURATION_SECONDS, TIMEOUT_OPERATIONS_TOTAL},
    panel::{CounterSlot, HistogramSlot, Panel},
};

pub(crate) struct Timeout {
    panel: Panel,
    success: Ended,
    failure: Ended,
    timeout: Ended,
    cancelled: Ended,
}

/// The series of calls that ended in one way.
struct Ended {
    operations: CounterSlot,
    duration: HistogramSlot,
}

impl Timeout {
    pub(crate) fn new(mut panel: Panel) -> Self {
        let operations = panel.counters(&TIMEOUT_OPERATIONS_TOTAL);
        let durations = panel.histograms(&TIMEOUT_OPERATION_DURATION_SECONDS);
        let ended = |result| Ended { operations: operations.of(result), duration: durations.of(result) };
        Self {
            success: ended("success"),
            failure: ended("failure"),
            timeout: ended("timeout"),
            cancelled: ended("cancelled"),
            panel: panel.ready(),
        }
    }
}

impl Recorder for Timeout {
    fn record(&self, event: &Event<'_>) {
        match *event {
            Event::Done { outcome, elapsed, .. } => {
                let ended = match outcome {
                    Outcome::Success => &self.success,
                    Outcome::Cancelled => &self.cancelled,
                    // The limit was reached, whoever answered then.
                    Outcome::TimedOut | Outcome::FallbackSuccess | Outcome::FallbackFailure => &self.timeout,
                    _ => &self.failure,
                };
                let at = self.panel.fresh(self);
                at.count(ended.operations);
                if let Some(elapsed) = elapsed {
                    at.observe(ended.duration, elapsed);
                }
            }
            // The deadline had passed before the call; it was not made and has no `Done`.
            Event::Refused { rejection, shadow: false } if !rejection.was_sent() => {
                self.panel.fresh(self).count(self.timeout.operations);
            }
            _ => {}
        }
    }

    fn timed(&self) -> bool {
        self.panel.wants_durations()
    }
}
