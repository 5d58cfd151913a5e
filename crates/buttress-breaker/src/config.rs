use std::time::Duration;

use buttress_core::{
    ConfigError,
    config::{MAX_DURATION, check_positive, check_ratio},
};
use buttress_kit::{Backoff, BackoffKind, Jitter, Mode};

use crate::State;

/// The largest count window. It takes two bits a call.
const MAX_COUNT: u32 = 1 << 20;
/// The most buckets of a time window.
const MAX_BUCKETS: u32 = 1024;
/// The most probes at once: each has a lease that is kept.
const MAX_PROBES: u32 = 1024;
/// Below this many calls the rate rules say nothing, unless told otherwise.
const MINIMUM_CALLS: u32 = 20;
/// The share of failures that opens where no other rule is set.
const FAILURE_RATE: f64 = 0.5;

/// The settings of a [`Breaker`](crate::Breaker), as plain data.
///
/// The rules are alternatives: the circuit opens as soon as one of them says so. Where none is set, it opens at
/// half of the calls failing (`failure_rate` = 0.5).
///
/// ```
/// use std::time::Duration;
/// use buttress_breaker::{BreakerConfig, Window};
///
/// let mut config = BreakerConfig::default();
/// config.window = Window::count(100);
/// config.slow_call_rate = Some(0.3);
/// let why = config.validate().unwrap_err();
/// assert_eq!(why.field(), "slow_call_rate"); // which calls are slow?
/// config.slow_call_duration = Some(Duration::from_secs(1));
/// config.validate().unwrap();
/// ```
#[derive(Clone, Debug, PartialEq)]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct BreakerConfig {
    /// Opens after this many failures in a row; a success starts the count again. Default: no such rule.
    pub consecutive_failures: Option<u32>,
    /// Opens at this share of failures in the window, `0.0 < rate <= 1.0`. Default: 0.5 where no other rule is
    /// set.
    pub failure_rate: Option<f64>,
    /// Opens at this many failures in the window ("3 of the last 10", "5 in a minute"). Default: no such rule.
    pub failure_count: Option<u32>,
    /// A call that took longer than this is slow, whether it failed or not. Default: no call is slow.
    #[serde(with = "buttress_kit::duration::option")]
    pub slow_call_duration: Option<Duration>,
    /// Opens at this share of slow calls in the window, `0.0 < rate <= 1.0`. Default: slow calls are only
    /// counted.
    pub slow_call_rate: Option<f64>,
    /// No rule opens the circuit before this many calls are in the window. Default: 20 where a rate is a rule
    /// (or what fits in the window), else 0. With 0 beside `consecutive_failures`, the rates wait for as many
    /// calls as that rule does: the first failure of all, which is a rate of 1.0, must not decide for both.
    pub minimum_calls: Option<u32>,
    /// Which calls the rules look at. Default: the last 10 s, in ten buckets.
    pub window: Window,
    /// Whether a rate opens when it is reached, or only above it. Default: when it is reached.
    pub comparison: Comparison,
    /// How long the circuit stays open, the same each time. Default: as `open_backoff` says.
    #[serde(with = "buttress_kit::duration::option")]
    pub open_for: Option<Duration>,
    /// How long the circuit stays open, longer each time it opens again without having closed; used where
    /// `open_for` is not set. Default: 5 s, then twice as long each time up to 60 s, give or take a tenth; so is
    /// each of its fields that a settings file leaves out.
    #[serde(deserialize_with = "text::open_backoff")]
    pub open_backoff: Backoff,
    /// How many probes may be under way at once while half-open. Default 1.
    pub permitted_probes: u32,
    /// How many successful probes close the circuit. Default 2.
    pub success_threshold: u32,
    /// Of how many probes `success_threshold` must succeed. The decision falls as soon as it is settled.
    /// Default: all, so that the first failed probe opens the circuit again.
    pub half_open_sample: Option<u32>,
    /// Opens again at this share of failures in the half-open sample, and closes as soon as that has become
    /// impossible. Then `success_threshold` only says how large the sample is, where `half_open_sample` does not.
    /// Default: no such rule.
    pub half_open_failure_rate: Option<f64>,
    /// Opens again after being half-open for this long without a verdict, as resilience4j's
    /// `maxWaitDurationInHalfOpenState`: with too few calls, or too few answers, a circuit may be half-open for any
    /// time. Begins with the call that finds the wait over, and counts as an opening. Who waits for an inner service
    /// meanwhile that is not ready takes a timer of tokio. Default, and zero: no limit.
    #[serde(with = "buttress_kit::duration::option")]
    pub half_open_timeout: Option<Duration>,
    /// Closes after `half_open_timeout` instead, also where probes have failed, but too few for a verdict: for so few
    /// calls that a sample would hardly ever be complete. Default `false`.
    pub half_open_timeout_closes: bool,
    /// After this time another call may take the place of a probe that has not come back; what that one then
    /// says changes nothing. Default: as long as the circuit was open, a minute at most, and twice as long for
    /// each lease that ran out since.
    #[serde(with = "buttress_kit::duration::option")]
    pub probe_lease: Option<Duration>,
    /// After closing, lets in a share of the calls that grows. Default: all at once.
    pub ramp: Option<Ramp>,
    /// Ends a call that takes longer, as a failure. Default: no limit; a timeout layer is the better place. A call
    /// that has to wait takes a timer of tokio, whose runtime must have time enabled.
    #[serde(with = "buttress_kit::duration::option")]
    pub call_timeout: Option<Duration>,
    /// What a call means that its caller dropped before it ended. Default [`OnCancel::WhenAll`].
    pub on_cancel: OnCancel,
    /// Whether an open circuit is "not ready" instead of "ready, and refuses": for use under a load balancer,
    /// to which a fast refusal looks like an idle endpoint. Who waits takes a timer of tokio. Default `false`.
    pub gate_readiness: bool,
    /// Whether calls are refused, or only counted as refused. Default [`Mode::Enforce`].
    pub mode: Mode,
    /// The state to begin in. Default closed.
    pub initial_state: State,
}

