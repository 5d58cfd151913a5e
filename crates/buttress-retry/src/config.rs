use std::{fmt, sync::Arc, time::Duration};

use buttress_core::{
    ConfigError,
    config::{check_bounded, check_positive},
};
use buttress_kit::{Backoff, Budget, BudgetRule, Jitter};
use serde::{Deserialize, Serialize};

buttress_kit::settings! {
    /// The settings of a [`Retry`](crate::Retry), as plain data.
    pub struct RetryConfig, builder RetryBuilder {
        /// How often the service is called at most, the first call included; at least 1, which means no retry.
        /// Default 3.
        pub max_attempts: u32 = 3,
        /// The waits between attempts. Default [`Backoff::default`]: 100 ms · 2ⁿ up to 30 s, full jitter.
        pub backoff: Backoff = Backoff::default(),
        /// The waits after the service asked for fewer calls (a rate limit; what
        /// [`throttled_when`](crate::RetryLayer::throttled_when) says). Default: `backoff`.
        #[serde(with = "buttress_kit::optional")]
        pub throttle_backoff: Option<Backoff> = None,
        /// No attempt starts later than this after the call began; attempts see it as their deadline. Default none.
        #[serde(with = "buttress_kit::duration::optional")]
        pub max_elapsed: Option<Duration> = None,
        /// What is made of "try again after" hints. Default [`RetryAfter::Obey`].
        pub retry_after: RetryAfter = RetryAfter::Obey,
        /// The longest hint that is obeyed, or in [`RetryAfter::Bounded`] how much longer than the backoff one may
        /// make a wait. Default 30 s.
        #[serde(with = "buttress_kit::duration")]
        pub retry_after_max: Duration = Duration::from_secs(30),
        /// The codes of refusals by policies inside (an open circuit, a full bulkhead) that get another attempt.
        /// Nobody checks here that there are such codes. Default none: retrying a refusal works against the policy
        /// that refused.
        pub retry_rejections: Vec<String> = Vec::new(); no setter,
        /// Whether the last error is wrapped in a `RETRIES_EXHAUSTED` rejection, if its type has room for both.
        /// Default no: the last error is returned unchanged.
        pub report_exhaustion: bool = false,
        /// Whether a call that the budget stops waits out its backoff before it returns the error. For callers that
        /// call again at once, whatever the answer: long polls. Default no.
        pub pause_without_budget: bool = false,
        /// A budget of this policy's own, of any kind. Default none. One that several policies share is given to the
        /// builder.
        #[serde(with = "buttress_kit::optional")]
        pub budget: Option<BudgetRule> = None; no setter,
    }
    beside {
        budget: Option<Budget>,
        curve: Option<Curve>,
    }
}

/// What is made of a hint to try again only after some time: a `Retry-After` header, a refusal that knows when
/// its circuit will be half-open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", expecting = "what is made of hints, as text such as \"obey\"")]
#[non_exhaustive]
pub enum RetryAfter {
    /// Never earlier than told, and never earlier than the backoff. A hint above `retry_after_max` ends the
    /// call instead. The default.
    #[default]
    Obey,
    /// At least the backoff, at most the backoff and `retry_after_max`, and between the two as told. The rule of
    /// the AWS SDKs, there with 5 s; it may be earlier than told.
    Bounded,
    /// Exactly as told, also if that is less than the backoff, which then begins again from its first wait;
    /// a hint above `retry_after_max` ends the call. gRPC's push-back (proposal A6).
    Replace,
    /// The backoff alone counts.
    Ignore,
}

/// Waits that are computed from the number of the retry, 0 for the first.
#[derive(Clone)]
pub(crate) struct Curve(pub(crate) Arc<dyn Fn(u32) -> Duration + Send + Sync>);

impl fmt::Debug for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Curve(..)")
    }
}

impl RetryConfig {
    fn of(max_attempts: u32, backoff: Backoff) -> Self {
        Self { max_attempts, backoff, ..Self::default() }
    }

    /// One attempt: no retry.
    pub fn none() -> Self {
        Self::of(1, Backoff::none())
    }

    /// `max_attempts` calls with `delay` between them, no jitter. Usual: 3 and 1 s.
    pub fn fixed(max_attempts: u32, delay: Duration) -> Self {
        Self::of(max_attempts, Backoff::constant(delay))
    }

