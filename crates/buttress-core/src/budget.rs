use std::{
    fmt,
    sync::OnceLock,
    time::{Duration, Instant},
};

use crate::{
    ConfigError, FailureKind, TokenBudgetConfig,
    in_flight::InFlight,
    sync::{
        Arc, AtomicI64, AtomicU64, Mutex,
        Ordering::{AcqRel, Acquire, Relaxed},
    },
    tokens::Tokens,
};

/// How many slots the time to live is cut into; what is paid in expires by whole slots. Models have fewer, and so
/// fewer interleavings that differ in nothing else.
const SLOTS: usize = if cfg!(buttress_loom) { 2 } else { 10 };

/// One retry, in fixed point: ratios are exact to 2⁻³², so 0.3 of 1000 calls is 300 retries and not 333.
const ONE: i64 = 1 << 32;

/// Above this many saved retries nothing more is paid in, so that the sum cannot overflow.
const FULL: i64 = ONE << 30;

/// How many retries (and hedges) are allowed for the calls made. Plain data.
///
/// The semantics are Finagle's: each call pays in `ratio` of a retry, each retry takes one out, both are
/// forgotten after `ttl`; on top there is a reserve of `min_per_second · ttl` retries for clients with little
/// traffic.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct BudgetConfig {
    /// Retries per call, `0.0..=1000.0`. Default 0.2.
    pub ratio: f64,
    /// Retries per second that are allowed without any call to pay for them, up to 1 000 000. Default 10.
    pub min_per_second: u32,
    /// How long what was paid in counts, 1 s to 60 s. Default 10 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
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

/// A retry budget: keeps retries at a share of the calls, so that retrying cannot multiply an outage.
///
/// Of four kinds: a share of the calls and a reserve per second ([`Budget::new`], Finagle's rule and the one to
/// begin with), tokens with a price by failure ([`Budget::tokens`], the AWS SDKs'), tokens that stop retries
/// below half ([`Budget::grpc`]), and a share of the calls in flight ([`Budget::in_flight`], Envoy's).
///
/// A policy tells it of every call: [`deposit`](Self::deposit) when it begins, [`failed`](Self::failed) for an attempt
/// that failed, [`try_withdraw_after`](Self::try_withdraw_after) before a retry, and at the end either
/// [`succeeded`](Self::succeeded) or [`ended`](Self::ended), also for a call that was dropped or panicked.
///
/// Clones share it; give one to as many policies as should share it. Lock-free but for one `try_lock` per
/// slot of time (`ttl / 10`); each operation costs the same however long it was idle. `now` is passed in; give
/// every user of one budget the same clock.
///
/// ```
/// use std::time::Instant;
/// use buttress_core::Budget;
///
/// let (budget, now) = (Budget::new(0.5, 0)?, Instant::now());
/// (0..4).for_each(|_| budget.deposit(now));
/// assert!(budget.try_withdraw(now) && budget.try_withdraw(now));
/// assert!(!budget.try_withdraw(now));
/// # Ok::<_, buttress_core::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Budget {
    kind: Arc<Kind>,
}

// There is one for each budget, behind an `Arc`; a box would be one more step for every operation.
#[allow(clippy::large_enum_variant)]
enum Kind {
    Ratio(Ratio),
    Tokens(Tokens),
    InFlight(InFlight),
}

struct Ratio {
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

impl Budget {
    /// Makes a budget that allows `ratio` retries per call, and `min_per_second` in any case, over 10 s.
    ///
    /// # Errors
    /// Where a setting cannot work, see [`BudgetConfig`].
    pub fn new(ratio: f64, min_per_second: u32) -> Result<Self, ConfigError> {
        Self::from_config(BudgetConfig { ratio, min_per_second, ..BudgetConfig::default() })
    }

