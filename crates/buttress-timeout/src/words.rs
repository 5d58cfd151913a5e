//! The words of a timeout: what its refusals, events, metrics and logs call things.

use buttress_core::Code;

/// A time limit passed.
pub const TIMEOUT: &Code = &Code::timed_out("TIMEOUT");
