//! Observers and recorders: who hears what, in which order, and what becomes of those that misbehave.

use std::{
    cell::RefCell,
    sync::{
        Arc, Barrier, Mutex, Weak,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use buttress_core::{
    Code, Event, Kind, KindData, Level, Levels, Name, Note, Observer, Outcome, Recorder, Rejection,
    Transition,
    observe::{self, recorder_fn},
};
use buttress_kit::{Emitter, Listeners, listener_panics};

static BREAKER: KindData = KindData::new("breaker");
const OPEN: &Code = &Code::refused("CIRCUIT_OPEN");
const RESET: Note = Note::new(Note::RESET);

type Log = Arc<Mutex<Vec<String>>>;

fn text(event: &Event<'_>) -> String {
    match event {
        Event::Done { outcome, .. } => format!("done {}", outcome.as_str()),
        Event::Refused { rejection, .. } => format!("refused {}", rejection.code()),
        Event::Transition(Transition { from, to, .. }) => format!("{from} -> {to}"),
        Event::Level(Level { what: Level::STATE, of: Some(state), .. }) => format!("is {state}"),
        Event::Level(Level { what, value, .. }) => format!("{what} {value}"),
        Event::Note(Note { what: Note::RESET, .. }) => "reset".to_owned(),
        other => format!("{other:?}"),
    }
}

fn log_into(log: &Log, who: &'static str) -> Arc<dyn Recorder> {
    let log = log.clone();
    recorder_fn(move |event| log.lock().unwrap().push(format!("{who}: {}", text(event))))
}

fn emitter(name: &str) -> Emitter {
    Emitter::new(&BREAKER, Name::new(name), &Listeners::default())
}

fn done() -> Event<'static> {
    let (outcome, result) = (Outcome::Success, "success");
    Event::Done { outcome, result, elapsed: None, slow: false, attempts: 1, error: None }
}

fn transition(from: &'static str, to: &'static str) -> Transition {
    Transition::new(from, to, "rule")
}

/// Held by whoever makes a listener panic: the count is of the process.
pub(crate) static PANICKING: Mutex<()> = Mutex::new(());

/// A policy that is open, with three calls in flight.
struct Opened;

impl Levels for Opened {
    fn level(&self, number: u32) -> Option<Level> {
        [Level::state("open"), Level::new("InFlight", 3.0)].get(number as usize).copied()
    }
}

fn opened() -> Arc<dyn Levels> {
    Arc::new(Opened)
}

/// Installs a logging observer for the policies of this name; what is installed stays, so tests share it.
fn install(only: &'static str, log: &Log) {
    let log = log.clone();
    observe::install(move |_: Kind, name: &Name| {
        (name.as_str() == only).then(|| {
            log.lock().unwrap().push("attached".to_owned());
            log_into(&log, "late")
        })
    });
}

#[test]
fn observer_installed_late_attaches_and_learns_where_the_policy_stands() {
    let (log, policy, levels) = (Log::default(), emitter("late"), opened());
    policy.set_levels(Arc::downgrade(&levels));
    policy.emit(done()); // nobody hears it
    install("late", &log);
    policy.emit(done());
    policy.emit(done());
    assert_eq!(
        *log.lock().unwrap(),
        ["attached", "late: is open", "late: InFlight 3", "late: done success", "late: done success"]
    );
}

#[test]
fn observer_installed_early_hears_policies_made_later() {
    let log = Log::default();
    install("made later", &log);
    let policy = emitter("made later");
    assert!(log.lock().unwrap().is_empty());
    policy.emit(done());
    assert_eq!(*log.lock().unwrap(), ["attached", "late: done success"]);
    emitter("another").emit(done());
    assert_eq!(log.lock().unwrap().len(), 2);
}

#[test]
fn recorder_added_late_learns_the_levels_at_once_and_alone() {
    let (log, policy, levels) = (Log::default(), emitter("added"), opened());
    policy.set_levels(Arc::downgrade(&levels));
    policy.add(log_into(&log, "first"));
    policy.emit(done());
    policy.add(log_into(&log, "second"));
    assert_eq!(
        *log.lock().unwrap(),
        [
            "first: is open",
            "first: InFlight 3",
            "first: done success",
            "second: is open",
            "second: InFlight 3"
        ]
    );
    // The policy is gone, its emitter is not: no levels, no fault.
    drop(levels);
    policy.add(log_into(&log, "third"));
    assert_eq!(log.lock().unwrap().len(), 5);
}

#[test]
fn recorder_can_ask_again_where_the_policy_stands() {
    struct Asks(Log, Mutex<Option<Weak<dyn Levels>>>);
    impl Recorder for Asks {
        fn record(&self, event: &Event<'_>) {
            self.0.lock().unwrap().push(text(event));
            if matches!(event, Event::Done { .. }) {
                let levels = self.1.lock().unwrap().as_ref().and_then(Weak::upgrade);
                levels.unwrap().levels(&mut |level| self.record(&Event::Level(level)));
            }
        }
        fn follow(&self, levels: &Weak<dyn Levels>) {
            self.0.lock().unwrap().push("follows".to_owned());
            *self.1.lock().unwrap() = Some(levels.clone());
        }
    }
    let (log, policy, levels) = (Log::default(), emitter("asks"), opened());
    policy.set_levels(Arc::downgrade(&levels));
    policy.add(Arc::new(Asks(log.clone(), Mutex::new(None))));
    policy.emit(done());
    let asked = ["follows", "is open", "InFlight 3", "done success", "is open", "InFlight 3"];
    assert_eq!(*log.lock().unwrap(), asked);
}

#[test]
fn each_policy_is_attached_once_under_racing_threads() {
    struct Counts(Arc<AtomicUsize>);
    impl Observer for Counts {
        fn attach(&self, _: Kind, name: &Name) -> Option<Arc<dyn Recorder>> {
            if name.as_str() == "raced" {
                self.0.fetch_add(1, SeqCst);
            }
            None
        }
    }
    let (attached, policy, start) = (Arc::new(AtomicUsize::new(0)), emitter("raced"), Barrier::new(8));
    observe::install(Counts(attached.clone()));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                (0..100).for_each(|_| policy.emit(done()));
            });
        }
    });
    assert_eq!(attached.load(SeqCst), 1);
}

