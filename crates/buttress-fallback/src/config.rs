use std::time::Duration;

use buttress_core::{
    ConfigError, Event, Name, Observer, config,
    observe::{self, Emitter, PolicyKind},
};

use crate::Fallback;

/// The settings of a fallback, as plain data. They concern stored answers
/// ([`last_good`](crate::FallbackLayer::last_good)) only.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct FallbackConfig {
    /// How old a stored answer may be when it is given. Above zero. Default 5 min.
    #[cfg_attr(feature = "serde", serde(with = "buttress_kit::duration"))]
    pub max_age: Duration,
    /// How many answers are stored at most, one per key. Above zero. Default 1024.
    pub max_keys: usize,
}

impl Default for FallbackConfig {
    fn default() -> Self {
        Self { max_age: Duration::from_secs(300), max_keys: 1024 }
    }
}

impl FallbackConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// Names the setting that cannot work, its value, and why.
    pub fn validate(&self) -> Result<(), ConfigError> {
        config::check_positive("max_age", self.max_age)?;
        if self.max_keys == 0 {
            let why = "must be at least 1; use a fallback without `last_good` to store nothing";
            return Err(ConfigError::new("max_keys", self.max_keys, why));
        }
        Ok(())
    }
}

/// Makes a [`Fallback`]; from [`Fallback::builder`].
#[derive(Debug)]
#[must_use = "call `build`"]
pub struct FallbackBuilder {
    config: FallbackConfig,
    emitter: Emitter,
}

impl FallbackBuilder {
    pub(crate) fn new(name: Name) -> Self {
        Self { config: FallbackConfig::default(), emitter: Emitter::new(PolicyKind::Fallback, name) }
    }

    /// Takes all settings at once.
    pub fn config(mut self, config: FallbackConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets how old a stored answer may be when it is given.
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.config.max_age = max_age;
        self
    }

    /// Sets how many answers are stored at most.
    pub fn max_keys(mut self, max_keys: usize) -> Self {
        self.config.max_keys = max_keys;
        self
    }

    /// Adds an observer for this policy alone.
    pub fn observe(self, observer: impl Observer) -> Self {
        self.emitter.observe(&observer);
        self
    }

    /// Calls `listen` with every event of this policy. It costs two clock reads per call.
    pub fn on_event<F>(self, listen: F) -> Self
    where
        F: Fn(&Event<'_>) + Send + Sync + 'static,
    {
        self.emitter.add(observe::recorder_fn(listen));
        self
    }

    /// Makes the fallback.
    ///
    /// # Errors
    /// Names the setting that cannot work, its value, and why.
    pub fn build(self) -> Result<Fallback, ConfigError> {
        self.config.validate()?;
        Ok(Fallback::of(self.config, self.emitter))
    }
}
