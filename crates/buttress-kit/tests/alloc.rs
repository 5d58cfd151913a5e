//! What tells of every call allocates nothing, whoever listens.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{
    Code, Event, Kind, KindData, Level, Levels, Name, Note, Outcome, Recorder, Rejection, Value, observe,
};
use buttress_kit::{Emitter, Listeners};

static TOY: KindData = KindData::new("toy");
const SHUT: &Code = &Code::refused("TOY_SHUT");

struct Stands(AtomicU64);

impl Levels for Stands {
    fn level(&self, number: u32) -> Option<Level> {
        (number == 0).then(|| Level::new("in_flight", self.0.load(Relaxed) as f64))
    }
}

struct Metrics(AtomicU64);

impl Recorder for Metrics {
    fn record(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Relaxed);
    }

    fn passive(&self) -> bool {
        true
    }
}

#[test]
fn plain_events_and_levels_allocate_nothing() {
    let (stands, metrics) = (Arc::new(Stands(AtomicU64::new(0))), Arc::new(Metrics(AtomicU64::new(0))));
    let (installed, levels) = (metrics.clone(), stands.clone() as Arc<dyn Levels>);
    observe::install(move |_: Kind, _: &Name| Some(installed.clone() as Arc<dyn Recorder>));
    let mut listeners = Listeners::default();
    listeners.on_event(|_| ());
    let emitter = Emitter::new(&TOY, Name::new("toy"), &listeners);
    emitter.set_levels(Arc::downgrade(&levels));
    let rejection = Rejection::new(SHUT, emitter.name());
    let queued = Note::with("queue_wait", Value::Time(Duration::from_millis(1)));
    let call = || {
        let elapsed = emitter.is_timed().then_some(Duration::from_millis(2));
        emitter.emit(Event::Note(&queued));
        stands.0.fetch_add(1, Relaxed);
        emitter.moved(0);
        emitter.deliver();
        emitter.done(Outcome::Success, "success", elapsed, false, 1, None);
        emitter.refused(&rejection, false);
    };
    call(); // the observer is asked
    let before = metrics.0.load(Relaxed);
    let heap = allocation_counter::measure(|| (0..100).for_each(|_| call()));
    assert_eq!((heap.count_total, metrics.0.load(Relaxed) - before), (0, 400));
}
