//! Allocations of the seam with metrics on.

use std::time::Duration;

use buttress::{
    Event, KINDS, Name, Outcome,
    bulkhead::words,
    kit::{Emitter, Listeners},
    metrics::Metrics,
    observe::{Level, Note},
};

#[test]
fn calls_allocate_nothing_while_handles_are_cached() {
    let mut listeners = Listeners::default();
    listeners.observe(Metrics::default());
    let policies: Vec<_> =
        KINDS.iter().map(|kind| Emitter::new(kind, Name::new("payments"), &listeners)).collect();
    let call = || {
        for policy in &policies {
            let elapsed = Some(Duration::from_millis(1));
            policy.emit(Event::Note(&Note::new(words::ADMITTED)));
            policy.emit(Event::Level(Level::new(words::IN_FLIGHT, 1.0)));
            policy.done(Outcome::Success, Outcome::Success.as_str(), elapsed, false, 1, None);
        }
    };
    call();
    // Handles are resolved anew once a second, and that does allocate: one of three short runs is within one.
    let counted = (0..3).map(|_| allocation_counter::measure(|| (0..100).for_each(|_| call())).count_total);
    assert_eq!(counted.min(), Some(0));
}
