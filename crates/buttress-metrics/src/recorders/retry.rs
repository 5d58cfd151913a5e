use std::sync::Weak;

use buttress_core::{
    Event, Outcome, Recorder,
    observe::{Level, Levels, Note},
};

use crate::{
    catalog::{
        RETRY_ATTEMPTS_TOTAL, RETRY_BACKOFF_SECONDS, RETRY_BUDGET_AVAILABLE, RETRY_CALLS_TOTAL,
        RETRY_STOPPED_TOTAL,
    },
    panel::{CounterSlot, Family, GaugeSlot, HistogramSlot, Panel},
};

pub(crate) struct Retry {
    panel: Panel,
    calls: Family<CounterSlot>,
    attempts: Family<CounterSlot>,
    stopped: Family<CounterSlot>,
    backoff: HistogramSlot,
    budget: GaugeSlot,
}

impl Retry {
    pub(crate) fn new(mut panel: Panel) -> Self {
        Self {
            calls: panel.counters(&RETRY_CALLS_TOTAL),
            attempts: panel.counters(&RETRY_ATTEMPTS_TOTAL),
            stopped: panel.counters(&RETRY_STOPPED_TOTAL),
            backoff: panel.histogram(&RETRY_BACKOFF_SECONDS, &[]),
            budget: panel.gauge(&RETRY_BUDGET_AVAILABLE, &[], Some(f64::NAN)),
            panel: panel.ready(),
        }
    }
}

impl Recorder for Retry {
    fn record(&self, event: &Event<'_>) {
        match *event {
            Event::Done { outcome, attempts, .. } => {
                let result = match (outcome, attempts > 1) {
                    (Outcome::Success, false) => "successful_without_retry",
                    (Outcome::Success, true) => "successful_with_retry",
                    (Outcome::Cancelled, _) => "cancelled",
                    (_, false) => "failed_without_retry",
                    (_, true) => "failed_with_retry",
                };
                if let Some(calls) = self.calls.get(result) {
                    self.panel.fresh(self).count(calls);
                }
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
