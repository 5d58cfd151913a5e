use std::time::Duration;

use buttress_core::{ConfigError, Event, Outcome, config};

buttress_kit::settings! {
    /// The settings of a timeout, as plain data.
    #[derive(Eq)]
    pub struct TimeoutConfig, builder TimeoutBuilder {
        /// How long a call may take. Above zero. Default 5 s.
        #[serde(with = "buttress_kit::duration")]
        pub limit: Duration = Duration::from_secs(5),
        /// Whether the deadline is put into the context of the inner call, and an earlier one found there is obeyed.
        /// Default `true`.
        pub propagate: bool = true,
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

impl TimeoutBuilder {
    /// Calls `listen` with the time elapsed, once for every call that timed out.
    pub fn on_timeout<F>(mut self, listen: F) -> Self
    where
        F: Fn(Duration) + Send + Sync + 'static,
    {
        self.parts.listeners.on_event_untimed(move |event| {
            if let Event::Done { outcome: Outcome::TimedOut, elapsed, .. } = *event {
                listen(elapsed.unwrap_or_default());
            }
        });
        self
    }
}
