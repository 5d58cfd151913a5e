//! Bounds and order: no listener holds a caller for ever, nothing grows without bounds, nothing is lost silently.

use std::{
    cell::Cell,
    sync::{
        Arc, Barrier, Mutex, OnceLock, Weak,
        atomic::{AtomicU64, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use buttress_core::{
    Code, Event, Kind, KindData, Level, Levels, Name, Note, Outcome, OwnedEvent, Recorder, Rejection,
    Transition, Value,
    observe::{self, recorder_fn},
};
use buttress_kit::{Emitter, Listeners, caught, listener_panics};

use crate::listeners::PANICKING;

static TOY: KindData = KindData::new("toy");
const SHUT: &Code = &Code::refused("TOY_SHUT");
const CHANGED: &str = "changed";
/// The most ordered events that one caller tells.
const QUOTA: u64 = 32;
/// The most ordered events that wait.
const RING: u64 = 256;

/// A policy whose only state is a number, which each change counts up under its lock, and whose level is another.
#[derive(Clone)]
struct Toy(Arc<Shared>);

struct Shared {
    emitter: Emitter,
    made: Mutex<u64>,
    level: AtomicU64,
}

impl Levels for Shared {
    fn level(&self, number: u32) -> Option<Level> {
        (number == 0).then(|| Level::new("in_flight", self.level.load(SeqCst) as f64))
    }
}

impl Toy {
    fn new(listeners: &Listeners) -> Self {
        Self::of(&TOY, listeners)
    }

    fn of(kind: Kind, listeners: &Listeners) -> Self {
        let emitter = Emitter::new(kind, Name::new("toy"), listeners);
        let shared = Arc::new(Shared { emitter, made: Mutex::new(0), level: AtomicU64::new(0) });
        let levels: Arc<dyn Levels> = shared.clone();
        shared.emitter.set_levels(Arc::downgrade(&levels));
        Self(shared)
    }

    fn change(&self) {
        let mut made = self.0.made.lock().unwrap();
        *made += 1;
        self.0.emitter.later(OwnedEvent::Note(Note::with(CHANGED, Value::Count(*made))));
        drop(made);
        self.0.emitter.deliver();
    }

    fn step(&self, by: i64) {
        self.0.level.fetch_add(by as u64, SeqCst);
        self.0.emitter.moved(0);
        self.0.emitter.deliver();
    }

    fn done(&self) {
        self.0.emitter.done(Outcome::Success, "success", None, false, 1, None);
    }

    fn made(&self) -> u64 {
        *self.0.made.lock().unwrap()
    }

    fn missed(&self) -> u64 {
        self.0.emitter.missed()
    }
}

/// The number of the change that is told.
fn changed(event: &Event<'_>) -> Option<u64> {
    match event {
        Event::Note(Note { what: CHANGED, value: Some(Value::Count(number)), .. }) => Some(*number),
        _ => None,
    }
}

/// A toy with a listener that can use its handle, and with those that were collected.
fn answering(mut listeners: Listeners, answer: impl Fn(&Toy, &Event<'_>) + Send + Sync + 'static) -> Toy {
    let handle = Arc::new(OnceLock::<Weak<Shared>>::new());
    let held = handle.clone();
    listeners.on_event(move |event| {
        // Nothing while the toy is made: it is told its levels then.
        if let Some(toy) = held.get().and_then(Weak::upgrade) {
            answer(&Toy(toy), event);
        }
    });
    let toy = Toy::new(&listeners);
    handle.set(Arc::downgrade(&toy.0)).unwrap();
    toy
}

/// Counts what is told of one sort.
#[derive(Clone, Default)]
struct Count(Arc<AtomicU64>);

impl Count {
    fn up(&self) {
        self.0.fetch_add(1, SeqCst);
    }

    fn get(&self) -> u64 {
        self.0.load(SeqCst)
    }
}

/// A passive recorder, as metrics have it: counts ends of calls, and changes that come in order.
#[derive(Default)]
struct Metrics {
    done: Count,
    changes: Count,
}

impl Recorder for Metrics {
    fn record(&self, event: &Event<'_>) {
        if let Event::Done { .. } = event {
            self.done.up();
        }
        if changed(event) == Some(self.changes.get() + 1) {
            self.changes.up();
        }
    }

    fn passive(&self) -> bool {
        true
    }
}

fn observed_by(recorder: &Arc<Metrics>) -> Listeners {
    let (mut listeners, recorder) = (Listeners::default(), recorder.clone());
    listeners.observe(move |_: Kind, _: &Name| Some(recorder.clone() as Arc<dyn Recorder>));
    listeners
}

#[test]
fn listener_that_answers_its_own_event_does_not_hold_the_caller() {
    let told = Count::default();
    let count = told.clone();
    let toy = answering(Listeners::default(), move |toy, event| {
        if changed(event).is_some() {
            count.up();
            toy.change();
        }
    });
    toy.change();
    assert_eq!(told.get(), QUOTA);
    // What is left is told with the next event; nothing grows.
    toy.done();
    assert_eq!((told.get(), toy.made(), toy.missed()), (2 * QUOTA, 2 * QUOTA + 1, 0));
    toy.0.emitter.deliver();
    assert_eq!(told.get(), 3 * QUOTA);
}

#[test]
fn policies_that_answer_each_other_do_not_hold_the_caller() {
    let (told, other) = (Count::default(), Arc::new(OnceLock::<Toy>::new()));
    let (count, answered) = (told.clone(), other.clone());
    let one = answering(Listeners::default(), move |_, event| {
        if changed(event).is_some() {
            count.up();
            answered.get().unwrap().change();
        }
    });
    let (count, first) = (told.clone(), Arc::downgrade(&one.0));
    let second = answering(Listeners::default(), move |_, event| {
        if changed(event).is_some() {
            count.up();
            Toy(first.upgrade().unwrap()).change();
        }
    });
    other.set(second).ok().unwrap();
    one.change();
    assert!((2..5_000).contains(&told.get()), "{}", told.get());
}

#[test]
fn listener_that_moves_the_level_it_hears_does_not_hold_the_caller() {
    let told = Count::default();
    let count = told.clone();
    let toy = answering(Listeners::default(), move |toy, event| {
        if let Event::Level(_) = event {
            count.up();
            toy.step(1);
        }
    });
    toy.step(1);
    assert_eq!(told.get(), QUOTA);
}

#[test]
fn flood_of_events_does_not_hold_up_levels() {
    let levels = Count::default();
    let count = levels.clone();
    let toy = answering(Listeners::default(), move |toy, event| match event {
        Event::Level(_) => count.up(),
        _ => toy.change(), // for ever
    });
    toy.change();
    toy.step(1);
    assert_eq!(levels.get(), 1);
}

#[test]
fn calls_made_in_a_listener_are_all_exported_and_told_or_counted_as_missed_to_the_others() {
    let (metrics, heard) = (Arc::new(Metrics::default()), Count::default());
    let count = heard.clone();
    let toy = answering(observed_by(&metrics), move |toy, event| match event {
        Event::Note(_) => (0..5_000).for_each(|_| toy.done()),
        _ => count.up(),
    });
    toy.change();
    assert_eq!(metrics.done.get(), 5_000);
    assert_eq!((heard.get(), toy.missed()), (1_024, 3_976));
}

#[test]
fn changes_made_in_a_listener_are_all_exported_and_told_or_counted_as_missed_to_the_others() {
    let (metrics, heard) = (Arc::new(Metrics::default()), Count::default());
    let (count, own, at_once) = (heard.clone(), metrics.clone(), Arc::new(AtomicU64::new(0)));
    let exported = at_once.clone();
    let toy = answering(observed_by(&metrics), move |toy, event| match changed(event) {
        Some(1) => {
            (0..5_000).for_each(|_| toy.change());
            exported.store(own.changes.get(), SeqCst);
        }
        Some(_) => count.up(),
        None => {}
    });
    toy.change();
    assert_eq!(at_once.load(SeqCst), 5_001);
    assert_eq!(heard.get(), QUOTA - 1);
    assert_eq!(toy.missed(), 5_000 - RING);
    (0..RING / QUOTA).for_each(|_| toy.done());
    assert_eq!(heard.get() + toy.missed(), 5_000);
    assert_eq!(metrics.changes.get(), 5_001);
}

#[test]
fn flood_of_others_does_not_hold_a_caller_and_order_stays() {
    thread_local!(static TOLD: Cell<u64> = const { Cell::new(0) });
    let (told, disorder, last) = (Count::default(), Count::default(), AtomicU64::new(0));
    let (count, wrong, mut listeners) = (told.clone(), disorder.clone(), Listeners::default());
    listeners.on_event(move |event| {
        if let Some(number) = changed(event) {
            if last.swap(number, SeqCst) >= number {
                wrong.up();
            }
            count.up();
            TOLD.set(TOLD.get() + 1);
            (0..200).for_each(|_| std::hint::spin_loop());
        }
    });
    let (toy, start) = (Toy::new(&listeners), Barrier::new(2));
    let flood = || {
        start.wait();
        for _ in 0..20_000 {
            TOLD.set(0);
            toy.change();
            assert!(TOLD.get() <= QUOTA, "{}", TOLD.get());
        }
    };
    thread::scope(|scope| [scope.spawn(flood), scope.spawn(flood)].map(|one| one.join().unwrap()));
    // All is told or counted; what waits is bounded and told with the next events.
    assert!(toy.made() - told.get() - toy.missed() <= 2 * RING);
    (0..2 * RING / QUOTA).for_each(|_| toy.done());
    assert_eq!((told.get() + toy.missed(), disorder.get()), (40_000, 0));
}

#[test]
fn listener_that_is_stuck_holds_nobody_else_and_what_waits_is_bounded() {
    let (metrics, told) = (Arc::new(Metrics::default()), Count::default());
    let (stuck, wait) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (inside, go_on, count) = (stuck.clone(), wait.clone(), told.clone());
    let toy = answering(observed_by(&metrics), move |_, event| {
        if let Some(number) = changed(event) {
            count.up();
            if number == 1 {
                inside.wait();
                go_on.wait();
            }
        }
    });
    let first = thread::spawn({
        let toy = toy.clone();
        move || toy.change()
    });
    stuck.wait();
    (0..10_000).for_each(|_| toy.change());
    assert_eq!((metrics.changes.get(), told.get(), toy.missed()), (10_001, 1, 10_000 - RING));
    wait.wait();
    first.join().unwrap();
    (0..RING / QUOTA).for_each(|_| toy.done());
    assert_eq!(told.get() + toy.missed(), 10_001);
}

#[test]
fn nothing_waits_when_all_have_returned() {
    let told = Count::default();
    let (count, mut listeners) = (told.clone(), Listeners::default());
    listeners.on_event(move |event| (0..u64::from(changed(event).is_some())).for_each(|_| count.up()));
    let (toy, start) = (Toy::new(&listeners), Barrier::new(2));
    for round in 1..=500 {
        let work = || {
            start.wait();
            (0..3).for_each(|_| toy.change());
        };
        thread::scope(|scope| [scope.spawn(work), scope.spawn(work)].map(|one| one.join().unwrap()));
        assert_eq!((told.get(), toy.missed()), (6 * round, 0));
    }
}

#[test]
fn last_level_told_is_the_last_level() {
    for _ in 0..50 {
        let (last, told) = (Arc::new(AtomicU64::new(99)), Count::default());
        let (seen, count, mut listeners) = (last.clone(), told.clone(), Listeners::default());
        listeners.on_event(move |event| {
            if let Event::Level(level) = event {
                seen.store(level.value as u64, SeqCst);
                count.up();
            }
        });
        let toy = Toy::new(&listeners);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50).for_each(|_| [1, -1].into_iter().for_each(|by| toy.step(by))));
            }
        });
        // Each telling answers for at least one step, so a call never tells until the level stands still.
        assert!(told.get() <= 401, "{}", told.get());
        toy.0.emitter.deliver();
        assert_eq!(last.load(SeqCst), 0);
    }
}