    /// Makes a budget from its settings.
    ///
    /// # Errors
    /// Where a setting cannot work, see [`BudgetConfig`].
    pub fn from_config(config: BudgetConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        // Rounded up: 1000 deposits of 0.1 must make 100 retries, not 99.99.
        let deposit = (config.ratio * ONE as f64).ceil() as i64;
        let reserve = (f64::from(config.min_per_second) * config.ttl.as_secs_f64()).round() as i64 * ONE;
        let slot_nanos = u64::try_from(config.ttl.as_nanos()).unwrap_or(u64::MAX) / SLOTS as u64;
        Ok(Self::of(Kind::Ratio(Ratio {
            config,
            deposit,
            slot_nanos,
            epoch: OnceLock::new(),
            balance: AtomicI64::new(reserve),
            slots: std::array::from_fn(|_| Slot { paid: AtomicI64::new(0), taken: AtomicI64::new(0) }),
            head: AtomicU64::new(0),
            turning: Mutex::new(()),
        })))
    }

    /// Makes a bucket of tokens, in which a retry has a price by what failed.
    ///
    /// # Errors
    /// Where a setting cannot work, see [`TokenBudgetConfig`].
    pub fn tokens(config: TokenBudgetConfig) -> Result<Self, ConfigError> {
        Ok(Self::of(Kind::Tokens(Tokens::priced(config)?)))
    }

    /// Makes a bucket of `max_tokens` (1 to 1000) by gRPC's rule (proposal A6): a failure that may be retried takes
    /// a token, a success gives back `token_ratio` of one (three decimals count), and retries are made while more
    /// than half of the tokens are left.
    ///
    /// # Errors
    /// Where a setting cannot work.
    pub fn grpc(max_tokens: u32, token_ratio: f64) -> Result<Self, ConfigError> {
        Ok(Self::of(Kind::Tokens(Tokens::half(max_tokens, token_ratio)?)))
    }

    /// Makes a budget by what is in flight: no more retries at once than `ratio` (0.0 to 1.0) of the calls in
    /// flight, or than `min_concurrency` if that is more. Envoy's rule, there with 0.2 and 3.
    ///
    /// A retry counts from the moment it is granted, so also while it waits, until its attempt or its call has ended.
    /// A call counts from its beginning to its end, between attempts too: calls that wait do not shrink the budget of
    /// the others. For services that calls stay in for long: there, what was paid in some seconds ago says little of
    /// the load.
    ///
    /// ```
    /// use std::time::Instant;
    /// use buttress_core::Budget;
    ///
    /// let (budget, now) = (Budget::in_flight(0.2, 3)?, Instant::now());
    /// (0..25).for_each(|_| budget.deposit(now)); // 25 calls begin
    /// assert_eq!((0..25).filter(|_| budget.try_withdraw(now)).count(), 5);
    /// # Ok::<_, buttress_core::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// Where a setting cannot work.
    pub fn in_flight(ratio: f64, min_concurrency: u32) -> Result<Self, ConfigError> {
        Ok(Self::of(Kind::InFlight(InFlight::new(ratio, min_concurrency)?)))
    }

    fn of(kind: Kind) -> Self {
        Self { kind: Arc::new(kind) }
    }

    /// The settings, where it is a share of the calls.
    pub fn config(&self) -> Option<BudgetConfig> {
        match &*self.kind {
            Kind::Ratio(ratio) => Some(ratio.config),
            Kind::Tokens(_) | Kind::InFlight(_) => None,
        }
    }

    /// Whether the operations look at `now`. Only a share of the calls does: whoever has another kind need not read
    /// the clock, and may pass any instant.
    pub fn is_timed(&self) -> bool {
        matches!(*self.kind, Kind::Ratio(_))
    }

    /// Pays in for one call that begins, or counts it as in flight; a retry pays nothing. Tokens do not change.
    pub fn deposit(&self, now: Instant) {
        match &*self.kind {
            Kind::Ratio(ratio) => ratio.deposit(now),
            Kind::Tokens(_) => {}
            Kind::InFlight(in_flight) => in_flight.enter(),
        }
    }

    /// An attempt failed in a way that a new try may cure, whether one is made or not; `retried` is the failure this
    /// attempt was a retry after, if it was one that was taken out here. By gRPC's rule it takes a token; in flight,
    /// the retry is over: pass it to this or to the end of the call, not to both.
    pub fn failed(&self, retried: Option<FailureKind>) {
        match &*self.kind {
            Kind::Ratio(_) => {}
            Kind::Tokens(tokens) => tokens.failed(),
            Kind::InFlight(in_flight) if retried.is_some() => in_flight.retry_over(),
            Kind::InFlight(_) => {}
        }
    }

