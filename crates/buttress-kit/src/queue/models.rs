//! Every interleaving of two threads, without a bound on preemptions.

use std::{
    ops::ControlFlow::{Break, Continue},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    task::Wake,
};

use loom::{sync::Arc, thread};

use super::{
    turnstile::{Answer, Turnstile, turnstile},
    *,
};

/// Not one of loom's: read only after the threads were joined.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn bell() -> (std::sync::Arc<Bell>, Waker) {
    let bell = std::sync::Arc::<Bell>::default();
    (bell.clone(), bell.into())
}

type Gate = Queue<Turnstile>;

/// With all of its slots taken.
fn full(slots: u32) -> Arc<Gate> {
    let gate = Arc::new(turnstile(slots.into(), 8));
    assert!(gate.slots().try_take(slots));
    gate
}

/// Another thread gives slots back.
fn releasing(gate: &Arc<Gate>, weight: u32) -> thread::JoinHandle<()> {
    let gate = gate.clone();
    thread::spawn(move || gate.give_back(weight))
}

/// What a task does that was woken: it takes its slots. Panics if it was not woken.
fn must_be_called(gate: &Gate, entry: ControlFlow<Answer, Queued>, bell: &Bell) {
    match entry {
        Break(answer) => assert_eq!(answer, Answer::Taken),
        Continue(place) => {
            assert!(bell.0.load(SeqCst) > 0, "nobody called the waiter");
            let result = gate.poll(&mut Some(place.ticket), Waker::noop());
            assert_eq!(result, Poll::Ready(WaitResult::Granted));
        }
    }
}

/// Nothing is held, nobody waits, and the way without the lock is open.
fn must_be_idle(gate: &Gate, slots: u32) {
    assert_eq!((gate.slots().free(), gate.slots().is_attended()), (slots.into(), false));
    assert!(gate.slots().try_take(slots));
}

fn waits(gate: &Gate, waker: &Waker, weight: u32) -> Queued {
    match gate.take(waker, weight) {
        Continue(place) => place,
        Break(answer) => panic!("{answer:?}"),
    }
}

#[test]
fn release_and_enter_meet() {
    loom::model(|| {
        let gate = full(1);
        let (bell, waker) = bell();
        let release = releasing(&gate, 1);
        let entry = gate.take(&waker, 1);
        release.join().unwrap();
        must_be_called(&gate, entry, &bell);
        gate.give_back(1);
        must_be_idle(&gate, 1);
    });
}

#[test]
fn release_and_cancelled_head_of_the_queue_meet() {
    loom::model(|| {
        let gate = full(1);
        let first = waits(&gate, Waker::noop(), 1);
        let (bell, waker) = bell();
        let second = gate.take(&waker, 1);
        let release = releasing(&gate, 1);
        gate.give_up(first.ticket, 1);
        release.join().unwrap();
        must_be_called(&gate, second, &bell);
        gate.give_back(1);
        must_be_idle(&gate, 1);
    });
}

#[test]
fn release_of_too_little_and_cancelled_heavy_head_meet() {
    loom::model(|| {
        let gate = full(3);
        let heavy = waits(&gate, Waker::noop(), 3);
        let (bell, waker) = bell();
        let light = gate.take(&waker, 1);
        let release = releasing(&gate, 1);
        gate.give_up(heavy.ticket, 3);
        release.join().unwrap();
        must_be_called(&gate, light, &bell);
        gate.give_back(1);
        gate.give_back(2);
        must_be_idle(&gate, 3);
    });
}

#[test]
fn release_and_cancelled_only_waiter_meet_a_newcomer() {
    loom::model(|| {
        let gate = full(1);
        let first = waits(&gate, Waker::noop(), 1);
        let release = releasing(&gate, 1);
        gate.give_up(first.ticket, 1);
        let (bell, waker) = bell();
        let newcomer = gate.take(&waker, 1);
        release.join().unwrap();
        must_be_called(&gate, newcomer, &bell);
        gate.give_back(1);
        must_be_idle(&gate, 1);
    });
}

#[test]
fn two_releases_and_two_waiters_meet() {
    loom::model(|| {
        let gate = full(2);
        let (first_bell, first_waker) = bell();
        let (second_bell, second_waker) = bell();
        let first = gate.take(&first_waker, 1);
        let release = releasing(&gate, 1);
        let second = gate.take(&second_waker, 1);
        gate.give_back(1);
        release.join().unwrap();
        must_be_called(&gate, first, &first_bell);
        must_be_called(&gate, second, &second_bell);
        gate.give_back(1);
        gate.give_back(1);
        must_be_idle(&gate, 2);
    });
}

#[test]
fn newcomer_never_overtakes_who_waits() {
    loom::model(|| {
        let gate = full(1);
        let (bell, waker) = bell();
        let waiter = gate.take(&waker, 1);
        let release = releasing(&gate, 1);
        // Before, amid and after the hand-over.
        assert!(!gate.slots().try_take(1));
        release.join().unwrap();
        must_be_called(&gate, waiter, &bell);
        gate.give_back(1);
        must_be_idle(&gate, 1);
    });
}

#[test]
fn close_and_enter_meet() {
    loom::model(|| {
        let gate = full(1);
        let (bell, waker) = bell();
        let other = gate.clone();
        let close = thread::spawn(move || other.shut());
        let entry = gate.take(&waker, 1);
        let sent_away = close.join().unwrap();
        match entry {
            Break(answer) => assert_eq!((answer, sent_away), (Answer::Closed, 0)),
            Continue(place) => {
                assert!(bell.0.load(SeqCst) > 0);
                assert_eq!(sent_away, 1);
                let result = gate.poll(&mut Some(place.ticket), Waker::noop());
                assert_eq!(result, Poll::Ready(WaitResult::Closed));
            }
        }
        gate.give_back(1);
        assert_eq!((gate.slots().free(), gate.slots().try_take(1)), (1, false));
    });
}

#[test]
fn clear_and_release_share_out_the_queue() {
    loom::model(|| {
        let gate = full(1);
        let (bell, waker) = bell();
        let place = waits(&gate, &waker, 1);
        let release = releasing(&gate, 1);
        let cleared = gate.clear(drop);
        release.join().unwrap();
        assert!(bell.0.load(SeqCst) > 0);
        match gate.poll(&mut Some(place.ticket), Waker::noop()) {
            Poll::Ready(WaitResult::Granted) => {
                assert_eq!(cleared, 0);
                gate.give_back(1);
            }
            result => assert_eq!((result, cleared), (Poll::Ready(WaitResult::Cleared), 1)),
        }
        must_be_idle(&gate, 1);
    });
}

#[test]
fn who_waits_for_the_end_hears_of_it_when_the_last_waiter_goes() {
    loom::model(|| {
        let gate = full(1);
        let place = waits(&gate, Waker::noop(), 1);
        let (bell, waker) = bell();
        gate.with(|_, rules, _| rules.drain.push(waker));
        let release = releasing(&gate, 1);
        gate.give_up(place.ticket, 1);
        release.join().unwrap();
        assert!(bell.0.load(SeqCst) > 0);
        must_be_idle(&gate, 1);
    });
}
