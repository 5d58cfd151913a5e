//! One circuit, and what counts beside it: which calls are let in, and what their ends do.

use std::{
    error::Error as StdError,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{Level, Levels, Name, Outcome, Rejection};
use buttress_kit::call::Ends;
use tokio::time::Instant;

use crate::{
    State,
    atomic::{AtomicCircuit, CircuitGuard, Phase, StateWord},
    circuit::{Circuit, Decision, Ending, Now, Ticket, View},
    rules::Rules,
    shared::Shared,
    words,
};

/// Stands for "the clock was not read".
pub(crate) const NO_TIME: u64 = u64::MAX;

/// The generation of calls that nobody records.
pub(crate) const UNTRACKED: u64 = u64::MAX;

/// A millisecond.
const MILLI: u64 = 1_000_000;

/// The numbers of the levels of a breaker without keys; 0 is the state.
const RATIOS: [u32; 2] = [1, 2];

/// Whether a call is let in, and as what. Plain data without overlaps, so that it stays in registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    pub(crate) generation: u64,
    /// When it was let in, or [`NO_TIME`]. Refused: the wait after which another try makes sense.
    pub(crate) time: u64,
    pub(crate) lease: u32,
    pub(crate) refused: bool,
}

impl Admission {
    pub(crate) fn refused(wait: u64) -> Self {
        Self { generation: UNTRACKED, time: wait, lease: 0, refused: true }
    }

    fn ticket(self) -> Ticket {
        Ticket { generation: self.generation, lease: self.lease }
    }

    /// When the call was let in, if that is known.
    #[inline]
    pub(crate) fn began(self) -> Option<u64> {
        (self.time != NO_TIME).then_some(self.time)
    }
}

/// Calls are refused: until when, if that is known, and the wait after which another try makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The generation that this was found in.
    pub(crate) generation: u64,
    pub(crate) until: Option<u64>,
    pub(crate) wait: u64,
}

/// What a change of the circuit leaves to do without its lock.
#[must_use]
struct After {
    /// Something is to be told, and those who wait are to be woken.
    noticed: bool,
    from: State,
    to: State,
}

pub(crate) struct Engine {
    pub(crate) shared: Arc<Shared>,
    circuit: AtomicCircuit,
    pub(crate) rejected: AtomicU64,
    pub(crate) would_reject: AtomicU64,
    pub(crate) ignored: AtomicU64,
    /// For how many milliseconds a caller that is refused should stay away at most. `u32::MAX`: until it is over.
    longest_wait: AtomicU32,
    /// Of a keyed breaker: when it was used last, in the map's ticks.
    pub(crate) used: AtomicU32,
    /// Of a keyed breaker: no longer one of its circuits, so its changes of state are not counted. Written and read
    /// with the circuit's lock held.
    gone: AtomicBool,
    /// Of a keyed breaker: the circuit has a name with the key, which refusals show.
    shown: AtomicBool,
}

impl Engine {
    /// Makes one circuit.
    pub(crate) fn new(shared: Arc<Shared>, rules: Arc<Rules>, state: State) -> Arc<Self> {
        let now = Now { time: shared.now(), unit: shared.chance.unit(), refused: 0 };
        let circuit = Circuit::new(state, &rules, now);
        Arc::new(Self {
            circuit: AtomicCircuit::new(circuit, rules),
            shared,
            rejected: AtomicU64::new(0),
            would_reject: AtomicU64::new(0),
            ignored: AtomicU64::new(0),
            longest_wait: AtomicU32::new(u32::MAX),
            used: AtomicU32::new(0),
            gone: AtomicBool::new(false),
            shown: AtomicBool::new(false),
        })
    }

    fn now(&self, time: u64) -> Now {
        Now { time, unit: self.shared.chance.unit(), refused: self.rejected.load(Relaxed) }
    }

    // ---- what a call would find

    /// The state as a call made now would find it. Takes the lock only if the circuit was half-open for longer than it
    /// may be.
    pub(crate) fn state(&self) -> State {
        let word = self.circuit.word();
        match word.state() {
            State::Open if self.shared.now() >= self.circuit.blocked_until() => State::HalfOpen,
            State::HalfOpen => {
                let time = self.shared.now();
                if self.circuit.is_over(word, time) {
                    self.circuit.lock().found(time)
                } else {
                    State::HalfOpen
                }
            }
            stored => stored,
        }
    }