    /// `max_attempts` calls; waits from `initial`, doubled each time, plus up to a fifth, at most `max`. Usual:
    /// 5, 100 ms and 30 s.
    pub fn exponential(max_attempts: u32, initial: Duration, max: Duration) -> Self {
        let backoff = Backoff::exponential(initial).with_max(max);
        Self::of(max_attempts, backoff.with_jitter(Jitter::Proportional(0.2)))
    }

    /// `max_attempts` calls; waits from `initial`, `step` longer each time, no jitter. Usual: 4, 500 ms and
    /// 500 ms.
    pub fn linear(max_attempts: u32, initial: Duration, step: Duration) -> Self {
        Self::of(max_attempts, Backoff::linear(initial).with_step(step))
    }

    /// For services with a rate limit: 3 calls, 1 s doubled up to 1 min, plus up to a fifth. A `Retry-After` of
    /// up to 1 min is obeyed. Classify with [`only::rate_limits`](crate::only::rate_limits).
    pub fn api_rate_limit() -> Self {
        let max = Duration::from_secs(60);
        Self { retry_after_max: max, ..Self::exponential(3, Duration::from_secs(1), max) }
    }

    /// For networks that stutter: 5 calls, 500 ms times 1.5 up to 10 s, plus up to a fifth. Classify with
    /// [`only::network`](crate::only::network).
    pub fn network() -> Self {
        let mut config = Self::exponential(5, Duration::from_millis(500), Duration::from_secs(10));
        config.backoff.factor = 1.5;
        config
    }

    /// Checks that the settings can work.
    ///
    /// # Errors
    /// Names the first field that cannot, its value, and why.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.max_attempts == 0 {
            let why = "must be at least 1: it counts all calls, and 1 means no retry";
            return Err(ConfigError::new("max_attempts", self.max_attempts, why));
        }
        self.backoff.validate().map_err(|error| error.within("backoff"))?;
        if let Some(slower) = &self.throttle_backoff {
            slower.validate().map_err(|error| error.within("throttle_backoff"))?;
        }
        if let Some(max) = self.max_elapsed {
            check_positive("max_elapsed", max)?;
        }
        check_bounded("retry_after_max", self.retry_after_max)?;
        match &self.budget {
            Some(budget) => budget.validate().map_err(|error| error.within("budget")),
            None => Ok(()),
        }
    }

    /// Checks that a policy with these settings can go on with `next`.
    pub(crate) fn allows(&self, next: &Self) -> Result<(), ConfigError> {
        if self.budget == next.budget {
            return Ok(());
        }
        let why = "cannot change while the policy runs: what was paid in cannot move";
        Err(ConfigError::new("budget", next.budget, why))
    }
}

/// # In other words, and what is no plain data
impl RetryBuilder {
    /// As `max_attempts`, counting only the calls after the first: `retries(2)` is `max_attempts(3)`.
    pub fn retries(self, retries: u32) -> Self {
        self.max_attempts(retries.saturating_add(1))
    }

    /// The codes of refusals by policies inside that get another attempt, as text or as the patterns' constants.
    /// Nobody checks here that there are such codes. Default none.
    pub fn retry_rejections<I>(mut self, codes: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let codes = codes.into_iter().map(|code| code.as_ref().to_owned());
        self.parts.config.retry_rejections = codes.collect();
        self
    }

    /// The waits between attempts, from the number of the retry, 0 for the first. They count in place of `backoff`;
    /// no jitter is added; those above `backoff.max` (30 s) are cut to it.
    pub fn backoff_with<F>(mut self, wait: F) -> Self
    where
        F: Fn(u32) -> Duration + Send + Sync + 'static,
    {
        self.curve = Some(Curve(Arc::new(wait)));
        self
    }

    /// Keeps retries within a budget, of whichever kind. Clones of a [`Budget`] share it: give one to all policies, and
    /// hedges, that load the same service. It counts in place of the budget of the settings. Default none.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Makes jitter come out the same every time.
    pub fn seed(mut self, seed: u64) -> Self {
        self.parts.seed = Some(seed);
        self
    }
}