/// Which calls the rules look at.
///
/// As text: `{ count = 100 }`, `{ time = "10s" }`, `{ time = "1m", buckets = 60 }`, `{ interval = "30s" }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(try_from = "text::Window", into = "text::Window")]
#[non_exhaustive]
pub enum Window {
    /// The last calls, this many; truly sliding.
    Count {
        /// How many, up to 1 048 576.
        calls: u32,
    },
    /// The calls that ended within this time. It moves on by a bucket at a time, so what it holds is at most
    /// `duration` old, and covers at least `duration` less one bucket. Its memory depends on the number of
    /// buckets alone.
    Time {
        /// How long.
        duration: Duration,
        /// In how many steps it slides, up to 1024. With one it tumbles.
        buckets: u32,
    },
    /// Counts begin anew every `duration`, as by gobreaker's interval: each is a generation, and the result of a
    /// call that was let in during an earlier one changes nothing. So it should be much longer than calls take.
    Interval {
        /// How long.
        duration: Duration,
    },
}

impl Window {
    /// The last `calls` calls.
    pub const fn count(calls: u32) -> Self {
        Self::Count { calls }
    }

    /// The last `duration`, in ten buckets.
    pub const fn time(duration: Duration) -> Self {
        Self::Time { duration, buckets: 10 }
    }

    /// A generation of counts every `duration`.
    pub const fn interval(duration: Duration) -> Self {
        Self::Interval { duration }
    }

    /// With this many buckets; only for a window of time.
    pub const fn buckets(self, buckets: u32) -> Self {
        match self {
            Self::Time { duration, .. } => Self::Time { duration, buckets },
            other => other,
        }
    }
}

/// When a rate counts as reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Comparison {
    /// At the threshold or above it (`>=`), as resilience4j, Polly and Hystrix. The default.
    #[default]
    AtLeast,
    /// Above the threshold only (`>`), as opossum, cockatiel and Sentinel. A threshold of 1.0 is met by 1.0:
    /// nothing is above it.
    Above,
}

impl Comparison {
    /// Whether `part` of `whole` meets `threshold`. One division, correctly rounded: 3 of 10 is exactly what
    /// `0.3` means.
    pub(crate) fn met(self, part: u64, whole: u64, threshold: f64) -> bool {
        if part == 0 || whole == 0 {
            return false;
        }
        let ratio = part as f64 / whole as f64;
        match self {
            Self::AtLeast => ratio >= threshold,
            Self::Above => ratio > threshold || (threshold >= 1.0 && ratio >= 1.0),
        }
    }

    /// The smallest part of `whole` that meets `threshold`.
    fn least(self, whole: u64, threshold: f64) -> u64 {
        // A search, so that it can never disagree with `met` about rounding.
        let (mut low, mut high) = (1, whole.max(1));
        while low < high {
            let middle = low.midpoint(high);
            if self.met(middle, whole, threshold) {
                high = middle;
            } else {
                low = middle.saturating_add(1);
            }
        }
        low
    }
}

