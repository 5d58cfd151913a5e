//! What the settings come to.

use std::time::Duration;

use buttress_kit::{Backoff, BackoffKind};

use crate::{BreakerConfig, Comparison, OnCancel, WindowConfig};

/// Below this many calls the rate rules say nothing, unless told otherwise.
const MINIMUM_CALLS: u32 = 20;
/// The share of failures that opens if no other rule is set.
const FAILURE_RATE: f64 = 0.5;

/// What the settings come to, with every default resolved; times in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) consecutive: u64,
    pub(crate) failure_rate: Option<f64>,
    pub(crate) failure_count: u64,
    pub(crate) slow_rate: Option<f64>,
    pub(crate) minimum: u64,
    /// The same for the rates; not below `minimum`.
    pub(crate) rate_minimum: u64,
    pub(crate) window: Option<WindowConfig>,
    pub(crate) comparison: Comparison,
    pub(crate) open: Backoff,
    /// The longest wait that a failure may ask for. 0: none may.
    pub(crate) retry_after: u64,
    pub(crate) probes: usize,
    /// How many probes decide, and how many failed or slow ones among them open the circuit again.
    pub(crate) sample: u64,
    pub(crate) failed_probes: u64,
    pub(crate) slow_probes: u64,
    /// How long it may be half-open.
    pub(crate) half_open: u64,
    /// Closes after that time.
    pub(crate) half_open_closes: bool,
    pub(crate) lease: Option<u64>,
    /// Something needs to know when a call began.
    pub(crate) timed: bool,
    /// How long a generation of counts is; 0: for ever.
    pub(crate) interval: u64,
    pub(crate) ramp: u64,
    pub(crate) on_cancel: OnCancel,
    /// A dropped call that was waited for less long says nothing.
    pub(crate) abandoned_after: u64,
}

impl Rules {
    /// The wait of a first opening, before chance; at least 1.
    pub(crate) fn first_wait(&self) -> u64 {
        let Backoff { base, ref list, max, .. } = self.open;
        let first = if self.open.kind == BackoffKind::List { list.first().copied() } else { None };
        nanos(first.unwrap_or(base).min(max)).max(1)
    }
}

impl BreakerConfig {
    /// What the settings come to.
    pub(crate) fn rules(&self) -> Rules {
        let other_rule = self.consecutive_failures.is_some()
            || self.failure_count.is_some()
            || self.slow_call_rate.is_some();
        let failure_rate = self.failure_rate.or((!other_rule).then_some(FAILURE_RATE));
        let minimum = self.minimum_calls.unwrap_or_else(|| {
            let fits = match self.window {
                WindowConfig::Count { calls } => calls,
                WindowConfig::Time { .. } | WindowConfig::Interval { .. } => MINIMUM_CALLS,
            };
            let rated = failure_rate.is_some() || self.slow_call_rate.is_some();
            if rated { fits.min(MINIMUM_CALLS) } else { 0 }
        });
        let interval = match self.window {
            WindowConfig::Interval { duration } => nanos(duration),
            _ => 0,
        };
        let rate_minimum = match (minimum, self.consecutive_failures) {
            (0, Some(failures)) => match self.window {
                WindowConfig::Count { calls } => failures.min(calls),
                WindowConfig::Time { .. } | WindowConfig::Interval { .. } => failures,
            },
            _ => minimum,
        };
        let windowed = failure_rate.is_some()
            || self.slow_call_rate.is_some()
            || self.failure_count.is_some()
            || minimum > 0;
        let sample = u64::from(match (self.half_open_sample, self.half_open_failure_rate) {
            (Some(sample), _) => sample,
            (None, Some(_)) => self.success_threshold.max(self.permitted_probes),
            (None, None) => self.success_threshold,
        });
        let failed_probes = match self.half_open_failure_rate {
            Some(rate) => self.comparison.least(sample, rate),
            None => sample.saturating_sub(self.success_threshold.into()).saturating_add(1),
        };
        Rules {
            consecutive: self.consecutive_failures.map_or(u64::MAX, u64::from),
            failure_rate,
            failure_count: self.failure_count.map_or(u64::MAX, u64::from),
            slow_rate: self.slow_call_rate,
            minimum: minimum.into(),
            rate_minimum: rate_minimum.into(),
            window: windowed.then_some(self.window),
            comparison: self.comparison,
            open: match self.open_for {
                Some(wait) => Backoff::constant(wait),
                None => self.open_backoff.clone(),
            },
            retry_after: self.retry_after_max.map_or(0, nanos),
            probes: self.permitted_probes as usize,
            sample,
            failed_probes,
            slow_probes: self.slow_call_rate.map_or(u64::MAX, |rate| self.comparison.least(sample, rate)),
            half_open: self.half_open_timeout.map(nanos).filter(|limit| *limit > 0).unwrap_or(u64::MAX),
            half_open_closes: self.half_open_timeout_closes,
            lease: self.probe_lease.map(nanos),
            timed: self.slow_call_duration.is_some() || self.call_timeout.is_some() || interval > 0,
            interval: if windowed { interval } else { 0 },
            ramp: self.ramp.map_or(0, |ramp| nanos(ramp.over)),
            on_cancel: self.on_cancel,
            abandoned_after: nanos(self.abandoned_after),
        }
    }
}

/// A time in nanoseconds; 584 years are as good as for ever.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
