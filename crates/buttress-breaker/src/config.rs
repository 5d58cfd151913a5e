use std::time::Duration;

use buttress_core::{ConfigError, Kind};
use buttress_kit::{Backoff, Chance, Emitter, Jitter, Mode, keyed_settings, settings};

use crate::State;

settings! {
    /// The settings of a [`Breaker`](crate::Breaker), as plain data.
    ///
    /// The rules are alternatives: the circuit opens as soon as one of them says so. If none is set, it opens if half
    /// of the calls fail (`failure_rate` = 0.5).
    ///
    /// ```
    /// # mod buttress { pub use {buttress_breaker::*, buttress_core::*}; }
    /// use std::time::Duration;
    /// use buttress::{BreakerConfig, WindowConfig};
    ///
    /// let mut config = BreakerConfig::default();
    /// config.window = WindowConfig::count(100);
    /// config.slow_call_rate = Some(0.3);
    /// let why = config.validate().unwrap_err();
    /// assert_eq!(why.field(), "slow_call_rate"); // which calls are slow?
    /// config.slow_call_duration = Some(Duration::from_secs(1));
    /// config.validate().unwrap();
    /// ```
    pub struct BreakerConfig, builder BreakerBuilder {
        /// Opens after this many failures in a row; a success starts the count again. Default: no such rule.
        #[serde(with = "buttress_kit::optional")]
        pub consecutive_failures: Option<u32> = None,
        /// Opens at this share of failures in the window, `0.0 < rate <= 1.0`. Default: 0.5 if no other rule is set.
        #[serde(with = "buttress_kit::optional")]
        pub failure_rate: Option<f64> = None,
        /// Opens at this many failures in the window ("3 of the last 10", "5 in a minute"). Default: no such rule.
        #[serde(with = "buttress_kit::optional")]
        pub failure_count: Option<u32> = None,
        /// A call that took longer than this is slow, whether it failed or not. Default: no call is slow.
        #[serde(with = "buttress_kit::duration::optional")]
        pub slow_call_duration: Option<Duration> = None,
        /// Opens at this share of slow calls in the window, `0.0 < rate <= 1.0`. Default: slow calls are only
        /// counted.
        #[serde(with = "buttress_kit::optional")]
        pub slow_call_rate: Option<f64> = None,
        /// No rule opens the circuit before this many calls are in the window. Default: 20 if a rate is a rule (or
        /// what fits in the window), else 0. With 0 beside `consecutive_failures`, the rates wait for as many calls as
        /// that rule does: the first failure of all, which is a rate of 1.0, must not decide for both.
        #[serde(with = "buttress_kit::optional")]
        pub minimum_calls: Option<u32> = None,
        /// Which calls the rules look at. Default: the last 10 s, in ten buckets.
        pub window: WindowConfig = WindowConfig::time(Duration::from_secs(10)),
        /// Whether a rate opens when it is reached, or only above it. Default: when it is reached.
        pub comparison: Comparison = Comparison::AtLeast,
        /// How long the circuit stays open: exactly this, each time. Default: as `open_backoff` says.
        #[serde(with = "buttress_kit::duration::optional")]
        pub open_for: Option<Duration> = None,
        /// How long the circuit stays open, longer each time it opens again without having closed; used if `open_for`
        /// is not set. Default: 5 s, then twice as long each time up to 60 s, give or take half of it, so that circuits
        /// that opened together are not probed together; so is each of its fields that a settings file leaves out.
        #[serde(deserialize_with = "text::open_backoff")]
        pub open_backoff: Backoff = Backoff::exponential(Duration::from_secs(5))
            .with_max(Duration::from_secs(60))
            .with_jitter(Jitter::Symmetric(0.5)),
        /// How long the circuit stays open at least if the failure that opens it says when to try again (`Retry-After`, or
        /// whatever the classifier makes of an answer), up to this time: a quota that is used up lasts longer than a
        /// crash. Also of a failed probe. Default: only the settings above say how long.
        #[serde(with = "buttress_kit::duration::optional")]
        pub retry_after_max: Option<Duration> = None,
        /// How many probes may be under way at once while half-open. Default 1.
        pub permitted_probes: u32 = 1,
        /// How many successful probes close the circuit. Default 2.
        pub success_threshold: u32 = 2,
        /// Of how many probes `success_threshold` must succeed. The decision falls as soon as it is settled. Default:
        /// all, so that the first failed probe opens the circuit again.
        #[serde(with = "buttress_kit::optional")]
        pub half_open_sample: Option<u32> = None,
        /// Opens again at this share of failures in the half-open sample, and closes as soon as that has become
        /// impossible. Then `success_threshold` only says how large the sample is, if `half_open_sample` does not.
        /// Default: no such rule.
        #[serde(with = "buttress_kit::optional")]
        pub half_open_failure_rate: Option<f64> = None,
        /// Opens again after being half-open for this long without a verdict, as resilience4j's
        /// `maxWaitDurationInHalfOpenState`: with too few calls, or too few answers, a circuit may be half-open for any
        /// time. Begins with the call that finds the wait over, and counts as an opening. Calls that meanwhile wait for
        /// an inner service that is not ready take a timer of tokio. Default, and zero: no limit.
        #[serde(with = "buttress_kit::duration::optional")]
        pub half_open_timeout: Option<Duration> = None,
        /// Closes after `half_open_timeout` instead, even if probes have failed, but too few for a verdict: for so few
        /// calls that a sample would hardly ever be complete. Default `false`.
        pub half_open_timeout_closes: bool = false,
        /// After this time another call may take the slot of a probe that has not come back; what that one then says
        /// changes nothing. Default: as long as the circuit was open, a minute at most, and twice as long for each
        /// lease that ran out since.
        #[serde(with = "buttress_kit::duration::optional")]
        pub probe_lease: Option<Duration> = None,
        /// After closing, lets in a share of the calls that grows. Default: all at once.
        #[serde(with = "buttress_kit::optional")]
        pub ramp: Option<Ramp> = None,
        /// Ends a call that takes longer, as a failure. Default: no limit; a timeout layer is the better place. A call
        /// that has to wait takes a timer of tokio, whose runtime must have time enabled.
        #[serde(with = "buttress_kit::duration::optional")]
        pub call_timeout: Option<Duration> = None,
        /// What a call means that its caller dropped before it ended. Default [`OnCancel::WhenAll`].
        pub on_cancel: OnCancel = OnCancel::WhenAll,
        /// With [`OnCancel::WhenAll`], a dropped call stands in for a failure only if its caller had waited for at least
        /// this long, and for three times as long as calls take that succeed. Default 100 ms.
        #[serde(with = "buttress_kit::duration")]
        pub abandoned_after: Duration = Duration::from_millis(100),
        /// Whether an open circuit is "not ready" instead of "ready, and refuses": for use under a load balancer, to
        /// which a fast refusal looks like an idle endpoint. Calls that wait take a timer of tokio. Without effect by
        /// key. Default `false`.
        pub gate_readiness: bool = false,
        /// Whether calls are refused, or only counted as refused. Default [`Mode::Enforce`].
        pub mode: Mode = Mode::Enforce,
        /// The state to begin in. Default closed.
        pub initial_state: State = State::Closed,
    }
}