#[test]
fn level_that_moves_often_in_one_call_is_told_once() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let (log, mut listeners) = (told.clone(), Listeners::default());
    listeners.on_event(move |event| {
        if let Event::Level(level) = event {
            log.lock().unwrap().push(level.value);
        }
    });
    let toy = Toy::new(&listeners);
    for _ in 0..1_000 {
        toy.0.level.fetch_add(1, SeqCst);
        toy.0.emitter.moved(0);
    }
    toy.0.emitter.moved(1); // there is none
    toy.0.emitter.moved(4_000_000);
    toy.0.emitter.deliver();
    assert_eq!(*told.lock().unwrap(), [0.0, 1_000.0]);
}

#[test]
fn recorder_added_while_a_level_moves_ends_with_the_last_value() {
    for _ in 0..200 {
        let (toy, start) = (Toy::new(&Listeners::default()), Barrier::new(2));
        // Somebody listens from the beginning.
        toy.0.emitter.add(recorder_fn(|_| ()));
        let (last, seen) = (Arc::new(AtomicU64::new(99)), Arc::new(AtomicU64::new(0)));
        thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                (0..20).for_each(|_| toy.step(1));
            });
            let (last, seen) = (last.clone(), seen.clone());
            start.wait();
            toy.0.emitter.add(recorder_fn(move |event| {
                if let Event::Level(level) = event {
                    seen.fetch_add(1, SeqCst);
                    last.store(level.value as u64, SeqCst);
                }
            }));
        });
        assert_eq!(last.load(SeqCst), 20);
        assert!(seen.load(SeqCst) >= 1);
    }
}

