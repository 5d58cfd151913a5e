//! The lock-free front of a [`Circuit`]: one word that calls pass by as long as nothing happens.
//!
//! The word holds the generation, the [`Phase`], and how many more successes may be counted before the rules must be
//! asked. Admission reads the word. A success counts it down by one compare-and-swap, which fails if the generation is
//! another one, so a late result cannot get in. Everything else takes the lock: first of all its holder takes the
//! successes counted so far out of the word and leaves none to count, so that the order of successes and failures is
//! kept, and no count is lost or doubled by a change of state.
//!
//! Why not atomics for all of it: a window whose entries are written by several threads is either locked or wrong for
//! a moment, and failures are rare when speed matters. Successes are not rare, and are one word.

use std::sync::Arc;

use buttress_kit::unpoisoned;

use crate::{
    State,
    circuit::{Circuit, Decision, Ending, GENERATIONS, Now, Opening, Ticket, remembered},
    rules::Rules,
    sync::{
        AtomicU32, AtomicU64, Mutex, MutexGuard,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
};

/// A millisecond.
const MILLI: u64 = 1_000_000;

/// The most successes counted at a time: 24 bits.
const MOST: u32 = (1 << 24) - 1;

/// What the word says about the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Every call is admitted and recorded.
    Closed,
    /// As closed, but no rule acts.
    MetricsOnly,
    /// Closed, and only a share is let in until `blocked_until`.
    Ramping,
    /// Every call is let in, none recorded.
    Disabled,
    // From here on calls are refused, or some of them; `StateWord::flows` relies on the order.
    /// Refused before `blocked_until`.
    Open,
    /// Refused before `blocked_until`, which has passed if a probe may be taken.
    HalfOpen,
    /// Refused.
    Isolated,
}

const PHASES: [Phase; 7] = [
    Phase::Closed,
    Phase::MetricsOnly,
    Phase::Ramping,
    Phase::Disabled,
    Phase::Open,
    Phase::HalfOpen,
    Phase::Isolated,
];

/// Generation (36 bits), whether calls are timed (1), phase (3), successes left (24).
#[derive(Clone, Copy)]
pub(crate) struct StateWord(u64);

impl StateWord {
    fn new(generation: u64, timed: bool, phase: Phase, left: u32) -> Self {
        let flags = u64::from(timed) << 3 | phase as u64;
        Self((generation & GENERATIONS) << 28 | flags << 24 | u64::from(left.min(MOST)))
    }

    #[inline]
    pub(crate) fn generation(self) -> u64 {
        self.0 >> 28
    }

    pub(crate) fn phase(self) -> Phase {
        PHASES.get((self.0 >> 24 & 0b111) as usize).copied().unwrap_or(Phase::Closed)
    }

    #[inline]
    pub(crate) fn is_closed(self) -> bool {
        self.0 >> 24 & 0b111 == Phase::Closed as u64
    }

    /// Whether a rule needs to know when a call began.
    #[inline]
    pub(crate) fn is_timed(self) -> bool {
        self.0 >> 27 & 1 == 1
    }

    /// The state as it was left, whatever time has done to it since.
    pub(crate) fn state(self) -> State {
        match self.phase() {
            Phase::Closed | Phase::Ramping => State::Closed,
            Phase::MetricsOnly => State::MetricsOnly,
            Phase::Disabled => State::Disabled,
            Phase::Isolated => State::Isolated,
            Phase::Open => State::Open,
            Phase::HalfOpen => State::HalfOpen,
        }
    }

    /// Whether no call is refused because of the state.
    #[inline]
    pub(crate) fn flows(self) -> bool {
        (self.0 >> 24 & 0b111) < Phase::Open as u64
    }

    #[inline]
    fn left(self) -> u64 {
        self.0 & u64::from(MOST)
    }

    fn with_none_left(self) -> Self {
        Self(self.0 & !u64::from(MOST))
    }
}

#[derive(Debug)]
pub(crate) struct AtomicCircuit {
    word: AtomicU64,
    blocked_until: AtomicU64,
    valid_until: AtomicU64,
    /// How many calls will have settled once all successes that the word leaves are counted.
    settled: AtomicU32,
    /// For how many milliseconds a caller that is refused should stay away at most. `u32::MAX`: until it is over.
    longest_wait: AtomicU32,
    guarded: Mutex<Guarded>,
}

#[derive(Debug)]
struct Guarded {
    circuit: Circuit,
    rules: Arc<Rules>,
}

impl AtomicCircuit {
    pub(crate) fn new(circuit: Circuit, rules: Arc<Rules>) -> Self {
        let atomic = Self {
            word: AtomicU64::new(0),
            blocked_until: AtomicU64::new(0),
            valid_until: AtomicU64::new(0),
            settled: AtomicU32::new(0),
            longest_wait: AtomicU32::new(u32::MAX),
            guarded: Mutex::new(Guarded { circuit, rules }),
        };
        let mut guarded = unpoisoned(atomic.guarded.lock());
        atomic.publish(&mut guarded);
        drop(guarded);
        atomic
    }

    #[inline]
    pub(crate) fn word(&self) -> StateWord {
        StateWord(self.word.load(Acquire))
    }

    /// Before this time calls are refused, if the state is one that refuses.
    #[inline]
    pub(crate) fn blocked_until(&self) -> u64 {
        self.blocked_until.load(Relaxed)
    }

