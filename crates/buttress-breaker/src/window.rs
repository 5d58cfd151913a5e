//! The calls the rules look at: plain data, fixed memory, O(1) a call.

use crate::{WindowConfig, rules::nanos};

/// What a window holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Calls that ended one way or the other.
    pub(crate) calls: u64,
    pub(crate) failures: u64,
    pub(crate) slow: u64,
    /// Calls that were dropped; not among `calls`.
    pub(crate) abandoned: u64,
}

impl Counts {
    /// The shares of failures and of slow calls, if there were calls.
    pub(crate) fn ratios(self) -> (Option<f64>, Option<f64>) {
        let share = |part: u64| (self.calls > 0).then(|| part as f64 / self.calls as f64);
        (share(self.failures), share(self.slow))
    }
}

/// A window's memory.
#[derive(Debug)]
pub(crate) enum Window {
    /// No rule looks at a window.
    None,
    Count(Box<Ring>),
    Time(Box<Buckets>),
}

impl Window {
    pub(crate) fn new(window: Option<WindowConfig>) -> Self {
        match window {
            None => Self::None,
            Some(WindowConfig::Count { calls }) => Self::Count(Box::new(Ring::new(calls))),
            Some(WindowConfig::Time { duration, buckets }) => {
                Self::Time(Box::new(Buckets::new(nanos(duration), buckets)))
            }
            Some(WindowConfig::Interval { duration }) => {
                Self::Time(Box::new(Buckets::new(nanos(duration), 1)))
            }
        }
    }

    /// Forgets everything, at the time `now`.
    pub(crate) fn clear(&mut self, now: u64) {
        match self {
            Self::None => {}
            Self::Count(ring) => ring.clear(),
            Self::Time(buckets) => buckets.clear(now),
        }
    }

    /// Drops what is too old at the time `now`; whether a bucket has ended.
    pub(crate) fn advance(&mut self, now: u64) -> bool {
        match self {
            Self::Time(buckets) => buckets.advance(now),
            _ => false,
        }
    }

    /// When the present bucket ends: until then, calls may be recorded without a look at the clock.
    pub(crate) fn valid_until(&self) -> u64 {
        match self {
            Self::Time(buckets) => buckets.end(),
            _ => u64::MAX,
        }
    }

    /// Records `calls` that succeeded in time, one after the other.
    pub(crate) fn add_successes(&mut self, calls: u64) {
        match self {
            Self::None => {}
            Self::Count(ring) => ring.add_successes(calls),
            Self::Time(buckets) => buckets.add(Counts { calls, ..Counts::default() }),
        }
    }

    pub(crate) fn add_call(&mut self, failed: bool, slow: bool) {
        match self {
            Self::None => {}
            Self::Count(ring) => ring.push(failed, slow),
            Self::Time(buckets) => {
                buckets.add(Counts { calls: 1, failures: failed.into(), slow: slow.into(), abandoned: 0 });
            }
        }
    }

    /// Records a call that was dropped. A count window keeps no room for it: it would push out what means
    /// something.
    pub(crate) fn add_abandoned(&mut self) {
        if let Self::Time(buckets) = self {
            buckets.add(Counts { abandoned: 1, ..Counts::default() });
        }
    }

    /// After so many successes nothing of what is in it is left, however little time passes.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Count(ring) => ring.size(),
            _ => u64::MAX,
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        match self {
            Self::None => Counts::default(),
            Self::Count(ring) => ring.counts(),
            Self::Time(buckets) => buckets.sum,
        }
    }
}

/// The last calls: two bits for each.
#[derive(Debug)]
pub(crate) struct Ring {
    failed: Bits,
    slow: Bits,
    size: u64,
    len: u64,
    /// The place of the next call, which is that of the oldest one once the ring is full.
    head: u64,
}

impl Ring {
    fn new(calls: u32) -> Self {
        let size = u64::from(calls.max(1));
        Self { failed: Bits::new(size), slow: Bits::new(size), size, len: 0, head: 0 }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    fn clear(&mut self) {
        self.failed.clear_range(0, self.size);
        self.slow.clear_range(0, self.size);
        (self.len, self.head) = (0, 0);
    }

    fn push(&mut self, failed: bool, slow: bool) {
        self.failed.set(self.head, failed);
        self.slow.set(self.head, slow);
        self.move_on(1);
    }

    fn add_successes(&mut self, calls: u64) {
        let fresh = calls.min(self.size);
        // All successes already: nothing to overwrite. That is the ring of a service that works.
        if self.failed.ones > 0 || self.slow.ones > 0 {
            let to_end = fresh.min(self.size.saturating_sub(self.head));
            for bits in [&mut self.failed, &mut self.slow] {
                bits.clear_range(self.head, to_end);
                bits.clear_range(0, fresh.saturating_sub(to_end));
            }
        }
        self.move_on(fresh);
    }

    fn move_on(&mut self, by: u64) {
        self.head = self.head.saturating_add(by) % self.size;
        self.len = self.len.saturating_add(by).min(self.size);
    }

    fn counts(&self) -> Counts {
        Counts { calls: self.len, failures: self.failed.ones, slow: self.slow.ones, abandoned: 0 }
    }
}

/// A row of bits that knows how many are set.
#[derive(Debug)]
struct Bits {
    words: Box<[u64]>,
    ones: u64,
}

impl Bits {
    fn new(len: u64) -> Self {
        let words = vec![0; len.div_ceil(64) as usize].into_boxed_slice();
        Self { words, ones: 0 }
    }

    fn set(&mut self, at: u64, bit: bool) {
        let (word, mask) = (&mut self.words[(at / 64) as usize], 1_u64 << (at % 64));
        let was = *word & mask != 0;
        if was != bit {
            *word ^= mask;
            self.ones = if bit { self.ones.saturating_add(1) } else { self.ones.saturating_sub(1) };
        }
    }

