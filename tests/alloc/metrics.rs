//! Allocations of the seam with metrics on.

use std::{
    fmt,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress::{
    Event, KINDS, Meter, Name, Outcome,
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

#[test]
fn metered_calls_allocate_nothing_ready_or_pending_once_observed_or_not() {
    let quiet = Meter::new("quiet").unwrap();
    let told = Meter::builder("told").observe(Metrics::default()).build().unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    for meter in [quiet, told] {
        let mut call = |mut pending: u32| {
            let op = || {
                std::future::poll_fn(move |_| match std::mem::take(&mut pending) {
                    0 => Poll::Ready(Ok::<_, fmt::Error>(7)),
                    _ => Poll::Pending,
                })
            };
            let mut call = pin!(meter.call(op));
            assert!((0..2).any(|_| call.as_mut().poll(&mut cx).is_ready()));
        };
        call(1);
        for pending in [0, 1] {
            // As above: handles are resolved anew once a second.
            let mut run = || allocation_counter::measure(|| (0..100).for_each(|_| call(pending))).count_total;
            assert_eq!([run(), run(), run()].into_iter().min(), Some(0), "{} {pending}", meter.name());
        }
    }
}
