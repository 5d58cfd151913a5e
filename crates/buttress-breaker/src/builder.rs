use std::{fmt, time::Duration};

use buttress_core::{ConfigError, Event, Level, Name, Observer};
use buttress_kit::{Backoff, Chance, Emitter, Listeners, Mode};

use crate::{Breaker, BreakerConfig, Comparison, KIND, OnCancel, Ramp, State, Window, engine::Shared};

/// Builds a [`Breaker`]; made by [`Breaker::builder`]. Each setter is a field of [`BreakerConfig`].
#[derive(Clone)]
#[must_use = "nothing is built before `build`"]
pub struct BreakerBuilder {
    name: Name,
    config: BreakerConfig,
    seed: Option<u64>,
    listeners: Listeners,
}

impl BreakerBuilder {
    pub(crate) fn new(name: Name) -> Self {
        let config = BreakerConfig::default();
        Self { name, config, seed: None, listeners: Listeners::default() }
    }

    /// All settings at once.
    pub fn config(mut self, config: BreakerConfig) -> Self {
        self.config = config;
        self
    }

    /// Opens after this many failures in a row. See [`BreakerConfig::consecutive_failures`].
    pub fn consecutive_failures(mut self, failures: impl Into<Option<u32>>) -> Self {
        self.config.consecutive_failures = failures.into();
        self
    }

    /// Opens at this share of failures. See [`BreakerConfig::failure_rate`].
    pub fn failure_rate(mut self, rate: impl Into<Option<f64>>) -> Self {
        self.config.failure_rate = rate.into();
        self
    }

    /// Opens at this many failures in the window. See [`BreakerConfig::failure_count`].
    pub fn failure_count(mut self, failures: impl Into<Option<u32>>) -> Self {
        self.config.failure_count = failures.into();
        self
    }

    /// Calls that take longer are slow. See [`BreakerConfig::slow_call_duration`].
    pub fn slow_call_duration(mut self, duration: impl Into<Option<Duration>>) -> Self {
        self.config.slow_call_duration = duration.into();
        self
    }

    /// Opens at this share of slow calls. See [`BreakerConfig::slow_call_rate`].
    pub fn slow_call_rate(mut self, rate: impl Into<Option<f64>>) -> Self {
        self.config.slow_call_rate = rate.into();
        self
    }

    /// No rule opens below this many calls. See [`BreakerConfig::minimum_calls`].
    pub fn minimum_calls(mut self, calls: impl Into<Option<u32>>) -> Self {
        self.config.minimum_calls = calls.into();
        self
    }

    /// Which calls the rules look at. See [`BreakerConfig::window`].
    pub fn window(mut self, window: Window) -> Self {
        self.config.window = window;
        self
    }

    /// Whether a rate opens when reached, or above. See [`BreakerConfig::comparison`].
    pub fn comparison(mut self, comparison: Comparison) -> Self {
        self.config.comparison = comparison;
        self
    }

    /// Stays open for exactly this long each time. See [`BreakerConfig::open_for`].
    pub fn open_for(mut self, wait: impl Into<Option<Duration>>) -> Self {
        self.config.open_for = wait.into();
        self
    }

    /// Stays open as long as this says, longer each time. Replaces `open_for`. See
    /// [`BreakerConfig::open_backoff`].
    pub fn open_backoff(mut self, backoff: Backoff) -> Self {
        self.config.open_for = None;
        self.config.open_backoff = backoff;
        self
    }

    /// How many probes may be under way at once. See [`BreakerConfig::permitted_probes`].
    pub fn permitted_probes(mut self, probes: u32) -> Self {
        self.config.permitted_probes = probes;
        self
    }

    /// How many successful probes close. See [`BreakerConfig::success_threshold`].
    pub fn success_threshold(mut self, successes: u32) -> Self {
        self.config.success_threshold = successes;
        self
    }

    /// Of how many probes. See [`BreakerConfig::half_open_sample`].
    pub fn half_open_sample(mut self, probes: impl Into<Option<u32>>) -> Self {
        self.config.half_open_sample = probes.into();
        self
    }

    /// Opens again at this share of failed probes. See [`BreakerConfig::half_open_failure_rate`].
    pub fn half_open_failure_rate(mut self, rate: impl Into<Option<f64>>) -> Self {
        self.config.half_open_failure_rate = rate.into();
        self
    }

    /// Opens again after being half-open for this long. See [`BreakerConfig::half_open_timeout`].
    pub fn half_open_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.config.half_open_timeout = limit.into();
        self
    }

    /// Closes after that time instead. See [`BreakerConfig::half_open_timeout_closes`].
    pub fn half_open_timeout_closes(mut self, closes: bool) -> Self {
        self.config.half_open_timeout_closes = closes;
        self
    }

    /// How long a probe keeps its place. See [`BreakerConfig::probe_lease`].
    pub fn probe_lease(mut self, lease: impl Into<Option<Duration>>) -> Self {
        self.config.probe_lease = lease.into();
        self
    }

    /// Lets in a share that grows, after closing. See [`BreakerConfig::ramp`].
    pub fn ramp(mut self, ramp: impl Into<Option<Ramp>>) -> Self {
        self.config.ramp = ramp.into();
        self
    }

    /// Ends calls that take longer. See [`BreakerConfig::call_timeout`].
    pub fn call_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.config.call_timeout = limit.into();
        self
    }

    /// What a dropped call means. See [`BreakerConfig::on_cancel`].
    pub fn on_cancel(mut self, on_cancel: OnCancel) -> Self {
        self.config.on_cancel = on_cancel;
        self
    }

    /// Whether an open circuit is not ready. See [`BreakerConfig::gate_readiness`].
    pub fn gate_readiness(mut self, gate: bool) -> Self {
        self.config.gate_readiness = gate;
        self
    }

    /// Whether calls are refused or only counted. See [`BreakerConfig::mode`].
    pub fn mode(mut self, mode: Mode) -> Self {
        self.config.mode = mode;
        self
    }

    /// The state to begin in. See [`BreakerConfig::initial_state`].
    pub fn initial_state(mut self, state: State) -> Self {
        self.config.initial_state = state;
        self
    }

    /// Makes jitter and ramp repeatable.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Adds an observer for this breaker alone.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.listeners.observe(observer);
        self
    }

    /// Calls `listener` with each event. It runs on the task that caused the event, outside of every lock.
    pub fn on_event<F>(mut self, listener: F) -> Self
    where
        F: Fn(&Event<'_>) + Send + Sync + 'static,
    {
        self.listeners.on_event(listener);
        self
    }

    /// Makes the breaker.
    ///
    /// # Errors
    /// Where the settings cannot work; names the field, its value and why.
    pub fn build(self) -> Result<Breaker, ConfigError> {
        let (emitter, config, chance) = self.checked()?;
        let shared = Shared::new(emitter, config, chance);
        if shared.common.emitter.is_on() {
            // So that observers of the whole process know of it before its first call.
            shared.common.emitter.emit(Event::Level(Level::state(shared.state().as_str())));
        }
        Ok(Breaker { shared })
    }

    pub(crate) fn checked(self) -> Result<(Emitter, BreakerConfig, Chance), ConfigError> {
        let checked = self.name.validate().and_then(|()| self.config.validate());
        checked.map_err(|why| why.of(&KIND, &self.name))?;
        let chance = self.seed.map_or_else(Chance::random, Chance::seeded);
        Ok((Emitter::new(&KIND, self.name, &self.listeners), self.config, chance))
    }
}

impl fmt::Debug for BreakerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerBuilder")
            .field("name", &self.name)
            .field("config", &self.config)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}
