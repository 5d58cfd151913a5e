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
    panel::{CounterSlot, GaugeSlot, HistogramSlot, MAX_AGE, Panel, Start},
};

pub(crate) struct Bulkhead {
    panel: Panel,
    active: CounterSlot,
    queued: CounterSlot,
    refused: CounterSlot,
    completed: CounterSlot,
    failed: CounterSlot,
    rejected: CounterSlot,
    queue_timeout: CounterSlot,
    cancelled: CounterSlot,
    would_reject: CounterSlot,
    queue_wait: HistogramSlot,
    in_flight: GaugeSlot,
    queue_depth: GaugeSlot,
    limit: GaugeSlot,
}

impl Bulkhead {
    pub(crate) fn new(mut panel: Panel) -> Self {
        let entered = panel.counters(&BULKHEAD_EXECUTIONS_TOTAL);
        let calls = panel.counters(&BULKHEAD_CALLS_TOTAL);
        Self {
            active: entered.of("active"),
            queued: entered.of("queued"),
            refused: entered.of("rejected"),
            completed: calls.of("completed"),
            failed: calls.of("failed"),
            rejected: calls.of("rejected"),
            queue_timeout: calls.of("queue_timeout"),
            cancelled: calls.of("cancelled"),
            would_reject: panel.counter(&BULKHEAD_WOULD_REJECT_TOTAL, &[], Start::WhenCounted),
            queue_wait: panel.histogram(&BULKHEAD_QUEUE_WAIT_SECONDS, &[]),
            in_flight: panel.gauge(&BULKHEAD_IN_FLIGHT, &[], Some(0.0)),
            queue_depth: panel.gauge(&BULKHEAD_QUEUE_DEPTH, &[], Some(0.0)),
            limit: panel.gauge(&BULKHEAD_LIMIT, &[], Some(0.0)),
            panel: panel.ready(),
        }
    }
}

impl Recorder for Bulkhead {
    fn record(&self, event: &Event<'_>) {
        match *event {
            Event::Note(Note::Admitted) => self.panel.fresh(self).count(self.active),
            Event::Note(Note::Queued) => self.panel.fresh(self).count(self.queued),
            Event::Note(Note::QueueWait(waited)) => self.panel.fresh(self).observe(self.queue_wait, waited),
            Event::Done { outcome, elapsed, .. } => {
                let ended = match outcome {
                    Outcome::Success | Outcome::Ignored => self.completed,
                    Outcome::Cancelled => self.cancelled,
                    _ => self.failed,
                };
                // `Admitted` asked for fresh handles when the call began. A short call needs no second look at
                // the clock.
                let at = match elapsed {
                    Some(elapsed) if elapsed < MAX_AGE => self.panel.latest(),
                    _ => self.panel.fresh(self),
                };
                at.count(ended);
            }
            Event::Refused { shadow: true, .. } => self.panel.fresh(self).count(self.would_reject),
            Event::Refused { rejection, .. } => {
                let at = self.panel.fresh(self);
                at.count(self.refused);
                at.count(match rejection.kind() {
                    RejectionKind::BulkheadQueueTimeout => self.queue_timeout,
                    _ => self.rejected,
                });
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
