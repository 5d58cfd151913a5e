//! The budget that is a share of the calls, with a floor per second. Plain data: `now` is passed in.

use std::{fmt, sync::OnceLock, time::Instant};

use buttress_core::ConfigError;
use serde::{Deserialize, Serialize};

use super::floor::Floor;
use crate::sync::{
    AtomicI64, AtomicU64, Mutex,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// How many slots the second is cut into: what was paid in is forgotten by whole slots. Models have fewer, and so
/// fewer interleavings that differ in nothing else.
const SLOTS: usize = if cfg!(buttress_loom) { 2 } else { 10 };
const SLOT_NANOS: u64 = 100_000_000;

/// One retry, in fixed point: ratios are exact to 2⁻³², so 0.3 of 1000 calls is 300 retries and not 333.
pub(super) const ONE: i64 = 1 << 32;

/// A slot that holds so many retries takes no more, so that the sum of all cannot overflow.
const FULL: i64 = ONE << 26;

/// How many retries (and hedges) are allowed for the calls made. Plain data.
///
/// Each call pays `ratio` of a retry into a bucket, which holds what was paid in within the last second, and at least
/// one retry. `min_per_second` is a floor under it, one second deep, and no addition: either of the two allows a retry,
/// and a retry takes from both. So the attempts of any one second are at most `1 + 2 · ratio` times the calls, or
/// what the floor adds for clients with little traffic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { ratio = 0.1, min_per_second = 1 }")]
#[non_exhaustive]
pub struct BudgetConfig {
    /// Retries per call, `0.0..=1000.0`. Default 0.1.
    pub ratio: f64,
    /// Retries per second that are allowed even if the calls have paid for fewer, up to 1 000 000. Default 1. Every
    /// client that has a budget of its own adds as many to the load: keep it small.
    pub min_per_second: u32,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self { ratio: 0.1, min_per_second: 1 }
    }
}

impl BudgetConfig {
    /// Whether these settings can work.
    ///
    /// # Errors
    /// Names the first field that cannot, its value, and why.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !(0.0..=1000.0).contains(&self.ratio) {
            return Err(ConfigError::new("ratio", self.ratio, "must be a number from 0.0 to 1000.0"));
        }
        if self.min_per_second > 1_000_000 {
            return Err(ConfigError::new("min_per_second", self.min_per_second, "must be at most 1000000"));
        }
        Ok(())
    }
}

/// What was paid in and not yet taken out, and the floor.
///
/// What is saved is a count of its own, exact whatever the threads do, and no difference of what the slots hold: they
/// only bound it. A deposit does not look at the bound, so that it stays two additions; what is too much is cut when
/// the slot turns and when a retry is taken, which comes to the same.
pub(super) struct Ratio {
    config: BudgetConfig,
    deposit: i64,
    /// The `now` of the first operation; all times are counted from there.
    epoch: OnceLock<Instant>,
    /// What may be taken out, in fixed point.
    saved: AtomicI64,
    floor: Floor,
    slots: [Slot; SLOTS],
    /// The number of the slot of time that is being written. Moved on under `turning` only.
    head: AtomicU64,
    turning: Mutex<()>,
}

/// What was booked in a slot of time.
struct Slot {
    /// What was paid in, in fixed point.
    paid: AtomicI64,
    /// How many retries were taken out, less those that were given back.
    taken: AtomicI64,
}

/// Where one retry was taken from. Less than a whole one is not noted, and not given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) saved: bool,
    pub(super) floor: bool,
}

impl Taken {
    pub(super) const NOTHING: Self = Self { saved: false, floor: false };
}

