use crate::Kind;

/// The kinds of all patterns that are switched on: their codes, states, metrics and log lines. For catalogues, buckets
/// and descriptions of metrics, and for checks of settings that name codes.
///
/// A layer of your own has a kind of its own; give both where both are meant.
pub static KINDS: &[Kind] = &[
    #[cfg(feature = "breaker")]
    &crate::breaker::KIND,
    #[cfg(feature = "breaker")]
    &crate::breaker::KEYED,
    #[cfg(feature = "retry")]
    &crate::retry::KIND,
    #[cfg(feature = "timeout")]
    &crate::timeout::KIND,
    #[cfg(feature = "bulkhead")]
    &crate::bulkhead::KIND,
    #[cfg(feature = "fallback")]
    &crate::fallback::KIND,
    #[cfg(feature = "metrics")]
    &crate::metrics::meter::KIND,
];

#[cfg(all(test, feature = "metrics"))]
mod tests {
    #[test]
    fn tables_of_all_kinds_are_sound() {
        assert_eq!(crate::metrics::check(super::KINDS), Ok(()));
    }
}
