use std::{fmt, hash::Hash, sync::Arc, time::Duration};

use buttress_core::{ConfigError, Event, Levels, Name, Observer, config::check_positive};
use buttress_kit::{Backoff, Mode};

use crate::{
    BreakerBuilder, BreakerConfig, Comparison, KeyedBreaker, OnCancel, Ramp, State, Window,
    engine::Common,
    keyed::{Keyed, map::Keys},
};

/// Keys there may be at most, unless told otherwise.
const MAX_KEYS: usize = 10_000;
const IDLE_FOR: Duration = Duration::from_secs(600);

/// Builds a [`KeyedBreaker`]; made by [`Breaker::keyed`](crate::Breaker::keyed). As [`BreakerBuilder`], with what
/// bounds the keys.
#[derive(Clone)]
#[must_use = "nothing is built before `build`"]
pub struct KeyedBuilder {
    inner: BreakerBuilder,
    max_keys: usize,
    idle_for: Duration,
}

impl KeyedBuilder {
    pub(crate) fn new(name: Name) -> Self {
        Self { inner: BreakerBuilder::new(name), max_keys: MAX_KEYS, idle_for: IDLE_FOR }
    }

    /// The most keys that have a circuit at a time, a hard cap. Default 10 000. From 1 024 on they are spread
    /// over sixteen parts, of which one may be full before the others are.
    pub fn max_keys(mut self, keys: usize) -> Self {
        self.max_keys = keys;
        self
    }

    /// A key that was not used for this long may be forgotten, and is after twice that, as soon as a new key
    /// comes; not while its circuit is open, or in a state it was put in by hand. Default ten minutes.
    pub fn idle_for(mut self, idle: Duration) -> Self {
        self.idle_for = idle;
        self
    }

    /// All settings at once.
    pub fn config(mut self, config: BreakerConfig) -> Self {
        self.inner = self.inner.config(config);
        self
    }

    /// Opens after this many failures in a row. See [`BreakerConfig::consecutive_failures`].
    pub fn consecutive_failures(mut self, failures: impl Into<Option<u32>>) -> Self {
        self.inner = self.inner.consecutive_failures(failures);
        self
    }

    /// Opens at this share of failures. See [`BreakerConfig::failure_rate`].
    pub fn failure_rate(mut self, rate: impl Into<Option<f64>>) -> Self {
        self.inner = self.inner.failure_rate(rate);
        self
    }

    /// Opens at this many failures in the window. See [`BreakerConfig::failure_count`].
    pub fn failure_count(mut self, failures: impl Into<Option<u32>>) -> Self {
        self.inner = self.inner.failure_count(failures);
        self
    }

    /// Calls that take longer are slow. See [`BreakerConfig::slow_call_duration`].
    pub fn slow_call_duration(mut self, duration: impl Into<Option<Duration>>) -> Self {
        self.inner = self.inner.slow_call_duration(duration);
        self
    }

    /// Opens at this share of slow calls. See [`BreakerConfig::slow_call_rate`].
    pub fn slow_call_rate(mut self, rate: impl Into<Option<f64>>) -> Self {
        self.inner = self.inner.slow_call_rate(rate);
        self
    }

    /// No rule opens below this many calls. See [`BreakerConfig::minimum_calls`].
    pub fn minimum_calls(mut self, calls: impl Into<Option<u32>>) -> Self {
        self.inner = self.inner.minimum_calls(calls);
        self
    }

    /// Which calls the rules look at. See [`BreakerConfig::window`].
    pub fn window(mut self, window: Window) -> Self {
        self.inner = self.inner.window(window);
        self
    }

    /// Whether a rate opens when reached, or above. See [`BreakerConfig::comparison`].
    pub fn comparison(mut self, comparison: Comparison) -> Self {
        self.inner = self.inner.comparison(comparison);
        self
    }

    /// Stays open for exactly this long each time. See [`BreakerConfig::open_for`].
    pub fn open_for(mut self, wait: impl Into<Option<Duration>>) -> Self {
        self.inner = self.inner.open_for(wait);
        self
    }

    /// Stays open as long as this says, longer each time. Replaces `open_for`. See
    /// [`BreakerConfig::open_backoff`].
    pub fn open_backoff(mut self, backoff: Backoff) -> Self {
        self.inner = self.inner.open_backoff(backoff);
        self
    }

