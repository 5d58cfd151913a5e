use buttress_core::ConfigError;

buttress_kit::settings! {
    /// The settings of a [`Toy`](crate::Toy), as plain data.
    #[derive(Copy)]
    pub struct ToyConfig, builder ToyBuilder {
        /// How many failures shut it. At least 1. Default 3.
        pub max_failures: u32 = 3,
    }
}

impl ToyConfig {
    /// Checks that these settings can work.
    ///
    /// # Errors
    /// Names the setting that cannot, its value, and why.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self.max_failures {
            0 => Err(ConfigError::new("max_failures", 0, "it would never open; must be at least 1")),
            _ => Ok(()),
        }
    }
}