#[test]
fn level_without_a_value_is_not_told_to_all_when_somebody_comes() {
    struct Unknown;
    impl Levels for Unknown {
        fn level(&self, number: u32) -> Option<Level> {
            (number == 0).then(|| Level::new("ratio", f64::NAN))
        }
    }
    let (told, levels) = (Count::default(), Arc::new(Unknown) as Arc<dyn Levels>);
    let emitter = Emitter::new(&TOY, Name::new("toy"), &Listeners::default());
    emitter.set_levels(Arc::downgrade(&levels));
    let count = told.clone();
    emitter.add(recorder_fn(move |_| count.up()));
    emitter.add(recorder_fn(|_| ()));
    assert_eq!(told.get(), 1);
}

/// A payload that panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("a payload"));
    }
}

#[test]
fn code_of_others_that_panics_does_not_take_the_caller_down() {
    assert_eq!(caught(|| 7), Some(7));
    assert_eq!(caught(|| -> u32 { std::panic::resume_unwind(Box::new(Bomb)) }), None);
}

#[test]
fn panics_of_listeners_and_of_levels_reach_nobody_and_telling_goes_on() {
    struct Broken;
    impl Levels for Broken {
        fn level(&self, _: u32) -> Option<Level> {
            std::panic::resume_unwind(Box::new(Bomb));
        }
    }
    let (told, levels) = (Count::default(), Arc::new(Broken) as Arc<dyn Levels>);
    let (count, mut listeners) = (told.clone(), Listeners::default());
    listeners.observe(|_: Kind, _: &Name| -> Option<Arc<dyn Recorder>> {
        std::panic::resume_unwind(Box::new(Bomb));
    });
    listeners.on_event(|_| std::panic::resume_unwind(Box::new(Bomb)));
    listeners.on_event(move |_| count.up());
    let _alone = PANICKING.lock();
    let panics = || listener_panics();
    let before = panics();
    let emitter = Emitter::new(&TOY, Name::new("toy"), &listeners);
    assert_eq!(panics() - before, 1); // the observer
    emitter.set_levels(Arc::downgrade(&levels));
    assert_eq!(panics() - before, 5); // two looks for each of two
    for round in 1..=3 {
        emitter.later(OwnedEvent::Transition(Transition::new("closed", "open", "rule")));
        emitter.moved(0);
        emitter.deliver();
        assert_eq!((told.get(), panics() - before), (round, 5 + 2 * round));
    }
}

