//! A process in which nobody listens.

use buttress_breaker::KIND;
use buttress_core::{Name, Observer};
use buttress_kit::{Emitter, Listeners};

// With no collector there is nothing to do: policies do not even make their events.
#[test]
fn nothing_is_on_before_somebody_listens() {
    let policy = Emitter::new(&KIND, Name::new("payments"), &Listeners::default());
    assert!(!policy.is_on());
    assert!(!policy.is_timed());
    // To make metrics is not yet to listen.
    let metrics = buttress_metrics::Metrics::builder().prefix("acme_").build().unwrap();
    metrics.describe_all(&[&KIND]);
    assert!(!policy.is_on());
    policy.add(metrics.attach(&KIND, policy.name()).unwrap());
    assert!(policy.is_on() && policy.is_timed());
}