impl Ratio {
    pub(super) fn new(config: BudgetConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            config,
            // Rounded up: 1000 deposits of 0.1 must make 100 retries, not 99.99.
            deposit: (config.ratio * ONE as f64).ceil() as i64,
            epoch: OnceLock::new(),
            saved: AtomicI64::new(0),
            floor: Floor::new(config.min_per_second),
            slots: std::array::from_fn(|_| Slot { paid: AtomicI64::new(0), taken: AtomicI64::new(0) }),
            head: AtomicU64::new(0),
            turning: Mutex::new(()),
        })
    }

    pub(super) fn config(&self) -> BudgetConfig {
        self.config
    }

    pub(super) fn deposit(&self, now: Instant) {
        let (slot, _) = self.turn_to(now);
        if slot.paid.load(Relaxed) < FULL {
            // In this order: what is saved is never above its bound because of a deposit half made.
            slot.paid.fetch_add(self.deposit, AcqRel);
            self.saved.fetch_add(self.deposit, AcqRel);
        }
    }

    pub(super) fn withdraw(&self, now: Instant) -> Option<Taken> {
        let (slot, nanos) = self.turn_to(now);
        let saved = self.take(|saved| (saved >= ONE).then(|| saved - ONE));
        let floor = if saved {
            self.floor.take_up_to_one(nanos)
        } else {
            let whole = self.floor.take_one(nanos);
            if whole {
                self.take(|_less_than_one| Some(0));
            }
            whole
        };
        if !(saved || floor) {
            return None;
        }
        slot.taken.fetch_add(1, AcqRel);
        Some(Taken { saved, floor })
    }

    /// Gives back a retry that was taken out and not made.
    pub(super) fn refund(&self, taken: Taken, now: Instant) {
        let (slot, _) = self.turn_to(now);
        if taken.saved {
            self.saved.fetch_add(ONE, AcqRel);
        }
        if taken.floor {
            self.floor.give_back();
        }
        slot.taken.fetch_sub(1, AcqRel);
    }

    pub(super) fn available(&self, now: Instant) -> f64 {
        let (_, nanos) = self.turn_to(now);
        let (saved, most) = self.saved();
        let saved = saved.clamp(0, most) as f64 / ONE as f64;
        saved.max(self.floor.left(nanos))
    }

    pub(super) fn available_ratio(&self, now: Instant) -> f64 {
        let available = self.available(now);
        let taken = self.slots.iter().map(|slot| slot.taken.load(Acquire)).sum::<i64>();
        if taken <= 0 {
            let ever = self.deposit > 0 || self.config.min_per_second > 0;
            return if ever { 1.0 } else { 0.0 };
        }
        available / (available + taken as f64)
    }

    /// Changes what is saved, as far as it is not above its bound. Whether `change` had an answer.
    fn take(&self, change: impl Fn(i64) -> Option<i64>) -> bool {
        // The bound is read after what is saved: what is paid in between makes this try again, and is not cut.
        self.saved.fetch_update(AcqRel, Acquire, |saved| change(saved.min(self.most()))).is_ok()
    }

    /// The most that may be saved: what was paid in within the last second, and at least one retry, so that clients
    /// with few calls can save for one.
    fn most(&self) -> i64 {
        self.slots.iter().map(|slot| slot.paid.load(Acquire)).sum::<i64>().max(ONE)
    }

    /// What is saved, and the most that may be.
    pub(super) fn saved(&self) -> (i64, i64) {
        (self.saved.load(Acquire), self.most())
    }

    /// The slot of this time, and the time; slots whose second is over are emptied first. Time that goes back stands
    /// still.
    fn turn_to(&self, now: Instant) -> (&Slot, u64) {
        let epoch = *self.epoch.get_or_init(|| now);
        let nanos = u64::try_from(now.saturating_duration_since(epoch).as_nanos()).unwrap_or(u64::MAX);
        let target = nanos / SLOT_NANOS;
        let mut head = self.head.load(Acquire);
        if target > head {
            // A thread that loses the race books into a slot that is about to be older than it should be, by one slot
            // at most.
            if let Ok(_turning) = self.turning.try_lock() {
                head = self.head.load(Acquire);
                let stale = target.saturating_sub(head).min(SLOTS as u64);
                for ahead in 1..=stale {
                    let expired = &self.slots[slot_of(head + ahead)];
                    expired.paid.store(0, Relaxed);
                    expired.taken.store(0, Relaxed);
                }
                // Before anything is paid into the new slot.
                self.take(Some);
                head = head.max(target);
                // Who books in the new slot does so after it was emptied.
                self.head.store(head, Release);
            }
        }
        (&self.slots[slot_of(head)], nanos.max(head.saturating_mul(SLOT_NANOS)))
    }
}

impl fmt::Debug for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let saved = self.saved().0 as f64 / ONE as f64;
        f.debug_struct("Ratio").field("config", &self.config).field("saved", &saved).finish_non_exhaustive()
    }
}

fn slot_of(number: u64) -> usize {
    (number % SLOTS as u64) as usize
}
