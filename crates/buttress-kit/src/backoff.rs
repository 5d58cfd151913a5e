use std::time::Duration;

use buttress_core::{
    ConfigError,
    config::{check_bounded, check_positive},
};
use serde::{Deserialize, Serialize};

use crate::Chance;

/// How the waits between attempts grow. Plain data: no clock, no randomness of its own.
///
/// Every wait is at most `max`, jitter included, for any number of attempts; nothing overflows. The first wait
/// is `base`.
///
/// ```
/// # extern crate buttress_kit as buttress;
/// use std::time::Duration;
/// use buttress::{Backoff, BackoffState};
///
/// let backoff = Backoff::exponential(Duration::from_millis(100)).with_max(Duration::from_secs(1));
/// let mut state = BackoffState::default();
/// let waits: Vec<u128> = (0..6).map(|_| backoff.next(&mut state, 0.5).as_millis()).collect();
/// assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table such as { kind = \"exponential\", base = \"100ms\" }"
)]
#[non_exhaustive]
pub struct Backoff {
    /// How the wait depends on the number of the retry. Default exponential.
    pub kind: BackoffKind,
    /// The first wait. Default 100 ms. Zero means no wait at all.
    #[serde(with = "crate::duration")]
    pub base: Duration,
    /// What an exponential wait is multiplied by each time; at least 1.0. Default 2.0.
    pub factor: f64,
    /// What a linear wait grows by each time. Default: `base`.
    #[serde(with = "crate::duration::option", skip_serializing_if = "Option::is_none")]
    pub step: Option<Duration>,
    /// The hard cap of every wait, jitter included. Default 30 s.
    #[serde(with = "crate::duration")]
    pub max: Duration,
    /// What chance adds or takes. Default none; [`Backoff::default`] has `Full`.
    pub jitter: Jitter,
    /// The waits of `BackoffKind::List`, in order; the last one stays. None may be above `max`.
    #[serde(with = "crate::duration::list", skip_serializing_if = "Vec::is_empty")]
    pub list: Vec<Duration>,
}

/// How the wait depends on `n`, the 0-based number of the retry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", expecting = "how waits grow, as text such as \"exponential\"")]
#[non_exhaustive]
pub enum BackoffKind {
    /// `base`
    Constant,
    /// `base + n · step`
    Linear,
    /// `base · factorⁿ`
    #[default]
    Exponential,
    /// `(f(n + Uₙ) − f(n − 1 + Uₙ₋₁)) · base / 1.4` with `f(t) = 2ᵗ · tanh √(4t)` and `U` even in `0..1`: the
    /// second version of decorrelated jitter, known from Polly's contributed wait-and-retry. Takes no other
    /// jitter.
    Decorrelated,
    /// As listed; after the end, the last one.
    List,
}

/// What chance does to a wait; `U` is even in `0..1`. The result never exceeds the backoff's `max`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", expecting = "a jitter such as \"full\" or { symmetric = 0.1 }")]
#[non_exhaustive]
pub enum Jitter {
    /// Nothing.
    #[default]
    None,
    /// Adds `U · time`.
    #[serde(with = "crate::duration")]
    Additive(Duration),
    /// Adds `U · share · wait`. The share is in `0.0..=1.0`.
    Proportional(f64),
    /// Adds or takes up to `share · wait`. The share is in `0.0..=1.0`.
    Symmetric(f64),
    /// Half of the wait, and `U` times the other half (AWS Architecture Blog, "Exponential backoff and jitter").
    Equal,
    /// `U` times the wait (same source).
    Full,
}

/// Where a sequence of waits stands. Kept per call, so that calls do not disturb each other.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BackoffState {
    retries: u32,
    decorrelated: f64,
}

impl BackoffState {
    /// How many waits were given out.
    pub fn retries(&self) -> u32 {
        self.retries
    }
}

impl Default for Backoff {
    /// Exponential from 100 ms by 2 up to 30 s, full jitter.
    fn default() -> Self {
        Self::exponential(Duration::from_millis(100)).with_jitter(Jitter::Full)
    }
}

impl Backoff {
    const fn of(kind: BackoffKind, base: Duration) -> Self {
        let max = Duration::from_secs(30);
        Self { kind, base, factor: 2.0, step: None, max, jitter: Jitter::None, list: Vec::new() }
    }

