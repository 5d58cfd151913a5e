//! Nobody listens, so nothing is told. One test in a process of its own: a listener anywhere would end the quiet.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use buttress_core::{Event, KindData, Level, Levels, Name, Note, observe::recorder_fn};
use buttress_kit::{Emitter, Listeners};

static BREAKER: KindData = KindData::new("breaker");
static RETRY: KindData = KindData::new("retry");

struct Counts(AtomicUsize);

impl Levels for Counts {
    fn level(&self, _: u32) -> Option<Level> {
        None
    }

    fn levels(&self, _: &mut dyn FnMut(Level)) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn emitters_are_off_until_somebody_listens_anywhere() {
    let told = Arc::new(AtomicUsize::new(0));
    let pay = Emitter::new(&BREAKER, Name::new("pay"), &Listeners::default());
    let ship = Emitter::new(&RETRY, Name::new("ship"), &Listeners::default());
    let levels = Arc::new(Counts(AtomicUsize::new(0)));
    let dynamic: Arc<dyn Levels> = levels.clone();
    pay.set_levels(Arc::downgrade(&dynamic));
    // What policies do: the event is made only where it would be heard.
    let mut made = 0;
    let mut tell = |emitter: &Emitter| {
        if emitter.is_on() {
            made += 1;
            emitter.emit(Event::Note(&Note::new("admitted")));
        }
    };
    for _ in 0..1_000 {
        tell(&pay);
        tell(&ship);
    }
    assert!(!pay.is_on() && !pay.is_timed() && !ship.is_on());
    assert_eq!(levels.0.load(SeqCst), 0);

    let count = told.clone();
    ship.add(recorder_fn(move |_| {
        count.fetch_add(1, SeqCst);
    }));
    assert!(pay.is_on() && ship.is_on()); // one flag for all
    assert!(!pay.is_timed() && ship.is_timed());
    tell(&pay);
    tell(&ship);
    assert_eq!((made, told.load(SeqCst)), (2, 1));
    assert_eq!(levels.0.load(SeqCst), 0);
}
