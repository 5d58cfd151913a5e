//! Every interleaving of two threads, without a bound on preemptions.

use std::{
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    task::{Poll, Wake},
};

use buttress_kit::queue::WaitResult;
use loom::{cell::UnsafeCell, sync::Arc, thread};

use super::*;

/// Not one of loom's: read only after the threads were joined.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Bell {
    fn rang(&self) -> bool {
        self.0.load(SeqCst) > 0
    }
}

fn bell() -> (std::sync::Arc<Bell>, Waker) {
    let bell = std::sync::Arc::<Bell>::default();
    (bell.clone(), bell.into())
}

fn gate(limit: u32) -> Arc<Gate> {
    Arc::new(Gate::new(&BulkheadConfig { max_concurrent: limit, ..BulkheadConfig::default() }))
}

fn set_limit(gate: &Gate, max_concurrent: u32) {
    gate.apply(&BulkheadConfig { max_concurrent, ..BulkheadConfig::default() });
    gate.settle();
}

/// With its only slot taken.
fn full_gate() -> Arc<Gate> {
    let gate = gate(1);
    assert!(gate.slots().try_take());
    gate
}

/// Another thread gives a slot back.
fn releasing(gate: &Arc<Gate>) -> thread::JoinHandle<()> {
    let gate = gate.clone();
    thread::spawn(move || _ = gate.give_back(false))
}

/// What a task does that is dropped while it waits.
fn give_up(gate: &Gate, queued: Queued) {
    if gate.queue.leave(queued.ticket) == Some(WaitResult::Granted) {
        gate.give_back(false);
    }
}

/// What a task does that was called: it takes its slot. Panics if it was not called.
fn must_be_called(gate: &Gate, entry: Entry, bell: &Bell) {
    match entry {
        Entry::Taken => {}
        Entry::Waits(queued, _) => {
            assert!(bell.rang(), "nobody called the waiter");
            let result = gate.queue.poll(&mut Some(queued.ticket), Waker::noop());
            assert_eq!(result, Poll::Ready(WaitResult::Granted));
        }
        other => panic!("{other:?}"),
    }
}

/// Nothing is held, nobody waits, and the way without the lock is open.
fn must_be_idle(gate: &Gate, limit: u32) {
    let word = gate.slots().load();
    assert_eq!((word.in_flight(), word.limit(), word.is_attended()), (0, limit, false));
    assert!(gate.slots().try_take());
}

#[test]
fn release_and_enter_meet() {
    loom::model(|| {
        let gate = full_gate();
        let (bell, waker) = bell();
        let release = releasing(&gate);
        let entry = gate.enter(Some(&waker));
        release.join().unwrap();
        must_be_called(&gate, entry, &bell);
        gate.give_back(false);
        must_be_idle(&gate, 1);
    });
}

#[test]
fn release_and_cancelled_head_of_the_queue_meet() {
    loom::model(|| {
        let gate = full_gate();
        let Entry::Waits(first, _) = gate.enter(Some(Waker::noop())) else { panic!() };
        let (bell, waker) = bell();
        let second = gate.enter(Some(&waker));
        let release = releasing(&gate);
        give_up(&gate, first);
        release.join().unwrap();
        must_be_called(&gate, second, &bell);
        gate.give_back(false);
        must_be_idle(&gate, 1);
    });
}

#[test]
fn release_and_cancelled_only_waiter_meet_a_newcomer() {
    loom::model(|| {
        let gate = full_gate();
        let Entry::Waits(first, _) = gate.enter(Some(Waker::noop())) else { panic!() };
        let release = releasing(&gate);
        give_up(&gate, first);
        let (bell, waker) = bell();
        let newcomer = gate.enter(Some(&waker));
        release.join().unwrap();
        must_be_called(&gate, newcomer, &bell);
        gate.give_back(false);
        must_be_idle(&gate, 1);
    });
}

#[test]
fn two_releases_and_two_waiters_meet() {
    loom::model(|| {
        let gate = gate(2);
        assert!(gate.slots().try_take() && gate.slots().try_take());
        let (first_bell, first_waker) = bell();
        let (second_bell, second_waker) = bell();
        let first = gate.enter(Some(&first_waker));
        let release = releasing(&gate);
        let second = gate.enter(Some(&second_waker));
        gate.give_back(false);
        release.join().unwrap();
        must_be_called(&gate, first, &first_bell);
        must_be_called(&gate, second, &second_bell);
        gate.give_back(false);
        gate.give_back(false);
        must_be_idle(&gate, 2);
    });
}

