//! The words of a fallback: what its events, metrics and logs call things. It refuses nothing, so it has no codes.

use buttress_core::Word;

/// Result of a call: it failed and the fallback answered.
pub const FALLBACK_SUCCESS: Word = "fallback_success";
/// Result of a call: it failed and so did the fallback.
pub const FALLBACK_FAILURE: Word = "fallback_failure";
/// Result of a call: it failed in a way that the fallback does not handle.
pub const NOT_HANDLED: Word = "not_handled";

/// Note: a stored answer was given; how old, a time.
pub const STALE: Word = "stale";
/// Note: a stored answer had to go to make room.
pub const EVICTED: Word = "evicted";
