//! The lock-free front of a [`Circuit`]: one word that calls pass by as long as nothing happens.
//!
//! The word holds the generation, the [`Kind`] of the state, and how many more successes may be counted before
//! the rules must be asked. Admission reads it; a success counts it down by one compare-and-swap, which fails
//! where the generation is another one, so a late result cannot get in. Everything else takes the lock: whoever
//! holds it has first taken the successes counted so far out of the word and left none to count, so that the
//! order of successes and failures is kept, and no count is lost or doubled by a change of state.
//!
//! Why not atomics for all of it: a window whose entries are written by several threads is either locked or
//! wrong for a moment, and failures are rare where speed matters. Successes are not rare, and are one word.

use std::sync::Arc;

use crate::{
    State,
    circuit::{Admission, Circuit, Ending, GENERATIONS, Moment, Ticket},
    rules::Rules,
    sync::{
        AtomicU64, Mutex, MutexGuard,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
        lock,
    },
};

/// The most successes counted at a time: 24 bits.
const MOST: u64 = (1 << 24) - 1;

/// What the word says about the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Every call is admitted and recorded.
    Closed,
    /// As closed, but no rule acts.
    MetricsOnly,
    /// Closed, and only a share is let in until `blocked_until`.
    Ramping,
    /// Every call is let in, none recorded.
    Disabled,
    // From here on calls are refused, or some of them; `Word::flows` relies on the order.
    /// Refused before `blocked_until`.
    Open,
    /// Refused before `blocked_until`, which is now where a probe may be taken.
    HalfOpen,
    /// Refused.
    Isolated,
}

const KINDS: [Kind; 7] = [
    Kind::Closed,
    Kind::MetricsOnly,
    Kind::Ramping,
    Kind::Disabled,
    Kind::Open,
    Kind::HalfOpen,
    Kind::Isolated,
];

/// Generation (36 bits), whether calls are timed (1), kind (3), successes left (24).
#[derive(Clone, Copy)]
pub(crate) struct Word(u64);

impl Word {
    fn new(generation: u64, timed: bool, kind: Kind, left: u64) -> Self {
        let flags = u64::from(timed) << 3 | kind as u64;
        Self((generation & GENERATIONS) << 28 | flags << 24 | left.min(MOST))
    }

    #[inline]
    pub(crate) fn generation(self) -> u64 {
        self.0 >> 28
    }

    pub(crate) fn kind(self) -> Kind {
        KINDS.get((self.0 >> 24 & 0b111) as usize).copied().unwrap_or(Kind::Closed)
    }

    #[inline(always)]
    pub(crate) fn is_closed(self) -> bool {
        self.0 >> 24 & 0b111 == Kind::Closed as u64
    }

    /// Whether a rule needs to know when a call began.
    #[inline(always)]
    pub(crate) fn is_timed(self) -> bool {
        self.0 >> 27 & 1 == 1
    }

    /// The state as it was left, whatever time has done to it since.
    pub(crate) fn state(self) -> State {
        match self.kind() {
            Kind::Closed | Kind::Ramping => State::Closed,
            Kind::MetricsOnly => State::MetricsOnly,
            Kind::Disabled => State::Disabled,
            Kind::Isolated => State::Isolated,
            Kind::Open => State::Open,
            Kind::HalfOpen => State::HalfOpen,
        }
    }

    /// Whether no call is refused because of the state.
    #[inline]
    pub(crate) fn flows(self) -> bool {
        (self.0 >> 24 & 0b111) < Kind::Open as u64
    }

    #[inline]
    fn left(self) -> u64 {
        self.0 & MOST
    }

    fn with_left(self, left: u64) -> Self {
        Self(self.0 & !MOST | left.min(MOST))
    }
}

#[derive(Debug)]
pub(crate) struct Front {
    word: AtomicU64,
    blocked_until: AtomicU64,
    settled_until: AtomicU64,
    back: Mutex<Back>,
}

#[derive(Debug)]
struct Back {
    circuit: Circuit,
    rules: Arc<Rules>,
    /// How many successes the word could count when it was last written.
    given: u64,
}