/// What a call means that its caller dropped before it ended.
///
/// Its permit is given back in every case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnCancel {
    /// One dropped call means nothing. But where a whole window of calls was dropped, `minimum_calls` at least,
    /// and none came to an end, they count as failures: so a service that hangs opens the circuit though a
    /// time-out further out ends every call. And where slow calls are a rule, a call dropped after more than
    /// `slow_call_duration` counts as slow. The default.
    #[default]
    WhenAll,
    /// Dropped calls never mean anything.
    Ignore,
    /// Each dropped call is a failure.
    Failure,
}

/// Lets in a share of the calls that grows from `start` to all, evenly over `over`, after the circuit closed.
///
/// The others are refused as if the circuit were open.
#[derive(Clone, Copy, Debug, PartialEq)]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Ramp {
    /// The share let in at first, `0.0 < start <= 1.0`. Default 0.1.
    pub start: f64,
    /// How long it takes to get to all. Default 10 s.
    #[serde(with = "buttress_kit::duration")]
    pub over: Duration,
}

impl Ramp {
    /// From a tenth to all within `over`.
    pub const fn over(over: Duration) -> Self {
        Self { start: 0.1, over }
    }

    /// Beginning with this share.
    pub const fn start(mut self, start: f64) -> Self {
        self.start = start;
        self
    }
}

impl Default for Ramp {
    fn default() -> Self {
        Self::over(Duration::from_secs(10))
    }
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            consecutive_failures: None,
            failure_rate: None,
            failure_count: None,
            slow_call_duration: None,
            slow_call_rate: None,
            minimum_calls: None,
            window: Window::time(Duration::from_secs(10)),
            comparison: Comparison::AtLeast,
            open_for: None,
            open_backoff: Backoff::exponential(Duration::from_secs(5))
                .with_max(Duration::from_secs(60))
                .with_jitter(Jitter::Symmetric(0.1)),
            permitted_probes: 1,
            success_threshold: 2,
            half_open_sample: None,
            half_open_failure_rate: None,
            half_open_timeout: None,
            half_open_timeout_closes: false,
            probe_lease: None,
            ramp: None,
            call_timeout: None,
            on_cancel: OnCancel::WhenAll,
            gate_readiness: false,
            mode: Mode::Enforce,
            initial_state: State::Closed,
        }
    }
}

impl BreakerConfig {
    /// The settings of go-fluxus's example: 3 failures in a row, open for 5 s, one success closes.
    pub fn fluxus() -> Self {
        Self {
            consecutive_failures: Some(3),
            open_for: Some(Duration::from_secs(5)),
            success_threshold: 1,
            ..Self::default()
        }
    }

    /// The defaults of blipee-os: 5 failures in a row or half of the calls of the last minute, 10 calls at
    /// least; calls end after 3 s and are slow after 1 s, of which half opens too; open for a minute; five
    /// successes close.
    pub fn blipee() -> Self {
        Self {
            consecutive_failures: Some(5),
            failure_rate: Some(0.5),
            slow_call_duration: Some(Duration::from_secs(1)),
            slow_call_rate: Some(0.5),
            minimum_calls: Some(10),
            window: Window::time(Duration::from_secs(60)),
            open_for: Some(Duration::from_secs(60)),
            success_threshold: 5,
            call_timeout: Some(Duration::from_secs(3)),
            ..Self::default()
        }
    }

    /// The defaults of didactic-engine: 5 failures in a row, open for a minute, two successes close.
    pub fn didactic() -> Self {
        Self {
            consecutive_failures: Some(5),
            open_for: Some(Duration::from_secs(60)),
            success_threshold: 2,
            ..Self::default()
        }
    }

    /// The defaults of opossum: more than half of the calls of the last 10 s, from the first call on; calls end
    /// after 10 s; open for 30 s; one success closes.
    pub fn opossum() -> Self {
        Self {
            failure_rate: Some(0.5),
            minimum_calls: Some(0),
            window: Window::time(Duration::from_secs(10)),
            comparison: Comparison::Above,
            open_for: Some(Duration::from_secs(30)),
            success_threshold: 1,
            call_timeout: Some(Duration::from_secs(10)),
            ..Self::default()
        }
    }

