//! Allocations of the seam with metrics on.

use std::time::Duration;

use buttress::metrics::Metrics;
use buttress::{
    Emitter, Event, Name, Outcome, PolicyKind,
    observe::{Level, Note},
};

#[test]
fn calls_allocate_nothing_while_handles_are_cached() {
    let metrics = Metrics::default();
    let policies: Vec<_> = [
        PolicyKind::Breaker,
        PolicyKind::Retry,
        PolicyKind::Timeout,
        PolicyKind::Bulkhead,
        PolicyKind::Fallback,
    ]
    .into_iter()
    .map(|kind| {
        let policy = Emitter::new(kind, Name::new("payments"));
        policy.observe(&metrics);
        policy
    })
    .collect();
    let call = || {
        for policy in &policies {
            let elapsed = Some(Duration::from_millis(1));
            policy.emit(Event::Note(Note::Admitted));
            policy.emit(Event::Level { what: Level::InFlight, value: 1.0 });
            policy.emit(Event::Done {
                outcome: Outcome::Success,
                elapsed,
                slow: false,
                attempts: 1,
                error: None,
            });
        }
    };
    call();
    // Handles are resolved anew once a second, and that does allocate: one of three short runs is within one.
    let counted = (0..3).map(|_| allocation_counter::measure(|| (0..100).for_each(|_| call())).count_total);
    assert_eq!(counted.min(), Some(0));
}
