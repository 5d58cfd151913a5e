//! Whether another attempt is made, and after what wait. Plain data: no clock, no listener.

use std::time::{Duration, Instant};

use buttress_core::{Class, FailureKind, Outcome, Rejection, Verdict, Word};
use buttress_kit::{BackoffState, Withdrawal};

use crate::{RetryAfter, RetryConfig, words};

/// Where a call stands between its attempts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// When it began, if anything asks for that.
    pub(crate) started: Option<tokio::time::Instant>,
    /// From when on no further attempt may start, by the policy's own `max_elapsed`.
    pub(crate) deadline: Option<Instant>,
    /// The number of the present attempt, from 1.
    pub(crate) attempt: u32,
    pub(crate) max_attempts: u32,
    /// An attempt before the present one may have reached the service.
    pub(crate) sent: bool,
    /// What the budget granted the present attempt; `None` if it counts no retry.
    pub(crate) retried: Option<Withdrawal>,
    /// What it granted the next one, while that is waited for.
    pub(crate) granted: Option<Withdrawal>,
    pub(crate) backoff: BackoffState,
}

/// An attempt that was no success.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed<'a> {
    verdict: Verdict,
    pub(crate) rejection: Option<&'a Rejection>,
    /// Of what it failed: what its rejection says, or else the classifier.
    pub(crate) kind: FailureKind,
}

/// Why no further attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    MaxAttempts,
    Budget,
    /// No time is left for it.
    Deadline,
    /// The service asks for too long a wait.
    LongWait,
    NotRetryable,
    NotReplayable,
    NotReady,
}

/// How a call ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    pub(crate) outcome: Outcome,
    /// Why no further attempt was made, if one was wanted or possible.
    pub(crate) why: Option<Stop>,
}

/// What follows an attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Next {
    /// Another one, after this wait.
    Attempt(Duration),
    /// Nothing. The caller gets the answer after this time, which is mostly zero.
    End(Ending, Duration),
}

impl Stop {
    pub(crate) const COUNT: usize = 7;

    pub(crate) const fn word(self) -> Word {
        match self {
            Self::MaxAttempts => words::MAX_ATTEMPTS,
            Self::Budget => words::BUDGET,
            Self::Deadline | Self::LongWait => words::DEADLINE,
            Self::NotRetryable => words::NOT_RETRYABLE,
            Self::NotReplayable => words::NOT_REPLAYABLE,
            Self::NotReady => words::NOT_READY,
        }
    }
}

impl Ending {
    /// The inner service failed when it was asked for readiness.
    pub(crate) const NOT_READY: Self = Self { outcome: Outcome::Failure, why: Some(Stop::NotReady) };

    /// The time was up in a wait, or in an attempt that had not ended.
    pub(crate) const TIME_IS_UP: Self = Self { outcome: Outcome::Failure, why: Some(Stop::Deadline) };

    /// An end at which no other attempt was wanted or possible, or one of which it was told why.
    pub(crate) const fn of(outcome: Outcome) -> Self {
        Self { outcome, why: None }
    }
}

impl Call {
    pub(crate) const fn is_last(&self) -> bool {
        self.attempt >= self.max_attempts
    }

    /// The backoff before the next attempt. `unit` is a random number in `0.0..1.0`; `curve` computes the wait of a
    /// retry, 0 for the first, in place of the settings.
    pub(crate) fn backoff(
        &mut self,
        config: &RetryConfig,
        failure: FailureKind,
        unit: f64,
        curve: Option<&dyn Fn(u32) -> Duration>,
    ) -> Duration {
        match (&config.throttle_backoff, curve) {
            (Some(slower), _) if failure == FailureKind::Throttled => slower.next(&mut self.backoff, unit),
            (_, Some(curve)) => curve(self.attempt.saturating_sub(1)).min(config.backoff.max),
            (_, None) => config.backoff.next(&mut self.backoff, unit),
        }
    }

    /// How a call ended, in the words of retries.
    pub(crate) const fn result(&self, outcome: Outcome) -> Word {
        match (outcome, self.attempt > 1) {
            (Outcome::Cancelled, _) => outcome.as_str(),
            (Outcome::Success, false) => words::SUCCESSFUL_WITHOUT_RETRY,
            (Outcome::Success, true) => words::SUCCESSFUL_WITH_RETRY,
            (_, false) => words::FAILED_WITHOUT_RETRY,
            (_, true) => words::FAILED_WITH_RETRY,
        }
    }
}