    /// Takes out one retry, or hedge, if there is one.
    pub fn try_withdraw(&self, now: Instant) -> bool {
        self.try_withdraw_after(FailureKind::Transient, now)
    }

    /// Takes out one retry after such a failure, if there is one.
    pub fn try_withdraw_after(&self, failure: FailureKind, now: Instant) -> bool {
        match &*self.kind {
            Kind::Ratio(ratio) => ratio.try_withdraw(now),
            Kind::Tokens(tokens) => tokens.try_withdraw(failure),
            Kind::InFlight(in_flight) => in_flight.try_retry(),
        }
    }

    /// A call succeeded; `retried` is the failure its last retry was made after, if it needed one. A share of the
    /// calls does not change.
    #[inline]
    pub fn succeeded(&self, retried: Option<FailureKind>) {
        match &*self.kind {
            Kind::Ratio(_) => {}
            Kind::Tokens(tokens) => tokens.succeeded(retried),
            Kind::InFlight(in_flight) => in_flight.leave(retried.is_some()),
        }
    }

    /// A call ended in any other way: it failed, was dropped, or panicked. `retried` as for
    /// [`succeeded`](Self::succeeded). Nothing is paid back; only what was in flight is so no more.
    pub fn ended(&self, retried: Option<FailureKind>) {
        if let Kind::InFlight(in_flight) = &*self.kind {
            in_flight.leave(retried.is_some());
        }
    }

    /// How many retries could be taken out now, or how many tokens are left.
    pub fn available(&self, now: Instant) -> f64 {
        match &*self.kind {
            Kind::Ratio(ratio) => {
                ratio.turn_to(now);
                ratio.available()
            }
            Kind::Tokens(tokens) => tokens.left(),
            Kind::InFlight(in_flight) => in_flight.left(),
        }
    }

    /// The same as a share, `0.0..=1.0`: of what could be taken out now and what was taken out within the time to
    /// live together; of all tokens; of the retries that may be in flight.
    ///
    /// 1 where nothing was taken out, also before the first call has paid in; 0 where nothing can ever be: no
    /// ratio and no reserve, or no tokens. gRPC's rule makes no retry at 0.5 and below.
    pub fn available_ratio(&self, now: Instant) -> f64 {
        match &*self.kind {
            Kind::Ratio(ratio) => {
                ratio.turn_to(now);
                ratio.available_ratio()
            }
            Kind::Tokens(tokens) => tokens.left_ratio(),
            Kind::InFlight(in_flight) => in_flight.left_ratio(),
        }
    }
}

impl Ratio {
    fn deposit(&self, now: Instant) {
        let slot = self.turn_to(now);
        if self.balance.load(Relaxed) < FULL {
            slot.paid.fetch_add(self.deposit, AcqRel);
            self.balance.fetch_add(self.deposit, AcqRel);
        }
    }

