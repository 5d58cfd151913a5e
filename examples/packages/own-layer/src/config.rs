use buttress_core::ConfigError;
use buttress_kit::Mode;

buttress_kit::settings! {
    /// The settings of a [`Turnstile`](crate::Turnstile), as plain data.
    #[derive(Copy)]
    pub struct TurnstileConfig, builder TurnstileBuilder {
        /// The most calls under way at once. At least 1. Default 100.
        pub max_in_flight: u32 = 100,
        /// Whether it refuses calls, or only counts those it would refuse. Default: refuses.
        pub mode: Mode = Mode::Enforce,
    }
}

buttress_kit::keyed_settings!(TurnstileBuilder);

impl TurnstileConfig {
    /// Checks that these settings can work.
    ///
    /// # Errors
    /// Names the setting that cannot, its value, and why.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self.max_in_flight {
            0 => Err(ConfigError::new("max_in_flight", 0, "no call could ever pass; must be at least 1")),
            _ => Ok(()),
        }
    }
}
