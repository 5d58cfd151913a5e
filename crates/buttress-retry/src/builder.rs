use std::{fmt, sync::Arc, time::Duration};

use buttress_core::{ByClone, ConfigError, Event, Name, Observer, Standard};
use buttress_kit::{Backoff, Budget, Chance, Emitter, Listeners};

use crate::{
    KIND, Retry, RetryAfter, RetryConfig,
    engine::{Curve, Engine},
    policy::Policy,
};

/// Makes a [`Retry`]; from [`Retry::builder`]. A method has the name of the field of [`RetryConfig`] it sets.
pub struct RetryBuilder {
    name: Name,
    config: RetryConfig,
    budget: Option<Budget>,
    curve: Option<Curve>,
    seed: Option<u64>,
    listeners: Listeners,
}

impl RetryBuilder {
    pub(crate) fn new(name: Name) -> Self {
        Self {
            name,
            config: RetryConfig::default(),
            budget: None,
            curve: None,
            seed: None,
            listeners: Listeners::default(),
        }
    }

    /// Takes all settings from `config`.
    pub fn config(mut self, config: RetryConfig) -> Self {
        self.config = config;
        self
    }

    /// How often the service is called at most, the first call included; 1 means no retry. Default 3.
    pub fn max_attempts(mut self, max_attempts: u32) -> Self {
        self.config.max_attempts = max_attempts;
        self
    }

    /// The same, counting only the calls after the first: `retries(2)` is `max_attempts(3)`.
    pub fn retries(self, retries: u32) -> Self {
        self.max_attempts(retries.saturating_add(1))
    }

    /// The waits between attempts. Default 100 ms · 2ⁿ up to 30 s, full jitter.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.config.backoff = backoff;
        self.curve = None;
        self
    }

    /// The waits between attempts, from the number of the retry, 0 for the first. No jitter is added; waits above
    /// `backoff.max` (30 s) are cut to it.
    pub fn backoff_with<F>(mut self, wait: F) -> Self
    where
        F: Fn(u32) -> Duration + Send + Sync + 'static,
    {
        self.curve = Some(Arc::new(wait));
        self
    }

    /// The waits after the service asked for fewer calls. Default: as all others.
    pub fn throttle_backoff(mut self, throttle_backoff: impl Into<Option<Backoff>>) -> Self {
        self.config.throttle_backoff = throttle_backoff.into();
        self
    }

    /// No attempt starts later than this after the call began. Default none.
    pub fn max_elapsed(mut self, max_elapsed: impl Into<Option<Duration>>) -> Self {
        self.config.max_elapsed = max_elapsed.into();
        self
    }

    /// What is made of "try again after" hints. Default [`RetryAfter::Obey`].
    pub fn retry_after(mut self, retry_after: RetryAfter) -> Self {
        self.config.retry_after = retry_after;
        self
    }

    /// The longest hint that is obeyed. Default 30 s.
    pub fn retry_after_max(mut self, retry_after_max: Duration) -> Self {
        self.config.retry_after_max = retry_after_max;
        self
    }

    /// The codes of refusals by policies inside that get another attempt, as text or as the pattern's constants.
    /// Nobody checks here that there are such codes. Default none.
    pub fn retry_rejections<I>(mut self, codes: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.config.retry_rejections = codes.into_iter().map(|code| code.as_ref().to_owned()).collect();
        self
    }

    /// Whether the last error is wrapped in a `RETRIES_EXHAUSTED` rejection. Default no.
    pub fn report_exhaustion(mut self, report_exhaustion: bool) -> Self {
        self.config.report_exhaustion = report_exhaustion;
        self
    }

    /// Whether a call that the budget stops waits out its backoff before it returns the error. Default no.
    pub fn pause_without_budget(mut self, pause_without_budget: bool) -> Self {
        self.config.pause_without_budget = pause_without_budget;
        self
    }

    /// Keeps retries within a budget, of whichever kind. Clones of a [`Budget`] share it: give one to all policies, and
    /// hedges, that load the same service. Default none.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Makes jitter come out the same every time.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Tells this observer, besides those of the process.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.listeners.observe(observer);
        self
    }

    /// Tells this closure what happens.
    pub fn on_event<F>(mut self, listener: F) -> Self
    where
        F: Fn(&Event<'_>) + Send + Sync + 'static,
    {
        self.listeners.on_event(listener);
        self
    }

    /// Makes the policy.
    ///
    /// # Errors
    /// Where a setting cannot work: names the field, its value, and why.
    pub fn build(self) -> Result<Retry, ConfigError> {
        let Self { name, config, budget, curve, seed, listeners } = self;
        let checked = name.validate().and_then(|()| config.validate());
        checked.map_err(|why| why.of(&KIND, &name))?;
        let budget = match (budget, config.budget) {
            (Some(shared), _) => Some(shared),
            (None, Some(own)) => Some(Budget::from_config(own).map_err(|error| error.within("budget"))?),
            (None, None) => None,
        };
        let emitter = Emitter::new(&KIND, name, &listeners);
        let chance = seed.map_or_else(Chance::random, Chance::seeded);
        let engine = Engine::new(emitter, config, curve, budget, chance);
        Ok(Retry { policy: Arc::new(Policy { engine, classify: Standard, replay: ByClone }) })
    }
}

impl fmt::Debug for RetryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryBuilder").field("name", &self.name).field("config", &self.config).finish()
    }
}