#[test]
fn one_slot_is_held_by_one_at_a_time_and_hands_on_what_was_written() {
    loom::model(|| {
        let gate = gate(1);
        let cell = Arc::new(UnsafeCell::new(0));
        // loom reports two accesses that are not ordered, without the pointer being used.
        let work = |gate: &Gate, cell: &UnsafeCell<i32>| {
            let taken = gate.slots().try_take() || gate.enter(None) == Entry::Taken;
            if taken {
                cell.with_mut(|_| {});
                gate.give_back(false);
            }
            taken
        };
        let (other, others) = (gate.clone(), cell.clone());
        let thread = thread::spawn(move || work(&other, &others));
        let here = work(&gate, &cell);
        // Refused means that the other one had it.
        assert!(thread.join().unwrap() || here);
        must_be_idle(&gate, 1);
    });
}

#[test]
fn granted_slot_hands_on_what_was_written() {
    loom::model(|| {
        let gate = gate(1);
        let cell = Arc::new(UnsafeCell::new(0));
        assert!(gate.slots().try_take());
        let (other, others) = (gate.clone(), cell.clone());
        let release = thread::spawn(move || {
            others.with_mut(|_| {});
            other.give_back(false);
        });
        let granted = match gate.enter(Some(Waker::noop())) {
            Entry::Taken => true,
            Entry::Waits(queued, _) => {
                gate.queue.poll(&mut Some(queued.ticket), Waker::noop()) == Poll::Ready(WaitResult::Granted)
            }
            other => panic!("{other:?}"),
        };
        if granted {
            cell.with_mut(|_| {});
        }
        release.join().unwrap();
    });
}

#[test]
fn completed_calls_of_two_threads_are_all_counted() {
    // Batches are of two here, so that the two fold against each other.
    loom::model(|| {
        let gate = gate(2);
        let work = |gate: &Gate| {
            for _ in 0..2 {
                assert!(gate.slots().try_take());
                gate.give_back(true);
            }
        };
        let other = gate.clone();
        let thread = thread::spawn(move || work(&other));
        work(&gate);
        thread.join().unwrap();
        assert_eq!(gate.slots().completed(), 4);
        must_be_idle(&gate, 2);
    });
}

#[test]
fn count_read_amid_a_fold_is_whole() {
    loom::model(|| {
        let gate = full_gate();
        gate.give_back(true);
        assert!(gate.slots().try_take());
        let other = gate.clone();
        let thread = thread::spawn(move || other.give_back(true));
        let seen = gate.slots().completed();
        assert!(seen == 1 || seen == 2, "{seen}");
        thread.join().unwrap();
        assert_eq!(gate.slots().completed(), 2);
    });
}

#[test]
fn newcomer_never_overtakes_who_waits() {
    loom::model(|| {
        let gate = full_gate();
        let (bell, waker) = bell();
        let waiter = gate.enter(Some(&waker));
        let release = releasing(&gate);
        // Before, amid and after the hand-over.
        assert!(!gate.slots().try_take());
        assert_eq!(gate.enter(None), Entry::Full);
        release.join().unwrap();
        must_be_called(&gate, waiter, &bell);
        gate.give_back(false);
        must_be_idle(&gate, 1);
    });
}

#[test]
fn drain_hears_of_the_end_when_the_last_waiter_goes() {
    loom::model(|| {
        let gate = full_gate();
        let Entry::Waits(queued, _) = gate.enter(Some(Waker::noop())) else { panic!() };
        let (bell, waker) = bell();
        let mut parked = None;
        assert!(!gate.poll_drained(&mut parked, &waker));
        let release = releasing(&gate);
        give_up(&gate, queued);
        release.join().unwrap();
        assert!(bell.rang());
        assert!(gate.poll_drained(&mut parked, &waker));
        must_be_idle(&gate, 1);
    });
}