    /// When the circuit, if it is half-open, has been so for too long.
    pub(crate) fn half_open_until(&self) -> Option<Instant> {
        let half_open = self.circuit.word().phase() == Phase::HalfOpen;
        let until = Some(self.circuit.valid_until()).filter(|until| half_open && *until != u64::MAX);
        until.map(|until| self.shared.instant(until))
    }

    /// Whether no call is refused because of the state: one look at the word. A ramp refuses some of the calls,
    /// not the service.
    #[inline]
    pub(crate) fn flows(&self) -> bool {
        self.circuit.word().flows()
    }

    fn isolated_for(&self) -> u64 {
        self.shared.settings.isolated_for.load(Relaxed)
    }

    fn longest_wait(&self) -> u64 {
        match self.longest_wait.load(Relaxed) {
            u32::MAX => u64::MAX,
            millis => u64::from(millis).saturating_mul(MILLI),
        }
    }

    /// Whether a call made now would be refused.
    pub(crate) fn refusing(&self) -> Option<Refusal> {
        let word = self.circuit.word();
        let generation = word.generation();
        match word.phase() {
            _ if self.shared.is_shadow() => None,
            Phase::Isolated => Some(Refusal { generation, until: None, wait: self.isolated_for() }),
            Phase::Open => {
                let until = self.circuit.blocked_until();
                let wait = until.saturating_sub(self.shared.now());
                (wait > 0).then_some(Refusal { generation, until: Some(until), wait })
            }
            Phase::HalfOpen => {
                let time = self.shared.now();
                if self.circuit.is_over(word, time) {
                    // A call comes by, so what time has done is done and told; else every refusal would find it anew.
                    self.with_view(|_, _| ());
                    return self.refusing();
                }
                let until = self.circuit.blocked_until();
                let wait = until.saturating_sub(time).min(self.longest_wait());
                (wait > 0).then_some(Refusal { generation, until: Some(until), wait })
            }
            Phase::Closed | Phase::MetricsOnly | Phase::Ramping | Phase::Disabled => None,
        }
    }

    /// Refuses the call of a service that was not asked whether it is ready, because the circuit refused then, as
    /// `found`. Whatever the state is by now, it cannot be called.
    pub(crate) fn refuse_unready(&self, found: Option<Refusal>) -> Admission {
        match found {
            Some(found) if found.generation == self.circuit.word().generation() => {
                Admission::refused(found.wait)
            }
            // If calls flow by now, all there is to do is to ask for readiness.
            _ => Admission::refused(self.refusing().map_or(0, |refusal| refusal.wait)),
        }
    }

    // ---- a call begins

    /// Lets a call in or not. A call that is let in has to end; a refusal is yet to be counted.
    #[inline]
    pub(crate) fn admit(&self) -> Admission {
        let word = self.circuit.word();
        if word.is_closed() && !self.shared.emitter.is_on() {
            let time = if word.is_timed() { self.shared.now() } else { NO_TIME };
            return Admission { generation: word.generation(), time, lease: 0, refused: false };
        }
        self.admit_at(word)
    }

    fn admit_at(&self, word: StateWord) -> Admission {
        let admitted = Decision::Admitted(Ticket { generation: word.generation(), lease: 0 });
        let decision = match word.phase() {
            Phase::Closed | Phase::MetricsOnly => admitted,
            Phase::Disabled => Decision::Untracked,
            Phase::Isolated => Decision::Refused(None),
            Phase::Ramping => self.ramp(word).map_or(admitted, |wait| Decision::Refused(Some(wait))),
            Phase::Open | Phase::HalfOpen => {
                let time = self.shared.now();
                match self.circuit.refused_for(word, time) {
                    Some(left) => Decision::Refused(Some(left.min(self.longest_wait()))),
                    None => self.with(|guard| guard.admit(self.now(time))),
                }
            }
        };
        let untracked = Ticket { generation: UNTRACKED, lease: 0 };
        match decision {
            Decision::Admitted(ticket) => self.admitted(ticket),
            Decision::Untracked => self.admitted(untracked),
            Decision::Refused(wait) => {
                let wait = wait.unwrap_or_else(|| self.isolated_for());
                if !self.shared.is_shadow() {
                    return Admission::refused(wait);
                }
                self.count_refusal(wait);
                self.admitted(untracked)
            }
        }
    }

    fn admitted(&self, Ticket { generation, lease }: Ticket) -> Admission {
        let timed = self.circuit.word().is_timed() || self.shared.emitter.is_timed();
        let time = if timed { self.shared.now() } else { NO_TIME };
        Admission { generation, time, lease, refused: false }
    }

