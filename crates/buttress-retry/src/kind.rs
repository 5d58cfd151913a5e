use buttress_core::KindData;

use crate::words;

/// What a retry is called and what it exports.
pub static KIND: KindData = KindData::new("retry").codes(&[words::EXHAUSTED]);