#[test]
fn listener_that_panics_disturbs_nobody() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("a payload that panics when it is dropped"));
        }
    }
    fn work(policy: &Emitter) -> u32 {
        policy.emit(Event::Transition(&transition("closed", "open")));
        policy.emit(done());
        7
    }
    let (log, policy) = (Log::default(), emitter("panics"));
    policy.add(log_into(&log, "first"));
    policy.add(recorder_fn(|event| match event {
        Event::Transition(_) => std::panic::resume_unwind(Box::new("a listener")),
        _ => std::panic::resume_unwind(Box::new(Bomb)),
    }));
    policy.add(log_into(&log, "third"));
    let _alone = PANICKING.lock();
    let before = listener_panics();
    assert_eq!(work(&policy), 7);
    assert_eq!(listener_panics() - before, 2);
    assert_eq!(
        *log.lock().unwrap(),
        ["first: closed -> open", "third: closed -> open", "first: done success", "third: done success"]
    );
}

#[test]
fn what_a_listener_panics_with_is_not_kept() {
    let (kept, policy) = (Arc::new(()), emitter("panics for ever"));
    let payload = kept.clone();
    policy.add(recorder_fn(move |_| std::panic::resume_unwind(Box::new(payload.clone()))));
    let _alone = PANICKING.lock();
    (0..100).for_each(|_| policy.emit(done()));
    assert_eq!(Arc::strong_count(&kept), 2); // here, and in the listener
}

/// A policy as they are: state behind a lock, which no event is emitted under.
struct Policy {
    emitter: Emitter,
    state: Mutex<&'static str>,
}

impl Policy {
    fn set(&self, to: &'static str) {
        let from = std::mem::replace(&mut *self.state.lock().unwrap(), to);
        self.emitter.emit(Event::Transition(&transition(from, to)));
    }

    fn reset(&self) {
        if self.state() != "closed" {
            self.set("closed");
        }
        self.emitter.emit(Event::Note(&RESET));
    }

    fn state(&self) -> &'static str {
        *self.state.lock().unwrap()
    }
}