    /// Whether a call is refused though the circuit has closed, and for how long.
    fn ramp(&self, word: StateWord) -> Option<u64> {
        let left = self.circuit.blocked_until().saturating_sub(self.shared.now());
        if left == 0 {
            self.with(|guard| {
                if guard.circuit().generation() == word.generation() {
                    guard.circuit().end_ramp();
                }
            });
            return None;
        }
        let over = self.shared.settings.ramp_over.load(Relaxed).max(1);
        let start = f64::from_bits(self.shared.settings.ramp_start.load(Relaxed));
        // More than all can be left between two settings.
        let share = start + (1.0 - start) * (1.0 - left as f64 / over as f64).max(0.0);
        // Any time is a good time to try again; but not for all who were refused at once.
        (self.shared.chance.unit() >= share).then(|| left.min(over / 10))
    }

    // ---- refusals

    /// Counts and tells a refusal.
    pub(crate) fn count_refusal(&self, wait: u64) {
        let shadow = self.shared.is_shadow();
        let counter = if shadow { &self.would_reject } else { &self.rejected };
        counter.fetch_add(1, Relaxed);
        if self.shared.emitter.is_on() {
            self.shared.emitter.refused(&self.rejection(wait), shadow);
        }
    }

    /// Makes what a refused call comes to. It always says when to try again, and never "at once": a caller that heeds
    /// that would call in a loop.
    pub(crate) fn rejection(&self, wait: u64) -> Rejection {
        let wait = Duration::from_nanos(wait.max(1));
        self.with_name(|name| Rejection::new(words::OPEN, name)).with_retry_after(wait)
    }

    /// The breaker's name, with the key if that is shown.
    pub(crate) fn with_name<T>(&self, f: impl FnOnce(&Name) -> T) -> T {
        let shown = self.shown.load(Relaxed).then(|| self.circuit.lock().circuit().name()).flatten();
        f(shown.as_ref().unwrap_or_else(|| self.shared.emitter.name()))
    }

    /// Shows the key in refusals from now on. `key` runs at the first refusal.
    pub(crate) fn show_key(&self, key: impl FnOnce() -> String) {
        if !self.shown.load(Relaxed) {
            let name = self.shared.emitter.name().with_key(key());
            self.circuit.lock().circuit().set_name(name);
            self.shown.store(true, Relaxed);
        }
    }

    // ---- a call ends

    /// Records that a call succeeded.
    #[inline]
    pub(crate) fn succeed(&self, call: Admission) {
        let untimed = call.time == NO_TIME && self.circuit.valid_until() == u64::MAX;
        // No probe gets past this: while the circuit is half-open, the word leaves no success to count.
        if untimed && self.circuit.success(call.generation) {
            self.tell_done(Outcome::Success, None, false, None);
            return;
        }
        self.succeed_at(call);
    }

    /// As [`succeed`](Self::succeed), if a clock has to be read or the circuit has to hear of it.
    fn succeed_at(&self, call: Admission) {
        if call.generation == UNTRACKED && !self.shared.emitter.is_on() {
            return;
        }
        let time = self.shared.now();
        let slow = self.is_slow(call, time);
        if call.lease == 0 && !slow && self.count_success(call, time) {
            self.tell_done(Outcome::Success, elapsed(call, time), false, None);
        } else {
            self.record(call, time, Ending::Success, Outcome::Success, None);
        }
    }

    /// Counts a success that was in time, without the lock if that is possible.
    fn count_success(&self, call: Admission, time: u64) -> bool {
        let until = self.circuit.valid_until();
        let interval = self.shared.settings.interval.load(Relaxed);
        if interval > 0 && call.time < until.saturating_sub(interval) {
            return false;
        }
        // At the end of a bucket one call moves the window on, under the lock. Calls that find the lock taken then do
        // not wait for it: they are counted with the new bucket, if not with the old one.
        (time < until || self.circuit.is_busy()) && self.circuit.success(call.generation)
    }