impl Failed<'_> {
    pub(crate) fn new(
        verdict: Verdict,
        rejection: Option<&Rejection>,
        kind: impl FnOnce() -> FailureKind,
    ) -> Failed<'_> {
        let kind = match rejection.map(Rejection::code) {
            Some(code) if code.class() == Class::TooMany => FailureKind::Throttled,
            Some(code) if code.is_slow() => FailureKind::TimedOut,
            _ => kind(),
        };
        Failed { verdict, rejection, kind }
    }

    /// Whether it may have reached the service.
    pub(crate) fn was_sent(&self) -> bool {
        self.rejection.is_none_or(Rejection::was_sent)
    }

    /// How the call ends if no other attempt follows.
    pub(crate) fn outcome(&self) -> Outcome {
        if self.verdict.is_failure() { Outcome::Failure } else { Outcome::Ignored }
    }

    /// The hint of when to make another attempt, if it is worth one.
    pub(crate) fn hint(&self, config: &RetryConfig) -> Result<Option<Duration>, Stop> {
        match (self.verdict, self.rejection) {
            // A refusal never reached the service. To repeat it works against the policy that refused, whatever the
            // classifier thinks of it.
            (_, Some(refused)) if !refused.was_sent() => {
                let listed = config.retry_rejections.iter().any(|listed| refused.code() == listed.as_str());
                if listed { Ok(refused.retry_after()) } else { Err(Stop::NotRetryable) }
            }
            (Verdict::Failure { permanent: false, retry_after }, rejection) => {
                Ok(retry_after.or_else(|| rejection?.retry_after()))
            }
            _ => Err(Stop::NotRetryable),
        }
    }
}

/// How long to wait, given the backoff and what the service said; `None` if it asks for too much.
pub(crate) fn wait(config: &RetryConfig, backoff: Duration, hint: Option<Duration>) -> Option<Duration> {
    let Some(hint) = hint else { return Some(backoff) };
    match config.retry_after {
        RetryAfter::Obey | RetryAfter::Replace if hint > config.retry_after_max => None,
        RetryAfter::Obey => Some(backoff.max(hint)),
        RetryAfter::Replace => Some(hint),
        RetryAfter::Bounded => Some(hint.clamp(backoff, backoff.saturating_add(config.retry_after_max))),
        RetryAfter::Ignore => Some(backoff),
    }
}

/// Refuses a wait after which no time would be left for an attempt.
pub(crate) fn fits(wait: Duration, now: Instant, deadline: Option<Instant>) -> Result<(), Stop> {
    let Some(deadline) = deadline else { return Ok(()) };
    match now.checked_add(wait) {
        Some(start) if start < deadline => Ok(()),
        _ => Err(Stop::Deadline),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn mode() -> impl Strategy<Value = RetryAfter> {
        prop_oneof![
            Just(RetryAfter::Obey),
            Just(RetryAfter::Bounded),
            Just(RetryAfter::Replace),
            Just(RetryAfter::Ignore)
        ]
    }

    #[test]
    fn attempt_that_would_begin_at_the_deadline_is_too_late() {
        let now = tokio::time::Instant::now().into_std();
        let deadline = now.checked_add(ms(100));
        assert_eq!(fits(ms(99), now, deadline), Ok(()));
        assert_eq!(fits(ms(100), now, deadline), Err(Stop::Deadline));
        assert_eq!(fits(Duration::MAX, now, deadline), Err(Stop::Deadline));
        assert_eq!(fits(Duration::MAX, now, None), Ok(()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn wait_obeys_its_mode(
            mode in mode(), backoff in 0_u64..50_000, hint in 0_u64..100_000, max in 0_u64..50_000,
        ) {
            let config = RetryConfig { retry_after: mode, retry_after_max: ms(max), ..RetryConfig::default() };
            prop_assert_eq!(wait(&config, ms(backoff), None), Some(ms(backoff)));
            let waited = wait(&config, ms(backoff), Some(ms(hint))).map(|wait| wait.as_millis() as u64);
            match (mode, waited) {
                (RetryAfter::Obey | RetryAfter::Replace, None) => prop_assert!(hint > max),
                (RetryAfter::Replace, Some(waited)) => prop_assert!(waited == hint && hint <= max),
                (RetryAfter::Obey, Some(waited)) => {
                    prop_assert!(hint <= max && waited >= hint && waited >= backoff);
                    prop_assert!(waited == hint || waited == backoff);
                }
                (RetryAfter::Bounded, waited) => {
                    let waited = waited.unwrap();
                    prop_assert!(waited >= backoff && waited <= backoff + max);
                    // As told, if that is within the bounds.
                    prop_assert!(waited == hint || waited == backoff || waited == backoff + max);
                    prop_assert_eq!(waited == hint, (backoff..=backoff + max).contains(&hint));
                }
                (RetryAfter::Ignore, waited) => prop_assert_eq!(waited, Some(backoff)),
            }
        }

        #[test]
        fn no_time_is_too_long_to_decide_on(backoff: u64, hint: u64, nanos: u32, max: u64) {
            let time = |secs| Duration::new(secs, nanos % 1_000_000_000);
            for retry_after in [RetryAfter::Obey, RetryAfter::Bounded, RetryAfter::Replace, RetryAfter::Ignore] {
                let config = RetryConfig { retry_after, retry_after_max: time(max), ..RetryConfig::default() };
                let _ = wait(&config, time(backoff), Some(time(hint)));
            }
        }
    }
}
