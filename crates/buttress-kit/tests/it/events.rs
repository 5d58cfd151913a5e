//! Subscriptions: owned events, in order, as many as fit.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use buttress_core::{
    Code, Event, KindData, Level, Name, Note, Outcome, OwnedEvent, Rejection, Transition, Value,
};
use buttress_kit::{Emitter, Events, Listeners, listener_panics};
use tokio_test::{assert_pending, assert_ready, task};

static BULKHEAD: KindData = KindData::new("bulkhead");
const OPEN: &Code = &Code::refused("CIRCUIT_OPEN");
const QUEUE_CLEARED: &str = "queue_cleared";

fn emitter() -> Emitter {
    Emitter::new(&BULKHEAD, Name::new("pay"), &Listeners::default())
}

fn note(policy: &Emitter, note: Note) {
    policy.later(OwnedEvent::Note(note));
    policy.deliver();
}

fn clear(policy: &Emitter, count: u64) {
    note(policy, Note::with(QUEUE_CLEARED, Value::Count(count)));
}

fn count(what: &OwnedEvent) -> u64 {
    match what {
        OwnedEvent::Note(Note { what: QUEUE_CLEARED, value: Some(Value::Count(count)), .. }) => *count,
        other => panic!("{other:?}"),
    }
}

#[test]
fn refusals_transitions_and_resets_are_kept_in_order_and_nothing_else() {
    let policy = emitter();
    clear(&policy, 0); // before the subscription
    let mut events = policy.events();
    let rejection = Rejection::new(OPEN, policy.name());
    let opened = Transition::new("closed", "open", "manual");
    policy.emit(Event::Done {
        outcome: Outcome::Success,
        result: "success",
        elapsed: None,
        slow: false,
        attempts: 1,
        error: None,
    });
    policy.emit(Event::Transition(&opened));
    policy.emit(Event::Level(Level::new("queue_depth", 1.0)));
    policy.emit(Event::Refused { rejection: &rejection, shadow: true });
    policy.emit(Event::Note(&Note::new("admitted")));
    note(&policy, Note::new(Note::RESET));
    note(&policy, Note::with("exceeded", Value::Word("consecutive")));
    policy.later_unsubscribed(OwnedEvent::Note(Note::new(Note::RECONFIGURED)));
    policy.deliver();

    let told: Vec<_> = std::iter::from_fn(|| events.try_next()).collect();
    assert!(told.iter().all(|one| one.kind == &BULKHEAD && one.policy.as_str() == "pay"));
    assert_eq!(
        told.into_iter().map(|one| one.what).collect::<Vec<_>>(),
        [
            OwnedEvent::Transition(opened),
            OwnedEvent::Refused { rejection, shadow: true },
            OwnedEvent::Note(Note::new(Note::RESET)),
            OwnedEvent::Note(Note::with("exceeded", Value::Word("consecutive"))),
        ]
    );
    assert_eq!(events.missed(), 0);
}

#[test]
fn full_subscription_drops_the_oldest_and_counts() {
    let policy = emitter();
    let mut slow = policy.events();
    let mut quick = policy.events();
    for n in 0..1_100 {
        clear(&policy, n);
        assert_eq!(count(&quick.try_next().unwrap().what), n);
    }
    assert_eq!((slow.missed(), quick.missed()), (76, 0));
    let left: Vec<_> = std::iter::from_fn(|| slow.try_next()).map(|one| count(&one.what)).collect();
    assert_eq!(left, (76..1_100).collect::<Vec<_>>());
}

#[test]
fn next_wakes_on_an_event_and_ends_when_the_policy_is_gone() {
    let policy = emitter();
    let clone = policy.clone();
    let mut events = policy.events();
    {
        let mut next = task::spawn(events.next());
        assert_pending!(next.poll());
        clear(&policy, 1);
        assert!(next.is_woken());
        assert_eq!(count(&assert_ready!(next.poll()).unwrap().what), 1);
    }
    clear(&policy, 2);
    drop(policy);
    clear(&clone, 3); // one clone is the policy still
    {
        let mut next = task::spawn(events.next());
        assert_eq!(count(&assert_ready!(next.poll()).unwrap().what), 2);
    }
    assert_eq!(count(&events.try_next().unwrap().what), 3);
    let mut next = task::spawn(events.next());
    assert_pending!(next.poll());
    drop(clone);
    assert!(next.is_woken());
    assert_eq!(assert_ready!(next.poll()), None);
}

#[test]
fn what_waits_is_read_also_after_the_policy_is_gone() {
    let policy = emitter();
    let mut events = policy.events();
    clear(&policy, 1);
    drop(policy);
    assert_eq!(count(&assert_ready!(task::spawn(events.next()).poll()).unwrap().what), 1);
    assert_eq!(assert_ready!(task::spawn(events.next()).poll()), None);
    assert_eq!(assert_ready!(task::spawn(events.next()).poll()), None);
}