#[test]
fn listener_may_use_the_handle_and_what_that_raises_is_told_afterwards() {
    let (log, emitter) = (Log::default(), emitter("re-entered"));
    let policy = Arc::new_cyclic(|weak: &Weak<Policy>| {
        let (weak, own) = (weak.clone(), log.clone());
        emitter.add(recorder_fn(move |event| {
            let policy = weak.upgrade().unwrap();
            own.lock().unwrap().push(format!("first: {} in {}", text(event), policy.state()));
            if matches!(event, Event::Transition(Transition { to: "open", .. })) {
                policy.reset();
                own.lock().unwrap().push(format!("first: has reset, in {}", policy.state()));
            }
        }));
        emitter.add(log_into(&log, "second"));
        Policy { emitter, state: Mutex::new("closed") }
    });
    policy.set("open");
    assert_eq!(
        *log.lock().unwrap(),
        [
            "first: closed -> open in open",
            "first: has reset, in closed",
            "second: closed -> open", // before what the first listener raised
            "first: open -> closed in closed",
            "second: open -> closed",
            "first: reset in closed",
            "second: reset",
        ]
    );
}

#[test]
fn what_a_recorder_raises_while_it_learns_the_levels_waits_too() {
    let (log, policy, levels) = (Log::default(), emitter("learnt"), opened());
    policy.set_levels(Arc::downgrade(&levels));
    let (own, again) = (log.clone(), policy.clone());
    policy.add(recorder_fn(move |event| {
        own.lock().unwrap().push(format!("begin {}", text(event)));
        if let Event::Level(_) = event {
            again.emit(done());
        }
        own.lock().unwrap().push("end".to_owned());
    }));
    let log = log.lock().unwrap();
    assert_eq!(log.len(), 8, "{log:?}"); // two levels, and what each raised
    for told in log.chunks(2) {
        assert!(told[0].starts_with("begin") && told[1] == "end", "{log:?}"); // never two begun at once
    }
}

#[test]
fn what_a_listener_raises_on_another_policy_waits_too() {
    let (log, pay, ship) = (Log::default(), emitter("raises"), emitter("is raised"));
    ship.add(log_into(&log, "ship"));
    let (other, own) = (ship.clone(), log.clone());
    pay.add(recorder_fn(move |_| {
        let name = Name::new("p");
        let refused = Rejection::new(OPEN, &name);
        other.emit(Event::Refused { rejection: &refused, shadow: false });
        own.lock().unwrap().push("pay: has raised".to_owned());
    }));
    pay.emit(done());
    assert_eq!(*log.lock().unwrap(), ["pay: has raised", "ship: refused CIRCUIT_OPEN"]);
}

#[test]
fn listeners_that_answer_each_other_for_ever_do_not_hold_the_caller_for_ever() {
    let (told, policy) = (Arc::new(AtomicUsize::new(0)), emitter("answers itself"));
    let (count, again) = (told.clone(), policy.clone());
    policy.add(recorder_fn(move |_| {
        count.fetch_add(1, SeqCst);
        again.emit(done());
    }));
    policy.emit(done());
    let first = told.load(SeqCst);
    assert!((2..5_000).contains(&first), "{first}");
    policy.emit(done()); // and the next event is told again
    assert!(told.load(SeqCst) > first);
}

#[test]
fn event_of_a_thread_that_ends_is_told() {
    /// A future that is dropped with its thread tells so, when the thread's other values are gone already.
    struct Last(Emitter);
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.emit(done());
        }
    }
    thread_local! {
        static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
    }
    let (log, policy) = (Log::default(), emitter("of a thread"));
    policy.add(log_into(&log, "told"));
    let own = policy.clone();
    let ending = thread::spawn(move || {
        LAST.with_borrow_mut(|last| *last = Some(Last(own.clone())));
        own.emit(Event::Note(&RESET));
    });
    ending.join().unwrap();
    assert_eq!(*log.lock().unwrap(), ["told: reset", "told: done success"]);
}

#[test]
fn observer_may_use_the_handle_while_it_attaches() {
    let (log, policy) = (Log::default(), emitter("attach re-enters"));
    let (own, handle) = (log.clone(), policy.clone());
    observe::install(move |_: Kind, name: &Name| {
        (name.as_str() == "attach re-enters").then(|| {
            handle.emit(Event::Note(&RESET));
            log_into(&own, "late")
        })
    });
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        policy.emit(done());
        tell.send(()).unwrap();
    });
    told.recv_timeout(Duration::from_secs(5)).expect("no deadlock");
    assert_eq!(*log.lock().unwrap(), ["late: done success", "late: reset"]);
}