#[test]
fn what_is_put_down_in_a_listener_is_told_after_the_event_at_hand_also_of_another_policy() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let own = log.clone();
    let other = answering(Listeners::default(), move |_, event| {
        own.lock().unwrap().push(format!("other {:?}", changed(event)));
    });
    let (own, ship) = (log.clone(), other.clone());
    let toy = answering(Listeners::default(), move |toy, event| {
        own.lock().unwrap().push(format!("begin {:?}", changed(event)));
        if changed(event) == Some(1) {
            ship.change();
            ship.change();
            toy.change();
        }
        own.lock().unwrap().push("end".to_owned());
    });
    toy.change();
    let expected = ["begin Some(1)", "end", "begin Some(2)", "end", "other Some(1)", "other Some(2)"];
    assert_eq!(*log.lock().unwrap(), expected);
}

#[test]
fn observer_is_not_asked_while_a_listener_is_told() {
    /// All its recorders share a lock, and one uses another policy's handle under it.
    struct Locks(Arc<Mutex<Vec<String>>>, Option<Toy>);
    impl Recorder for Locks {
        fn record(&self, event: &Event<'_>) {
            let mut log = self.0.lock().unwrap();
            let what = match event {
                Event::Done { .. } => "done",
                Event::Level(_) => "level",
                _ => "note",
            };
            log.push(format!("{} {what}", if self.1.is_some() { "one" } else { "other" }));
            if let Some(other) = &self.1 {
                other.done();
                other.change();
                assert!(!other.0.emitter.is_timed());
                log.push("unlocks".to_owned());
            }
        }
    }
    static KIND: KindData = KindData::new("asked later");
    let log = Arc::new(Mutex::new(Vec::new()));
    let other = Toy::of(&KIND, &Listeners::default());
    let (own, handle) = (log.clone(), other.clone());
    observe::install(move |kind: Kind, name: &Name| {
        let uses = (name.as_str() == "asked first").then(|| handle.clone());
        let mine = uses.is_some() || kind == &KIND;
        mine.then(|| Arc::new(Locks(own.clone(), uses)) as Arc<dyn Recorder>)
    });
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let one = Emitter::new(&TOY, Name::new("asked first"), &Listeners::default());
        one.done(Outcome::Success, "success", None, false, 1, None);
        tell.send(()).unwrap();
    });
    told.recv_timeout(Duration::from_secs(5)).expect("no deadlock");
    assert_eq!(*log.lock().unwrap(), ["one done", "unlocks", "other level", "other done", "other note"]);
    assert_eq!(other.missed(), 0);
}