    /// Always `wait`; the cap is raised where it would cut that.
    pub fn constant(wait: Duration) -> Self {
        let made = Self::of(BackoffKind::Constant, wait);
        let max = made.max.max(wait);
        made.with_max(max)
    }

    /// No wait at all.
    pub const fn none() -> Self {
        Self::of(BackoffKind::Constant, Duration::ZERO)
    }

    /// `base`, `2 · base`, `3 · base`, …; another growth by [`with_step`](Self::with_step).
    pub const fn linear(base: Duration) -> Self {
        Self::of(BackoffKind::Linear, base)
    }

    /// `base`, `2 · base`, `4 · base`, …; another growth by [`with_factor`](Self::with_factor).
    pub const fn exponential(base: Duration) -> Self {
        Self::of(BackoffKind::Exponential, base)
    }

    /// Exponential with decorrelated jitter around `base`, see [`BackoffKind::Decorrelated`].
    pub const fn decorrelated(base: Duration) -> Self {
        Self::of(BackoffKind::Decorrelated, base)
    }

    /// These waits in order, then the last one again and again. The cap is raised where it would cut one.
    pub fn list(waits: impl Into<Vec<Duration>>) -> Self {
        let waits = waits.into();
        let made = Self::of(BackoffKind::List, waits.first().copied().unwrap_or_default());
        let max = waits.iter().copied().fold(made.max, Duration::max);
        Self { list: waits, ..made }.with_max(max)
    }

    /// With this factor, for exponential waits.
    pub fn with_factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// With this step, for linear waits.
    pub fn with_step(mut self, step: Duration) -> Self {
        self.step = Some(step);
        self
    }

    /// With this hard cap.
    pub fn with_max(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }

    /// With this jitter.
    pub fn with_jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Whether these settings can work.
    ///
    /// # Errors
    /// Names the first field that cannot, its value, and why.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_bounded("base", self.base)?;
        check_bounded("step", self.step.unwrap_or_default())?;
        check_positive("max", self.max)?;
        if self.base > self.max {
            let why = "must not be above `max`, which has a value of its own unless set; raise that as well";
            return Err(ConfigError::new("base", self.base, why));
        }
        if !(self.factor.is_finite() && (1.0..=1e9).contains(&self.factor)) {
            return Err(ConfigError::new("factor", self.factor, "must be a number from 1.0 to 1e9"));
        }
        if self.kind == BackoffKind::List && self.list.is_empty() {
            return Err(ConfigError::new("list", &self.list, "must have at least one wait"));
        }
        for wait in &self.list {
            check_bounded("list", *wait)?;
            if *wait > self.max {
                return Err(ConfigError::new("list", wait, "must not be above `max`, which would cut it"));
            }
        }
        match self.jitter {
            Jitter::Additive(time) => check_bounded("jitter", time),
            Jitter::Proportional(share) | Jitter::Symmetric(share) if !(0.0..=1.0).contains(&share) => {
                Err(ConfigError::new("jitter", share, "must be a share from 0.0 to 1.0"))
            }
            _ => Ok(()),
        }
    }

    /// The next wait. `unit` is a random number in `0.0..1.0`; the state moves on by one.
    pub fn next(&self, state: &mut BackoffState, unit: f64) -> Duration {
        let n = state.retries;
        state.retries = n.saturating_add(1);
        let base = self.base.as_secs_f64();
        let raw = match self.kind {
            BackoffKind::Constant => base,
            BackoffKind::Linear => base + f64::from(n) * self.step.unwrap_or(self.base).as_secs_f64(),
            BackoffKind::Exponential if base == 0.0 => 0.0,
            BackoffKind::Exponential => base * self.factor.powf(f64::from(n)),
            BackoffKind::List => {
                let at = usize::try_from(n).unwrap_or(usize::MAX).min(self.list.len().saturating_sub(1));
                self.list.get(at).copied().unwrap_or_default().as_secs_f64()
            }
            BackoffKind::Decorrelated => {
                let t = f64::from(n) + unit;
                let reached = t.exp2() * (4.0 * t).sqrt().tanh();
                let grown = reached - state.decorrelated;
                state.decorrelated = reached;
                return self.capped(grown * base / 1.4);
            }
        };
        self.capped(match self.jitter {
            Jitter::None => raw,
            Jitter::Additive(time) => raw + unit * time.as_secs_f64(),
            Jitter::Proportional(share) => raw * (1.0 + share * unit),
            // The cap comes first where chance takes: else a huge raw wait always ends at the cap.
            Jitter::Symmetric(share) => self.cut(raw) * (1.0 - share + 2.0 * share * unit),
            Jitter::Equal => self.cut(raw) * (0.5 + 0.5 * unit),
            Jitter::Full => self.cut(raw) * unit,
        })
    }

    fn cut(&self, secs: f64) -> f64 {
        secs.min(self.max.as_secs_f64())
    }

    /// As a time; what is no number, or too large for one, is the cap.
    fn capped(&self, secs: f64) -> Duration {
        if secs.is_nan() {
            return self.max;
        }
        Duration::try_from_secs_f64(secs.max(0.0)).map_or(self.max, |wait| wait.min(self.max))
    }

    /// All waits, one after the other, with chance from `chance`.
    pub fn waits<'a>(&'a self, chance: &'a Chance) -> impl Iterator<Item = Duration> + 'a {
        let mut state = BackoffState::default();
        std::iter::repeat_with(move || self.next(&mut state, chance.unit()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn waits(backoff: &Backoff, count: usize) -> Vec<Duration> {
        backoff.validate().unwrap();
        backoff.waits(&Chance::seeded(1)).take(count).collect()
    }

    fn at(backoff: &Backoff, n: u32, unit: f64) -> Duration {
        backoff.next(&mut BackoffState { retries: n, decorrelated: 0.0 }, unit)
    }

    #[test]
    fn constant_linear_and_exponential_start_at_base() {
        assert_eq!(waits(&Backoff::constant(ms(100)), 3), [ms(100); 3]);
        assert_eq!(waits(&Backoff::linear(ms(100)), 3), [ms(100), ms(200), ms(300)]);
        assert_eq!(waits(&Backoff::linear(ms(500)).with_step(ms(50)), 3), [ms(500), ms(550), ms(600)]);
        let doubled: Vec<_> = [128, 256, 512, 1024, 2048, 4096, 8192, 16384, 30000, 30000].map(ms).into();
        assert_eq!(waits(&Backoff::exponential(ms(128)), 10), doubled);
        assert_eq!(waits(&Backoff::list([ms(5), ms(9)]), 3), [ms(5), ms(9), ms(9)]);
    }

    #[test]
    fn times_four_with_additive_jitter_keeps_the_hard_cap() {
        let backoff = Backoff::exponential(ms(100))
            .with_factor(4.0)
            .with_max(ms(1600))
            .with_jitter(Jitter::Additive(ms(50)));
        let mut seen = std::collections::HashSet::new();
        for seed in 0..1000 {
            let waits: Vec<_> = backoff.waits(&Chance::seeded(seed)).take(3).collect();
            assert!((ms(100)..=ms(150)).contains(&waits[0]));
            assert!((ms(400)..=ms(450)).contains(&waits[1]));
            assert_eq!(waits[2], ms(1600));
            seen.insert(waits[0]);
        }
        assert!(seen.len() > 990, "{}", seen.len());
    }

    #[test]
    fn symmetric_quarter_jitter_is_polly_s() {
        let constant = Backoff::constant(ms(1000)).with_jitter(Jitter::Symmetric(0.25));
        assert_eq!([0.0, 0.4, 0.6].map(|u| at(&constant, 0, u)), [ms(750), ms(950), ms(1050)]);
        let linear = Backoff::linear(ms(1000)).with_jitter(Jitter::Symmetric(0.25));
        assert_eq!([0.5, 0.6, 1.0].map(|u| at(&linear, 2, u)), [ms(3000), ms(3150), ms(3750)]);
    }

    #[test]
    fn proportional_jitter_adds_a_share_of_the_wait() {
        let backoff = Backoff::exponential(ms(1000)).with_jitter(Jitter::Proportional(0.5));
        assert_eq!([0.0, 0.5, 1.0].map(|u| at(&backoff, 1, u)), [2000, 2500, 3000].map(ms));
    }

    #[test]
    fn no_wait_at_all_does_not_grow() {
        for backoff in [Backoff::none(), Backoff::exponential(Duration::ZERO)] {
            assert_eq!([0, 1, 5000, u32::MAX].map(|n| at(&backoff, n, 0.5)), [Duration::ZERO; 4]);
        }
    }

    #[test]
    fn cap_is_raised_where_it_would_cut_a_wait_that_is_given() {
        assert_eq!(waits(&Backoff::constant(ms(60_000)), 2), [ms(60_000); 2]);
        assert_eq!(waits(&Backoff::list([ms(5), ms(60_000)]), 2), [ms(5), ms(60_000)]);
    }

    #[test]
    fn state_counts_the_waits_given_out() {
        let (backoff, mut state) = (Backoff::default(), BackoffState::default());
        for n in 0..3 {
            assert_eq!(state.retries(), n);
            backoff.next(&mut state, 0.5);
        }
    }

    // Those that have waited up to the cap are the ones that must not come back all at once.
    #[test]
    fn symmetric_jitter_is_there_at_the_cap_too() {
        let backoff = Backoff::exponential(ms(5000)).with_max(ms(60_000)).with_jitter(Jitter::Symmetric(0.1));
        for n in [4, 10, 5000, u32::MAX] {
            let waits = [0.0, 0.25, 0.5, 0.75].map(|u| at(&backoff, n, u));
            assert_eq!(waits, [54_000, 57_000, 60_000, 60_000].map(ms), "{n}");
        }
        assert_eq!([0.0, 0.5, 0.75].map(|u| at(&backoff, 3, u)), [36_000, 40_000, 42_000].map(ms));
    }

    #[test]
    fn symmetric_half_jitter_stays_within_half() {
        let backoff = Backoff::constant(ms(100)).with_jitter(Jitter::Symmetric(0.5));
        assert!(waits(&backoff, 49).iter().all(|wait| (ms(50)..=ms(150)).contains(wait)));
    }

    #[test]
    fn decorrelated_is_above_zero_and_never_above_the_cap() {
        let backoff = Backoff::decorrelated(ms(2000));
        for seed in 0..100 {
            let waits: Vec<_> = backoff.waits(&Chance::seeded(seed)).take(1026).collect();
            assert!(waits.iter().all(|wait| *wait > Duration::ZERO && *wait <= ms(30_000)), "seed {seed}");
        }
    }

    // The same formula, written down again.
    #[test]
    fn decorrelated_waits_are_those_of_its_formula() {
        let backoff = Backoff::decorrelated(ms(1000)).with_max(ms(1_000_000));
        let (mut state, mut before) = (BackoffState::default(), 0.0);
        for (n, unit) in (0_i32..).zip([0.3, 0.9, 0.0, 0.5, 0.77]) {
            let t = f64::from(n) + unit;
            let reached = 2_f64.powf(t) * (2.0 * t.sqrt()).tanh();
            let wait = backoff.next(&mut state, unit).as_secs_f64();
            assert!((wait - (reached - before) / 1.4).abs() < 1e-6, "{n}: {wait}");
            before = reached;
        }
    }

    // Of the suites of resilience4j, gRPC, Finagle and cockatiel: their waits can be had, at both ends of chance.
    #[test]
    fn waits_of_other_systems_can_be_had() {
        let ends = |backoff: Backoff, n| (at(&backoff, n, 0.0), at(&backoff, n, 1.0));
        let us = Duration::from_micros;
        let randomized = Backoff::exponential(ms(500)).with_factor(1.5).with_jitter(Jitter::Symmetric(0.5));
        assert_eq!(ends(randomized, 2), (us(562_500), us(1_687_500)));
        let grpc = Backoff::exponential(ms(1000)).with_factor(1.6).with_max(ms(120_000));
        assert_eq!(ends(grpc.with_jitter(Jitter::Symmetric(0.2)), 1), (ms(1280), ms(1920)));
        let equal = Backoff::exponential(ms(5000)).with_max(ms(300_000)).with_jitter(Jitter::Equal);
        assert_eq!(ends(equal.clone(), 1), (ms(5000), ms(10_000)));
        assert_eq!(ends(equal, 100), (ms(150_000), ms(300_000)));
        let list = Backoff::list([10, 20, 30].map(ms));
        assert_eq!([0, 1, 2, 3, 9].map(|n| at(&list, n, 0.5)), [10, 20, 30, 30, 30].map(ms));
    }

    #[test]
    fn full_jitter_has_its_mean_at_half_the_wait() {
        let backoff = Backoff::constant(ms(1000)).with_jitter(Jitter::Full);
        let sum: f64 = waits(&backoff, 100_000).iter().map(Duration::as_secs_f64).sum();
        assert!((sum / 100_000.0 - 0.5).abs() < 0.01);
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        let fields = [
            (Backoff::exponential(ms(1)).with_factor(f64::NAN), "factor"),
            (Backoff::exponential(ms(1)).with_factor(f64::INFINITY), "factor"),
            (Backoff::exponential(ms(1)).with_factor(-1.0), "factor"),
            (Backoff::exponential(Duration::MAX), "base"),
            (Backoff::exponential(ms(2)).with_max(ms(1)), "base"),
            (Backoff::exponential(ms(1)).with_max(Duration::MAX), "max"),
            (Backoff::none().with_max(Duration::ZERO), "max"),
            (Backoff::linear(ms(1)).with_step(Duration::MAX), "step"),
            (Backoff::list([]), "list"),
            (Backoff::list([ms(1), ms(60_000)]).with_max(ms(30_000)), "list"),
            (Backoff::list([Duration::MAX]), "base"),
            (Backoff::list([ms(1), ms(3)]).with_max(ms(2)), "list"),
            (Backoff::constant(ms(1)).with_jitter(Jitter::Proportional(f64::NAN)), "jitter"),
            (Backoff::constant(ms(1)).with_jitter(Jitter::Symmetric(-0.0001)), "jitter"),
            (Backoff::constant(ms(1)).with_jitter(Jitter::Symmetric(1.0001)), "jitter"),
            (Backoff::constant(ms(1)).with_jitter(Jitter::Additive(Duration::MAX)), "jitter"),
        ];
        for (backoff, field) in fields {
            assert_eq!(backoff.validate().unwrap_err().field(), field, "{backoff:?}");
        }
    }

    fn any_backoff() -> impl Strategy<Value = Backoff> {
        let kinds = prop_oneof![
            Just(BackoffKind::Constant),
            Just(BackoffKind::Linear),
            Just(BackoffKind::Exponential),
            Just(BackoffKind::Decorrelated),
        ];
        let jitters = prop_oneof![
            Just(Jitter::None),
            Just(Jitter::Full),
            Just(Jitter::Equal),
            (0.0..=1.0).prop_map(Jitter::Proportional),
            (0.0..=1.0).prop_map(Jitter::Symmetric),
            (0_u64..1 << 50).prop_map(|n| Jitter::Additive(Duration::from_nanos(n))),
        ];
        (kinds, jitters, 0_u64..1 << 60, 1_u64..1 << 60, 1.0..1e9_f64).prop_map(
            |(kind, jitter, a, b, factor)| {
                let (base, max) = (Duration::from_nanos(a.min(b)), Duration::from_nanos(a.max(b)));
                Backoff { kind, factor, ..Backoff::exponential(base).with_max(max).with_jitter(jitter) }
            },
        )
    }

    proptest! {
        #[test]
        fn cap_is_hard_for_any_settings_and_any_attempt(
            backoff in any_backoff(), n in prop_oneof![Just(u32::MAX), 0_u32..2000, any::<u32>()], unit in 0.0..1.0_f64,
        ) {
            backoff.validate().unwrap();
            let mut state = BackoffState { retries: n, decorrelated: 0.0 };
            prop_assert!(backoff.next(&mut state, unit) <= backoff.max);
            prop_assert!(backoff.next(&mut state, unit) <= backoff.max);
        }
    }

    #[test]
    fn settings_are_read_from_text_and_written_back() {
        let text = r#"{"kind":"exponential","base":"250ms","factor":3.0,"max":"1m 30s","jitter":{"additive":"50ms"}}"#;
        let read: Backoff = serde_json::from_str(text).unwrap();
        let expected = Backoff::exponential(ms(250)).with_factor(3.0).with_max(ms(90_000));
        assert_eq!(read, expected.with_jitter(Jitter::Additive(ms(50))));
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        assert!(serde_json::from_str::<Backoff>(r#"{"bass":"1s"}"#).is_err());
    }
}
