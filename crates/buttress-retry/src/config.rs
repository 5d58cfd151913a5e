use std::time::Duration;

use buttress_core::{
    ConfigError,
    config::{check_bounded, check_positive},
};
use buttress_kit::{Backoff, BudgetConfig, Jitter};

/// The settings of a [`Retry`](crate::Retry). Plain data.
///
/// | field | default | |
/// |---|---|---|
/// | `max_attempts` | 3 | all calls, the first included; 1 = no retry |
/// | `backoff` | exponential, 100 ms · 2ⁿ, at most 30 s, full jitter | see [`Backoff`] |
/// | `throttle_backoff` | as `backoff` | after the service asked for fewer calls |
/// | `max_elapsed` | none | no attempt starts later than this after the call began |
/// | `retry_after` | `Obey` | see [`RetryAfter`] |
/// | `retry_after_max` | 30 s | the longest `Retry-After` that is waited for |
/// | `retry_rejections` | none | refusals by policies inside that are worth another try |
/// | `report_exhaustion` | no | `RETRIES_EXHAUSTED` around the last error |
/// | `pause_without_budget` | no | the backoff, but no attempt, where the budget is used up |
/// | `budget` | none | retries as a share of the calls |
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RetryConfig {
    /// How often the service is called at most, the first call included; at least 1, which means no retry.
    /// Default 3.
    pub max_attempts: u32,
    /// The waits between attempts. Default [`Backoff::default`]: 100 ms · 2ⁿ up to 30 s, full jitter.
    pub backoff: Backoff,
    /// The waits after the service asked for fewer calls (a rate limit; what
    /// [`throttled_when`](crate::RetryLayer::throttled_when) says). Default: `backoff`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle_backoff: Option<Backoff>,
    /// No attempt starts later than this after the call began; attempts see it as their deadline. Default none.
    #[serde(with = "buttress_kit::duration::option", skip_serializing_if = "Option::is_none")]
    pub max_elapsed: Option<Duration>,
    /// What is made of "try again after" hints. Default [`RetryAfter::Obey`].
    pub retry_after: RetryAfter,
    /// The longest hint that is obeyed, or in [`RetryAfter::Bounded`] how much longer than the backoff one may
    /// make a wait. Default 30 s.
    #[serde(with = "buttress_kit::duration")]
    pub retry_after_max: Duration,
    /// Refusals by policies inside (an open circuit, a full bulkhead) that get another attempt. Default none:
    /// retrying a refusal works against the policy that refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retry_rejections: Vec<String>,
    /// Whether the last error is wrapped in a `RETRIES_EXHAUSTED` rejection, where its type has room for both.
    /// Default no: the last error is returned unchanged.
    pub report_exhaustion: bool,
    /// Whether a call that the budget stops waits out its backoff before it returns the error. For callers that call
    /// again at once, whatever the answer: long polls. Default no.
    pub pause_without_budget: bool,
    /// A budget of this policy's own. Default none. One that several policies share is given to the builder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetConfig>,
}

/// What is made of a hint to try again only after some time: a `Retry-After` header, a refusal that knows when
/// its circuit will be half-open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RetryAfter {
    /// Never earlier than told, and never earlier than the backoff. A hint above `retry_after_max` ends the
    /// call instead. The default.
    #[default]
    Obey,
    /// At least the backoff, at most the backoff and `retry_after_max`, and between the two as told. The rule of
    /// the AWS SDKs, there with 5 s; it may be earlier than told.
    Bounded,
    /// Exactly as told, also where that is less than the backoff, which then begins again from its first wait;
    /// a hint above `retry_after_max` ends the call. gRPC's push-back (proposal A6).
    Replace,
    /// The backoff alone counts.
    Ignore,
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What blipee-os calls jitter: up to a fifth more.
const FIFTH: Jitter = Jitter::Proportional(0.2);

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            backoff: Backoff::default(),
            throttle_backoff: None,
            max_elapsed: None,
            retry_after: RetryAfter::Obey,
            retry_after_max: Duration::from_secs(30),
            retry_rejections: Vec::new(),
            report_exhaustion: false,
            pause_without_budget: false,
            budget: None,
        }
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
        Self::of(max_attempts, Backoff::exponential(initial).with_max(max).with_jitter(FIFTH))
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
        Self { retry_after_max: max, ..Self::exponential(3, ms(1000), max) }
    }

    /// For networks that stutter: 5 calls, 500 ms times 1.5 up to 10 s, plus up to a fifth. Classify with
    /// [`only::network`](crate::only::network).
    pub fn network() -> Self {
        let mut config = Self::exponential(5, ms(500), ms(10_000));
        config.backoff.factor = 1.5;
        config
    }

    /// The numbers of blipee-os: 5 calls, 100 ms doubled up to 30 s, plus up to a fifth.
    pub fn blipee() -> Self {
        Self::exponential(5, ms(100), ms(30_000))
    }

    /// The numbers of didactic-engine: 3 retries (4 calls), 1 s doubled up to 1 min, plus up to a tenth.
    pub fn didactic() -> Self {
        let max = Duration::from_secs(60);
        let backoff = Backoff::exponential(Duration::from_secs(1)).with_max(max);
        Self::of(4, backoff.with_jitter(Jitter::Proportional(0.1)))
    }

    /// The numbers of dspx: 3 calls, 100 ms, 400 ms, 1600 ms, plus up to 50 ms and never above 1600 ms.
    pub fn dspx() -> Self {
        let backoff = Backoff::exponential(ms(100)).with_factor(4.0).with_max(ms(1600));
        Self::of(3, backoff.with_jitter(Jitter::Additive(ms(50))))
    }

    /// The numbers of go-fluxus: 3 calls, no wait.
    pub fn fluxus() -> Self {
        Self::of(3, Backoff::none())
    }

    /// The numbers of the AWS SDKs' standard mode: 3 calls, 50 ms (throttled: 1 s) doubled up to 20 s with full
    /// jitter, `Retry-After` between the backoff and 5 s more. Goes with
    /// [`Budget::tokens`](buttress_kit::Budget::tokens).
    pub fn aws() -> Self {
        let backoff =
            |base| Backoff::exponential(base).with_max(Duration::from_secs(20)).with_jitter(Jitter::Full);
        Self {
            throttle_backoff: Some(backoff(ms(1000))),
            retry_after: RetryAfter::Bounded,
            retry_after_max: Duration::from_secs(5),
            ..Self::of(3, backoff(ms(50)))
        }
    }

    /// Whether these settings can work.
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
}
