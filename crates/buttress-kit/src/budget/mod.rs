//! How many retries, and hedges, are allowed: by one of three rules.

mod floor;
mod in_flight;
mod ratio;
mod rule;
mod tokens;

use std::{fmt, time::Instant};

use buttress_core::{ConfigError, FailureKind};

use self::{
    in_flight::InFlight,
    ratio::{Ratio, Taken},
    tokens::Tokens,
};
use crate::sync::Arc;

pub use self::{
    ratio::BudgetConfig,
    rule::{BudgetRule, GrpcBudgetConfig, InFlightBudgetConfig},
    tokens::TokenBudgetConfig,
};

/// A retry budget: keeps retries at a share of the calls, so that retrying cannot multiply an outage.
///
/// Of four kinds: a share of the calls with a floor per second ([`Budget::new`], the one to begin with), tokens with a
/// price by failure ([`Budget::tokens`], the AWS SDKs'), tokens that stop retries below half ([`Budget::grpc`]), and a
/// share of the calls in flight ([`Budget::in_flight`], Envoy's).
///
/// The share of the calls holds in every second. Finagle's rule, which tower has too, holds over ten seconds only: a
/// client whose calls all fail then retries for ten seconds' worth in one, and not at all in the next nine.
///
/// A budget alone ends no overload within seconds, and none at all if its floors add up to more than the service has to
/// spare: `docs/budgets.md` of the repository has the arithmetic. It goes with a breaker and a bulkhead.
///
/// A policy tells it of every call: [`deposit`](Self::deposit) when it begins, [`failed`](Self::failed) for an attempt
/// that failed, [`withdraw`](Self::withdraw) before a retry, [`refund`](Self::refund) for a retry that was taken out and
/// is not made, and at the end either [`succeeded`](Self::succeeded) or [`ended`](Self::ended), also for a call that was
/// dropped or panicked.
///
/// Clones share it; give one to as many policies as should share it. Lock-free but for one `try_lock` in each tenth of a
/// second; each operation costs the same however long it was idle. `now` is passed in; give every user of one budget
/// the same clock.
///
/// ```
/// # extern crate buttress_kit as buttress;
/// use std::time::Instant;
/// use buttress::Budget;
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

impl Budget {
    /// Makes a budget that allows `ratio` retries per call, or `min_per_second` if that is more, in every second; see
    /// [`BudgetConfig`].
    ///
    /// # Errors
    /// Where a setting cannot work, see [`BudgetConfig`].
    pub fn new(ratio: f64, min_per_second: u32) -> Result<Self, ConfigError> {
        Self::from_config(BudgetConfig { ratio, min_per_second })
    }

    /// Makes a budget from its settings: a [`BudgetRule`], or the settings of any kind.
    ///
    /// # Errors
    /// Where a setting cannot work, see [`BudgetConfig`].
    pub fn from_config(config: impl Into<BudgetRule>) -> Result<Self, ConfigError> {
        Ok(Self::of(match config.into() {
            BudgetRule::Ratio(config) => Kind::Ratio(Ratio::new(config)?),
            BudgetRule::Tokens(config) => Kind::Tokens(Tokens::priced(config)?),
            BudgetRule::Grpc(config) => Kind::Tokens(config.tokens()?),
            BudgetRule::InFlight(config) => Kind::InFlight(config.counts()?),
        }))
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
    /// # extern crate buttress_kit as buttress;
    /// use std::time::Instant;
    /// use buttress::Budget;
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
            Kind::Ratio(ratio) => Some(ratio.config()),
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
        self.withdraw(failure, now).is_some()
    }

    /// Takes out one retry after such a failure, if there is one, and says what a [`refund`](Self::refund) gives back.
    pub fn withdraw(&self, failure: FailureKind, now: Instant) -> Option<Withdrawal> {
        let taken = match &*self.kind {
            Kind::Ratio(ratio) => ratio.withdraw(now),
            Kind::Tokens(tokens) => tokens.try_withdraw(failure).then_some(Taken::NOTHING),
            Kind::InFlight(in_flight) => in_flight.try_retry().then_some(Taken::NOTHING),
        };
        taken.map(|taken| Withdrawal { failure, taken })
    }

    /// Gives back a retry that was taken out of this budget and is not made: its caller left while it waited. It is not
    /// passed to the end of its call then. By gRPC's rule nothing was taken out.
    ///
    /// ```
    /// # extern crate buttress_kit as buttress;
    /// use std::time::Instant;
    /// use buttress::Budget;
    /// use buttress_core::FailureKind;
    ///
    /// let (budget, now) = (Budget::new(0.0, 1)?, Instant::now());
    /// let waiting = budget.withdraw(FailureKind::Transient, now).unwrap();
    /// assert!(budget.withdraw(FailureKind::Transient, now).is_none());
    /// budget.refund(waiting, now);
    /// assert!(budget.withdraw(FailureKind::Transient, now).is_some());
    /// # Ok::<_, buttress_core::ConfigError>(())
    /// ```
    pub fn refund(&self, withdrawal: Withdrawal, now: Instant) {
        match &*self.kind {
            Kind::Ratio(ratio) => ratio.refund(withdrawal.taken, now),
            Kind::Tokens(tokens) => tokens.refund(withdrawal.failure),
            Kind::InFlight(in_flight) => in_flight.retry_over(),
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
            Kind::Ratio(ratio) => ratio.available(now),
            Kind::Tokens(tokens) => tokens.left(),
            Kind::InFlight(in_flight) => in_flight.left(),
        }
    }

    /// The same as a share, `0.0..=1.0`: of what could be taken out now and what was taken out within the last second
    /// together; of all tokens; of the retries that may be in flight.
    ///
    /// 1 if nothing was taken out, also before the first call has paid in; 0 if nothing can ever be: no ratio and no
    /// floor, or no tokens. gRPC's rule makes no retry at 0.5 and below.
    pub fn available_ratio(&self, now: Instant) -> f64 {
        match &*self.kind {
            Kind::Ratio(ratio) => ratio.available_ratio(now),
            Kind::Tokens(tokens) => tokens.left_ratio(),
            Kind::InFlight(in_flight) => in_flight.left_ratio(),
        }
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.kind {
            Kind::Ratio(ratio) => f.debug_tuple("Budget").field(ratio).finish(),
            Kind::Tokens(tokens) => f.debug_tuple("Budget").field(tokens).finish(),
            Kind::InFlight(in_flight) => f.debug_tuple("Budget").field(in_flight).finish(),
        }
    }
}

/// A retry that was taken out of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    failure: FailureKind,
    taken: Taken,
}

impl Withdrawal {
    /// The failure that it is a retry after.
    pub fn failure(self) -> FailureKind {
        self.failure
    }
}

#[cfg(all(test, buttress_loom))]
mod models;
#[cfg(all(test, not(buttress_loom)))]
mod simulation;
#[cfg(all(test, not(buttress_loom)))]
mod tests;
