use std::{sync::Arc, time::Duration};

use buttress_core::{
    ConfigError, Event, Name, Observer, Outcome, Recorder, config,
    observe::{self, Emitter, PolicyKind},
};

use crate::Timeout;

/// The settings of a time-out, as plain data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct TimeoutConfig {
    /// How long a call may take. Above zero. Default 5 s.
    #[cfg_attr(feature = "serde", serde(with = "buttress_kit::duration"))]
    pub limit: Duration,
    /// Whether the deadline is put into the context of the inner call, and an earlier one found there is obeyed.
    /// Default `true`.
    pub propagate: bool,
}

impl Default for TimeoutConfig {
    fn default() -> Self {
        Self { limit: Duration::from_secs(5), propagate: true }
    }
}

impl TimeoutConfig {
    /// The defaults with another limit.
    pub fn of(limit: Duration) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// Names the setting that cannot work, its value, and why.
    pub fn validate(&self) -> Result<(), ConfigError> {
        config::check_positive("limit", self.limit)
    }
}

/// Makes a [`Timeout`]; from [`Timeout::builder`].
#[derive(Debug)]
#[must_use = "call `build`"]
pub struct TimeoutBuilder {
    config: TimeoutConfig,
    emitter: Emitter,
}

impl TimeoutBuilder {
    pub(crate) fn new(name: Name) -> Self {
        Self { config: TimeoutConfig::default(), emitter: Emitter::new(PolicyKind::Timeout, name) }
    }

    /// Takes all settings at once.
    pub fn config(mut self, config: TimeoutConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets how long a call may take.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.config.limit = limit;
        self
    }

    /// Sets whether the deadline travels inward, and an earlier one from outside is obeyed.
    pub fn propagate(mut self, propagate: bool) -> Self {
        self.config.propagate = propagate;
        self
    }

    /// Adds an observer for this policy alone.
    pub fn observe(self, observer: impl Observer) -> Self {
        self.emitter.observe(&observer);
        self
    }

    /// Calls `listen` with every event of this policy. It costs a second clock read per call.
    pub fn on_event<F>(self, listen: F) -> Self
    where
        F: Fn(&Event<'_>) + Send + Sync + 'static,
    {
        self.emitter.add(observe::recorder_fn(listen));
        self
    }

    /// Calls `listen` with the time elapsed, once for every call that timed out.
    pub fn on_timeout<F>(self, listen: F) -> Self
    where
        F: Fn(Duration) + Send + Sync + 'static,
    {
        self.emitter.add(Arc::new(OnTimeoutOnly(listen)));
        self
    }

    /// Makes the time-out.
    ///
    /// # Errors
    /// Names the setting that cannot work, its value, and why.
    pub fn build(self) -> Result<Timeout, ConfigError> {
        self.config.validate()?;
        Ok(Timeout::of(self.config, self.emitter))
    }
}

struct OnTimeoutOnly<F>(F);

impl<F: Fn(Duration) + Send + Sync + 'static> Recorder for OnTimeoutOnly<F> {
    fn record(&self, event: &Event<'_>) {
        if let Event::Done { outcome: Outcome::TimedOut, elapsed, .. } = *event {
            (self.0)(elapsed.unwrap_or_default());
        }
    }
}