    fn clear_range(&mut self, from: u64, len: u64) {
        let (mut at, end) = (from, from.saturating_add(len));
        while at < end && self.ones > 0 {
            let bits = (64 - at % 64).min(end.saturating_sub(at));
            let mask = (u64::MAX >> (64 - bits)) << (at % 64);
            let word = &mut self.words[(at / 64) as usize];
            self.ones = self.ones.saturating_sub((*word & mask).count_ones().into());
            *word &= !mask;
            at = at.saturating_add(bits);
        }
    }
}

/// The calls of the last time: a sum for each bucket, and the sum of all.
#[derive(Debug)]
pub(crate) struct Buckets {
    ring: Box<[Counts]>,
    sum: Counts,
    width: u64,
    /// The number of the present bucket, counted from the beginning of time.
    number: u64,
}

impl Buckets {
    fn new(duration: u64, buckets: u32) -> Self {
        let ring = vec![Counts::default(); buckets.max(1) as usize].into_boxed_slice();
        // Rounded down: the window never holds what is older than `duration`.
        let width = (duration / u64::from(buckets.max(1))).max(1);
        Self { ring, sum: Counts::default(), width, number: 0 }
    }

    fn clear(&mut self, now: u64) {
        self.ring.fill(Counts::default());
        self.sum = Counts::default();
        self.number = now / self.width;
    }

    /// Moves on to the bucket of `now`. However long nothing happened, it takes one step a bucket at most.
    fn advance(&mut self, now: u64) -> bool {
        let to = now / self.width;
        let gone = to.saturating_sub(self.number);
        if gone >= self.ring.len() as u64 {
            self.clear(now);
            return true;
        }
        for _ in 0..gone {
            self.number = self.number.saturating_add(1);
            let at = self.place();
            let old = std::mem::take(&mut self.ring[at]);
            self.sum.calls = self.sum.calls.saturating_sub(old.calls);
            self.sum.failures = self.sum.failures.saturating_sub(old.failures);
            self.sum.slow = self.sum.slow.saturating_sub(old.slow);
            self.sum.abandoned = self.sum.abandoned.saturating_sub(old.abandoned);
        }
        gone > 0
    }

    fn end(&self) -> u64 {
        self.number.saturating_add(1).saturating_mul(self.width)
    }

    fn place(&self) -> usize {
        (self.number % self.ring.len() as u64) as usize
    }

    fn add(&mut self, counts: Counts) {
        let at = self.place();
        for sum in [&mut self.ring[at], &mut self.sum] {
            sum.calls = sum.calls.saturating_add(counts.calls);
            sum.failures = sum.failures.saturating_add(counts.failures);
            sum.slow = sum.slow.saturating_add(counts.slow);
            sum.abandoned = sum.abandoned.saturating_add(counts.abandoned);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, time::Duration};

    use buttress_kit::Chance;

    use super::*;

    #[test]
    fn ring_of_any_size_holds_the_last_calls_however_they_come() {
        let chance = Chance::seeded(1);
        for size in [1, 2, 63, 64, 65, 100, 128, 200] {
            let mut ring = Ring::new(size);
            let mut model: VecDeque<(bool, bool)> = VecDeque::new();
            for _ in 0..2_000 {
                let bits = chance.bits();
                if bits % 3 == 0 {
                    let calls = bits / 3 % (2 * u64::from(size));
                    ring.add_successes(calls);
                    model.extend((0..calls).map(|_| (false, false)));
                } else {
                    let call = (bits & 64 != 0, bits & 128 != 0);
                    ring.push(call.0, call.1);
                    model.push_back(call);
                }
                model.drain(..model.len().saturating_sub(size as usize));
                let counts = Counts {
                    calls: model.len() as u64,
                    failures: model.iter().filter(|call| call.0).count() as u64,
                    slow: model.iter().filter(|call| call.1).count() as u64,
                    abandoned: 0,
                };
                assert_eq!(ring.counts(), counts, "size {size}");
            }
        }
    }

    #[test]
    fn shares_are_of_the_calls_and_of_no_calls_there_are_none() {
        let counts = Counts { calls: 4, failures: 1, slow: 2, abandoned: 9 };
        assert_eq!(counts.ratios(), (Some(0.25), Some(0.5)));
        assert_eq!(Counts { calls: 0, ..counts }.ratios(), (None, None));
    }

    #[test]
    fn window_says_whether_a_bucket_has_ended() {
        let mut time = Window::new(Some(WindowConfig::time(Duration::from_nanos(20)).buckets(2)));
        assert_eq!([0, 9, 10, 19, 35].map(|now| time.advance(now)), [false, false, true, false, true]);
        assert_eq!(time.valid_until(), 40);
        let mut count = Window::new(Some(WindowConfig::count(1)));
        assert_eq!((count.advance(u64::MAX), count.valid_until()), (false, u64::MAX));
    }

    #[test]
    fn buckets_take_one_step_each_however_long_nothing_happened() {
        let mut buckets = Buckets::new(10_000, 10);
        buckets.clear(0);
        buckets.add(Counts { calls: 5, failures: 5, slow: 0, abandoned: 0 });
        // A loop over every bucket that went by would not end.
        buckets.advance(u64::MAX);
        assert_eq!(buckets.sum, Counts::default());
        buckets.add(Counts { calls: 1, ..Counts::default() });
        assert_eq!(buckets.sum.calls, 1);
        assert_eq!(buckets.end(), u64::MAX);
        // A clock that jumps back changes nothing.
        buckets.advance(0);
        assert_eq!(buckets.sum.calls, 1);
    }
}
