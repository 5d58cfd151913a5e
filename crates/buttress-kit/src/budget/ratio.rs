//! The budget that is a share of the calls, with a reserve per second. Plain data: `now` is passed in.

use std::{
    fmt,
    sync::OnceLock,
    time::{Duration, Instant},
};

use buttress_core::ConfigError;
use serde::{Deserialize, Serialize};

use crate::sync::{
    AtomicI64, AtomicU64, Mutex,
    Ordering::{AcqRel, Acquire, Relaxed},
};

/// How many slots the time to live is cut into; what is paid in expires by whole slots. Models have fewer, and so
/// fewer interleavings that differ in nothing else.
const SLOTS: usize = if cfg!(buttress_loom) { 2 } else { 10 };

/// One retry, in fixed point: ratios are exact to 2⁻³², so 0.3 of 1000 calls is 300 retries and not 333.
pub(super) const ONE: i64 = 1 << 32;

/// Above this many saved retries nothing more is paid in, so that the sum cannot overflow.
const FULL: i64 = ONE << 30;

/// How many retries (and hedges) are allowed for the calls made. Plain data.
///
/// The semantics are Finagle's: each call pays in `ratio` of a retry, each retry takes one out, both are
/// forgotten after `ttl`; on top there is a reserve of `min_per_second · ttl` retries for clients with little
/// traffic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { ratio = 0.1, min_per_second = 1 }")]
#[non_exhaustive]
pub struct BudgetConfig {
    /// Retries per call, `0.0..=1000.0`. Default 0.2.
    pub ratio: f64,
    /// Retries per second that are allowed without any call to pay for them, up to 1 000 000. Default 10.
    pub min_per_second: u32,
    /// How long what was paid in counts, 1 s to 60 s. Default 10 s.
    #[serde(with = "crate::duration")]
    pub ttl: Duration,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self { ratio: 0.2, min_per_second: 10, ttl: Duration::from_secs(10) }
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
        if !(Duration::from_secs(1)..=Duration::from_secs(60)).contains(&self.ttl) {
            return Err(ConfigError::new("ttl", self.ttl, "must be from 1s to 60s"));
        }
        Ok(())
    }
}

/// What was paid in and taken out, by slots of time.
pub(super) struct Ratio {
    config: BudgetConfig,
    deposit: i64,
    slot_nanos: u64,
    /// The `now` of the first operation; all times are counted from there.
    epoch: OnceLock<Instant>,
    /// What may be taken out: always the reserve plus the sum of the slots, once no operation is under way.
    balance: AtomicI64,
    slots: [Slot; SLOTS],
    /// The number of the slot of time that is being written. Moved on under `turning` only.
    head: AtomicU64,
    turning: Mutex<()>,
}

/// What was booked in a slot of time.
struct Slot {
    /// What was paid in, in fixed point.
    paid: AtomicI64,
    /// How many retries were taken out.
    taken: AtomicI64,
}

impl Ratio {
    pub(super) fn new(config: BudgetConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        // Rounded up: 1000 deposits of 0.1 must make 100 retries, not 99.99.
        let deposit = (config.ratio * ONE as f64).ceil() as i64;
        let reserve = (f64::from(config.min_per_second) * config.ttl.as_secs_f64()).round() as i64 * ONE;
        let slot_nanos = u64::try_from(config.ttl.as_nanos()).unwrap_or(u64::MAX) / SLOTS as u64;
        Ok(Self {
            config,
            deposit,
            slot_nanos,
            epoch: OnceLock::new(),
            balance: AtomicI64::new(reserve),
            slots: std::array::from_fn(|_| Slot { paid: AtomicI64::new(0), taken: AtomicI64::new(0) }),
            head: AtomicU64::new(0),
            turning: Mutex::new(()),
        })
    }

    pub(super) fn config(&self) -> BudgetConfig {
        self.config
    }

    pub(super) fn deposit(&self, now: Instant) {
        let slot = self.turn_to(now);
        if self.balance.load(Relaxed) < FULL {
            slot.paid.fetch_add(self.deposit, AcqRel);
            self.balance.fetch_add(self.deposit, AcqRel);
        }
    }

    pub(super) fn try_withdraw(&self, now: Instant) -> bool {
        let slot = self.turn_to(now);
        let taken = self
            .balance
            .fetch_update(AcqRel, Acquire, |balance| (balance >= ONE).then(|| balance - ONE))
            .is_ok();
        if taken {
            slot.taken.fetch_add(1, AcqRel);
        }
        taken
    }

    pub(super) fn available(&self, now: Instant) -> f64 {
        self.turn_to(now);
        self.balance_now()
    }

    /// The balance as the last operation left it: no slot is turned.
    fn balance_now(&self) -> f64 {
        self.balance.load(Acquire).max(0) as f64 / ONE as f64
    }

    pub(super) fn available_ratio(&self, now: Instant) -> f64 {
        self.turn_to(now);
        let taken = self.slots.iter().map(|slot| slot.taken.load(Acquire)).sum::<i64>();
        if taken <= 0 {
            let ever = self.deposit > 0 || self.config.min_per_second > 0;
            return if ever { 1.0 } else { 0.0 };
        }
        let available = self.balance_now();
        available / (available + taken as f64)
    }

    /// The balance, and what the slots add up to.
    #[cfg(all(test, buttress_loom))]
    pub(super) fn booked(&self) -> (i64, i64) {
        let net = |slot: &Slot| slot.paid.load(Acquire) - ONE * slot.taken.load(Acquire);
        (self.balance.load(Acquire), self.slots.iter().map(net).sum())
    }

    /// The slot that `now` belongs to; slots whose time is over are emptied first.
    fn turn_to(&self, now: Instant) -> &Slot {
        let epoch = *self.epoch.get_or_init(|| now);
        let nanos = u64::try_from(now.saturating_duration_since(epoch).as_nanos()).unwrap_or(u64::MAX);
        let target = nanos / self.slot_nanos;
        let mut head = self.head.load(Acquire);
        if target > head {
            // Whoever loses the race books into a slot that is about to be older than it should be, by one
            // slot at most: the sum stays right, because a slot and the balance always get the same amounts.
            if let Ok(_turning) = self.turning.try_lock() {
                head = self.head.load(Acquire);
                let stale = target.saturating_sub(head).min(SLOTS as u64);
                for ahead in 1..=stale {
                    let expired = &self.slots[slot_of(head + ahead)];
                    let net = expired.paid.swap(0, AcqRel) - ONE * expired.taken.swap(0, AcqRel);
                    self.balance.fetch_sub(net, AcqRel);
                }
                head = head.max(target);
                self.head.store(head, Relaxed);
            }
        }
        &self.slots[slot_of(head)]
    }
}

impl fmt::Debug for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Ratio");
        out.field("config", &self.config).field("available", &self.balance_now()).finish()
    }
}

fn slot_of(number: u64) -> usize {
    (number % SLOTS as u64) as usize
}
