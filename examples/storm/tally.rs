//! What became of each request, second by second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How a request ended, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// 2xx in time.
    Good,
    /// 503 with `Retry-After`: the gateway said no, and when to come back.
    Refused,
    /// 503 of the gateway's own making without `Retry-After`: a refusal that does not say when.
    Bare,
    /// Any other answer.
    Failed,
    /// No answer until the client gave up.
    GaveUp,
    /// The connection broke.
    Broken,
}

/// One second of one gateway.
#[derive(Clone, Debug, Default)]
pub(crate) struct Second {
    /// Requests that arrived in this second.
    pub(crate) offered: u32,
    /// Of *these*: answered well, whenever that was. The figures are judged by it.
    pub(crate) kept: u32,
    /// Answers that came in this second, whenever the request arrived. The table shows these.
    pub(crate) good: u32,
    pub(crate) refused: u32,
    /// Refused without saying when to come back; these count as failed too.
    pub(crate) bare: u32,
    pub(crate) failed: u32,
    pub(crate) gave_up: u32,
    pub(crate) broken: u32,
    /// How long the clients waited that were not refused, in µs; one that gave up counts in full.
    pub(crate) waits: Vec<u32>,
    /// How long the refused ones waited, in µs.
    pub(crate) refusals: Vec<u32>,
    /// Calls that reached the upstream.
    pub(crate) calls: u32,
    /// Requests the upstream worked on to the end.
    pub(crate) done: u32,
    /// Of these: for nobody, because the caller had gone.
    pub(crate) wasted: u32,
    /// Requests in the upstream's queue at the end of the second.
    pub(crate) queued: usize,
    /// State of the breaker at the end of the second; empty where there is none.
    pub(crate) breaker: &'static str,
}

impl Second {
    /// Lost in one way or another, refusals apart.
    pub(crate) fn lost(&self) -> u32 {
        self.failed + self.gave_up + self.broken
    }

    /// Upstream calls for each request offered.
    pub(crate) fn calls_per_request(&self) -> f64 {
        ratio(self.calls, self.offered)
    }

    fn add(&mut self, other: &Self) {
        self.offered += other.offered;
        self.kept += other.kept;
        self.good += other.good;
        self.refused += other.refused;
        self.bare += other.bare;
        self.failed += other.failed;
        self.gave_up += other.gave_up;
        self.broken += other.broken;
        self.waits.extend_from_slice(&other.waits);
        self.refusals.extend_from_slice(&other.refusals);
        self.calls += other.calls;
        self.done += other.done;
        self.wasted += other.wasted;
        self.queued = self.queued.max(other.queued);
    }
}

/// `a / b`, and 0 where nothing was counted.
pub(crate) fn ratio(a: u32, b: u32) -> f64 {
    if b == 0 { 0.0 } else { f64::from(a) / f64::from(b) }
}

/// The value below which the share `q` lies (nearest rank); `None` of nothing.
pub(crate) fn quantile(values: &[u32], q: f64) -> Option<u32> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// The seconds of one gateway.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    seconds: Mutex<Vec<Second>>,
}

impl Tally {
    /// A request arrived at `at` since the start.
    pub(crate) fn arrived(&self, at: Duration) {
        self.second(at.as_secs(), |s| s.offered += 1);
    }

    /// The request that arrived at `arrived` ended at `now`.
    pub(crate) fn ended(&self, arrived: Duration, now: Duration, fate: Fate) {
        let wait = now.saturating_sub(arrived).as_micros().try_into().unwrap_or(u32::MAX);
        if fate == Fate::Good {
            self.second(arrived.as_secs(), |s| s.kept += 1);
        }
        self.second(now.as_secs(), |s| {
            match fate {
                Fate::Good => s.good += 1,
                Fate::Refused => s.refused += 1,
                Fate::Failed => s.failed += 1,
                Fate::Bare => {
                    s.bare += 1;
                    s.failed += 1;
                }
                Fate::GaveUp => s.gave_up += 1,
                Fate::Broken => s.broken += 1,
            }
            if fate == Fate::Refused {
                s.refusals.push(wait);
            } else {
                s.waits.push(wait);
            }
        });
    }