impl Front {
    pub(crate) fn new(circuit: Circuit, rules: Arc<Rules>) -> Self {
        let front = Self {
            word: AtomicU64::new(0),
            blocked_until: AtomicU64::new(0),
            settled_until: AtomicU64::new(0),
            back: Mutex::new(Back { circuit, rules, given: 0 }),
        };
        front.publish(&mut lock(&front.back), false);
        front
    }

    #[inline(always)]
    pub(crate) fn word(&self) -> Word {
        Word(self.word.load(Acquire))
    }

    /// Before this time calls are refused, where the state is one that refuses.
    #[inline]
    pub(crate) fn blocked_until(&self) -> u64 {
        self.blocked_until.load(Relaxed)
    }

    /// For how long calls are refused, where that can be told without the lock; the word was open or half-open.
    #[inline]
    pub(crate) fn refused_for(&self, word: Word, now: u64) -> Option<u64> {
        let over = self.is_over(word, now);
        let left = self.blocked_until().saturating_sub(now);
        (left > 0 && !over).then_some(left)
    }

    /// Whether the circuit, found half-open, is so for too long. To be asked before `blocked_until`.
    #[inline]
    pub(crate) fn is_over(&self, word: Word, now: u64) -> bool {
        // Acquire: if this is of a later state, so is `blocked_until` from here on.
        word.kind() == Kind::HalfOpen && now >= self.settled_until.load(Acquire)
    }

    /// Until when a success may be counted without a look at the clock, or until when it may be half-open;
    /// `u64::MAX`: for ever.
    #[inline]
    pub(crate) fn settled_until(&self) -> u64 {
        self.settled_until.load(Relaxed)
    }

    /// Counts a success that was in time. `false`: the circuit must hear of it.
    ///
    /// The caller has seen that it is not later than `settled_until`.
    #[inline]
    pub(crate) fn success(&self, generation: u64) -> bool {
        let mut word = self.word();
        loop {
            if word.generation() != generation || word.left() == 0 {
                return false;
            }
            // Release: what the caller did before belongs to the count that the lock's holder takes over.
            match self.word.compare_exchange_weak(word.0, word.0.wrapping_sub(1), AcqRel, Acquire) {
                Ok(_) => return true,
                Err(other) => word = Word(other),
            }
        }
    }

    /// Whether somebody holds the lock at this moment.
    pub(crate) fn is_busy(&self) -> bool {
        self.back.try_lock().is_err()
    }

    /// Takes the lock, and the successes counted so far over into the circuit.
    pub(crate) fn open(&self, watched: bool) -> Opened<'_> {
        let mut back = lock(&self.back);
        // None may be counted from here on, or they would come before what is done now.
        let word = Word(self.word.swap(self.word().with_left(0).0, AcqRel));
        let counted = back.given.saturating_sub(word.left());
        back.given = 0;
        back.circuit.successes(counted);
        Opened { front: self, back, watched }
    }

    /// Writes the word anew. Only with the lock held.
    fn publish(&self, back: &mut Back, watched: bool) {
        let Back { circuit, rules, given } = back;
        let blocked = circuit.blocked_until(rules);
        let kind = match circuit.state() {
            State::Closed if blocked > 0 => Kind::Ramping,
            State::Closed => Kind::Closed,
            State::MetricsOnly => Kind::MetricsOnly,
            State::Open => Kind::Open,
            State::HalfOpen => Kind::HalfOpen,
            State::Isolated => Kind::Isolated,
            State::Disabled => Kind::Disabled,
        };
        *given = circuit.allowance(rules, MOST, watched);
        self.blocked_until.store(blocked, Relaxed);
        self.settled_until.store(circuit.settled_until(), Release);
        // Release: who sees the new word sees the times that belong to it.
        self.word.store(Word::new(circuit.generation(), rules.timed, kind, *given).0, Release);
    }
}

/// A circuit with its lock held and no success outstanding. Dropping it lets the others go on.
pub(crate) struct Opened<'a> {
    front: &'a Front,
    back: MutexGuard<'a, Back>,
    watched: bool,
}

