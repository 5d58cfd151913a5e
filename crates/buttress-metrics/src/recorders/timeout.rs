use buttress_core::{Event, Outcome, Recorder};

use crate::{
    catalog::{TIMEOUT_OPERATION_DURATION_SECONDS, TIMEOUT_OPERATIONS_TOTAL},
    panel::{CounterSlot, Family, HistogramSlot, Panel},
};

pub(crate) struct Timeout {
    panel: Panel,
    operations: Family<CounterSlot>,
    durations: Family<HistogramSlot>,
}

impl Timeout {
    pub(crate) fn new(mut panel: Panel) -> Self {
        Self {
            operations: panel.counters(&TIMEOUT_OPERATIONS_TOTAL),
            durations: panel.histograms(&TIMEOUT_OPERATION_DURATION_SECONDS),
            panel: panel.ready(),
        }
    }
}

impl Recorder for Timeout {
    fn record(&self, event: &Event<'_>) {
        let (result, elapsed) = match *event {
            Event::Done { outcome, elapsed, .. } => {
                let result = match outcome {
                    Outcome::Success => "success",
                    Outcome::Cancelled => "cancelled",
                    // The limit was reached, whoever answered then.
                    Outcome::TimedOut | Outcome::FallbackSuccess | Outcome::FallbackFailure => "timeout",
                    _ => "failure",
                };
                (result, elapsed)
            }
            // The deadline had passed before the call; it was not made and has no `Done`.
            Event::Refused { rejection, shadow: false } if !rejection.was_sent() => ("timeout", None),
            _ => return,
        };
        let at = self.panel.fresh(self);
        if let Some(operations) = self.operations.get(result) {
            at.count(operations);
        }
        if let (Some(elapsed), Some(durations)) = (elapsed, self.durations.get(result)) {
            at.observe(durations, elapsed);
        }
    }

    fn timed(&self) -> bool {
        self.panel.wants_durations()
    }
}
