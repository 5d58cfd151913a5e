use buttress_core::{Event, Outcome, Recorder};

use crate::{
    catalog::FALLBACK_CALLS_TOTAL,
    panel::{CounterSlot, Family, Panel},
};

pub(crate) struct Fallback {
    panel: Panel,
    calls: Family<CounterSlot>,
}

impl Fallback {
    pub(crate) fn new(mut panel: Panel) -> Self {
        Self { calls: panel.counters(&FALLBACK_CALLS_TOTAL), panel: panel.ready() }
    }
}

impl Recorder for Fallback {
    fn record(&self, event: &Event<'_>) {
        if let Event::Done { outcome, .. } = *event {
            let result = match outcome {
                Outcome::Success => "primary",
                Outcome::FallbackSuccess => "fallback_success",
                Outcome::FallbackFailure => "fallback_failure",
                Outcome::Cancelled => "cancelled",
                _ => "not_handled",
            };
            if let Some(calls) = self.calls.get(result) {
                self.panel.fresh(self).count(calls);
            }
        }
    }
}
