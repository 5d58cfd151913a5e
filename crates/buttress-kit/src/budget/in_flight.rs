//! The budget that counts what is in flight instead of time. Plain data: no clock.

use buttress_core::ConfigError;

use crate::sync::{AtomicU64, Ordering::Relaxed};

/// One retry per call, in fixed point.
const ONE: u64 = 1 << 32;

/// One call in [`InFlight::counts`].
const CALL: u64 = 1 << 32;

/// One retry in [`InFlight::counts`].
const RETRY: u64 = 1;

/// Retries that are under way or waited for, as a share of the calls in flight.
#[derive(Debug)]
pub(crate) struct InFlight {
    ratio: u64,
    min_concurrency: u32,
    /// Calls in the upper half, retries in the lower one: a retry is granted by both at one moment. Neither half
    /// flows over: there is no memory for 2³² calls, and no more retries are granted than calls or
    /// `min_concurrency`. Relaxed everywhere: it publishes no other memory.
    counts: AtomicU64,
}

fn split(counts: u64) -> (u64, u64) {
    (counts / CALL, counts % CALL)
}

impl InFlight {
    pub(crate) fn new(ratio: f64, min_concurrency: u32) -> Result<Self, ConfigError> {
        if !(0.0..=1.0).contains(&ratio) {
            return Err(ConfigError::new("ratio", ratio, "must be a number from 0.0 to 1.0"));
        }
        // Rounded up: 0.29 of 100 calls are 29 and not 28.
        let ratio = (ratio * ONE as f64).ceil() as u64;
        Ok(Self { ratio, min_concurrency, counts: AtomicU64::new(0) })
    }

    /// How many retries may be in flight beside so many calls.
    fn limit(&self, calls: u64) -> u64 {
        // At most 2³² · (2³² - 1).
        (self.ratio * calls / ONE).max(self.min_concurrency.into())
    }

    /// A call begins.
    pub(crate) fn enter(&self) {
        self.counts.fetch_add(CALL, Relaxed);
    }

    /// A call ends, and with it the retry it was at.
    pub(crate) fn leave(&self, retrying: bool) {
        self.take_off(1, retrying.into());
    }

    /// Grants one more retry, if it is within the limit.
    pub(crate) fn try_retry(&self) -> bool {
        let granted = self.counts.fetch_update(Relaxed, Relaxed, |counts| {
            let (calls, retries) = split(counts);
            (retries < self.limit(calls)).then(|| counts + RETRY)
        });
        granted.is_ok()
    }

    /// A retry ends, its call does not yet.
    pub(crate) fn retry_over(&self) {
        self.take_off(0, 1);
    }

    fn take_off(&self, calls: u64, retries: u64) {
        // Saturating: whoever takes off what was never counted must not make billions of calls of it.
        let _always = self.counts.fetch_update(Relaxed, Relaxed, |counts| {
            let (had_calls, had_retries) = split(counts);
            Some(had_calls.saturating_sub(calls) * CALL + had_retries.saturating_sub(retries) * RETRY)
        });
    }

    /// How many more retries would be granted now.
    pub(crate) fn left(&self) -> f64 {
        let (calls, retries) = split(self.counts.load(Relaxed));
        self.limit(calls).saturating_sub(retries) as f64
    }

