use buttress_core::KindData;

use crate::words;

/// What a breaker is called and what it exports.
pub static KIND: KindData = KindData::new("breaker").codes(&[words::OPEN, words::CALL_TIMEOUT]).states(&[
    "closed",
    "open",
    "half_open",
    "isolated",
    "disabled",
    "metrics_only",
]);
