//! What is counted, but for completed calls, which the gate counts. Plain relaxed counters: each is exact, together they
//! are of no one moment.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// How many execution times the average is over.
const TIMES: usize = 100;
const NO_TIME: u64 = u64::MAX;

#[derive(Debug, Default)]
pub(crate) struct Stats {
    /// What the gate had counted at the last reset.
    pub(crate) completed_before: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) would_reject: AtomicU64,
    pub(crate) queue_timeouts: AtomicU64,
    pub(crate) cleared: AtomicU64,
    times: Times,
}

/// The last times, in nanoseconds, as a ring.
#[derive(Debug)]
struct Times {
    next: AtomicU64,
    ring: Box<[AtomicU64; TIMES]>,
}

impl Stats {
    pub(crate) fn took(&self, elapsed: Duration) {
        self.times.put(elapsed);
    }

    pub(crate) fn average(&self) -> Option<Duration> {
        self.times.average()
    }

    pub(crate) fn reset(&self, completed: u64) {
        let Self {
            completed_before,
            failed,
            cancelled,
            rejected,
            would_reject,
            queue_timeouts,
            cleared,
            times,
        } = self;
        for count in [failed, cancelled, rejected, would_reject, queue_timeouts, cleared] {
            count.store(0, Relaxed);
        }
        completed_before.store(completed, Relaxed);
        times.ring.iter().for_each(|time| time.store(NO_TIME, Relaxed));
    }
}

impl Default for Times {
    fn default() -> Self {
        Self { next: AtomicU64::new(0), ring: Box::new([const { AtomicU64::new(NO_TIME) }; TIMES]) }
    }
}

impl Times {
    fn put(&self, elapsed: Duration) {
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(NO_TIME - 1);
        let next = self.next.fetch_add(1, Relaxed) % TIMES as u64;
        self.ring[next as usize].store(nanos, Relaxed);
    }

    fn average(&self) -> Option<Duration> {
        let times = self.ring.iter().map(|time| time.load(Relaxed)).filter(|nanos| *nanos != NO_TIME);
        let (sum, count) =
            times.fold((0u128, 0u128), |(sum, count), nanos| (sum + u128::from(nanos), count + 1));
        let average = sum.checked_div(count)?;
        Some(Duration::from_nanos(u64::try_from(average).unwrap_or(u64::MAX)))
    }
}
