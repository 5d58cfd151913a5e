//! So many retries per second, one second deep. Plain data: the time is passed in.

use crate::sync::{AtomicU64, Ordering::Relaxed};

/// What the floor holds: one second, in nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// A bucket that time fills and retries empty, each by its part of a second.
#[derive(Debug)]
pub(super) struct Floor {
    per_second: u32,
    /// When it was last empty, or would have been, in nanoseconds and a second later than the times that are passed in:
    /// so 0 is full. Relaxed everywhere: it publishes no other memory.
    empty_at: AtomicU64,
}

impl Floor {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, empty_at: AtomicU64::new(0) }
    }

    /// The part of a second that a retry costs. Rounded down: a full bucket holds `per_second` of them.
    fn cost(&self) -> Option<u64> {
        SECOND.checked_div(self.per_second.into())
    }

    /// Takes one retry, if there is a whole one.
    pub(super) fn take_one(&self, nanos: u64) -> bool {
        let Some(cost) = self.cost() else { return false };
        let taken = self.empty_at.fetch_update(Relaxed, Relaxed, |empty_at| {
            // No longer ago than a second: it holds no more.
            let empty_at = empty_at.max(nanos).saturating_add(cost);
            (empty_at <= nanos.saturating_add(SECOND)).then_some(empty_at)
        });
        taken.is_ok()
    }

    /// Takes one retry, or what there is of one. Whether it was a whole one.
    pub(super) fn take_up_to_one(&self, nanos: u64) -> bool {
        let whole = self.take_one(nanos);
        if !whole {
            self.empty_at.fetch_max(nanos.saturating_add(SECOND), Relaxed);
        }
        whole
    }

    /// Gives back one retry that was taken.
    pub(super) fn give_back(&self) {
        let cost = self.cost().unwrap_or(0);
        let _always =
            self.empty_at.fetch_update(Relaxed, Relaxed, |empty_at| Some(empty_at.saturating_sub(cost)));
    }

    /// How many retries there are.
    pub(super) fn left(&self, nanos: u64) -> f64 {
        let since = nanos.saturating_add(SECOND).saturating_sub(self.empty_at.load(Relaxed).max(nanos));
        since as f64 * f64::from(self.per_second) / SECOND as f64
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    fn taken(floor: &Floor, nanos: u64) -> usize {
        (0..2_000_000).take_while(|_| floor.take_one(nanos)).count()
    }

    #[test]
    fn floor_is_full_at_first_and_holds_one_second() {
        for per_second in [1, 3, 7, 1000, 1_000_000] {
            let floor = Floor::new(per_second);
            assert_eq!(floor.left(0), f64::from(per_second));
            assert_eq!(taken(&floor, 0), per_second as usize);
            assert!(floor.left(0) < 1.0);
            assert_eq!(taken(&floor, SECOND), per_second as usize);
            assert_eq!(taken(&floor, 3600 * SECOND), per_second as usize);
        }
        assert_eq!(taken(&Floor::new(0), SECOND), 0);
        assert!(!Floor::new(0).take_up_to_one(SECOND));
    }

    #[test]
    fn floor_fills_as_time_goes() {
        let floor = Floor::new(10);
        assert_eq!(taken(&floor, 0), 10);
        assert!(!floor.take_one(SECOND / 10 - 1));
        assert!(floor.take_one(SECOND / 10) && !floor.take_one(SECOND / 10));
        assert_eq!(floor.left(SECOND / 4), 1.5);
        // Half of one is taken as well, and is not one.
        assert!(floor.take_up_to_one(SECOND / 4) && !floor.take_up_to_one(SECOND / 4));
        assert_eq!(floor.left(SECOND / 4), 0.0);
        floor.give_back();
        assert_eq!(floor.left(SECOND / 4), 1.0);
        // What is given back to a full one is too much.
        floor.give_back();
        assert_eq!(floor.left(5 * SECOND), 10.0);
    }

    #[test]
    fn no_time_is_too_long() {
        let floor = Floor::new(2);
        assert!(floor.take_one(5 * SECOND) && !floor.take_one(0));
        assert!(floor.take_one(u64::MAX));
        assert!(floor.left(u64::MAX) >= 0.0);
    }
}