    /// Records that a call ended in another way than [`succeed`](Self::succeed) does.
    pub(crate) fn end_with(
        &self,
        call: Admission,
        outcome: Outcome,
        timed_out: bool,
        error: Option<&(dyn StdError + 'static)>,
    ) {
        let ending = match outcome {
            Outcome::Success => Ending::Success,
            Outcome::Failure | Outcome::Panicked | Outcome::TimedOut => Ending::Failure { timed_out },
            Outcome::Ignored => Ending::Ignored,
            Outcome::Cancelled => Ending::Abandoned,
        };
        if call.generation == UNTRACKED && !self.shared.emitter.is_on() {
            return;
        }
        let time = self.shared.now();
        let present = call.generation == self.circuit.word().generation();
        if ending == Ending::Ignored && call.lease == 0 && present {
            self.ignored.fetch_add(1, Relaxed);
            self.tell_done(outcome, elapsed(call, time), self.is_slow(call, time), error);
        } else {
            self.record(call, time, ending, outcome, error);
        }
    }

    /// Lets the circuit hear of the end of a call, and tells it.
    fn record(
        &self,
        call: Admission,
        time: u64,
        ending: Ending,
        outcome: Outcome,
        error: Option<&(dyn StdError + 'static)>,
    ) {
        let slow = self.is_slow(call, time);
        if call.generation == UNTRACKED {
            return self.tell_done(outcome, elapsed(call, time), slow, error);
        }
        let (opened, after) = self.locked(|guard| {
            let opened = guard.record(call.ticket(), call.time, ending, slow, self.now(time));
            self.ratios_moved();
            opened
        });
        if after.noticed || call.lease != 0 {
            // A probe's slot is free, if nothing else has happened: those who wait at the gate may want it.
            self.shared.wakers.wake_all();
        }
        if let Some(generation) = opened {
            let text = shown(error, ending);
            self.circuit.lock().circuit().set_last_error(generation, text);
        }
        self.tell_done(outcome, elapsed(call, time), slow, error);
        self.tell(&after);
    }

    fn is_slow(&self, call: Admission, time: u64) -> bool {
        let limit = self.shared.settings.slow.load(Relaxed);
        call.began().is_some_and(|began| time.saturating_sub(began) > limit)
    }

    #[inline]
    fn tell_done(
        &self,
        outcome: Outcome,
        elapsed: Option<Duration>,
        slow: bool,
        error: Option<&(dyn StdError + 'static)>,
    ) {
        self.shared.emitter.done(outcome, outcome.as_str(), elapsed, slow, 1, error);
    }

    // ---- under the lock, and after it

    /// Does something under the lock.
    fn locked<T>(&self, f: impl FnOnce(&mut CircuitGuard<'_>) -> T) -> (T, After) {
        let mut guard = self.circuit.lock();
        let from = guard.circuit().state();
        let out = f(&mut guard);
        let circuit = guard.circuit();
        let mut after = After { noticed: false, from, to: circuit.state() };
        let longest = circuit.longest_wait().div_ceil(MILLI);
        self.longest_wait.store(u32::try_from(longest).unwrap_or(u32::MAX), Relaxed);
        // With the circuit's lock held, so that all is told in the order in which it happened.
        for notice in circuit.take_notices() {
            after.noticed = true;
            self.shared.push(notice);
        }
        if self.gone.load(Relaxed) {
            after.to = from;
        } else if from != after.to {
            self.shared.add_keys(from, -1);
            self.shared.add_keys(after.to, 1);
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

    /// Leaves the circuits of its keyed breaker. Returns the state in which it is counted no more, to be told.
    pub(crate) fn leave(&self) -> State {
        // With the lock held, so that no change of state comes in between.
        let mut guard = self.circuit.lock();
        self.gone.store(true, Relaxed);
        let state = guard.circuit().state();
        self.shared.add_keys(state, -1);
        state
    }
}

fn elapsed(call: Admission, time: u64) -> Option<Duration> {
    call.began().map(|began| Duration::from_nanos(time.saturating_sub(began)))
}

/// What the error says that opened the circuit. With no lock held: its `Display` is somebody else's code. A panic of it
/// must not keep those who wait from being woken, nor the caller from its error.
fn shown(error: Option<&(dyn StdError + 'static)>, ending: Ending) -> Arc<str> {
    match (error, ending) {
        (Some(error), _) => match catch_unwind(AssertUnwindSafe(|| error.to_string())) {
            Ok(text) => text.into(),
            Err(panic) => {
                // Its drop may panic as well.
                mem::forget(panic);
                "an error that cannot be shown".into()
            }
        },
        (None, Ending::Abandoned) => "the calls were dropped before they ended".into(),
        (None, Ending::Success) => "the calls were too slow".into(),
        (None, _) => "the call failed".into(),
    }
}

impl Ends for Engine {
    type Ticket = Admission;
    type End = Outcome;

    #[inline]
    fn end(&self, call: Admission, outcome: Outcome) {
        match outcome {
            Outcome::Success => self.succeed(call),
            other => self.end_with(call, other, other == Outcome::TimedOut, None),
        }
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
