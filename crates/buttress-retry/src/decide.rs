//! Whether another attempt is made, and after what wait. Plain data, no clock.

use std::time::{Duration, Instant};

use buttress_core::observe::StopReason;

use crate::{RetryAfter, RetryConfig};

/// How long to wait, given the backoff and what the service said; `None` where it asks for too much.
pub(crate) fn wait(config: &RetryConfig, backoff: Duration, hint: Option<Duration>) -> Option<Duration> {
    let Some(hint) = hint else { return Some(backoff) };
    match config.retry_after {
        RetryAfter::Obey if hint > config.retry_after_max => None,
        RetryAfter::Obey => Some(backoff.max(hint)),
        RetryAfter::Bounded => Some(hint.clamp(backoff, backoff.saturating_add(config.retry_after_max))),
        RetryAfter::Ignore => Some(backoff),
    }
}

/// Refuses a wait after which no time would be left for an attempt.
pub(crate) fn fits(wait: Duration, now: Instant, deadline: Option<Instant>) -> Result<(), StopReason> {
    let Some(deadline) = deadline else { return Ok(()) };
    match now.checked_add(wait) {
        Some(start) if start < deadline => Ok(()),
        _ => Err(StopReason::Deadline),
    }
}
