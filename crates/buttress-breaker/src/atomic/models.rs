//! The front under all interleavings of two threads.

use std::time::Duration;

use loom::thread;

use super::*;
use crate::{BreakerConfig, WindowConfig, circuit::Waited};

const NOW: Now = Now { time: 0, unit: 0.5, refused: 0 };
/// Dropped by a caller who had not waited.
const UNWAITED: Waited = Waited { time: 0, settled: 0, mean: 0 };
const FAILED: Ending = Ending::Failure { timed_out: false, retry_after: 0 };

fn made(config: BreakerConfig, state: State) -> loom::sync::Arc<AtomicCircuit> {
    let rules = Arc::new(config.rules());
    loom::sync::Arc::new(AtomicCircuit::new(Circuit::new(state, &rules, NOW), rules))
}

fn end(atomic: &AtomicCircuit, ticket: Ticket, ending: Ending) {
    let counted = ending == Ending::Success && atomic.success(ticket.generation);
    if !counted {
        atomic.lock().record(ticket, 0, ending, false, NOW);
    }
}

fn admit(atomic: &AtomicCircuit) -> Ticket {
    Ticket { generation: atomic.word().generation(), lease: 0 }
}

// Every result is counted once, or is late; none of an old generation gets in.
#[test]
fn no_success_is_lost_or_doubled_by_a_change_of_state() {
    loom::model(|| {
        let config = BreakerConfig { consecutive_failures: Some(1), ..BreakerConfig::default() };
        let atomic = made(config, State::Closed);
        let old = admit(&atomic);
        let other = atomic.clone();
        let calls = thread::spawn(move || {
            end(&other, old, Ending::Success);
            end(&other, old, Ending::Success);
            end(&other, old, Ending::Success);
        });
        end(&atomic, old, FAILED);
        {
            let mut guard = atomic.lock();
            let (circuit, rules) = guard.parts();
            circuit.force_close(rules, NOW);
        }
        end(&atomic, admit(&atomic), Ending::Success);
        calls.join().unwrap();
        let mut guard = atomic.lock();
        let tally = guard.circuit().view(0).tally();
        assert_eq!(tally.successes + tally.late, 4, "{tally:?}");
        assert_eq!(tally.failures, 1);
        // Only what came after the close is in a row with it.
        assert_eq!(guard.circuit().view(0).in_a_row(), (1, 0));
    });
}

// The order is kept: a failure after a success is the first of its row.
#[test]
fn a_window_of_two_threads_counts_exactly() {
    loom::model(|| {
        let config = BreakerConfig {
            failure_rate: Some(1.0),
            minimum_calls: Some(6),
            window: WindowConfig::count(8),
            ..BreakerConfig::default()
        };
        let atomic = made(config, State::Closed);
        let ticket = admit(&atomic);
        let other = atomic.clone();
        let calls = thread::spawn(move || {
            end(&other, ticket, Ending::Success);
            end(&other, ticket, FAILED);
            end(&other, ticket, Ending::Success);
        });
        end(&atomic, ticket, FAILED);
        end(&atomic, ticket, Ending::Success);
        end(&atomic, ticket, FAILED);
        calls.join().unwrap();
        let mut guard = atomic.lock();
        let window = guard.circuit().view(0).window();
        assert_eq!((window.calls, window.failures), (6, 3));
        assert_eq!(guard.circuit().state(), State::Closed);
    });
}

#[test]
fn one_of_two_threads_gets_the_probe_and_it_comes_back() {
    loom::model(|| {
        let atomic = made(BreakerConfig::default(), State::HalfOpen);
        let probe = |atomic: &AtomicCircuit| match atomic.lock().admit(NOW) {
            Decision::Admitted(ticket) => Some(ticket),
            _ => None,
        };
        let other = atomic.clone();
        let racer = thread::spawn(move || {
            let ticket = probe(&other);
            let refused_before = other.blocked_until();
            (ticket, refused_before)
        });
        let own = probe(&atomic);
        let (theirs, _) = racer.join().unwrap();
        assert!(own.is_some() != theirs.is_some());
        atomic.lock().record(own.or(theirs).unwrap(), 0, Ending::Abandoned(UNWAITED), false, NOW);
        assert!(probe(&atomic).is_some());
    });
}

