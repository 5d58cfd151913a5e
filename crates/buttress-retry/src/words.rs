//! The words of a retry: what its refusals, events, metrics and logs call things.

use buttress_core::{Code, Word};

/// Every attempt failed, and the policy was asked to say so.
pub const EXHAUSTED: &Code = &Code::refused("RETRIES_EXHAUSTED").says("retries of {} are exhausted").sent();

/// A time limit left no room for another attempt, or ended the call after an attempt had failed: the caller's deadline,
/// or `max_elapsed`. The code that a timeout has: whatever ended the call for want of time, it is one code.
pub const TIMED_OUT: &Code = &Code::timed_out("TIMEOUT");

/// Result of a call: it succeeded at the first attempt.
pub const SUCCESSFUL_WITHOUT_RETRY: Word = "successful_without_retry";
/// Result of a call: it succeeded at a later attempt.
pub const SUCCESSFUL_WITH_RETRY: Word = "successful_with_retry";
/// Result of a call: it failed at the first attempt, and there was no other.
pub const FAILED_WITHOUT_RETRY: Word = "failed_without_retry";
/// Result of a call: it failed, and so did a later attempt.
pub const FAILED_WITH_RETRY: Word = "failed_with_retry";

/// Reason for another attempt: an error.
pub const ERROR: Word = "error";
/// Reason for another attempt: a response that counts as a failure.
pub const RESPONSE: Word = "response";
/// Reason for another attempt: a time-out of a policy inside.
pub const TIMEOUT: Word = "timeout";

/// Note: another attempt was wanted or possible, and not made; why not, one of the words below.
pub const STOPPED: Word = "stopped";
/// Why no further attempt: as many as allowed were made.
pub const MAX_ATTEMPTS: Word = "max_attempts";
/// Why no further attempt: the retry budget is used up.
pub const BUDGET: Word = "budget";
/// Why no further attempt: it could not end before the deadline, or the time for all attempts is used up.
pub const DEADLINE: Word = "deadline";
/// Why no further attempt: the failure is permanent, or a refusal.
pub const NOT_RETRYABLE: Word = "not_retryable";
/// Why no further attempt: the request cannot be sent twice.
pub const NOT_REPLAYABLE: Word = "not_replayable";
/// Why no further attempt: the service said it is broken when asked for readiness.
pub const NOT_READY: Word = "not_ready";

/// Level: the share of the retry budget that is left, `0.0..=1.0`.
pub const BUDGET_AVAILABLE: Word = "budget_available";
