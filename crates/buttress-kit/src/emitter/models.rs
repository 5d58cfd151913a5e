//! Two threads on one policy, with its listeners. The turn alone is in `turn/models.rs`, without a bound.

use buttress_core::{KindData, Level, Note, Value};
use loom::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    thread,
};

use super::*;

static TOY: KindData = KindData::new("toy");

/// The value that a listener was told last.
struct Heard(AtomicU32);

impl Recorder for Heard {
    fn record(&self, event: &Event<'_>) {
        match event {
            Event::Level(level) => self.0.store(level.value as u32, Relaxed),
            Event::Note(Note { value: Some(Value::Count(number)), .. }) => {
                assert_eq!(u64::from(self.0.swap(*number as u32, Relaxed)) + 1, *number);
            }
            _ => {}
        }
    }
}

struct Stands(AtomicU32);

impl Levels for Stands {
    fn level(&self, number: u32) -> Option<Level> {
        (number == 0).then(|| Level::new("in_flight", self.0.load(Relaxed).into()))
    }
}

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn emitter() -> Emitter {
    Emitter::new(&TOY, Name::new("toy"), &Listeners::default())
}

fn heard() -> std::sync::Arc<Heard> {
    std::sync::Arc::new(Heard(AtomicU32::new(0)))
}

#[test]
fn events_come_in_order_and_none_stays_behind() {
    check(|| {
        let (emitter, heard, made) = (emitter(), heard(), Arc::new(Mutex::new(0)));
        emitter.add(heard.clone());
        let change = move |emitter: &Emitter, made: &Mutex<u64>| {
            let mut made = made.lock().unwrap();
            *made += 1;
            emitter.later(OwnedEvent::Note(Note::with("changed", Value::Count(*made))));
            drop(made);
            emitter.deliver();
        };
        let (other, others) = (emitter.clone(), made.clone());
        let thread = thread::spawn(move || change(&other, &others));
        change(&emitter, &made);
        thread.join().unwrap();
        assert_eq!(heard.0.load(Relaxed), 2);
    });
}

#[test]
fn recorder_that_comes_while_a_level_moves_is_told_the_last_value_last() {
    check(|| {
        let (emitter, heard) = (emitter(), heard());
        // Somebody listens already, or a level that moves is not looked at.
        emitter.add(self::heard());
        let stands = std::sync::Arc::new(Stands(AtomicU32::new(0)));
        let levels: std::sync::Arc<dyn Levels> = stands.clone();
        emitter.set_levels(std::sync::Arc::downgrade(&levels));
        let other = emitter.clone();
        let thread = thread::spawn(move || {
            stands.0.store(1, Relaxed);
            other.moved(0);
            other.deliver();
        });
        emitter.add(heard.clone());
        thread.join().unwrap();
        assert_eq!(heard.0.load(Relaxed), 1);
    });
}
