use std::sync::Weak;

use buttress_core::{
    Event, Outcome, Recorder, RejectionKind,
    observe::{Level, Levels, Note},
};

use crate::{
    catalog::{
        BULKHEAD_CALLS_TOTAL, BULKHEAD_EXECUTIONS_TOTAL, BULKHEAD_IN_FLIGHT, BULKHEAD_LIMIT,
        BULKHEAD_QUEUE_DEPTH, BULKHEAD_QUEUE_WAIT_SECONDS, BULKHEAD_WOULD_REJECT_TOTAL,
    },
    panel::{CounterSlot, Family, GaugeSlot, HistogramSlot, MAX_AGE, Panel, Start},
};

pub(crate) struct Bulkhead {
    panel: Panel,
    entered: Family<CounterSlot>,
    calls: Family<CounterSlot>,
    would_reject: CounterSlot,
    queue_wait: HistogramSlot,
    in_flight: GaugeSlot,
    queue_depth: GaugeSlot,
    limit: GaugeSlot,
}

impl Bulkhead {
    pub(crate) fn new(mut panel: Panel) -> Self {
        Self {
            entered: panel.counters(&BULKHEAD_EXECUTIONS_TOTAL),
            calls: panel.counters(&BULKHEAD_CALLS_TOTAL),
            would_reject: panel.counter(&BULKHEAD_WOULD_REJECT_TOTAL, &[], Start::WhenCounted),
            queue_wait: panel.histogram(&BULKHEAD_QUEUE_WAIT_SECONDS, &[]),
            in_flight: panel.gauge(&BULKHEAD_IN_FLIGHT, &[], Some(0.0)),
            queue_depth: panel.gauge(&BULKHEAD_QUEUE_DEPTH, &[], Some(0.0)),
            limit: panel.gauge(&BULKHEAD_LIMIT, &[], Some(0.0)),
            panel: panel.ready(),
        }
    }

    fn entered(&self, state: &str) {
        if let Some(entered) = self.entered.get(state) {
            self.panel.fresh(self).count(entered);
        }
    }
}

impl Recorder for Bulkhead {
    fn record(&self, event: &Event<'_>) {
        match *event {
            Event::Note(Note::Admitted) => self.entered("active"),
            Event::Note(Note::Queued) => self.entered("queued"),
            Event::Note(Note::QueueWait(waited)) => self.panel.fresh(self).observe(self.queue_wait, waited),
            Event::Done { outcome, elapsed, .. } => {
                let result = match outcome {
                    Outcome::Success | Outcome::Ignored => "completed",
                    Outcome::Cancelled => "cancelled",
                    _ => "failed",
                };
                // `Admitted` asked for fresh handles when the call began. A short call needs no second look at
                // the clock.
                let at = match elapsed {
                    Some(elapsed) if elapsed < MAX_AGE => self.panel.latest(),
                    _ => self.panel.fresh(self),
                };
                if let Some(calls) = self.calls.get(result) {
                    at.count(calls);
                }
            }
            Event::Refused { shadow: true, .. } => self.panel.fresh(self).count(self.would_reject),
            Event::Refused { rejection, .. } => {
                let result = match rejection.kind() {
                    RejectionKind::BulkheadQueueTimeout => "queue_timeout",
                    _ => "rejected",
                };
                self.entered("rejected");
                if let Some(calls) = self.calls.get(result) {
                    self.panel.latest().count(calls);
                }
            }
            Event::Level { what, value } => {
                // Told beside `Admitted`, `Queued` or `Done`, or, like the limit, set again when those come.
                let at = self.panel.latest();
                match what {
                    Level::InFlight => at.set(self.in_flight, value),
                    Level::QueueDepth => at.set(self.queue_depth, value),
                    Level::Limit => at.set(self.limit, value),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn follow(&self, levels: &Weak<dyn Levels>) {
        self.panel.follow(levels);
    }
}
