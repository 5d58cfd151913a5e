use buttress_core::KindData;

use crate::words;

/// What a timeout is called and what it exports.
pub static KIND: KindData = KindData::new("timeout").codes(&[words::TIMEOUT]);
