//! The words of a breaker: what its refusals, events, metrics and logs call things. States are in
//! [`State`](crate::State).

use buttress_core::{Code, Word};

/// The circuit is open, isolated, or half-open with no free probe.
pub const OPEN: &Code = &Code::refused("CIRCUIT_OPEN").says("circuit {} is OPEN");
/// The breaker's own call time-out passed.
pub const CALL_TIMEOUT: &Code = &Code::timed_out("CIRCUIT_TIMEOUT");

/// Cause of a change of state: the breaker's own rules.
pub const RULE: Word = "auto";
/// Cause of a change of state: somebody, through the handle.
pub const MANUAL: Word = "manual";
/// Cause of a change of state: new settings.
pub const RELOAD: Word = "reload";
/// Cause of a change of state: a health check.
pub const HEALTH: Word = "health";

/// Known of an opening: the rule that said so ([`OpenReason`](crate::OpenReason)), a word.
pub const BY_RULE: Word = "rule";
/// Known of an opening: how many there were of what the rule counts, such as failures in a row or slow calls.
pub const COUNT: Word = "count";
/// Known of an opening: the last failure, in the words of the classifier; text.
pub const ERROR: Word = "error";
/// Known of a change of state: the calls that the decision was made on, a count.
pub const CALLS: Word = "calls";
/// Known of a change of state, and a level: the share of failures in the window.
pub const FAILURE_RATIO: Word = "failure_ratio";
/// Known of a change of state, and a level: the share of slow calls in the window.
pub const SLOW_RATIO: Word = "slow_ratio";
/// Known of a change of state: how long the new state lasts at least, or, on closing, how long ago the circuit left
/// closed; a time.
pub const OPEN_FOR: Word = "open_for";
/// Known of a change of state: the calls refused since the circuit was last closed, a count.
pub const REJECTED: Word = "rejected";

/// Level of a keyed breaker: how many keys are in one state.
pub const KEYS: Word = "keys";

/// Note: a rule passed its threshold in a state in which it may not act; which, a word.
pub const EXCEEDED: Word = "threshold_passed";
/// Note: a probe did not come back in time; its slot was given to the next.
pub const LEASE_EXPIRED: Word = "lease_expired";
/// Note of a keyed breaker: a key was forgotten to make room, or because it was idle.
pub const EVICTED: Word = "evicted";
