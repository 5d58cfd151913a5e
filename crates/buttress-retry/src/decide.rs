//! Whether another attempt is made, and after what wait. Plain data, no clock.

use std::time::{Duration, Instant};

use buttress_core::Word;

use crate::{RetryAfter, RetryConfig, words};

/// How long to wait, given the backoff and what the service said; `None` where it asks for too much.
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
pub(crate) fn fits(wait: Duration, now: Instant, deadline: Option<Instant>) -> Result<(), Word> {
    let Some(deadline) = deadline else { return Ok(()) };
    match now.checked_add(wait) {
        Some(start) if start < deadline => Ok(()),
        _ => Err(words::DEADLINE),
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
        assert_eq!(fits(ms(100), now, deadline), Err(words::DEADLINE));
        assert_eq!(fits(Duration::MAX, now, deadline), Err(words::DEADLINE));
        assert_eq!(fits(Duration::MAX, now, None), Ok(()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        // vector R18, vector aws-re-15
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
                    // As told, wherever that is within the bounds.
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
