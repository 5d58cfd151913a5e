use buttress_core::KindData;

/// What a fallback is called and what it exports.
pub static KIND: KindData = KindData::new("fallback");
