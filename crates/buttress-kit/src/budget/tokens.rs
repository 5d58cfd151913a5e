//! The two budgets that count tokens instead of time. Plain data: no clock.

use buttress_core::{ConfigError, FailureKind};
use serde::{Deserialize, Serialize};

use crate::sync::{
    AtomicI64,
    Ordering::{AcqRel, Acquire},
};

/// One token, in fixed point: gRPC's ratio has three decimals.
const TOKEN: i64 = 1000;

/// What a retry costs in a budget of tokens. Plain data; the numbers are those of the AWS SDKs' standard mode.
///
/// A retry takes its price out of the bucket, or is not made. A call that succeeds gives back what its last retry
/// cost, or `success` if it needed none. So the bucket stays full while the service is well, is drained by an
/// outage after about `capacity / transient` retries, and then lets retries through only as fast as calls succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { capacity = 500, transient = 14 }")]
#[non_exhaustive]
pub struct TokenBudgetConfig {
    /// How many tokens there are at first, and at most, up to 1 000 000. Default 500; 0 allows no retry.
    pub capacity: u32,
    /// What a retry costs after an ordinary failure. Default 14.
    pub transient: u32,
    /// What it costs after the service asked for fewer calls. Default 5.
    pub throttled: u32,
    /// What it costs after a time-out. Default 14; the SDKs took 10 until 2025.
    pub timed_out: u32,
    /// What a call gives back that succeeds at its first attempt. Default 1.
    pub success: u32,
}

impl Default for TokenBudgetConfig {
    fn default() -> Self {
        Self { capacity: 500, transient: 14, throttled: 5, timed_out: 14, success: 1 }
    }
}

impl TokenBudgetConfig {
    /// With so many tokens.
    pub fn with_capacity(mut self, capacity: u32) -> Self {
        self.capacity = capacity;
        self
    }

    /// With these prices of a retry, by what the attempt before it failed of.
    pub fn with_prices(mut self, transient: u32, throttled: u32, timed_out: u32) -> Self {
        (self.transient, self.throttled, self.timed_out) = (transient, throttled, timed_out);
        self
    }

    /// With so many tokens given back by a call that succeeds at once.
    pub fn with_success(mut self, success: u32) -> Self {
        self.success = success;
        self
    }

    /// Whether these settings can work.
    ///
    /// # Errors
    /// Names the first field that cannot, its value, and why.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.capacity > 1_000_000 {
            return Err(ConfigError::new("capacity", self.capacity, "must be at most 1000000"));
        }
        let prices =
            [("transient", self.transient), ("throttled", self.throttled), ("timed_out", self.timed_out)];
        for (field, price) in prices {
            if price > self.capacity && self.capacity > 0 {
                return Err(ConfigError::new(
                    field,
                    price,
                    "must be at most `capacity`: no retry could be paid",
                ));
            }
        }
        Ok(())
    }

    fn price(&self, failure: FailureKind) -> i64 {
        TOKEN
            * i64::from(match failure {
                FailureKind::Throttled => self.throttled,
                FailureKind::TimedOut => self.timed_out,
                // An ordinary failure, and whatever kinds may come.
                _ => self.transient,
            })
    }
}

/// A bucket of tokens.
#[derive(Debug)]
pub(crate) struct Tokens {
    rule: Rule,
    capacity: i64,
    left: AtomicI64,
}

#[derive(Debug)]
enum Rule {
    /// Retries have a price.
    Priced(TokenBudgetConfig),
    /// Failures take a token, successes give a part of one back; retries only above half.
    Half { ratio: i64 },
}

impl Tokens {
    pub(crate) fn priced(config: TokenBudgetConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let capacity = TOKEN * i64::from(config.capacity);
        Ok(Self { rule: Rule::Priced(config), capacity, left: AtomicI64::new(capacity) })
    }

    pub(crate) fn half(max_tokens: u32, token_ratio: f64) -> Result<Self, ConfigError> {
        if !(1..=1000).contains(&max_tokens) {
            return Err(ConfigError::new("max_tokens", max_tokens, "must be from 1 to 1000"));
        }
        if !(token_ratio >= 0.001 && token_ratio <= f64::from(max_tokens)) {
            return Err(ConfigError::new("token_ratio", token_ratio, "must be from 0.001 to `max_tokens`"));
        }
        let capacity = TOKEN * i64::from(max_tokens);
        // Further decimals are ignored (gRPC proposal A6).
        let ratio = (token_ratio * TOKEN as f64 + 1e-6).floor() as i64;
        Ok(Self { rule: Rule::Half { ratio }, capacity, left: AtomicI64::new(capacity) })
    }

    /// An attempt failed in a way that a new try may cure.
    pub(crate) fn failed(&self) {
        if let Rule::Half { .. } = self.rule {
            self.change(|left| Some((left - TOKEN).max(0)));
        }
    }

    pub(crate) fn try_withdraw(&self, failure: FailureKind) -> bool {
        match &self.rule {
            Rule::Priced(config) => {
                let price = config.price(failure);
                self.change(|left| (left >= price).then(|| left - price))
            }
            Rule::Half { .. } => self.left.load(Acquire) > self.capacity / 2,
        }
    }

    /// Gives back what a retry after such a failure cost that was not made.
    pub(crate) fn refund(&self, failure: FailureKind) {
        if let Rule::Priced(config) = &self.rule {
            let price = config.price(failure);
            self.change(|left| Some((left + price).min(self.capacity)));
        }
    }

    /// A call succeeded; `retried` is what its last retry was made after.
    #[inline]
    pub(crate) fn succeeded(&self, retried: Option<FailureKind>) {
        let back = match &self.rule {
            Rule::Priced(config) => retried.map_or(TOKEN * i64::from(config.success), |f| config.price(f)),
            Rule::Half { ratio } => *ratio,
        };
        // Full while all is well: then this is one load.
        self.change(|left| (left < self.capacity).then(|| (left + back).min(self.capacity)));
    }

