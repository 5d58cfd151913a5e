//! What policies tell.

use std::{error::Error as StdError, time::Duration};

use crate::Rejection;

/// Which pattern an event is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PolicyKind {
    /// A circuit breaker.
    Breaker,
    /// A retry.
    Retry,
    /// A timeout.
    Timeout,
    /// A bulkhead.
    Bulkhead,
    /// A rate limit.
    RateLimit,
    /// A fallback.
    Fallback,
    /// A hedge.
    Hedge,
    /// A single flight.
    Coalesce,
    /// Dead letters.
    DeadLetters,
    /// Injected faults.
    Chaos,
}

impl PolicyKind {
    /// In snake case, as in logs and paths.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Breaker => "breaker",
            Self::Retry => "retry",
            Self::Timeout => "timeout",
            Self::Bulkhead => "bulkhead",
            Self::RateLimit => "rate_limit",
            Self::Fallback => "fallback",
            Self::Hedge => "hedge",
            Self::Coalesce => "coalesce",
            Self::DeadLetters => "dead_letters",
            Self::Chaos => "chaos",
        }
    }
}

/// What a policy tells. Six sorts serve all patterns.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A call ended. Every admitted call has exactly one.
    Done {
        /// How.
        outcome: Outcome,
        /// How long it took, where the policy read the clock (a rule needs it, or an observer asked).
        elapsed: Option<Duration>,
        /// Whether it was slower than the policy's threshold for slow calls.
        slow: bool,
        /// How many attempts it took; 1 where the policy makes one.
        attempts: u32,
        /// What it failed with, where the policy still has that as it tells, and the type can be shown as an error:
        /// a breaker does. What is told later, because another event is being told, comes without it.
        error: Option<&'a (dyn StdError + 'static)>,
    },
    /// A call was refused, or in shadow mode would have been.
    Refused {
        /// Why.
        rejection: &'a Rejection,
        /// Only counted, not refused.
        shadow: bool,
    },
    /// An attempt failed and another one follows.
    Attempt {
        /// The 1-based number of the attempt that failed.
        n: u32,
        /// The wait before the next one.
        delay: Duration,
        /// What called for the next one.
        reason: AttemptReason,
        /// The error, where the type can be shown as one.
        error: Option<&'a (dyn StdError + 'static)>,
    },
    /// The policy changed its state.
    Transition {
        /// The state before.
        from: &'static str,
        /// The state now.
        to: &'static str,
        /// Who or what did it.
        cause: Cause,
        /// What was known at that moment.
        detail: TransitionDetail,
    },
    /// A level has a new value.
    Level {
        /// Which.
        what: Level,
        /// The value; NaN where there is none.
        value: f64,
    },
    /// Something else worth telling happened.
    Note(Note),
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It succeeded. Fallback: the primary answer was good.
    Success,
    /// It failed.
    Failure,
    /// It failed by panicking.
    Panicked,
    /// It ran into this policy's time limit.
    TimedOut,
    /// It says nothing about the service.
    Ignored,
    /// The caller dropped it.
    Cancelled,
    /// It failed and the fallback answered.
    FallbackSuccess,
    /// It failed and so did the fallback.
    FallbackFailure,
    /// It failed in a way the fallback does not handle.
    NotHandled,
}

impl Outcome {
    /// In snake case, as in labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Panicked => "panicked",
            Self::TimedOut => "timeout",
            Self::Ignored => "ignored",
            Self::Cancelled => "cancelled",
            Self::FallbackSuccess => "fallback_success",
            Self::FallbackFailure => "fallback_failure",
            Self::NotHandled => "not_handled",
        }
    }
}

/// What called for another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AttemptReason {
    /// An error.
    Error,
    /// A response that counts as a failure.
    Response,
    /// A time-out of a policy inside.
    Timeout,
}

impl AttemptReason {
    /// In snake case, as in labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Response => "response",
            Self::Timeout => "timeout",
        }
    }
}

/// Who or what changed a policy's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The policy's own rules.
    Rule,
    /// Somebody, through the handle.
    Manual,
    /// New settings.
    Reload,
    /// A health check.
    Health,
}

impl Cause {
    /// In snake case, as in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "auto",
            Self::Manual => "manual",
            Self::Reload => "reload",
            Self::Health => "health",
        }
    }
}

/// What was known when a state changed. Fields that do not apply are `None` or 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TransitionDetail {
    /// Calls in the window.
    pub calls: u64,
    /// The share of failures in the window, `0.0..=1.0`.
    pub failure_ratio: Option<f64>,
    /// The share of slow calls in the window, `0.0..=1.0`.
    pub slow_ratio: Option<f64>,
    /// How long the new state lasts at least, or, on closing, how long ago the circuit left closed.
    pub open_for: Option<Duration>,
    /// Calls refused since the circuit was last closed.
    pub rejected: u64,
}

/// A quantity with a current value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Level {
    /// The state a policy is in, told when an observer attaches; the value is 1.
    State(&'static str),
    /// Share of failures in the window, `0.0..=1.0`.
    FailureRatio,
    /// Share of slow calls in the window, `0.0..=1.0`.
    SlowRatio,
    /// Calls that are being made.
    InFlight,
    /// Calls that wait.
    QueueDepth,
    /// The most calls that may be made at once.
    Limit,
    /// Share of the retry budget that is left, `0.0..=1.0`.
    BudgetAvailable,
    /// Keys of a keyed policy that are in this state.
    Keys(&'static str),
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Note {
    /// A call was let in.
    Admitted,
    /// A call began to wait.
    Queued,
    /// A call ended its wait, this long after it began; let in or not.
    QueueWait(Duration),
    /// Another attempt was wanted or possible, and not made.
    Stopped(StopReason),
    /// A policy was reset by hand.
    Reset,
    /// Waiting calls were sent away by hand; how many.
    QueueCleared(u64),
    /// A policy got new settings.
    Reconfigured,
    /// A probe did not come back in time; its slot was given to the next.
    LeaseExpired,
    /// A rule passed its threshold where it may not act: `failure_rate`, `slow_rate`, `consecutive`.
    Exceeded(&'static str),
    /// A stored answer was given, this old.
    Stale(Duration),
    /// A key had to go to make room.
    Evicted,
}

/// Why another attempt was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// As many as allowed were made.
    MaxAttempts,
    /// The retry budget is used up.
    Budget,
    /// It could not end before the deadline, or the time for all attempts is used up.
    Deadline,
    /// The failure is permanent, or a refusal.
    NotRetryable,
    /// The request cannot be sent twice.
    NotReplayable,
    /// The service said it is broken when asked for readiness.
    NotReady,
}

impl StopReason {
    /// In snake case, as in labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MaxAttempts => "max_attempts",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
            Self::NotRetryable => "not_retryable",
            Self::NotReplayable => "not_replayable",
            Self::NotReady => "not_ready",
        }
    }
}
