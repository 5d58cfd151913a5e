use std::time::Duration;

use buttress_core::{ConfigError, Event, Rejection, config::check_positive};
use buttress_kit::Mode;

/// The largest limit: the word of the gate has 24 bits for it.
pub(crate) const MAX_LIMIT: u32 = (1 << 24) - 1;

buttress_kit::settings! {
    /// The settings of a bulkhead, as plain data.
    #[derive(Eq)]
    pub struct BulkheadConfig, builder BulkheadBuilder {
        /// The most calls that run at once, `1..=16_777_215`. Default 10.
        pub max_concurrent: u32 = 10,
        /// The most calls that wait for a slot; with 0, a call that cannot run at once is refused. Default 100.
        pub max_queue: u32 = 100,
        /// How long a call may wait, longer than zero; `None` for as long as it takes. Default 30 s.
        #[serde(with = "buttress_kit::duration::optional")]
        pub queue_timeout: Option<Duration> = Some(Duration::from_secs(30)),
        /// Whether calls are held back and refused, or only counted. Default [`Mode::Enforce`].
        pub mode: Mode = Mode::Enforce,
        /// Whether the time of every call is taken for the average in the snapshot, which costs two clock reads a
        /// call. It is taken anyway while an observer asks for times. Default `false`.
        pub timed: bool = false,
    }
}

impl BulkheadConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// Names the setting that cannot work, its value, and why.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |why| Err(ConfigError::new("max_concurrent", self.max_concurrent, why));
        match self.max_concurrent {
            0 => refuse("no call could ever run; to let none in, use `close`"),
            limit if limit > MAX_LIMIT => refuse("must be at most 16777215"),
            _ => self.queue_timeout.map_or(Ok(()), |timeout| check_positive("queue_timeout", timeout)),
        }
    }
}

impl BulkheadBuilder {
    /// Calls `listen` with every refusal; `code()` says why. It does not ask for times, as a listener to all events does.
    pub fn on_reject<F>(mut self, listen: F) -> Self
    where
        F: Fn(&Rejection) + Send + Sync + 'static,
    {
        self.parts.listeners.on_event_untimed(move |event| {
            if let Event::Refused { rejection, shadow: false } = event {
                listen(rejection);
            }
        });
        self
    }
}