    /// The tokens left.
    pub(crate) fn left(&self) -> f64 {
        self.left.load(Acquire) as f64 / TOKEN as f64
    }

    /// The same as a share of all tokens.
    pub(crate) fn left_ratio(&self) -> f64 {
        self.left.load(Acquire) as f64 / self.capacity.max(1) as f64
    }

    fn change(&self, change: impl Fn(i64) -> Option<i64>) -> bool {
        self.left.fetch_update(AcqRel, Acquire, change).is_ok()
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use FailureKind::{Throttled, TimedOut, Transient};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn retry_pays_by_what_failed_and_success_gives_the_last_price_back() {
        let tokens = Tokens::priced(TokenBudgetConfig::default()).unwrap();
        assert!(tokens.try_withdraw(Transient) && tokens.try_withdraw(Transient));
        assert_eq!(tokens.left(), 472.0);
        tokens.succeeded(Some(Transient));
        assert_eq!(tokens.left(), 486.0);
        assert!(tokens.try_withdraw(Throttled));
        tokens.succeeded(None);
        assert_eq!(tokens.left(), 482.0);

        let few = Tokens::priced(TokenBudgetConfig::default().with_capacity(20)).unwrap();
        assert!(few.try_withdraw(Transient));
        assert!(!few.try_withdraw(Transient));
        assert_eq!(few.left(), 6.0);
    }

    #[test]
    fn each_kind_of_failure_has_its_own_price() {
        let config = TokenBudgetConfig::default().with_prices(1, 20, 300);
        for (failure, left) in [(Transient, 499.0), (Throttled, 480.0), (TimedOut, 200.0)] {
            let tokens = Tokens::priced(config).unwrap();
            assert!(tokens.try_withdraw(failure));
            assert_eq!(tokens.left(), left);
        }
    }

    #[test]
    fn success_gives_back_as_much_as_the_settings_say() {
        let tokens = Tokens::priced(TokenBudgetConfig::default().with_success(7)).unwrap();
        assert!(tokens.try_withdraw(Transient));
        tokens.succeeded(None);
        assert_eq!(tokens.left(), 493.0);
        tokens.succeeded(None);
        assert_eq!(tokens.left(), 500.0);
    }

    #[test]
    fn half_rule_stops_at_half_and_resumes_above() {
        let tokens = Tokens::half(10, 0.5).unwrap();
        (0..4).for_each(|_| tokens.failed());
        assert!(tokens.try_withdraw(Transient)); // 6
        tokens.failed();
        assert!(!tokens.try_withdraw(Transient)); // 5
        tokens.succeeded(None);
        assert!(tokens.try_withdraw(Transient)); // 5.5
        (0..100).for_each(|_| tokens.failed());
        assert_eq!(tokens.left(), 0.0);
    }

    #[test]
    fn third_decimal_counts_and_the_fourth_does_not() {
        let tokens = Tokens::half(10, 0.0019).unwrap();
        tokens.failed();
        tokens.succeeded(None);
        assert_eq!(tokens.left(), 9.001);
        // Whatever the rounding of binary fractions.
        for thousandths in 1..=1_000 {
            let tokens = Tokens::half(1, f64::from(thousandths) / 1_000.0).unwrap();
            tokens.failed();
            tokens.succeeded(None);
            assert_eq!(tokens.left(), f64::from(thousandths) / 1_000.0);
        }
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        let base = TokenBudgetConfig::default();
        let field = |config: TokenBudgetConfig| config.validate().unwrap_err().field().to_owned();
        assert!(!Tokens::priced(base.with_capacity(0)).unwrap().try_withdraw(Transient));
        assert_eq!(field(base.with_capacity(u32::MAX)), "capacity");
        assert_eq!(field(base.with_prices(501, 5, 5)), "transient");
        assert_eq!(field(base.with_prices(5, 501, 5)), "throttled");
        assert_eq!(field(base.with_prices(5, 5, u32::MAX)), "timed_out");
        assert!(base.with_prices(0, 0, 0).with_success(u32::MAX).validate().is_ok());
        assert!(base.with_capacity(1_000_000).validate().is_ok());
        assert!(Tokens::half(1000, 1000.0).is_ok());
        assert_eq!(Tokens::half(0, 0.5).unwrap_err().field(), "max_tokens");
        assert_eq!(Tokens::half(1001, 0.5).unwrap_err().field(), "max_tokens");
        for ratio in [0.0, -1.0, f64::NAN, f64::INFINITY, 10.1] {
            assert_eq!(Tokens::half(10, ratio).unwrap_err().field(), "token_ratio");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn tokens_stay_between_none_and_all(
            capacity in 1_u32..600, price in 0_u32..50, steps in proptest::collection::vec(0_u8..4, 0..100),
        ) {
            let price = price.min(capacity);
            let config = TokenBudgetConfig::default().with_capacity(capacity).with_prices(price, price, price);
            let (tokens, mut model) = (Tokens::priced(config).unwrap(), i64::from(capacity));
            for step in steps {
                match step {
                    0 => {
                        let paid = model >= i64::from(price);
                        prop_assert_eq!(tokens.try_withdraw(Transient), paid);
                        model -= if paid { i64::from(price) } else { 0 };
                    }
                    1 => {
                        tokens.succeeded(None);
                        model = (model + 1).min(capacity.into());
                    }
                    2 => {
                        tokens.succeeded(Some(Transient));
                        model = (model + i64::from(price)).min(capacity.into());
                    }
                    _ => tokens.failed(),
                }
                prop_assert_eq!(tokens.left(), model as f64);
            }
        }
    }
}