#[test]
fn cancelled_next_loses_nothing() {
    let policy = emitter();
    let mut events = policy.events();
    for n in 0..3 {
        let mut next = task::spawn(events.next());
        assert_pending!(next.poll());
        clear(&policy, n);
        assert!(next.is_woken());
        drop(next); // woken, and never polled again
        assert_eq!(count(&assert_ready!(task::spawn(events.next()).poll()).unwrap().what), n);
    }
}

#[test]
fn waker_of_the_last_poll_is_woken() {
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let policy = emitter();
    let mut events = policy.events();
    let mut next = pin!(events.next());
    let wakers = [(), ()].map(|()| Arc::new(Count(AtomicUsize::new(0))));
    for waker in &wakers {
        assert!(next.as_mut().poll(&mut Context::from_waker(&waker.clone().into())).is_pending());
    }
    clear(&policy, 1);
    assert_eq!(wakers.map(|waker| waker.0.load(SeqCst)), [0, 1]);
}

#[test]
fn every_event_arrives_over_threads() {
    let policy = emitter();
    let mut events = policy.events();
    let reading = thread::spawn(move || {
        let mut sum = 0;
        while let Some(event) = tokio_test::block_on(events.next()) {
            sum += count(&event.what);
        }
        (sum, events.missed())
    });
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..200).for_each(|_| clear(&policy, 1)));
        }
    });
    drop(policy);
    assert_eq!(reading.join().unwrap(), (400, 0));
}

/// Wakes an executor that polls right inside of `wake`, where the policy's handle is used again.
struct Inline {
    policy: Emitter,
    woken: AtomicUsize,
    panics: bool,
}

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        self.woken.fetch_add(1, SeqCst);
        drop(self.policy.events());
        if self.panics {
            std::panic::resume_unwind(Box::new("a waker"));
        }
    }
}

fn poll_next(events: &mut Events, waker: &Waker) -> Poll<u64> {
    Pin::new(events)
        .poll_next(&mut Context::from_waker(waker))
        .map(|one| one.map_or(u64::MAX, |one| count(&one.what)))
}

#[test]
fn nothing_is_locked_while_subscribers_are_woken() {
    let policy = emitter();
    let mut events = policy.events();
    let inline = Arc::new(Inline { policy: policy.clone(), woken: AtomicUsize::new(0), panics: false });
    assert!(poll_next(&mut events, &inline.clone().into()).is_pending());
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        clear(&policy, 1);
        tell.send(()).unwrap();
    });
    told.recv_timeout(Duration::from_secs(5)).expect("no deadlock");
    assert_eq!(inline.woken.load(SeqCst), 1);
    assert_eq!(poll_next(&mut events, Waker::noop()), Poll::Ready(1));
}

#[test]
fn waker_that_panics_does_not_silence_the_policy() {
    let policy = emitter();
    let mut events = policy.events();
    let inline = Arc::new(Inline { policy: policy.clone(), woken: AtomicUsize::new(0), panics: true });
    assert!(poll_next(&mut events, &inline.into()).is_pending());
    let alone = crate::listeners::PANICKING.lock();
    let before = listener_panics();
    clear(&policy, 1);
    assert_eq!(listener_panics() - before, 1);
    drop(alone);
    clear(&policy, 2);
    assert_eq!(poll_next(&mut events, Waker::noop()), Poll::Ready(1));
    assert_eq!(poll_next(&mut events, Waker::noop()), Poll::Ready(2));
}

/// The last waker of a task that made a call: without it the task is dropped, and the call tells its end.
struct LastOfItsTask(Emitter);

impl Wake for LastOfItsTask {
    fn wake(self: Arc<Self>) {}
}

impl Drop for LastOfItsTask {
    fn drop(&mut self) {
        clear(&self.0, 1);
    }
}

#[test]
fn subscription_may_move_to_another_task_when_its_first_one_is_gone() {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let policy = emitter();
        let mut events = policy.events();
        let first = Waker::from(Arc::new(LastOfItsTask(policy.clone())));
        assert!(poll_next(&mut events, &first).is_pending());
        drop(first);
        assert!(poll_next(&mut events, Waker::noop()).is_pending());
        tell.send(poll_next(&mut events, Waker::noop())).unwrap();
    });
    assert_eq!(told.recv_timeout(Duration::from_secs(5)), Ok(Poll::Ready(1)), "no deadlock");
}

#[test]
fn waker_that_panics_at_the_end_of_a_policy_does_not_silence_the_others() {
    let policy = emitter();
    let (mut first, mut second) = (policy.events(), policy.events());
    let other = emitter();
    let wake = |panics| Arc::new(Inline { policy: other.clone(), woken: AtomicUsize::new(0), panics });
    assert!(poll_next(&mut first, &wake(true).into()).is_pending());
    let fine = wake(false);
    assert!(poll_next(&mut second, &fine.clone().into()).is_pending());
    let _alone = crate::listeners::PANICKING.lock();
    drop(policy);
    assert_eq!(fine.woken.load(SeqCst), 1);
}