    fn try_withdraw(&self, now: Instant) -> bool {
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

    fn available(&self) -> f64 {
        self.balance.load(Acquire).max(0) as f64 / ONE as f64
    }

    fn available_ratio(&self) -> f64 {
        let taken = self.slots.iter().map(|slot| slot.taken.load(Acquire)).sum::<i64>();
        if taken <= 0 {
            let ever = self.deposit > 0 || self.config.min_per_second > 0;
            return if ever { 1.0 } else { 0.0 };
        }
        let available = self.available();
        available / (available + taken as f64)
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

fn slot_of(number: u64) -> usize {
    (number % SLOTS as u64) as usize
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.kind {
            Kind::Ratio(ratio) => {
                let mut out = f.debug_struct("Budget");
                out.field("config", &ratio.config).field("available", &ratio.available()).finish()
            }
            Kind::Tokens(tokens) => f.debug_tuple("Budget").field(tokens).finish(),
            Kind::InFlight(in_flight) => f.debug_tuple("Budget").field(in_flight).finish(),
        }
    }
}

/// Two threads, three operations each, every interleaving. Run with `RUSTFLAGS="--cfg buttress_loom"`.
#[cfg(all(test, buttress_loom))]
mod models {
    use loom::thread;

    use super::*;

    fn ratio(budget: &Budget) -> &Ratio {
        match &*budget.kind {
            Kind::Ratio(ratio) => ratio,
            _ => unreachable!("made as a ratio"),
        }
    }

    fn booked(budget: &Budget) -> (i64, i64) {
        let ratio = ratio(budget);
        let net = |slot: &Slot| slot.paid.load(Acquire) - ONE * slot.taken.load(Acquire);
        (ratio.balance.load(Acquire), ratio.slots.iter().map(net).sum())
    }

    #[test]
    fn no_more_is_taken_out_than_was_paid_in() {
        loom::model(|| {
            let (budget, now) = (Budget::new(1.0, 0).unwrap(), tokio::time::Instant::now().into_std());
            budget.deposit(now);
            let other = budget.clone();
            let thread = thread::spawn(move || {
                other.deposit(now);
                usize::from(other.try_withdraw(now)) + usize::from(other.try_withdraw(now))
            });
            let taken = usize::from(budget.try_withdraw(now)) + usize::from(budget.try_withdraw(now));
            let taken = taken + thread.join().unwrap();
            assert!((1..=2).contains(&taken), "{taken} of 2");
            let (balance, slots) = booked(&budget);
            assert_eq!((balance, slots), ((2 - taken as i64) * ONE, (2 - taken as i64) * ONE));
        });
    }

    #[test]
    fn nothing_is_lost_or_made_when_slots_turn_under_way() {
        loom::model(|| {
            let (budget, now) = (Budget::new(1.0, 1).unwrap(), tokio::time::Instant::now().into_std());
            budget.deposit(now);
            let later = now + Duration::from_secs(10); // the slot of `now` expires
            let other = budget.clone();
            let thread = thread::spawn(move || {
                other.deposit(later);
                other.try_withdraw(later);
            });
            budget.try_withdraw(now);
            budget.deposit(later);
            thread.join().unwrap();
            let (balance, slots) = booked(&budget);
            assert_eq!(balance, slots + 10 * ONE);
        });
    }

    #[test]
    fn tokens_are_never_overdrawn() {
        loom::model(|| {
            let budget = Budget::tokens(TokenBudgetConfig::default().with_capacity(20)).unwrap();
            let now = tokio::time::Instant::now().into_std();
            let other = budget.clone();
            let thread = thread::spawn(move || {
                let taken = other.try_withdraw(now);
                other.succeeded(None);
                usize::from(taken) + usize::from(other.try_withdraw(now))
            });
            let taken = usize::from(budget.try_withdraw(now));
            budget.succeeded(None);
            let taken = taken + usize::from(budget.try_withdraw(now));
            assert_eq!(taken + thread.join().unwrap(), 1);
            // 20 - 14 and twice 1, except where a success came while the bucket was full.
            assert!((7.0..=8.0).contains(&budget.available(now)), "{}", budget.available(now));
        });
    }

    #[test]
    fn calls_and_retries_in_flight_are_granted_together_and_all_leave() {
        loom::model(|| {
            let (budget, now) = (Budget::in_flight(0.5, 0).unwrap(), tokio::time::Instant::now().into_std());
            budget.deposit(now);
            let call = move |budget: &Budget| {
                budget.deposit(now);
                let retried = budget.try_withdraw(now).then_some(FailureKind::Transient);
                budget.ended(retried);
                usize::from(retried.is_some())
            };
            let other = budget.clone();
            let thread = thread::spawn(move || call(&other));
            // Of two calls, and of three, one may be at a retry: the second is granted one where the first has left.
            let granted = call(&budget) + thread.join().unwrap();
            assert!((1..=2).contains(&granted), "{granted}");
            assert!(!budget.try_withdraw(now)); // half of one call
            budget.deposit(now);
            assert!(budget.try_withdraw(now) && !budget.try_withdraw(now));
        });
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn budget(ratio: f64, min_per_second: u32, ttl_secs: u64) -> Budget {
        let ttl = Duration::from_secs(ttl_secs);
        Budget::from_config(BudgetConfig { ratio, min_per_second, ttl }).unwrap()
    }

    fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn drain(budget: &Budget, now: Instant) -> usize {
        (0..1_000_000).take_while(|_| budget.try_withdraw(now)).count()
    }

    // vector fin-rb-02, fin-rb-04, fin-rb-06, fin-rb-07, fin-rb-08
    #[test]
    fn deposits_and_withdrawals_in_turn_give_the_exact_ratio() {
        for (ratio, expected) in [(0.5, 5000), (0.75, 7500), (0.999, 9990), (0.01, 100), (0.001, 10)] {
            let (budget, now) = (budget(ratio, 0, 60), now());
            let taken = (0..10_000)
                .filter(|_| {
                    budget.deposit(now);
                    budget.try_withdraw(now)
                })
                .count();
            assert!(taken.abs_diff(expected) <= 1, "{ratio}: {taken}");
        }
    }

    // vector fin-rb-09
    #[test]
    fn ratio_of_two_saves_two_retries_a_call() {
        let (budget, now) = (budget(2.0, 0, 60), now());
        (0..10_000).for_each(|_| budget.deposit(now));
        assert_eq!(budget.available(now), 20_000.0);
        assert_eq!(drain(&budget, now), 20_000);
    }

    #[test]
    fn reserve_comes_back_after_the_time_to_live() {
        let (budget, start) = (budget(0.0, 10, 5), now());
        assert_eq!(drain(&budget, start), 50);
        assert_eq!(drain(&budget, start + Duration::from_secs(4)), 0);
        assert_eq!(drain(&budget, start + Duration::from_secs(6)), 50);
    }

    #[test]
    fn deposits_expire() {
        let (budget, start) = (budget(1.0, 0, 10), now());
        (0..100).for_each(|_| budget.deposit(start));
        assert_eq!(budget.available(start + Duration::from_secs(9)), 100.0);
        assert_eq!(budget.available(start + Duration::from_secs(10)), 0.0);
    }

    // Of the suites of tower and Finagle.
    #[test]
    fn reserve_and_deposits_add_up_and_expire_each_in_its_own_time() {
        let start = now();
        let taken = |budget: &Budget, after: u64| {
            let now = start + Duration::from_millis(after);
            (0..1000).filter(|_| budget.try_withdraw(now)).count()
        };
        let both = budget(0.1, 2, 5);
        (0..20).for_each(|_| both.deposit(start));
        assert_eq!(taken(&both, 0), 12);
        let reserve = budget(1.0, 5, 1);
        assert_eq!([0, 900, 1000, 50_000].map(|after| taken(&reserve, after)), [5, 0, 5, 5]);
        // A call every tenth of a second: those of the last ttl count. What was taken out leaves no debt behind.
        let flow = budget(1.0, 0, 10);
        (0..100).for_each(|n| flow.deposit(start + Duration::from_millis(100 * n)));
        assert_eq!([10_000, 19_000, 40_000].map(|after| taken(&flow, after)), [90, 0, 0]);
        flow.deposit(start + Duration::from_secs(40));
        assert_eq!(taken(&flow, 40_000), 1);
    }

    #[test]
    fn ratio_is_what_is_left_beside_what_was_taken_out_within_the_time_to_live() {
        let (budget, start) = (budget(0.5, 1, 10), now());
        (0..20).for_each(|_| budget.deposit(start));
        assert_eq!(budget.available_ratio(start), 1.0);
        assert_eq!((0..5).filter(|_| budget.try_withdraw(start)).count(), 5);
        assert_eq!((budget.available(start), budget.available_ratio(start)), (15.0, 0.75));
        drain(&budget, start);
        assert_eq!(budget.available_ratio(start), 0.0);
        // Five more calls in the middle of the time to live, and one retry for them.
        let middle = start + Duration::from_secs(5);
        (0..5).for_each(|_| budget.deposit(middle));
        assert!(budget.try_withdraw(middle));
        assert_eq!(budget.available_ratio(middle), 1.5 / (1.5 + 21.0));
        // What was paid in and taken out at the start is forgotten: the reserve of 10, 2.5, and 1 taken out.
        let later = start + Duration::from_secs(10);
        assert_eq!(budget.available_ratio(later), 11.5 / 12.5);
        assert_eq!(budget.available_ratio(later + Duration::from_secs(3600)), 1.0);
    }

    #[test]
    fn ratio_is_one_before_the_first_call_and_zero_where_nothing_can_ever_be_taken() {
        let now = now();
        assert_eq!(budget(0.2, 0, 10).available_ratio(now), 1.0);
        assert_eq!(budget(0.0, 1, 10).available_ratio(now), 1.0);
        assert_eq!(budget(0.0, 0, 10).available_ratio(now), 0.0);
        assert_eq!(Budget::grpc(10, 0.5).unwrap().available_ratio(now), 1.0);
        let none = Budget::tokens(TokenBudgetConfig::default().with_capacity(0)).unwrap();
        assert_eq!(none.available_ratio(now), 0.0);
        let tokens = Budget::tokens(TokenBudgetConfig::default()).unwrap();
        assert!((0..5).all(|_| tokens.try_withdraw(now)));
        assert_eq!((tokens.available(now), tokens.available_ratio(now)), (430.0, 0.86));
    }

    // fault R08
    #[test]
    fn thirty_days_idle_cost_one_turn_and_leave_the_reserve() {
        let (budget, start) = (budget(0.2, 10, 10), now());
        (0..1000).for_each(|_| budget.deposit(start));
        let later = start + Duration::from_secs(30 * 24 * 3600);
        assert_eq!(budget.available(later), 100.0);
    }

    #[test]
    fn time_that_goes_back_is_taken_as_standing_still() {
        let (budget, start) = (budget(1.0, 0, 10), now() + Duration::from_secs(100));
        budget.deposit(start);
        assert!(budget.try_withdraw(start.checked_sub(Duration::from_secs(50)).unwrap()));
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        let ttl = Duration::from_secs(10);
        let base = BudgetConfig::default();
        for ratio in [f64::NAN, f64::INFINITY, -0.1, 1001.0] {
            assert_eq!(BudgetConfig { ratio, ..base }.validate().unwrap_err().field(), "ratio");
        }
        assert_eq!(
            BudgetConfig { min_per_second: u32::MAX, ttl, ..base }.validate().unwrap_err().field(),
            "min_per_second"
        );
        for ttl in [Duration::ZERO, Duration::from_millis(999), Duration::from_secs(61), Duration::MAX] {
            assert_eq!(BudgetConfig { ttl, ..base }.validate().unwrap_err().field(), "ttl");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        // fault R05
        #[test]
        fn allowed_is_the_ratio_of_the_deposits_plus_the_reserve(
            ratio in 0.0..2.0_f64, deposits in 0_u32..2000, min in 0_u32..20,
        ) {
            let (budget, now) = (budget(ratio, min, 10), now());
            (0..deposits).for_each(|_| budget.deposit(now));
            let exact = (ratio * f64::from(deposits)).floor() as i64 + i64::from(min) * 10;
            prop_assert!((drain(&budget, now) as i64 - exact).abs() <= 1);
        }

        #[test]
        fn balance_is_the_reserve_and_what_is_younger_than_the_time_to_live(
            steps in proptest::collection::vec((0_u64..4_000, any::<bool>()), 0..200),
        ) {
            let (budget, start) = (budget(0.5, 2, 10), now());
            let (mut at, mut log) = (0_u64, Vec::new());
            budget.available(start); // slots are counted from the first operation
            for (advance, deposit) in steps {
                at += advance;
                let now = start + Duration::from_millis(at);
                // The reference: every booking with the number of its second, ten seconds count.
                let live = |log: &[(u64, f64)]| 20.0 + log.iter()
                    .filter(|(slot, _)| slot + 10 > at / 1000).map(|(_, amount)| amount).sum::<f64>();
                if deposit {
                    budget.deposit(now);
                    log.push((at / 1000, 0.5));
                } else {
                    let expected = live(&log) >= 1.0;
                    prop_assert_eq!(budget.try_withdraw(now), expected);
                    if expected {
                        log.push((at / 1000, -1.0));
                    }
                }
                let left = live(&log).max(0.0);
                prop_assert_eq!(budget.available(now), left);
                let taken = |(slot, amount): &&(u64, f64)| slot + 10 > at / 1000 && *amount < 0.0;
                let taken = log.iter().filter(taken).count() as f64;
                let ratio = if taken == 0.0 { 1.0 } else { left / (left + taken) };
                prop_assert_eq!(budget.available_ratio(now), ratio);
            }
        }
    }
}
