//! What the mechanism of the patterns allocates, and what it does not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use allocation_counter::measure;
use buttress::{
    Code, Event, Kind, Name, Outcome, Recorder, Rejection,
    kit::{
        Emitter, KeyedMap, Listeners,
        buttress_core::{KindData, Level, Levels, Note, Value},
    },
};
use tokio::time::Instant;

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
    let mut listeners = Listeners::default();
    listeners.observe(move |_: Kind, _: &Name| Some(installed.clone() as Arc<dyn Recorder>));
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
    call(); // observers of the process are asked
    let before = metrics.0.load(Relaxed);
    let heap = measure(|| (0..100).for_each(|_| call()));
    assert_eq!((heap.count_total, metrics.0.load(Relaxed) - before), (0, 400));
}

#[test]
fn known_key_is_found_by_what_the_request_has_without_an_allocation() {
    let now = Instant::now().into_std();
    let map = KeyedMap::<String, Arc<u32>>::new(100, None, now);
    map.put("api.example.com".to_owned(), Arc::new(1), &(), now).unwrap();
    let made = || map.get_or_make("api.example.com", &(), now, || unreachable!("it is there"));
    let look = || assert!(made().is_some() && map.get("api.example.org").is_none());
    assert_eq!(measure(look).count_total, 0);
}

#[test]
fn key_costs_less_than_two_hundred_bytes_beside_key_and_value_however_many_come() {
    for keys in [100, 1_000, 9_000, 10_000, 14_337, 20_000] {
        let now = Instant::now().into_std();
        let mut map = None;
        let memory = measure(|| {
            let map =
                map.insert(KeyedMap::<[u8; 32], Arc<()>>::new(keys, Some(Duration::from_secs(60)), now));
            let value = Arc::new(());
            for key in 0..5 * keys {
                let mut bytes = [0; 32];
                bytes[..8].copy_from_slice(&key.to_le_bytes());
                map.put(bytes, value.clone(), &(), now).unwrap();
            }
        });
        let per_key = memory.bytes_current / keys as i64 - 40;
        assert!(per_key < 200, "{per_key} bytes a key, of {keys}");
        assert_eq!(measure(|| drop(map.take())).bytes_current, -memory.bytes_current);
    }
}