impl Opened<'_> {
    pub(crate) fn parts(&mut self) -> (&mut Circuit, &Rules) {
        let Back { circuit, rules, .. } = &mut *self.back;
        (circuit, rules)
    }

    pub(crate) fn circuit(&mut self) -> &mut Circuit {
        &mut self.back.circuit
    }

    pub(crate) fn admit(&mut self, at: Moment) -> Admission {
        let (circuit, rules) = self.parts();
        circuit.admit(rules, at)
    }

    /// The state as a call made `now` would find it.
    pub(crate) fn found(&mut self, now: u64) -> State {
        let (circuit, rules) = self.parts();
        circuit.found(rules, now).0
    }

    pub(crate) fn settle(
        &mut self,
        ticket: Ticket,
        began: u64,
        ending: Ending,
        slow: bool,
        at: Moment,
    ) -> Option<u64> {
        let (circuit, rules) = self.parts();
        circuit.settle(rules, ticket, began, ending, slow, at)
    }

    pub(crate) fn reconfigure(&mut self, rules: Arc<Rules>, at: Moment) {
        let reshaped = rules.window != self.back.rules.window;
        // What time has come to by now, it came to under the old ones.
        let (circuit, old) = self.parts();
        circuit.end_trial(old, at.now, at.refused);
        self.back.rules = rules;
        let (circuit, rules) = self.parts();
        circuit.reconfigure(rules, reshaped, at);
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.front.publish(&mut self.back, self.watched);
    }
}

#[cfg(all(test, buttress_loom))]
mod models {
    use std::time::Duration;

    use loom::thread;

    use super::*;
    use crate::{BreakerConfig, WindowConfig};

    const AT: Moment = Moment { now: 0, unit: 0.5, refused: 0 };
    const FAILED: Ending = Ending::Failure { timed_out: false };

    fn front(config: BreakerConfig, state: State) -> loom::sync::Arc<Front> {
        let rules = Arc::new(config.rules());
        loom::sync::Arc::new(Front::new(Circuit::new(state, &rules, AT), rules))
    }

    fn end(front: &Front, ticket: Ticket, ending: Ending) {
        let counted = ending == Ending::Success && front.success(ticket.generation);
        if !counted {
            front.open(false).settle(ticket, 0, ending, false, AT);
        }
    }

    fn admit(front: &Front) -> Ticket {
        Ticket { generation: front.word().generation(), lease: 0 }
    }

    // Every result is counted once, or is late; none of an old generation gets in.
    #[test]
    fn no_success_is_lost_or_doubled_by_a_change_of_state() {
        loom::model(|| {
            let config = BreakerConfig { consecutive_failures: Some(1), ..BreakerConfig::default() };
            let front = front(config, State::Closed);
            let old = admit(&front);
            let other = front.clone();
            let calls = thread::spawn(move || {
                end(&other, old, Ending::Success);
                end(&other, old, Ending::Success);
                end(&other, old, Ending::Success);
            });
            end(&front, old, FAILED);
            {
                let mut opened = front.open(false);
                let (circuit, rules) = opened.parts();
                circuit.force_close(rules, AT);
            }
            end(&front, admit(&front), Ending::Success);
            calls.join().unwrap();
            let mut opened = front.open(false);
            let tally = opened.circuit().look(0).tally();
            assert_eq!(tally.successes + tally.late, 4, "{tally:?}");
            assert_eq!(tally.failures, 1);
            // Only what came after the close is in a row with it.
            assert_eq!(opened.circuit().look(0).in_a_row(), (1, 0));
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
            let front = front(config, State::Closed);
            let ticket = admit(&front);
            let other = front.clone();
            let calls = thread::spawn(move || {
                end(&other, ticket, Ending::Success);
                end(&other, ticket, FAILED);
                end(&other, ticket, Ending::Success);
            });
            end(&front, ticket, FAILED);
            end(&front, ticket, Ending::Success);
            end(&front, ticket, FAILED);
            calls.join().unwrap();
            let mut opened = front.open(false);
            let window = opened.circuit().look(0).window();
            assert_eq!((window.calls, window.failures), (6, 3));
            assert_eq!(opened.circuit().state(), State::Closed);
        });
    }

