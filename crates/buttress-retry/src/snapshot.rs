use serde::Serialize;

/// What a policy has counted since it was made or reset; from [`Retry::snapshot`](crate::Retry::snapshot).
///
/// Calls and their first attempts are told to observers and not counted here: a shared count would be the dearest
/// part of a call that succeeds at once, and the more so the more threads make calls.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RetrySnapshot {
    /// Attempts that were made after the first ones of their calls.
    pub retries: u64,
    /// Calls that ended although another attempt was wanted or possible, by why.
    pub stopped: RetryStops,
    /// Retries left in the budget, if there is one.
    pub budget_available: Option<f64>,
    /// The same as a share, `0.0..=1.0`.
    pub budget_available_ratio: Option<f64>,
}

/// How often no further attempt was made, by why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RetryStops {
    /// As many as allowed were made.
    pub max_attempts: u64,
    /// The retry budget is used up.
    pub budget: u64,
    /// It would have begun at or after the deadline, or the service asked for too long a wait.
    pub deadline: u64,
    /// The failure is permanent, or a refusal that is not listed.
    pub not_retryable: u64,
    /// The request cannot be sent twice.
    pub not_replayable: u64,
    /// The service said that it is broken when asked for readiness.
    pub not_ready: u64,
}