    /// For how long calls are refused, if that can be told without the lock; the word was open or half-open.
    #[inline]
    pub(crate) fn refused_for(&self, word: StateWord, now: u64) -> Option<u64> {
        let over = self.is_over(word, now);
        let left = self.blocked_until().saturating_sub(now);
        (left > 0 && !over).then_some(left)
    }

    /// Whether the circuit, found half-open, is so for too long. Comes before any look at `blocked_until`.
    #[inline]
    pub(crate) fn is_over(&self, word: StateWord, now: u64) -> bool {
        // Acquire: if this is of a later state, so is `blocked_until` from here on.
        word.phase() == Phase::HalfOpen && now >= self.valid_until.load(Acquire)
    }

    /// Until when a success may be counted without a look at the clock, or until when it may be half-open;
    /// `u64::MAX`: for ever.
    #[inline]
    pub(crate) fn valid_until(&self) -> u64 {
        self.valid_until.load(Relaxed)
    }

    /// How many calls have settled, as much of it as a call remembers.
    ///
    /// Not exact while somebody has the lock. The call that remembers it is then taken for one beside which others
    /// settled, and says nothing if it is dropped.
    pub(crate) fn settled(&self) -> u16 {
        let left = self.word().left() as u32;
        remembered(self.settled.load(Relaxed).wrapping_sub(left))
    }

    /// For how long a caller that is refused should stay away at most.
    pub(crate) fn longest_wait(&self) -> u64 {
        match self.longest_wait.load(Relaxed) {
            u32::MAX => u64::MAX,
            millis => u64::from(millis).saturating_mul(MILLI),
        }
    }

    /// Counts a success that was in time. `false`: the circuit must hear of it.
    ///
    /// The caller has seen that it is not later than `valid_until`.
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
                Err(other) => word = StateWord(other),
            }
        }
    }

    /// Whether somebody holds the lock at this moment.
    pub(crate) fn is_busy(&self) -> bool {
        self.guarded.try_lock().is_err()
    }

    /// Takes the lock, and the successes counted so far over into the circuit.
    pub(crate) fn lock(&self) -> CircuitGuard<'_> {
        let mut guarded = unpoisoned(self.guarded.lock());
        // None may be counted from here on, or they would come before what is done now.
        let word = StateWord(self.word.swap(self.word().with_none_left().0, AcqRel));
        guarded.circuit.end_grant(word.left());
        CircuitGuard { atomic: self, guarded }
    }

    /// Writes the word anew. Only with the lock held.
    fn publish(&self, guarded: &mut Guarded) {
        let Guarded { circuit, rules } = guarded;
        let blocked = circuit.blocked_until(rules);
        let phase = match circuit.state() {
            State::Closed if blocked > 0 => Phase::Ramping,
            State::Closed => Phase::Closed,
            State::MetricsOnly => Phase::MetricsOnly,
            State::Open => Phase::Open,
            State::HalfOpen => Phase::HalfOpen,
            State::Isolated => Phase::Isolated,
            State::Disabled => Phase::Disabled,
        };
        let granted = circuit.grant(rules, MOST);
        self.settled.store(circuit.settled_after_grant(), Relaxed);
        let longest = u32::try_from(circuit.longest_wait().div_ceil(MILLI)).unwrap_or(u32::MAX);
        self.longest_wait.store(longest, Relaxed);
        self.blocked_until.store(blocked, Relaxed);
        self.valid_until.store(circuit.valid_until(), Release);
        // Release: a call that sees the new word sees the times that belong to it.
        self.word.store(StateWord::new(circuit.generation(), rules.timed, phase, granted).0, Release);
    }
}

/// A circuit with its lock held and no success outstanding. Dropping it lets the others go on.
pub(crate) struct CircuitGuard<'a> {
    atomic: &'a AtomicCircuit,
    guarded: MutexGuard<'a, Guarded>,
}

impl CircuitGuard<'_> {
    pub(crate) fn parts(&mut self) -> (&mut Circuit, &Rules) {
        let Guarded { circuit, rules, .. } = &mut *self.guarded;
        (circuit, rules)
    }

    pub(crate) fn circuit(&mut self) -> &mut Circuit {
        &mut self.guarded.circuit
    }

    pub(crate) fn admit(&mut self, now: Now) -> Decision {
        let (circuit, rules) = self.parts();
        circuit.admit(rules, now)
    }

    /// The state as a call made `now` would find it.
    pub(crate) fn found(&mut self, time: u64) -> State {
        let (circuit, rules) = self.parts();
        circuit.found(rules, time).0
    }

    pub(crate) fn record(
        &mut self,
        ticket: Ticket,
        began: u64,
        ending: Ending,
        slow: bool,
        now: Now,
    ) -> Option<Opening> {
        let (circuit, rules) = self.parts();
        circuit.record(rules, ticket, began, ending, slow, now)
    }

    pub(crate) fn reconfigure(&mut self, rules: Arc<Rules>, now: Now) {
        let reshaped = rules.window != self.guarded.rules.window;
        // What time has come to by now, it came to under the old ones.
        let (circuit, old) = self.parts();
        circuit.end_half_open(old, now.time, now.refused);
        self.guarded.rules = rules;
        let (circuit, rules) = self.parts();
        circuit.reconfigure(rules, reshaped, now);
    }
}

impl Drop for CircuitGuard<'_> {
    fn drop(&mut self) {
        self.atomic.publish(&mut self.guarded);
    }
}

#[cfg(all(test, buttress_loom))]
mod models;
#[cfg(all(test, not(buttress_loom)))]
mod tests;
