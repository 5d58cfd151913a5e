//! A process in which nobody listens.

use buttress_core::{Emitter, Name, PolicyKind};

// S3-044: with no collector there is nothing to do: policies do not even make their events.
#[test]
fn nothing_is_on_before_somebody_listens() {
    let policy = Emitter::new(PolicyKind::Breaker, Name::new("payments"));
    assert!(!policy.is_on());
    assert!(!policy.is_timed());
    // To make metrics is not yet to listen.
    let metrics = buttress_metrics::Metrics::builder().prefix("acme_").build().unwrap();
    metrics.describe_all();
    assert!(!policy.is_on());
    policy.observe(&metrics);
    assert!(policy.is_on() && policy.is_timed());
}
