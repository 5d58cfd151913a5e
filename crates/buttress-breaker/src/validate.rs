//! Which settings can work.

use std::{fmt::Debug, time::Duration};

use buttress_core::{
    ConfigError,
    config::{MAX_DURATION, check_bounded, check_positive, check_ratio},
};

use crate::{BreakerConfig, WindowConfig};

/// The largest count window. It takes two bits a call.
const MAX_COUNT: u32 = 1 << 20;
/// The most buckets of a time window.
const MAX_BUCKETS: u32 = 1024;
/// The most probes at once: each has a lease that is kept.
const MAX_PROBES: u32 = 1024;

impl BreakerConfig {
    /// Whether these settings can work.
    ///
    /// # Errors
    /// Names the first field that cannot, its value, and why.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |field, value: &dyn Debug, why| Err(ConfigError::new(field, value, why));
        if self.consecutive_failures == Some(0) {
            return refuse("consecutive_failures", &0, "must be at least 1; leave it out for no such rule");
        }
        if self.failure_count == Some(0) {
            return refuse("failure_count", &0, "must be at least 1; leave it out for no such rule");
        }
        for (field, rate) in [
            ("failure_rate", self.failure_rate),
            ("slow_call_rate", self.slow_call_rate),
            ("half_open_failure_rate", self.half_open_failure_rate),
        ] {
            if let Some(rate) = rate {
                check_ratio(field, rate)?;
            }
        }
        if let Some(slow) = self.slow_call_duration {
            check_positive("slow_call_duration", slow)?;
        }
        if let (Some(rate), None) = (self.slow_call_rate, self.slow_call_duration) {
            return refuse("slow_call_rate", &rate, "needs `slow_call_duration` to say which calls are slow");
        }
        self.validate_window()?;
        self.validate_half_open()?;
        if let Some(wait) = self.open_for {
            check_positive("open_for", wait)?;
        }
        if let Some(max) = self.retry_after_max {
            check_positive("retry_after_max", max)?;
        }
        self.open_backoff.validate().map_err(|why| why.within("open_backoff"))?;
        if self.open_backoff.base.is_zero() {
            return refuse(
                "open_backoff.base",
                &self.open_backoff.base,
                "must be longer than zero, or the circuit is never open",
            );
        }
        if self.open_backoff.list.iter().any(Duration::is_zero) {
            let why = "must have no wait of zero, or the circuit is never open";
            return refuse("open_backoff.list", &self.open_backoff.list, why);
        }
        check_bounded("abandoned_after", self.abandoned_after)?;
        if let Some(ramp) = self.ramp {
            check_ratio("ramp.start", ramp.start)?;
            check_positive("ramp.over", ramp.over)?;
        }
        if let Some(limit) = self.call_timeout {
            check_positive("call_timeout", limit)?;
            match self.slow_call_duration {
                Some(slow) if slow >= limit => {
                    let why = "must be below `call_timeout`, which ends calls before they can be slow";
                    return refuse("slow_call_duration", &slow, why);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn validate_window(&self) -> Result<(), ConfigError> {
        match self.window {
            WindowConfig::Count { calls } => {
                if !(1..=MAX_COUNT).contains(&calls) {
                    return Err(ConfigError::new("window.count", calls, "must be from 1 to 1048576 calls"));
                }
                if let Some(minimum) = self.minimum_calls.filter(|minimum| *minimum > calls) {
                    let why = "must not be above the calls that the window holds, or no rule is ever asked";
                    return Err(ConfigError::new("minimum_calls", minimum, why));
                }
                if let Some(count) = self.failure_count.filter(|count| *count > calls) {
                    let why = "must not be above the calls that the window holds, or it is never reached";
                    return Err(ConfigError::new("failure_count", count, why));
                }
            }
            WindowConfig::Interval { duration } => check_window("window.interval", duration)?,
            WindowConfig::Time { duration, buckets } => {
                check_window("window.time", duration)?;
                if !(1..=MAX_BUCKETS).contains(&buckets) {
                    return Err(ConfigError::new("window.buckets", buckets, "must be from 1 to 1024"));
                }
            }
        }
        Ok(())
    }

    fn validate_half_open(&self) -> Result<(), ConfigError> {
        if !(1..=MAX_PROBES).contains(&self.permitted_probes) {
            let why = "must be from 1 to 1024, or the circuit never closes";
            return Err(ConfigError::new("permitted_probes", self.permitted_probes, why));
        }
        if self.success_threshold == 0 {
            return Err(ConfigError::new("success_threshold", 0, "must be at least 1"));
        }
        match self.half_open_sample {
            Some(0) => return Err(ConfigError::new("half_open_sample", 0, "must be at least 1")),
            Some(sample) if sample < self.success_threshold && self.half_open_failure_rate.is_none() => {
                let why = "must not be below `success_threshold`, or the circuit never closes";
                return Err(ConfigError::new("half_open_sample", sample, why));
            }
            _ => {}
        }
        if let Some(limit) = self.half_open_timeout.filter(|limit| !limit.is_zero()) {
            check_positive("half_open_timeout", limit)?;
        } else if self.half_open_timeout_closes {
            let why = "needs `half_open_timeout` to say when";
            return Err(ConfigError::new("half_open_timeout_closes", true, why));
        }
        self.probe_lease.map_or(Ok(()), |lease| check_positive("probe_lease", lease))
    }
}

fn check_window(field: &'static str, duration: Duration) -> Result<(), ConfigError> {
    if (Duration::from_millis(1)..=MAX_DURATION).contains(&duration) {
        return Ok(());
    }
    Err(ConfigError::new(field, duration, "must be from 1 ms to 1000 years"))
}
