use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use serde::Serialize;

use crate::{
    gate::{Gate, Status},
    stats::Stats,
};

/// What a bulkhead is doing, and has done since it was made or reset; made by
/// [`Bulkhead::snapshot`](crate::Bulkhead::snapshot).
///
/// `active`, `queued`, `limit` and what follows from them are of one moment; the counts are exact one by one.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BulkheadSnapshot {
    /// Calls that run.
    pub active: u32,
    /// Calls that wait.
    pub queued: u32,
    /// Free slots; 0 while more run than a lowered limit allows.
    pub available: u32,
    /// Free places in the queue.
    pub queue_available: u32,
    /// The most calls that may run at once.
    pub limit: u32,
    /// The most calls that may wait.
    pub max_queue: u32,
    /// Running calls in percent of the slots: `active / (active + available) * 100`, so `0.0..=100.0`.
    pub utilization: f64,
    /// Whether the queue is filled by 80 % or more. Never, if there is none.
    pub congested: bool,
    /// The most calls that ran at once.
    pub peak: u32,
    /// Calls that ran to their end and did not fail.
    pub completed: u64,
    /// Calls that failed or panicked.
    pub failed: u64,
    /// Calls that their callers dropped, running or waiting.
    pub cancelled: u64,
    /// Calls refused at once: the queue was full, or the bulkhead closed.
    pub rejected: u64,
    /// Calls that would have been refused, in shadow mode.
    pub would_reject: u64,
    /// Calls refused because they waited for too long.
    pub queue_timeouts: u64,
    /// Calls sent away by [`Bulkhead::clear_queue`](crate::Bulkhead::clear_queue).
    pub cleared: u64,
    /// The mean time of the last 100 successful calls, the wait not included; `None` if no time was taken.
    #[serde(serialize_with = "buttress_kit::duration::option::serialize")]
    pub average_execution: Option<Duration>,
    /// Whether the bulkhead was closed.
    pub closed: bool,
}

impl BulkheadSnapshot {
    pub(crate) fn of(gate: &Gate, stats: &Stats) -> Self {
        let Status { in_flight, limit, queued, max_queue, closed, .. } = gate.status();
        let available = limit.saturating_sub(in_flight);
        Self {
            active: in_flight,
            queued,
            available,
            queue_available: max_queue.saturating_sub(queued),
            limit,
            max_queue,
            // Without a slot nothing runs.
            utilization: f64::from(in_flight) / (f64::from(in_flight) + f64::from(available)).max(1.0)
                * 100.0,
            congested: max_queue > 0 && u64::from(queued) * 5 >= u64::from(max_queue) * 4,
            peak: gate.slots().peak(),
            completed: gate.slots().completed().saturating_sub(stats.completed_before.load(Relaxed)),
            failed: stats.failed.load(Relaxed),
            cancelled: stats.cancelled.load(Relaxed),
            rejected: stats.rejected.load(Relaxed),
            would_reject: stats.would_reject.load(Relaxed),
            queue_timeouts: stats.queue_timeouts.load(Relaxed),
            cleared: stats.cleared.load(Relaxed),
            average_execution: stats.average(),
            closed,
        }
    }
}
