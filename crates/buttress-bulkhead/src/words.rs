//! The words of a bulkhead: what its refusals, events, metrics and logs call things.

use buttress_core::{Code, Word};

/// All slots are taken and the queue is full.
pub const QUEUE_FULL: &Code =
    &Code::refused("BULKHEAD_QUEUE_FULL").says("bulkhead {} and its queue are full");
/// The call waited in the queue for too long.
pub const QUEUE_TIMEOUT: &Code =
    &Code::refused("BULKHEAD_QUEUE_TIMEOUT").says("waited too long for bulkhead {}").slow();
/// The queue was cleared by hand.
pub const QUEUE_CLEARED: &Code =
    &Code::refused("BULKHEAD_QUEUE_CLEARED").says("the queue of bulkhead {} was cleared");
/// The bulkhead was closed for good.
pub const CLOSED: &Code = &Code::refused("BULKHEAD_CLOSED").says("bulkhead {} is closed");

/// Level: calls that are being made.
pub const IN_FLIGHT: Word = "in_flight";
/// Level: calls that wait.
pub const QUEUE_DEPTH: Word = "queue_depth";
/// Level: the most calls that may be made at once.
pub const LIMIT: Word = "limit";

/// Note: a call was let in.
pub const ADMITTED: Word = "admitted";
/// Note: a call began to wait.
pub const QUEUED: Word = "queued";
/// Note: a call ended its wait, let in or not; how long it waited, a time.
pub const QUEUE_WAIT: Word = "queue_wait";
/// Note: waiting calls were sent away by hand; how many, a count.
pub const CLEARED: Word = "queue_cleared";