/// With a probe that hangs until 1000, where half-open is over at 10 and the circuit open for 100 after that.
fn hung(closes: bool) -> (loom::sync::Arc<AtomicCircuit>, Ticket) {
    let config = BreakerConfig {
        open_for: Some(Duration::from_nanos(100)),
        success_threshold: 1,
        half_open_timeout: Some(Duration::from_nanos(10)),
        half_open_timeout_closes: closes,
        probe_lease: Some(Duration::from_nanos(1000)),
        ..BreakerConfig::default()
    };
    let atomic = made(config, State::HalfOpen);
    let Decision::Admitted(probe) = atomic.lock().admit(NOW) else { unreachable!() };
    (atomic, probe)
}

/// As the engine asks, a call that found the circuit open or half-open.
fn call(atomic: &AtomicCircuit, now: u64) -> Decision {
    let word = atomic.word();
    if word.flows() {
        return Decision::Admitted(Ticket { generation: word.generation(), lease: 0 });
    }
    match atomic.refused_for(word, now) {
        Some(left) => Decision::Refused(Some(left)),
        None => atomic.lock().admit(Now { time: now, ..NOW }),
    }
}

// One that comes in time settles it, another is late; whoever is first, both see one story.
#[test]
fn a_verdict_and_the_end_of_half_open_do_not_both_count() {
    for now in [9, 10] {
        loom::model(move || {
            let (atomic, probe) = hung(false);
            let other = atomic.clone();
            let racer = thread::spawn(move || {
                let at = Now { time: now, ..NOW };
                other.lock().record(probe, 0, Ending::Success, false, at);
            });
            let call = call(&atomic, 10);
            racer.join().unwrap();
            let mut guard = atomic.lock();
            let closed = guard.circuit().state() == State::Closed;
            let tally = guard.circuit().view(0).tally();
            assert_eq!((tally.successes, tally.late), if closed { (1, 0) } else { (0, 1) });
            match call {
                Decision::Admitted(ticket) => assert!(closed && ticket.generation == 2),
                refused => assert!(!closed && refused == Decision::Refused(Some(100))),
            }
            assert!(now < 10 || !closed);
        });
    }
}

// At 10 it is closed, or open until 110, whoever finds that first and however the times are read meanwhile.
#[test]
fn nobody_is_refused_or_let_in_by_times_of_another_state() {
    for closes in [false, true] {
        loom::model(move || {
            let (atomic, probe) = hung(closes);
            let other = atomic.clone();
            let racer = thread::spawn(move || {
                let at = Now { time: 10, ..NOW };
                other.lock().record(probe, 0, FAILED, false, at);
            });
            let first = call(&atomic, 109);
            let second = call(&atomic, 110);
            racer.join().unwrap();
            let refused = Decision::Refused(Some(1));
            assert!(if closes { matches!(first, Decision::Admitted(_)) } else { first == refused });
            assert!(matches!(second, Decision::Admitted(_)), "{second:?}");
            assert_eq!(atomic.lock().circuit().view(0).tally().late, 1);
        });
    }
}

// Isolation has no end, which is none to tell.
#[test]
fn a_call_that_is_refused_while_somebody_isolates_is_told_no_endless_wait() {
    loom::model(|| {
        let config = BreakerConfig { open_for: Some(Duration::from_nanos(100)), ..BreakerConfig::default() };
        let atomic = made(config, State::Open);
        let other = atomic.clone();
        let by_hand = thread::spawn(move || {
            let mut guard = other.lock();
            let (circuit, rules) = guard.parts();
            circuit.force(rules, State::Isolated, NOW);
        });
        match call(&atomic, 0) {
            Decision::Refused(None | Some(0..=100)) => {}
            other => panic!("{other:?}"),
        }
        by_hand.join().unwrap();
    });
}

// A dropped call stands in for a failure only if nothing settled since it was waited for: what it remembers must never
// be taken for what is, though a success came in between.
#[test]
fn success_that_comes_after_is_noticed_whatever_a_call_remembers() {
    loom::model(|| {
        let config = BreakerConfig { consecutive_failures: Some(9), ..BreakerConfig::default() };
        let atomic = made(config, State::Closed);
        let other = atomic.clone();
        let calls = thread::spawn(move || {
            end(&other, admit(&other), Ending::Success);
            end(&other, admit(&other), FAILED);
        });
        let remembered_then = atomic.settled();
        calls.join().unwrap();
        end(&atomic, admit(&atomic), Ending::Success);
        let mut opened = atomic.lock();
        let settled = remembered(opened.circuit().settled_after_grant());
        assert_ne!(remembered_then, settled);
    });
}