    /// The same as a share of those that may be in flight.
    pub(crate) fn left_ratio(&self) -> f64 {
        let (calls, retries) = split(self.counts.load(Relaxed));
        let limit = self.limit(calls);
        if retries == 0 {
            // Also where so few calls are in flight that there is no retry for them.
            return if self.ratio == 0 && self.min_concurrency == 0 { 0.0 } else { 1.0 };
        }
        // Retries outlive calls that were counted beside them: there may be more than the limit.
        limit.saturating_sub(retries) as f64 / limit.max(1) as f64
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with_calls(ratio: f64, min: u32, calls: usize) -> InFlight {
        let budget = InFlight::new(ratio, min).unwrap();
        (0..calls).for_each(|_| budget.enter());
        budget
    }

    fn grants(budget: &InFlight) -> usize {
        (0..1_000_000).take_while(|_| budget.try_retry()).count()
    }

    // Envoy's numbers: a fifth of 25 requests, and no fewer than three.
    #[test]
    fn limit_is_the_share_of_the_calls_in_flight_or_the_minimum() {
        assert_eq!(grants(&with_calls(0.2, 3, 25)), 5);
        assert_eq!(grants(&with_calls(0.2, 3, 24)), 4);
        assert_eq!(grants(&with_calls(0.2, 3, 2)), 3);
        assert_eq!(grants(&with_calls(0.29, 0, 100)), 29);
        assert_eq!(grants(&with_calls(1.0, 0, 7)), 7);
        assert_eq!(grants(&with_calls(0.0, 0, 100)), 0);
        assert_eq!(InFlight::new(1.0, u32::MAX).unwrap().limit(u32::MAX.into()), u64::from(u32::MAX));
    }

    #[test]
    fn two_of_two_calls_at_their_retries_leave_none_for_a_third_retry() {
        let budget = with_calls(0.5, 1, 4);
        assert_eq!(grants(&budget), 2);
        budget.leave(false);
        budget.leave(false);
        assert!(!budget.try_retry());
        assert_eq!((budget.left(), budget.left_ratio()), (0.0, 0.0));
        budget.retry_over();
        budget.leave(true);
        assert!(budget.try_retry());
    }

    #[test]
    fn place_comes_back_when_the_retry_or_its_call_ends() {
        let budget = with_calls(0.5, 0, 4);
        assert_eq!(grants(&budget), 2);
        budget.retry_over();
        assert!(budget.try_retry() && !budget.try_retry());
        budget.leave(true);
        assert!(!budget.try_retry()); // three calls, and half of them is one
        budget.leave(false);
        budget.leave(true);
        budget.leave(false);
        budget.enter();
        budget.enter();
        assert_eq!(grants(&budget), 1);
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        for ratio in [f64::NAN, f64::INFINITY, -0.1, 1.1, f64::MAX] {
            assert_eq!(InFlight::new(ratio, 3).unwrap_err().field(), "ratio");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]

        #[test]
        fn grants_are_those_of_a_model_that_counts(
            percent in 0_u64..=100, min in 0_u32..6, steps in proptest::collection::vec(0_u8..6, 0..120),
        ) {
            let budget = InFlight::new(percent as f64 / 100.0, min).unwrap();
            // The model: of each call in flight, whether it is at a retry.
            let mut calls: Vec<bool> = Vec::new();
            for step in steps {
                let retries = calls.iter().filter(|retrying| **retrying).count() as u64;
                let limit = u64::from(min).max(percent * calls.len() as u64 / 100);
                match step {
                    0 | 1 => {
                        budget.enter();
                        calls.push(false);
                    }
                    2 | 3 => if let Some(call) = calls.iter_mut().find(|retrying| !**retrying) {
                        *call = budget.try_retry();
                        prop_assert_eq!(*call, retries < limit);
                    }
                    4 => if let Some(call) = calls.iter_mut().find(|retrying| **retrying) {
                        budget.retry_over();
                        *call = false;
                    }
                    _ => if let Some(retrying) = calls.pop() {
                        budget.leave(retrying);
                    }
                }
                let retries = calls.iter().filter(|retrying| **retrying).count() as u64;
                let limit = u64::from(min).max(percent * calls.len() as u64 / 100);
                prop_assert_eq!(budget.left(), limit.saturating_sub(retries) as f64);
                let ratio = budget.left_ratio();
                prop_assert!((0.0..=1.0).contains(&ratio));
                prop_assert_eq!(ratio == 1.0, retries == 0 && (percent, min) != (0, 0));
            }
        }

        #[test]
        fn taking_off_what_was_never_counted_changes_nothing(
            calls in 0_usize..4, steps in proptest::collection::vec(any::<(bool, bool)>(), 0..20),
        ) {
            let budget = with_calls(0.5, 1, calls);
            for (leave, retrying) in steps {
                if leave { budget.leave(retrying) } else { budget.retry_over() }
                prop_assert!(budget.left() <= 2.0);
            }
        }
    }
}