    /// How many probes may be under way at once. See [`BreakerConfig::permitted_probes`].
    pub fn permitted_probes(mut self, probes: u32) -> Self {
        self.inner = self.inner.permitted_probes(probes);
        self
    }

    /// How many successful probes close. See [`BreakerConfig::success_threshold`].
    pub fn success_threshold(mut self, successes: u32) -> Self {
        self.inner = self.inner.success_threshold(successes);
        self
    }

    /// Of how many probes. See [`BreakerConfig::half_open_sample`].
    pub fn half_open_sample(mut self, probes: impl Into<Option<u32>>) -> Self {
        self.inner = self.inner.half_open_sample(probes);
        self
    }

    /// Opens again at this share of failed probes. See [`BreakerConfig::half_open_failure_rate`].
    pub fn half_open_failure_rate(mut self, rate: impl Into<Option<f64>>) -> Self {
        self.inner = self.inner.half_open_failure_rate(rate);
        self
    }

    /// Opens again after being half-open for this long. See [`BreakerConfig::half_open_timeout`].
    pub fn half_open_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.inner = self.inner.half_open_timeout(limit);
        self
    }

    /// Closes after that time instead. See [`BreakerConfig::half_open_timeout_closes`].
    pub fn half_open_timeout_closes(mut self, closes: bool) -> Self {
        self.inner = self.inner.half_open_timeout_closes(closes);
        self
    }

    /// How long a probe keeps its place. See [`BreakerConfig::probe_lease`].
    pub fn probe_lease(mut self, lease: impl Into<Option<Duration>>) -> Self {
        self.inner = self.inner.probe_lease(lease);
        self
    }

    /// Lets in a share that grows, after closing. See [`BreakerConfig::ramp`].
    pub fn ramp(mut self, ramp: impl Into<Option<Ramp>>) -> Self {
        self.inner = self.inner.ramp(ramp);
        self
    }

    /// Ends calls that take longer. See [`BreakerConfig::call_timeout`].
    pub fn call_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.inner = self.inner.call_timeout(limit);
        self
    }

    /// What a dropped call means. See [`BreakerConfig::on_cancel`].
    pub fn on_cancel(mut self, on_cancel: OnCancel) -> Self {
        self.inner = self.inner.on_cancel(on_cancel);
        self
    }

    /// Whether calls are refused or only counted. See [`BreakerConfig::mode`].
    pub fn mode(mut self, mode: Mode) -> Self {
        self.inner = self.inner.mode(mode);
        self
    }

    /// The state to begin in. See [`BreakerConfig::initial_state`].
    pub fn initial_state(mut self, state: State) -> Self {
        self.inner = self.inner.initial_state(state);
        self
    }

    /// Makes jitter and ramp repeatable.
    pub fn seed(mut self, seed: u64) -> Self {
        self.inner = self.inner.seed(seed);
        self
    }

    /// Adds an observer for this breaker alone.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.inner = self.inner.observe(observer);
        self
    }

    /// Calls `listener` with each event. It runs on the task that caused the event, outside of every lock.
    pub fn on_event<F>(mut self, listener: F) -> Self
    where
        F: Fn(&Event<'_>) + Send + Sync + 'static,
    {
        self.inner = self.inner.on_event(listener);
        self
    }

    /// Makes the breaker.
    ///
    /// # Errors
    /// Where the settings cannot work; names the field, its value and why.
    pub fn build<K>(self) -> Result<KeyedBreaker<K>, ConfigError>
    where
        K: Hash + Eq + Clone,
    {
        if self.max_keys == 0 {
            return Err(ConfigError::new("max_keys", 0, "must be at least 1, or no key has a circuit"));
        }
        check_positive("idle_for", self.idle_for)?;
        let (emitter, config, chance) = self.inner.checked()?;
        let (rules, state) = (Arc::new(config.rules()), config.initial_state);
        let common = Common::new(emitter, config, chance, true);
        let keys = Keys::new(&common, rules, state, self.max_keys, self.idle_for);
        let levels: std::sync::Weak<dyn Levels> = Arc::downgrade(&(common.clone() as Arc<dyn Levels>));
        common.emitter.set_levels(levels);
        Ok(KeyedBreaker { shared: Arc::new(Keyed { common, keys }) })
    }
}

impl fmt::Debug for KeyedBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedBuilder")
            .field("breaker", &self.inner)
            .field("max_keys", &self.max_keys)
            .field("idle_for", &self.idle_for)
            .finish()
    }
}