keyed_settings!(BreakerBuilder);

impl<Form> BreakerBuilder<Form> {
    /// Makes jitter and ramp repeatable.
    pub fn seed(mut self, seed: u64) -> Self {
        self.parts.seed = Some(seed);
        self
    }

    /// Checks the settings, and attaches the listeners.
    pub(crate) fn checked(self, kind: Kind) -> Result<(BreakerConfig, Emitter, Chance, Form), ConfigError> {
        let chance = self.parts.seed.map_or_else(Chance::random, Chance::seeded);
        let (config, emitter) = self.parts.checked(kind)?;
        Ok((config, emitter, chance, self.form))
    }
}

/// Which calls the rules look at.
///
/// As text: `{ count = 100 }`, `{ time = "10s" }`, `{ time = "1m", buckets = 60 }`, `{ interval = "30s" }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "text::WindowText", into = "text::WindowText")]
#[non_exhaustive]
pub enum WindowConfig {
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

impl WindowConfig {
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", expecting = "\"at_least\" or \"above\"")]
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
    pub(crate) fn least(self, whole: u64, threshold: f64) -> u64 {
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", expecting = "\"when_all\", \"ignore\" or \"failure\"")]
#[non_exhaustive]
pub enum OnCancel {
    /// People who leave mean nothing. But a call that was dropped after a long wait (`abandoned_after`), while no other
    /// call settled, may be one of a service that hangs: if a whole window of calls ended like that, `minimum_calls` at
    /// least, they count as failures. So a hang opens the circuit though a time-out further out ends every call.
    /// Half-open, three such probes in a row open it again, or as many as the sample has if that is more. And if slow
    /// calls are a rule, a call dropped after more than `slow_call_duration` counts as slow. The default.
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
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { start = 0.1, over = \"10s\" }")]
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

mod text {
    use std::time::Duration;

    use buttress_kit::{Backoff, BackoffKind, Jitter};
    use serde::Deserialize;

    /// Reads a backoff that is the breaker's own in what it leaves out: what is usual between retries, full jitter from
    /// 100 ms, would hardly keep a circuit open.
    pub(super) fn open_backoff<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Backoff, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields, expecting = "a table such as { base = \"5s\", max = \"60s\" }")]
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
    #[serde(
        deny_unknown_fields,
        expecting = "a window such as { count = 100 }, { time = \"10s\", buckets = 10 } or { interval = \"1m\" }"
    )]
    pub(super) struct WindowText {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u32>,
        #[serde(default, with = "buttress_kit::duration::option", skip_serializing_if = "Option::is_none")]
        time: Option<Duration>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        buckets: Option<u32>,
        #[serde(default, with = "buttress_kit::duration::option", skip_serializing_if = "Option::is_none")]
        interval: Option<Duration>,
    }

    impl TryFrom<WindowText> for super::WindowConfig {
        type Error = &'static str;

        fn try_from(text: WindowText) -> Result<Self, &'static str> {
            match (text.count, text.time, text.buckets, text.interval) {
                (Some(calls), None, None, None) => Ok(Self::count(calls)),
                (None, Some(duration), None, None) => Ok(Self::time(duration)),
                (None, Some(duration), Some(buckets), None) => Ok(Self::time(duration).buckets(buckets)),
                (None, None, None, Some(duration)) => Ok(Self::interval(duration)),
                _ => Err("a window is either `count`, or `time` with or without `buckets`, or `interval`"),
            }
        }
    }

    impl From<super::WindowConfig> for WindowText {
        fn from(window: super::WindowConfig) -> Self {
            let mut text = Self { count: None, time: None, buckets: None, interval: None };
            match window {
                super::WindowConfig::Count { calls } => text.count = Some(calls),
                super::WindowConfig::Interval { duration } => text.interval = Some(duration),
                super::WindowConfig::Time { duration, buckets } => {
                    (text.time, text.buckets) = (Some(duration), Some(buckets));
                }
            }
            text
        }
    }
}
