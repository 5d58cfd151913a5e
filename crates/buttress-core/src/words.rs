//! Codes as the patterns have them, for the tests of this crate.

use crate::Code;

pub(crate) const OPEN: &Code = &Code::refused("CIRCUIT_OPEN").says("circuit {} is OPEN");
pub(crate) const CIRCUIT_TIMEOUT: &Code = &Code::timed_out("CIRCUIT_TIMEOUT");
pub(crate) const TIMEOUT: &Code = &Code::timed_out("TIMEOUT");
pub(crate) const QUEUE_FULL: &Code =
    &Code::refused("BULKHEAD_QUEUE_FULL").says("bulkhead {} and its queue are full");
pub(crate) const QUEUE_TIMEOUT: &Code =
    &Code::refused("BULKHEAD_QUEUE_TIMEOUT").says("waited too long for bulkhead {}").slow();
pub(crate) const LIMITED: &Code = &Code::too_many("RATE_LIMITED").says("rate limit {} is used up").slow();
pub(crate) const EXHAUSTED: &Code =
    &Code::refused("RETRIES_EXHAUSTED").says("retries of {} are exhausted").sent();
