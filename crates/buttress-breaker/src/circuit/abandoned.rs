//! Which dropped calls stand in for failures: those of a service that hangs, and not those of people who leave.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::Circuit;
use crate::rules::Rules;

/// A dropped call was waited for at least so many times as long as calls take that succeed.
const TIMES: u64 = 3;
/// The part of the mean that a new time makes up.
const WEIGHT: i64 = 8;
const MICRO: u64 = 1_000;

/// How long a call was waited for by the time at which its caller dropped it, and beside what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waited {
    /// In nanoseconds.
    pub(crate) time: u64,
    /// What [`Circuit::settled`] came to as the wait began. 0: nobody waited.
    pub(crate) settled: u16,
    /// How long calls take on average that succeed; 0 if that is not known.
    pub(crate) mean: u64,
}

/// As much of the number of settled calls as a call remembers; never 0.
#[inline]
pub(crate) fn remembered(settled: u32) -> u16 {
    // Two numbers that differ are taken for one another only if they differ by a multiple of 65 535: then a dropped
    // call is counted that should not be.
    (settled % u32::from(u16::MAX)) as u16 + 1
}

impl Circuit {
    /// How many calls have succeeded or failed; wraps. Only good for finding out whether any has.
    pub(super) fn settled(&self) -> u32 {
        self.successes.wrapping_add(self.history().tally.failures) as u32
    }

    /// What [`settled`](Self::settled) will be once all successes are counted that may be without asking.
    pub(crate) fn settled_after_grant(&self) -> u32 {
        self.settled().wrapping_add(self.granted)
    }

    /// Whether a dropped call stands in for a failure: it had been waited for much longer than calls take that succeed,
    /// and since then none has settled. So neither people who leave soon count, nor those who leave a service that
    /// answers others.
    pub(super) fn hangs(&self, rules: &Rules, waited: Waited) -> bool {
        let least = waited.mean.saturating_mul(TIMES).max(rules.abandoned_after);
        // Give or take a twentieth: a time-out further out began a little earlier than the call.
        let long = waited.time >= least.saturating_sub(least / 20);
        long && waited.settled == remembered(self.settled())
    }
}

/// How long calls take that succeed, on average: good enough to tell a hang from an answer, and cheap.
///
/// The lower four bits count successes; above them are microseconds, up to four minutes. 0: not known.
#[derive(Debug, Default)]
pub(crate) struct Mean(AtomicU32);

const COUNTED: u32 = 4;
const LONGEST: u32 = u32::MAX >> COUNTED;

// Relaxed, and not even counted exactly: two successes at once may be one. Which of them are timed does not matter.
impl Mean {
    /// Counts a success. Whether it is one to be timed: each sixteenth, and the first.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        let mean = self.0.load(Relaxed);
        let counted = mean.wrapping_add(1) & !(u32::MAX << COUNTED);
        self.0.store(mean & (u32::MAX << COUNTED) | counted, Relaxed);
        counted == 0 || mean >> COUNTED == 0
    }

    /// A success took this long, in nanoseconds.
    pub(crate) fn add(&self, took: u64) {
        let took = u32::try_from(took.div_ceil(MICRO)).unwrap_or(LONGEST).clamp(1, LONGEST);
        let known = self.0.load(Relaxed);
        let mean = match known >> COUNTED {
            0 => took,
            mean => {
                let change = (i64::from(took) - i64::from(mean)) / WEIGHT;
                u32::try_from(i64::from(mean).saturating_add(change)).unwrap_or(took).max(1)
            }
        };
        self.0.store(mean << COUNTED | known & !(u32::MAX << COUNTED), Relaxed);
    }

    /// In nanoseconds; 0 if there was no success.
    pub(crate) fn nanos(&self) -> u64 {
        u64::from(self.0.load(Relaxed) >> COUNTED).saturating_mul(MICRO)
    }
}