    /// Whether these settings can work.
    ///
    /// # Errors
    /// Names the first field that cannot, its value, and why.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |field, value: &dyn std::fmt::Debug, why| Err(ConfigError::new(field, value, why));
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
            Window::Count { calls } => {
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
            Window::Interval { duration } => check_window("window.interval", duration)?,
            Window::Time { duration, buckets } => {
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

    /// What the settings come to.
    pub(crate) fn rules(&self) -> Rules {
        let other_rule = self.consecutive_failures.is_some()
            || self.failure_count.is_some()
            || self.slow_call_rate.is_some();
        let failure_rate = self.failure_rate.or((!other_rule).then_some(FAILURE_RATE));
        let minimum = self.minimum_calls.unwrap_or_else(|| {
            let fits = match self.window {
                Window::Count { calls } => calls,
                Window::Time { .. } | Window::Interval { .. } => MINIMUM_CALLS,
            };
            let rated = failure_rate.is_some() || self.slow_call_rate.is_some();
            if rated { fits.min(MINIMUM_CALLS) } else { 0 }
        });
        let interval = match self.window {
            Window::Interval { duration } => nanos(duration),
            _ => 0,
        };
        let rate_minimum = match (minimum, self.consecutive_failures) {
            (0, Some(failures)) => match self.window {
                Window::Count { calls } => failures.min(calls),
                Window::Time { .. } | Window::Interval { .. } => failures,
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
        }
    }
}

impl Rules {
    /// The wait of a first opening, before chance; at least 1.
    pub(crate) fn first_wait(&self) -> u64 {
        let Backoff { base, ref list, max, .. } = self.open;
        let first = if self.open.kind == BackoffKind::List { list.first().copied() } else { None };
        nanos(first.unwrap_or(base).min(max)).max(1)
    }
}

fn check_window(field: &'static str, duration: Duration) -> Result<(), ConfigError> {
    if (Duration::from_millis(1)..=MAX_DURATION).contains(&duration) {
        return Ok(());
    }
    Err(ConfigError::new(field, duration, "must be from 1 ms to 1000 years"))
}

/// A time in nanoseconds; 584 years are as good as for ever.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

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
    pub(crate) window: Option<Window>,
    pub(crate) comparison: Comparison,
    pub(crate) open: Backoff,
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
}

mod text {
    use std::time::Duration;

    use buttress_kit::{Backoff, BackoffKind, Jitter};
    use serde::Deserialize;

    /// Reads a backoff that is the breaker's where it says nothing: what is usual between retries, full jitter from
    /// 100 ms, would hardly keep a circuit open.
    pub(super) fn open_backoff<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Backoff, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Text {
            kind: Option<BackoffKind>,
            #[serde(default, with = "buttress_kit::duration::option")]
            base: Option<Duration>,
            factor: Option<f64>,
            #[serde(default, with = "buttress_kit::duration::option")]
            step: Option<Duration>,
            #[serde(default, with = "buttress_kit::duration::option")]
            max: Option<Duration>,
            jitter: Option<Jitter>,
            #[serde(default, with = "buttress_kit::duration::list")]
            list: Vec<Duration>,
        }
        let text = Text::deserialize(from)?;
        let mut backoff = super::BreakerConfig::default().open_backoff;
        backoff.kind = text.kind.unwrap_or(backoff.kind);
        backoff.base = text.base.unwrap_or(backoff.base);
        backoff.factor = text.factor.unwrap_or(backoff.factor);
        backoff.step = text.step;
        backoff.max = text.max.unwrap_or(backoff.max);
        backoff.jitter = text.jitter.unwrap_or(backoff.jitter);
        backoff.list = text.list;
        Ok(backoff)
    }

    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Window {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u32>,
        #[serde(default, with = "buttress_kit::duration::option", skip_serializing_if = "Option::is_none")]
        time: Option<Duration>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        buckets: Option<u32>,
        #[serde(default, with = "buttress_kit::duration::option", skip_serializing_if = "Option::is_none")]
        interval: Option<Duration>,
    }

    impl TryFrom<Window> for super::Window {
        type Error = &'static str;

        fn try_from(text: Window) -> Result<Self, &'static str> {
            match (text.count, text.time, text.buckets, text.interval) {
                (Some(calls), None, None, None) => Ok(Self::count(calls)),
                (None, Some(duration), None, None) => Ok(Self::time(duration)),
                (None, Some(duration), Some(buckets), None) => Ok(Self::time(duration).buckets(buckets)),
                (None, None, None, Some(duration)) => Ok(Self::interval(duration)),
                _ => Err("a window is either `count`, or `time` with or without `buckets`, or `interval`"),
            }
        }
    }

    impl From<super::Window> for Window {
        fn from(window: super::Window) -> Self {
            let mut text = Self { count: None, time: None, buckets: None, interval: None };
            match window {
                super::Window::Count { calls } => text.count = Some(calls),
                super::Window::Interval { duration } => text.interval = Some(duration),
                super::Window::Time { duration, buckets } => {
                    (text.time, text.buckets) = (Some(duration), Some(buckets));
                }
            }
            text
        }
    }
}