#[test]
fn changes_of_a_policy_take_one_place_among_what_a_listener_raises() {
    let told = Count::default();
    let (other, count) = (answering(Listeners::default(), |_, _| ()), told.clone());
    let toy = answering(Listeners::default(), move |toy, event| match event {
        Event::Note(_) => {
            (0..2_000).for_each(|_| other.change());
            toy.done();
        }
        _ => count.up(),
    });
    toy.change();
    assert_eq!((told.get(), toy.missed()), (1, 0));
}

#[test]
fn passive_recorders_are_told_once_also_if_one_of_them_comes_meanwhile() {
    static POLICY: KindData = KindData::new("gets an observer meanwhile");
    let [first, second] = [(); 2].map(|()| Arc::new(Metrics::default()));
    let (mut listeners, new) = (observed_by(&first), second.clone());
    let handle = Arc::new(OnceLock::<Emitter>::new());
    let held = handle.clone();
    listeners.on_event(move |event| {
        if changed(event).is_some() {
            let new = new.clone();
            observe::install(move |kind: Kind, _: &Name| {
                (kind == &POLICY).then(|| new.clone() as Arc<dyn Recorder>)
            });
            held.get().unwrap().done(Outcome::Success, "success", None, false, 1, None);
        }
    });
    let emitter = Emitter::new(&POLICY, Name::new("toy"), &listeners);
    handle.set(emitter.clone()).unwrap();
    emitter.later(OwnedEvent::Note(Note::with(CHANGED, Value::Count(1))));
    emitter.deliver();
    assert_eq!([&first, &second].map(|one| one.done.get()), [1, 1]);
}

