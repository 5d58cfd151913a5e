use buttress_core::KindData;

use crate::words;

/// What a bulkhead is called and what it exports.
pub static KIND: KindData = KindData::new("bulkhead").codes(&[
    words::QUEUE_FULL,
    words::QUEUE_TIMEOUT,
    words::QUEUE_CLEARED,
    words::CLOSED,
]);
