use std::time::Duration;

use buttress_core::{ConfigError, config};

buttress_kit::settings! {
    /// The settings of a fallback, as plain data. They concern stored answers
    /// ([`last_good`](crate::FallbackLayer::last_good)) only.
    #[derive(Eq)]
    pub struct FallbackConfig, builder FallbackBuilder {
        /// How old a stored answer may be when it is given. Above zero. Default 5 min.
        #[serde(with = "buttress_kit::duration")]
        pub max_age: Duration = Duration::from_secs(300),
        /// How many answers are stored at most, one per key. Above zero. Default 1024.
        pub max_keys: usize = 1024,
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
