use buttress_core::{Event, Outcome, Recorder};

use crate::{
    catalog::FALLBACK_CALLS_TOTAL,
    panel::{CounterSlot, Panel},
};

pub(crate) struct Fallback {
    panel: Panel,
    primary: CounterSlot,
    answered: CounterSlot,
    failed: CounterSlot,
    not_handled: CounterSlot,
    cancelled: CounterSlot,
}

impl Fallback {
    pub(crate) fn new(mut panel: Panel) -> Self {
        let calls = panel.counters(&FALLBACK_CALLS_TOTAL);
        Self {
            primary: calls.of("primary"),
            answered: calls.of("fallback_success"),
            failed: calls.of("fallback_failure"),
            not_handled: calls.of("not_handled"),
            cancelled: calls.of("cancelled"),
            panel: panel.ready(),
        }
    }
}

impl Recorder for Fallback {
    fn record(&self, event: &Event<'_>) {
        if let Event::Done { outcome, .. } = *event {
            self.panel.fresh(self).count(match outcome {
                Outcome::Success => self.primary,
                Outcome::FallbackSuccess => self.answered,
                Outcome::FallbackFailure => self.failed,
                Outcome::Cancelled => self.cancelled,
                _ => self.not_handled,
            });
        }
    }
}