    /// Lets `act` at one second, which is made when it is new.
    pub(crate) fn second(&self, n: u64, act: impl FnOnce(&mut Second)) {
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let n = n as usize;
        if seconds.len() <= n {
            seconds.resize_with(n + 1, Second::default);
        }
        act(&mut seconds[n]);
    }

    /// Drops the latencies of a second, so that an endless run does not fill the memory.
    pub(crate) fn forget(&self, n: u64) {
        self.second(n, |s| (s.waits, s.refusals) = Default::default());
    }

    pub(crate) fn get(&self, n: u32) -> Second {
        let seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        seconds.get(n as usize).cloned().unwrap_or_default()
    }

    /// The seconds from `begin` to `end`, end excluded, as one; its queue is the longest of them.
    pub(crate) fn sum(&self, begin: u32, end: u32) -> Second {
        let mut sum = Second::default();
        for n in begin..end {
            sum.add(&self.get(n));
        }
        sum
    }
}

/// How late the load generator was: a histogram in steps of 0.1 ms.
#[derive(Debug)]
pub(crate) struct Lag {
    steps: Mutex<Vec<u32>>,
}

const LAG_STEPS: usize = 1000;

impl Lag {
    /// Above this at the 99th percentile a run says more about the machine than about the gateways.
    pub(crate) const LIMIT: Duration = Duration::from_millis(10);

    pub(crate) fn new() -> Self {
        Self { steps: Mutex::new(vec![0; LAG_STEPS]) }
    }

    pub(crate) fn record(&self, late: Duration) {
        let step = (late.as_micros() / 100).min(LAG_STEPS as u128 - 1) as usize;
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)[step] += 1;
    }

    /// Upper edge of the step that holds the 99th percentile; 100 ms stands for all above it.
    pub(crate) fn p99(&self) -> Duration {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let all: u64 = steps.iter().map(|n| u64::from(*n)).sum();
        let wanted = (all as f64 * 0.99).ceil() as u64;
        let mut below = 0;
        for (step, n) in steps.iter().enumerate() {
            below += u64::from(*n);
            if below >= wanted {
                return Duration::from_micros((step as u64 + 1) * 100);
            }
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_counts_where_it_arrived_and_its_answer_where_it_came() {
        let tally = Tally::default();
        let (arrived, answered) = (Duration::from_millis(900), Duration::from_millis(1100));
        tally.arrived(arrived);
        tally.ended(arrived, answered, Fate::Good);
        assert_eq!((tally.get(0).offered, tally.get(0).kept, tally.get(0).good), (1, 1, 0));
        assert_eq!((tally.get(1).offered, tally.get(1).kept, tally.get(1).good), (0, 0, 1));
        assert_eq!(tally.get(1).waits, [200_000]);
        assert_eq!(tally.sum(0, 2).good, 1);
        assert_eq!(tally.get(99).offered, 0);
    }

    #[test]
    fn refusals_are_timed_apart_from_the_rest() {
        let tally = Tally::default();
        let at = Duration::from_millis(10);
        tally.ended(Duration::ZERO, at, Fate::Refused);
        for fate in [Fate::Bare, Fate::GaveUp, Fate::Broken] {
            tally.ended(Duration::ZERO, at, fate);
        }
        let second = tally.get(0);
        assert_eq!((second.refused, second.bare, second.lost()), (1, 1, 3));
        assert_eq!((second.refusals.len(), second.waits.len()), (1, 3));
    }

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let values: Vec<u32> = (1..=100).rev().collect();
        assert_eq!(quantile(&values, 0.5), Some(50));
        assert_eq!(quantile(&values, 0.99), Some(99));
        assert_eq!(quantile(&values, 1.0), Some(100));
        assert_eq!(quantile(&[7], 0.0), Some(7));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn lag_is_rounded_up_and_capped() {
        let lag = Lag::new();
        assert_eq!(lag.p99(), Duration::from_micros(100));
        for _ in 0..98 {
            lag.record(Duration::from_micros(250));
        }
        lag.record(Duration::from_secs(5));
        lag.record(Duration::from_secs(5));
        assert_eq!(lag.p99(), Duration::from_millis(100));
        for _ in 0..200 {
            lag.record(Duration::from_micros(250));
        }
        assert_eq!(lag.p99(), Duration::from_micros(300));
    }
}
