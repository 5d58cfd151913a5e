//! One circuit, and what counts beside it: which calls are let in, and what their ends do.

mod admit;
mod end;

use std::{
    ptr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use buttress_core::{Level, Levels, Name};

pub(crate) use self::{
    admit::{Admission, Found, Refusal},
    end::{End, shortened},
};
use crate::{
    State,
    atomic::{AtomicCircuit, CircuitGuard},
    circuit::{Circuit, Mean, Now, View},
    rules::Rules,
    shared::Shared,
    words,
};

/// The numbers of the levels of a breaker without keys; 0 is the state.
const RATIOS: [u32; 2] = [1, 2];

/// What a change of the circuit leaves to do without its lock.
#[must_use]
struct After {
    /// Something is to be told, and those who wait are to be woken.
    noticed: bool,
    from: State,
    to: State,
}

/// One circuit, and its counters.
pub(crate) struct Engine {
    pub(crate) shared: Arc<Shared>,
    circuit: AtomicCircuit,
    pub(crate) rejected: AtomicU64,
    pub(crate) would_reject: AtomicU64,
    pub(crate) ignored: AtomicU64,
    /// Of a keyed breaker: when it was used last, in the map's ticks.
    pub(crate) used: AtomicU32,
    /// Of a keyed breaker: its name with the key, if that is shown.
    name: Option<Name>,
    /// How long calls take that succeed.
    mean: Mean,
}

impl Engine {
    /// Makes one circuit.
    pub(crate) fn new(shared: Arc<Shared>, rules: Arc<Rules>, state: State, name: Option<Name>) -> Arc<Self> {
        let now = Now { time: shared.now(), unit: shared.chance.unit(), refused: 0 };
        let circuit = Circuit::new(state, &rules, now);
        Arc::new(Self {
            circuit: AtomicCircuit::new(circuit, rules),
            shared,
            rejected: AtomicU64::new(0),
            would_reject: AtomicU64::new(0),
            ignored: AtomicU64::new(0),
            used: AtomicU32::new(0),
            name,
            mean: Mean::default(),
        })
    }

    fn now(&self, time: u64) -> Now {
        Now { time, unit: self.shared.chance.unit(), refused: self.rejected.load(Relaxed) }
    }

    // ---- under the lock, and after it

    /// Does something under the lock.
    fn locked<T>(&self, f: impl FnOnce(&mut CircuitGuard<'_>) -> T) -> (T, After) {
        let mut guard = self.circuit.lock();
        let from = guard.circuit().state();
        let out = f(&mut guard);
        let circuit = guard.circuit();
        let to = circuit.state();
        let mut after = After { noticed: from != to, from, to };
        // With the circuit's lock held, so that all is told in the order in which it happened.
        for notice in circuit.take_notices() {
            after.noticed = true;
            self.shared.push(notice, self.name.as_ref());
        }
        let gone = circuit.gone;
        if gone {
            after.to = from;
        } else {
            self.count(&mut guard, from);
        }
        (out, after)
    }

    /// Does something under the lock, and without it what that comes to.
    fn with<T>(&self, f: impl FnOnce(&mut CircuitGuard<'_>) -> T) -> T {
        let (out, after) = self.locked(f);
        if after.noticed {
            self.shared.wakers.wake_all();
        }
        self.tell(&after);
        out
    }

    fn tell(&self, after: &After) {
        if after.from != after.to {
            self.shared.tell_keys(after.from);
            self.shared.tell_keys(after.to);
        }
        self.shared.emitter.deliver();
    }

    /// The shares of failures and slow calls may be others; of keys nobody is told.
    fn ratios_moved(&self) {
        if !self.shared.is_keyed() {
            RATIOS.into_iter().for_each(|level| self.shared.emitter.moved(level));
        }
    }

    /// A change by hand.
    pub(crate) fn manual<T>(&self, f: impl FnOnce(&mut Circuit, &Rules, Now) -> T) -> T {
        let now = self.now(self.shared.now());
        let (out, after) = self.locked(|guard| {
            let (circuit, rules) = guard.parts();
            f(circuit, rules, now)
        });
        self.ratios_moved();
        // Also if nothing is noticed: another wait, another gate.
        self.shared.wakers.wake_all();
        self.tell(&after);
        out
    }

    /// Looks at the circuit. One that was half-open for too long is opened or closed by that, or the state would be
    /// that of now and the counts those from before the end of half-open. An open one whose wait is over stays as it
    /// is: half-open begins with a call.
    pub(crate) fn with_view<T>(&self, f: impl FnOnce(View<'_>, &Rules) -> T) -> T {
        let (time, refused) = (self.shared.now(), self.rejected.load(Relaxed));
        self.with(|guard| {
            let (circuit, rules) = guard.parts();
            circuit.end_half_open(rules, time, refused);
            f(circuit.view(time), rules)
        })
    }

    /// Takes new settings. With the settings' lock held; what it changes is told by the caller, without that lock.
    pub(crate) fn take_rules(&self, rules: Arc<Rules>) {
        let now = self.now(self.shared.now());
        let ((), after) = self.locked(|guard| guard.reconfigure(rules, now));
        self.shared.keys_moved(&[after.from, after.to]);
        self.ratios_moved();
    }

    /// Begins anew: closed, and nothing counted.
    pub(crate) fn reset(&self) {
        self.manual(|circuit, rules, now| {
            circuit.reset(rules, now);
            for counter in [&self.rejected, &self.would_reject, &self.ignored] {
                counter.store(0, Relaxed);
            }
        });
    }

    // ---- one of many

    /// Whether nothing is lost with this circuit: a new one would do the same.
    pub(crate) fn knows_nothing(&self) -> bool {
        let time = self.shared.now();
        self.circuit.word().state() == State::Closed
            && self.circuit.lock().circuit().view(time).has_seen_no_failure()
    }

    /// Tells one circuit of a breaker from the others.
    fn number(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// Is counted among the circuits of its keyed breaker as what it is now and will be by the time alone; it was
    /// `from`.
    fn count(&self, guard: &mut CircuitGuard<'_>, from: State) {
        if let Some(census) = &self.shared.census {
            let (circuit, rules) = guard.parts();
            if from != circuit.state() || circuit.changes_by_itself() {
                census.lock().set(self.number(), from, circuit.course(rules));
            }
        }
    }

    /// Joins the circuits of its keyed breaker, which it was made for in this state. Returns the state in which it is
    /// counted, to be told.
    pub(crate) fn join(&self, made: State) -> State {
        // With the lock held, so that no change of state comes in between.
        let mut guard = self.circuit.lock();
        if let Some(census) = &self.shared.census {
            census.lock().join(made);
        }
        let state = guard.circuit().state();
        // One that was taken out meanwhile has left already: to be known by its address it must be alive.
        if !guard.circuit().gone {
            self.count(&mut guard, state);
        }
        state
    }

    /// Leaves the circuits of its keyed breaker. Returns the state in which it is counted no more, to be told.
    pub(crate) fn leave(&self) -> State {
        let mut guard = self.circuit.lock();
        guard.circuit().gone = true;
        let state = guard.circuit().state();
        if let Some(census) = &self.shared.census {
            census.lock().leave(self.number(), state);
        }
        state
    }
}

impl Levels for Engine {
    fn level(&self, number: u32) -> Option<Level> {
        let (state, failures, slow) = self.with_view(|view, rules| {
            let (state, _) = view.found(rules);
            // Half-open, there is none: what opened the circuit is of the past.
            let (failures, slow) = if state == State::HalfOpen { (None, None) } else { view.ratios(rules) };
            (state, failures, slow)
        });
        let ratio = |what, ratio: Option<f64>| Some(Level::new(what, ratio.unwrap_or(f64::NAN)));
        match number {
            0 => Some(Level::state(state.as_str())),
            1 => ratio(words::FAILURE_RATIO, failures),
            2 => ratio(words::SLOW_RATIO, slow),
            _ => None,
        }
    }
}
