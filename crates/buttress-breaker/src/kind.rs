use buttress_core::{Code, KindData, Word};

use crate::words;

const CODES: &[&Code] = &[words::OPEN, words::CALL_TIMEOUT];
const STATES: &[Word] = &["closed", "open", "half_open", "isolated", "disabled", "metrics_only"];

/// What a breaker is called and what it exports.
pub static KIND: KindData = KindData::new("breaker").codes(CODES).states(STATES);

/// The same for a breaker with a circuit for each key.
pub static KEYED: KindData = KindData::new("breaker").codes(CODES).states(STATES);