#[test]
fn passive_recorder_that_uses_a_handle_nonetheless_does_no_harm() {
    struct Liar(Emitter, Count);
    impl Recorder for Liar {
        fn record(&self, _: &Event<'_>) {
            self.1.up();
            self.0.done(Outcome::Success, "success", None, false, 1, None);
            self.0.later(OwnedEvent::Note(Note::new(CHANGED)));
            self.0.deliver();
        }
        fn passive(&self) -> bool {
            true
        }
    }
    let (emitter, told) = (Emitter::new(&TOY, Name::new("toy"), &Listeners::default()), Count::default());
    emitter.add(Arc::new(Liar(emitter.clone(), told.clone())));
    emitter.done(Outcome::Success, "success", None, false, 1, None);
    assert!((1..100).contains(&told.get()), "{}", told.get());
    assert!(emitter.missed() > 0);
}

#[test]
fn what_callers_had_no_time_for_is_told_when_the_policy_goes() {
    let (told, mut listeners) = (Count::default(), Listeners::default());
    let count = told.clone();
    listeners.on_event(move |event| (0..u64::from(changed(event).is_some())).for_each(|_| count.up()));
    let toy = Toy::new(&listeners);
    let mut events = toy.0.emitter.events();
    for number in 0..100 {
        toy.0.emitter.later(OwnedEvent::Note(Note::with(CHANGED, Value::Count(number))));
    }
    toy.0.emitter.deliver();
    assert_eq!(told.get(), QUOTA);
    drop(toy);
    assert_eq!(told.get(), 100);
    assert_eq!(std::iter::from_fn(|| events.try_next()).count(), 100);
    assert_eq!(tokio_test::block_on(events.next()), None);
}

#[test]
fn ends_and_refusals_are_made_in_one_place() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let (own, mut listeners) = (log.clone(), Listeners::default());
    listeners.on_event(move |event| own.lock().unwrap().push(format!("{event:?}")));
    // Clones share the listeners.
    let policies = ["one", "other"].map(|name| Emitter::new(&TOY, Name::new(name), &listeners.clone()));
    assert!(policies.iter().all(|one| one.is_on() && one.is_timed()));
    let (elapsed, error) = (Some(Duration::from_millis(3)), std::fmt::Error);
    policies[0].done(Outcome::Failure, "not_ready", elapsed, true, 2, Some(&error));
    let rejection = Rejection::new(SHUT, policies[1].name());
    policies[1].refused(&rejection, true);
    let (outcome, result) = (Outcome::Failure, "not_ready");
    let done = Event::Done { outcome, result, elapsed, slow: true, attempts: 2, error: Some(&error) };
    let refused = Event::Refused { rejection: &rejection, shadow: true };
    assert_eq!(*log.lock().unwrap(), [format!("{done:?}"), format!("{refused:?}")]);
}
