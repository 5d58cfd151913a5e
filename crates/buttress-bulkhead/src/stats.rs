//! What is counted, but for completed calls, which the gate counts. Plain relaxed counters: each is exact, together they
//! are of no one moment.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// How many execution times the average is over.
const TIMES: usize = 100;
const NO_TIME: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) struct Stats {
    /// What the gate had counted at the last reset.
    pub(crate) completed_before: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) would_reject: AtomicU64,
    pub(crate) queue_timeouts: AtomicU64,
    pub(crate) cleared: AtomicU64,
    /// The last times in nanoseconds, as a ring, and how many there ever were.
    times: Box<[AtomicU64; TIMES]>,
    timed: AtomicU64,
}

impl Stats {
    pub(crate) fn new() -> Self {
        Self {
            completed_before: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            would_reject: AtomicU64::new(0),
            queue_timeouts: AtomicU64::new(0),
            cleared: AtomicU64::new(0),
            times: Box::new([const { AtomicU64::new(NO_TIME) }; TIMES]),
            timed: AtomicU64::new(0),
        }
    }

    pub(crate) fn took(&self, elapsed: Duration) {
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(NO_TIME - 1);
        let next = self.timed.fetch_add(1, Relaxed) % TIMES as u64;
        self.times[next as usize].store(nanos, Relaxed);
    }

    pub(crate) fn average(&self) -> Option<Duration> {
        let times = self.times.iter().map(|time| time.load(Relaxed)).filter(|nanos| *nanos != NO_TIME);
        let (sum, count) = times.fold((0, 0), |(sum, count), nanos| (sum + u128::from(nanos), count + 1));
        let average = sum.checked_div(count)?;
        Some(Duration::from_nanos(u64::try_from(average).unwrap_or(u64::MAX)))
    }

    pub(crate) fn reset(&self, completed: u64) {
        let Self { failed, cancelled, rejected, would_reject, queue_timeouts, cleared, .. } = self;
        for count in [failed, cancelled, rejected, would_reject, queue_timeouts, cleared] {
            count.store(0, Relaxed);
        }
        self.completed_before.store(completed, Relaxed);
        self.times.iter().for_each(|time| time.store(NO_TIME, Relaxed));
    }
}