    #[test]
    fn one_of_two_threads_gets_the_probe_and_it_comes_back() {
        loom::model(|| {
            let front = front(BreakerConfig::default(), State::HalfOpen);
            let probe = |front: &Front| match front.open(false).admit(AT) {
                Admission::Admitted(ticket) => Some(ticket),
                _ => None,
            };
            let other = front.clone();
            let racer = thread::spawn(move || {
                let ticket = probe(&other);
                let refused_before = other.blocked_until();
                (ticket, refused_before)
            });
            let own = probe(&front);
            let (theirs, _) = racer.join().unwrap();
            assert!(own.is_some() != theirs.is_some());
            front.open(false).settle(own.or(theirs).unwrap(), 0, Ending::Abandoned, false, AT);
            assert!(probe(&front).is_some());
        });
    }

    /// With a probe that hangs until 1000, where half-open is over at 10 and the circuit open for 100 after that.
    fn hung(closes: bool) -> (loom::sync::Arc<Front>, Ticket) {
        let config = BreakerConfig {
            open_for: Some(Duration::from_nanos(100)),
            success_threshold: 1,
            half_open_timeout: Some(Duration::from_nanos(10)),
            half_open_timeout_closes: closes,
            probe_lease: Some(Duration::from_nanos(1000)),
            ..BreakerConfig::default()
        };
        let front = front(config, State::HalfOpen);
        let Admission::Admitted(probe) = front.open(false).admit(AT) else { unreachable!() };
        (front, probe)
    }

    /// As the engine asks, a call that found the circuit open or half-open.
    fn call(front: &Front, now: u64) -> Admission {
        let word = front.word();
        if word.flows() {
            return Admission::Admitted(Ticket { generation: word.generation(), lease: 0 });
        }
        match front.refused_for(word, now) {
            Some(left) => Admission::Refused(Some(left)),
            None => front.open(false).admit(Moment { now, ..AT }),
        }
    }

    // One that comes in time settles it, another is late; whoever is first, both see one story.
    #[test]
    fn a_verdict_and_the_end_of_half_open_do_not_both_count() {
        for now in [9, 10] {
            loom::model(move || {
                let (front, probe) = hung(false);
                let other = front.clone();
                let racer = thread::spawn(move || {
                    let at = Moment { now, ..AT };
                    other.open(false).settle(probe, 0, Ending::Success, false, at);
                });
                let call = call(&front, 10);
                racer.join().unwrap();
                let mut opened = front.open(false);
                let closed = opened.circuit().state() == State::Closed;
                let tally = opened.circuit().look(0).tally();
                assert_eq!((tally.successes, tally.late), if closed { (1, 0) } else { (0, 1) });
                match call {
                    Admission::Admitted(ticket) => assert!(closed && ticket.generation == 2),
                    refused => assert!(!closed && refused == Admission::Refused(Some(100))),
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
                let (front, probe) = hung(closes);
                let other = front.clone();
                let racer = thread::spawn(move || {
                    let at = Moment { now: 10, ..AT };
                    other.open(false).settle(probe, 0, FAILED, false, at);
                });
                let first = call(&front, 109);
                let second = call(&front, 110);
                racer.join().unwrap();
                let refused = Admission::Refused(Some(1));
                assert!(if closes { matches!(first, Admission::Admitted(_)) } else { first == refused });
                assert!(matches!(second, Admission::Admitted(_)), "{second:?}");
                assert_eq!(front.open(false).circuit().look(0).tally().late, 1);
            });
        }
    }

    // Isolation has no end, which is none to tell.
    #[test]
    fn a_call_that_is_refused_while_somebody_isolates_is_told_no_endless_wait() {
        loom::model(|| {
            let config =
                BreakerConfig { open_for: Some(Duration::from_nanos(100)), ..BreakerConfig::default() };
            let front = front(config, State::Open);
            let other = front.clone();
            let by_hand = thread::spawn(move || {
                let mut opened = other.open(false);
                let (circuit, rules) = opened.parts();
                circuit.force(rules, State::Isolated, AT);
            });
            match call(&front, 0) {
                Admission::Refused(None | Some(0..=100)) => {}
                other => panic!("{other:?}"),
            }
            by_hand.join().unwrap();
        });
    }
}