#[test]
fn drain_hears_of_the_end_when_the_queue_is_cleared() {
    loom::model(|| {
        let gate = full_gate();
        let Entry::Waits(queued, _) = gate.enter(Some(Waker::noop())) else { panic!() };
        let (bell, waker) = bell();
        let mut parked = None;
        assert!(!gate.poll_drained(&mut parked, &waker));
        let release = releasing(&gate);
        gate.queue.clear(drop);
        release.join().unwrap();
        give_up(&gate, queued);
        assert!(bell.rang());
        must_be_idle(&gate, 1);
    });
}

#[test]
fn drain_and_waiter_both_hear_of_the_only_release() {
    loom::model(|| {
        let gate = full_gate();
        let (waiter_bell, waker) = bell();
        let waiter = gate.enter(Some(&waker));
        let (drain_bell, drain_waker) = bell();
        let release = releasing(&gate);
        let mut parked = None;
        assert!(!gate.poll_drained(&mut parked, &drain_waker));
        release.join().unwrap();
        must_be_called(&gate, waiter, &waiter_bell);
        assert!(!drain_bell.rang());
        gate.give_back(false);
        assert!(drain_bell.rang());
        assert!(gate.poll_drained(&mut parked, &drain_waker));
        must_be_idle(&gate, 1);
    });
}

#[test]
fn drain_and_the_last_release_meet() {
    loom::model(|| {
        let gate = full_gate();
        let (bell, waker) = bell();
        let release = releasing(&gate);
        let mut parked = None;
        let at_once = gate.poll_drained(&mut parked, &waker);
        release.join().unwrap();
        assert!(at_once || bell.rang());
        assert!(gate.poll_drained(&mut parked, &waker));
        must_be_idle(&gate, 1);
    });
}

#[test]
fn raised_limit_and_enter_meet() {
    loom::model(|| {
        let gate = full_gate();
        let (bell, waker) = bell();
        let other = gate.clone();
        let raise = thread::spawn(move || set_limit(&other, 2));
        let entry = gate.enter(Some(&waker));
        raise.join().unwrap();
        must_be_called(&gate, entry, &bell);
        gate.give_back(false);
        gate.give_back(false);
        must_be_idle(&gate, 2);
    });
}

#[test]
fn lowered_limit_and_release_and_take_meet() {
    loom::model(|| {
        let gate = gate(2);
        assert!(gate.slots().try_take());
        let other = gate.clone();
        let lower = thread::spawn(move || set_limit(&other, 1));
        let taken = gate.slots().try_take();
        gate.give_back(false);
        lower.join().unwrap();
        assert_eq!(gate.slots().load().in_flight(), u32::from(taken));
        if taken {
            assert!(!gate.slots().try_take());
            gate.give_back(false);
        }
        must_be_idle(&gate, 1);
    });
}

#[test]
fn close_and_enter_meet() {
    loom::model(|| {
        let gate = full_gate();
        let (bell, waker) = bell();
        let other = gate.clone();
        let close = thread::spawn(move || other.close());
        let entry = gate.enter(Some(&waker));
        let sent_away = close.join().unwrap();
        match entry {
            Entry::Closed => assert_eq!(sent_away, 0),
            Entry::Waits(queued, _) => {
                assert!(bell.rang());
                assert_eq!(sent_away, 1);
                let result = gate.queue.poll(&mut Some(queued.ticket), Waker::noop());
                assert_eq!(result, Poll::Ready(WaitResult::Closed));
            }
            other => panic!("{other:?}"),
        }
        gate.give_back(false);
        assert!(!gate.slots().try_take());
        assert_eq!(gate.slots().load().in_flight(), 0);
    });
}

#[test]
fn clear_and_release_share_out_the_queue() {
    loom::model(|| {
        let gate = full_gate();
        let (bell, waker) = bell();
        let Entry::Waits(queued, _) = gate.enter(Some(&waker)) else { panic!() };
        let release = releasing(&gate);
        let cleared = gate.queue.clear(drop);
        release.join().unwrap();
        assert!(bell.rang());
        match gate.queue.poll(&mut Some(queued.ticket), Waker::noop()) {
            Poll::Ready(WaitResult::Granted) => {
                assert_eq!(cleared, 0);
                gate.give_back(false);
            }
            result => assert_eq!((result, cleared), (Poll::Ready(WaitResult::Cleared), 1)),
        }
        must_be_idle(&gate, 1);
    });
}
