use std::sync::Weak;

use buttress_core::{
    Event, Outcome, Recorder,
    observe::{Level, Levels, Note},
};

use crate::{
    catalog::{
        RETRY_ATTEMPTS_TOTAL, RETRY_BACKOFF_SECONDS, RETRY_BUDGET_AVAILABLE_RATIO, RETRY_CALLS_TOTAL,
        RETRY_STOPPED_TOTAL,
    },
    panel::{CounterSlot, Family, GaugeSlot, HistogramSlot, Panel},
};

pub(crate) struct Retry {
    panel: Panel,
    /// Without and with retry.
    successful: [CounterSlot; 2],
    failed: [CounterSlot; 2],
    cancelled: CounterSlot,
    attempts: Family<CounterSlot>,
    stopped: Family<CounterSlot>,
    backoff: HistogramSlot,
    budget: GaugeSlot,
}

impl Retry {
    pub(crate) fn new(mut panel: Panel) -> Self {
        let calls = panel.counters(&RETRY_CALLS_TOTAL);
        Self {
            successful: ["successful_without_retry", "successful_with_retry"].map(|result| calls.of(result)),
            failed: ["failed_without_retry", "failed_with_retry"].map(|result| calls.of(result)),
            cancelled: calls.of("cancelled"),
            attempts: panel.counters(&RETRY_ATTEMPTS_TOTAL),
            stopped: panel.counters(&RETRY_STOPPED_TOTAL),
            backoff: panel.histogram(&RETRY_BACKOFF_SECONDS, &[]),
            budget: panel.gauge(&RETRY_BUDGET_AVAILABLE_RATIO, &[], Some(f64::NAN)),
            panel: panel.ready(),
        }
    }
}

impl Recorder for Retry {
    fn record(&self, event: &Event<'_>) {
        match *event {
            Event::Done { outcome, attempts, .. } => {
                let retried = usize::from(attempts > 1);
                self.panel.fresh(self).count(match outcome {
                    Outcome::Success => self.successful[retried],
                    Outcome::Cancelled => self.cancelled,
                    _ => self.failed[retried],
                });
            }
            Event::Attempt { delay, reason, .. } => {
                let at = self.panel.fresh(self);
                if let Some(attempts) = self.attempts.get(reason.as_str()) {
                    at.count(attempts);
                }
                at.observe(self.backoff, delay);
            }
            Event::Note(Note::Stopped(reason)) => {
                if let Some(stopped) = self.stopped.get(reason.as_str()) {
                    self.panel.fresh(self).count(stopped);
                }
            }
            Event::Level { what: Level::BudgetAvailable, value } => {
                self.panel.latest().set(self.budget, value);
            }
            _ => {}
        }
    }

    fn follow(&self, levels: &Weak<dyn Levels>) {
        self.panel.follow(levels);
    }
}
