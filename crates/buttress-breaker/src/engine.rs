//! What all handles, layers and services of one breaker share.

use std::{
    collections::VecDeque,
    error::Error as StdError,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::Waker,
    time::Duration,
};

use buttress_core::{Event, Level, Levels, Outcome, OwnedEvent, Rejection, Word};
use buttress_kit::{Chance, Emitter, Live, Mode};
use tokio::time::Instant;

use crate::{
    BreakerConfig, Permit, Ramp, Snapshot, State, WindowCounts,
    circuit::{Admission, Circuit, Ending, Moment, Said, Ticket, View},
    front::{self, Front, Kind, Opened},
    rules::{Rules, nanos},
    words,
};

/// One circuit, and what counts beside it.
pub(crate) struct Shared {
    pub(crate) front: Front,
    pub(crate) common: Arc<Common>,
    rejected: AtomicU64,
    would_reject: AtomicU64,
    ignored: AtomicU64,
    /// Of a keyed breaker: used since the last sweep.
    pub(crate) used: AtomicBool,
    /// Of a keyed breaker: no longer one of its circuits, so its changes of state are not counted. Written and
    /// read with the circuit's lock held.
    gone: AtomicBool,
    /// For how many milliseconds whoever is refused should stay away at most. `u32::MAX`: until
    /// it is over.
    longest_wait: AtomicU32,
}

/// What all circuits of one breaker share: one circuit, or one for each key.
pub(crate) struct Common {
    pub(crate) hot: Hot,
    pub(crate) emitter: Emitter,
    pub(crate) chance: Chance,
    epoch: Instant,
    pub(crate) live: Live<BreakerConfig>,
    outbox: Mutex<Outbox>,
    parked: Mutex<Parked>,
    /// How many keys are in which state, where this is a keyed breaker.
    keys: Option<[AtomicU64; STATES.len()]>,
}

const STATES: [State; 6] =
    [State::Closed, State::Open, State::HalfOpen, State::Isolated, State::Disabled, State::MetricsOnly];

/// The settings that calls read, without a lock.
pub(crate) struct Hot {
    slow: AtomicU64,
    interval: AtomicU64,
    call_timeout: AtomicU64,
    isolated_for: AtomicU64,
    gated: AtomicBool,
    shadow: AtomicBool,
    ramp_start: AtomicU64,
    ramp_over: AtomicU64,
}

impl Hot {
    fn new(config: &BreakerConfig) -> Self {
        let hot = Self {
            slow: AtomicU64::new(0),
            interval: AtomicU64::new(0),
            call_timeout: AtomicU64::new(0),
            isolated_for: AtomicU64::new(0),
            gated: AtomicBool::new(false),
            shadow: AtomicBool::new(false),
            ramp_start: AtomicU64::new(0),
            ramp_over: AtomicU64::new(0),
        };
        hot.set(config);
        hot
    }

    // Relaxed, here and where they are read: each stands for itself, and a call that is between the old
    // settings and the new ones may see some of both.
    pub(crate) fn set(&self, config: &BreakerConfig) {
        let ramp = config.ramp.unwrap_or(Ramp { start: 1.0, over: Duration::ZERO });
        let rules = config.rules();
        self.slow.store(config.slow_call_duration.map_or(u64::MAX, nanos), Relaxed);
        self.interval.store(rules.interval, Relaxed);
        self.isolated_for.store(rules.first_wait(), Relaxed);
        self.call_timeout.store(config.call_timeout.map_or(u64::MAX, nanos), Relaxed);
        self.gated.store(config.gate_readiness, Relaxed);
        self.shadow.store(config.mode == Mode::Shadow, Relaxed);
        self.ramp_start.store(ramp.start.to_bits(), Relaxed);
        self.ramp_over.store(nanos(ramp.over), Relaxed);
    }
}

/// Transitions to be told, in the order in which they happened.
#[derive(Default)]
struct Outbox {
    waiting: VecDeque<Said>,
    /// Somebody tells them already, maybe further up this very stack.
    telling: bool,
}

/// Those who wait in `poll_ready`, one place each.
#[derive(Default)]
struct Parked {
    places: Vec<Option<Waker>>,
    free: Vec<usize>,
}

/// Calls are refused: until when, where that is known, and the wait after which another try makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The generation that this was found in.
    pub(crate) generation: u64,
    pub(crate) until: Option<u64>,
    pub(crate) wait: u64,
}

/// Whether a call is let in, and as what. Plain data without overlaps, so that it stays in registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pass {
    pub(crate) generation: u64,
    /// When it was let in, or [`NO_TIME`]. Refused: the wait after which another try makes sense.
    pub(crate) time: u64,
    pub(crate) lease: u32,
    pub(crate) refused: bool,
}

impl Pass {
    #[inline(always)]
    pub(crate) fn refused(wait: u64) -> Self {
        Self { generation: FREE, time: wait, lease: 0, refused: true }
    }

    fn ticket(self) -> Ticket {
        Ticket { generation: self.generation, lease: self.lease }
    }
}

/// Stands for "the clock was not read".
pub(crate) const NO_TIME: u64 = u64::MAX;

/// A millisecond.
const MILLI: u64 = 1_000_000;

/// The generation of calls that nobody records.
pub(crate) const FREE: u64 = u64::MAX;

impl Common {
    pub(crate) fn new(emitter: Emitter, config: BreakerConfig, chance: Chance, keyed: bool) -> Arc<Self> {
        Arc::new(Self {
            hot: Hot::new(&config),
            live: Live::new(config, emitter.clone()),
            emitter,
            chance,
            epoch: Instant::now(),
            outbox: Mutex::default(),
            parked: Mutex::default(),
            keys: keyed.then(Default::default),
        })
    }

    pub(crate) fn now(&self) -> u64 {
        let since = Instant::now().saturating_duration_since(self.epoch);
        // Cheaper than through u128, and as exact.
        since.as_secs().saturating_mul(1_000_000_000).saturating_add(since.subsec_nanos().into())
    }

    pub(crate) fn instant(&self, nanos: u64) -> Instant {
        self.epoch.checked_add(Duration::from_nanos(nanos)).unwrap_or(self.epoch)
    }

    pub(crate) fn is_keyed(&self) -> bool {
        self.keys.is_some()
    }

    /// Puts something at the end of what is to be told.
    pub(crate) fn later(&self, said: Said) {
        unpoisoned(&self.outbox).waiting.push_back(said);
    }

    /// A key came or went, in this state. Only by [`tell`](Self::tell), so that the counts are told in order.
    fn count_key(&self, state: State, came: bool) {
        let Some(counter) = self.keys_in(state) else { return };
        let change = |count: u64| Some(if came { count.saturating_add(1) } else { count.saturating_sub(1) });
        let _ = counter.fetch_update(Relaxed, Relaxed, change);
        if self.emitter.is_on() {
            let level = Level::of(words::KEYS, state.as_str(), counter.load(Relaxed) as f64);
            self.emitter.emit(Event::Level(level));
        }
    }

    fn tell_done(
        &self,
        outcome: Outcome,
        elapsed: Option<Duration>,
        slow: bool,
        error: Option<&(dyn StdError + 'static)>,
    ) {
        self.emitter.done(outcome, outcome.as_str(), elapsed, slow, 1, error);
    }

    pub(crate) fn keys_in(&self, state: State) -> Option<&AtomicU64> {
        let place = STATES.iter().position(|one| *one == state)?;
        self.keys.as_ref()?.get(place)
    }

    #[inline]
    pub(crate) fn gated(&self) -> bool {
        self.hot.gated.load(Relaxed)
    }

    /// How long calls may take. `None`: for ever.
    pub(crate) fn call_timeout(&self) -> Option<Duration> {
        let limit = self.hot.call_timeout.load(Relaxed);
        (limit != u64::MAX).then(|| Duration::from_nanos(limit))
    }

    pub(crate) fn tell_ratios(&self, ratios: Ratios) {
        if !self.is_keyed() {
            levels(ratios).into_iter().for_each(|level| self.emitter.emit(Event::Level(level)));
        }
    }

    #[cold]
    pub(crate) fn tell(&self) {
        let mut outbox = unpoisoned(&self.outbox);
        if outbox.telling {
            // Whoever is at it tells ours as well. A listener that changes the state gets here too.
            return;
        }
        outbox.telling = true;
        while let Some(said) = outbox.waiting.pop_front() {
            drop(outbox);
            match said {
                // Which key it was would be a label without bounds, so only their numbers are told.
                Said::Changed { from, to, .. } if self.is_keyed() => {
                    self.count_key(from, false);
                    self.count_key(to, true);
                }
                Said::Changed { from, to, cause, detail } if self.emitter.is_on() => {
                    self.emitter.later(OwnedEvent::Transition(detail.told(from, to, cause)));
                    self.emitter.deliver();
                }
                Said::Key { state, came } => self.count_key(state, came),
                Said::Note(note) => {
                    if [words::LEASE_EXPIRED, words::EVICTED, buttress_core::Note::RECONFIGURED]
                        .contains(&note.what)
                    {
                        self.emitter.later_unsubscribed(OwnedEvent::Note(note));
                    } else {
                        self.emitter.later(OwnedEvent::Note(note));
                    }
                    self.emitter.deliver();
                }
                _ => {}
            }
            outbox = unpoisoned(&self.outbox);
        }
        outbox.telling = false;
    }

    // ---- those who wait in `poll_ready`

    /// Keeps a waker until the next transition. `place`: where it was kept before.
    pub(crate) fn park(&self, place: Option<usize>, waker: &Waker) -> usize {
        let mut parked = unpoisoned(&self.parked);
        let place = place.or_else(|| parked.free.pop()).unwrap_or_else(|| {
            parked.places.push(None);
            parked.places.len().saturating_sub(1)
        });
        let old = match &mut parked.places[place] {
            Some(kept) if kept.will_wake(waker) => None,
            other => other.replace(waker.clone()),
        };
        drop(parked);
        // With no lock held: it may be the last hold on a task, whose services unpark as they are dropped.
        drop(old);
        place
    }

    pub(crate) fn unpark(&self, place: usize) {
        let mut parked = unpoisoned(&self.parked);
        let waker = parked.places[place].take();
        parked.free.push(place);
        drop(parked);
        drop(waker);
    }

    pub(crate) fn wake(&self) {
        let wakers: Vec<Waker> = {
            let mut parked = unpoisoned(&self.parked);
            parked.places.iter_mut().filter_map(Option::take).collect()
        };
        for waker in wakers {
            waker.wake();
        }
    }
}

impl Shared {
    /// Makes the engine for settings that were found good.
    pub(crate) fn new(emitter: Emitter, config: BreakerConfig, chance: Chance) -> Arc<Self> {
        let (rules, state) = (Arc::new(config.rules()), config.initial_state);
        let shared = Self::one(Common::new(emitter, config, chance, false), rules, state);
        let levels: Weak<dyn Levels> = Arc::downgrade(&(shared.clone() as Arc<dyn Levels>));
        shared.common.emitter.set_levels(levels);
        shared
    }

    /// Makes one circuit.
    pub(crate) fn one(common: Arc<Common>, rules: Arc<Rules>, state: State) -> Arc<Self> {
        let at = Moment { now: common.now(), unit: common.chance.unit(), refused: 0 };
        let circuit = Circuit::new(state, &rules, at);
        Arc::new(Self {
            front: Front::new(circuit, rules),
            common,
            rejected: AtomicU64::new(0),
            would_reject: AtomicU64::new(0),
            ignored: AtomicU64::new(0),
            used: AtomicBool::new(true),
            gone: AtomicBool::new(false),
            longest_wait: AtomicU32::new(u32::MAX),
        })
    }

    fn moment(&self, now: u64) -> Moment {
        Moment { now, unit: self.common.chance.unit(), refused: self.rejected.load(Relaxed) }
    }

    pub(crate) fn take_rules(&self, rules: Arc<Rules>) {
        let now = self.common.now();
        self.locked(|opened| opened.reconfigure(rules, self.moment(now)));
    }

    /// Whether nothing is lost with this circuit: a new one would do the same.
    pub(crate) fn knows_nothing(&self) -> bool {
        let now = self.common.now();
        let look = |opened: &mut Opened<'_>| opened.circuit().look(now).has_seen_no_failure();
        self.front.word().state() == State::Closed && self.locked(look).0
    }

    /// Leaves the circuits of its keyed breaker, which has to be told.
    pub(crate) fn leave(&self) {
        // With the lock held, so that no change of state comes in between.
        let mut opened = self.front.open(self.common.emitter.is_on());
        self.gone.store(true, Relaxed);
        self.common.later(Said::Key { state: opened.circuit().state(), came: false });
    }

    /// Forgets the counts that are kept outside of the circuit.
    pub(crate) fn forget(&self) {
        for counter in [&self.rejected, &self.would_reject, &self.ignored] {
            counter.store(0, Relaxed);
        }
    }

    /// The state as a call made now would find it. Takes the lock only where the circuit was half-open for longer
    /// than it may be.
    pub(crate) fn state(&self) -> State {
        let word = self.front.word();
        match word.state() {
            State::Open if self.common.now() >= self.front.blocked_until() => State::HalfOpen,
            State::HalfOpen => {
                let now = self.common.now();
                if self.front.is_over(word, now) {
                    return self.locked(|opened| opened.found(now)).0;
                }
                State::HalfOpen
            }
            stored => stored,
        }
    }

    /// When the circuit, if it is half-open, has been so for too long.
    pub(crate) fn half_open_until(&self) -> Option<Instant> {
        let half_open = self.front.word().kind() == Kind::HalfOpen;
        let until = Some(self.front.settled_until()).filter(|until| half_open && *until != u64::MAX);
        until.map(|until| self.common.instant(until))
    }

    /// Whether no call is refused because of the state: one look at the word. A ramp refuses some of the calls,
    /// not the service.
    #[inline(always)]
    pub(crate) fn flows(&self) -> bool {
        self.front.word().flows()
    }

    /// What an isolated circuit says in place of a wait: nobody knows how long it lasts.
    fn isolated_for(&self) -> u64 {
        self.common.hot.isolated_for.load(Relaxed)
    }

    /// The wait to tell whoever calls a service that was not found ready by this circuit as it is now.
    #[cold]
    pub(crate) fn wait_if_called_unready(&self) -> u64 {
        // Where calls flow, all there is to do is to ask for readiness.
        self.refusing().map_or(0, |refusal| refusal.wait)
    }

    fn longest_wait(&self) -> u64 {
        match self.longest_wait.load(Relaxed) {
            u32::MAX => u64::MAX,
            millis => u64::from(millis).saturating_mul(MILLI),
        }
    }

    /// Whether a call made now would be refused.
    #[inline]
    pub(crate) fn refusing(&self) -> Option<Refusal> {
        let word = self.front.word();
        let generation = word.generation();
        match word.kind() {
            _ if self.common.hot.shadow.load(Relaxed) => None,
            Kind::Isolated => Some(Refusal { generation, until: None, wait: self.isolated_for() }),
            Kind::Open => {
                let until = self.front.blocked_until();
                let wait = until.saturating_sub(self.common.now());
                (wait > 0).then_some(Refusal { generation, until: Some(until), wait })
            }
            Kind::HalfOpen => self.refusing_half_open(word),
            Kind::Closed | Kind::MetricsOnly | Kind::Ramping | Kind::Disabled => None,
        }
    }

    #[inline(never)]
    fn refusing_half_open(&self, word: front::Word) -> Option<Refusal> {
        let now = self.common.now();
        if self.front.is_over(word, now) {
            // A call comes by, so what time has done is done and told; else every refusal would find it anew.
            self.looked(|_, _| ());
            return self.refusing();
        }
        let until = self.front.blocked_until();
        let wait = until.saturating_sub(now).min(self.longest_wait());
        (wait > 0).then_some(Refusal { generation: word.generation(), until: Some(until), wait })
    }

    // ---- a call

    #[inline]
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Permit, Rejection> {
        let pass = self.enter();
        if pass.refused { Err(self.refuse(pass.time)) } else { Ok(Permit::new(self.clone(), pass)) }
    }

    /// Lets a call in or not. Whoever is let in has to say how it ended; a refusal is yet to be counted.
    #[inline(always)]
    pub(crate) fn enter(&self) -> Pass {
        let word = self.front.word();
        if word.is_closed() && !self.common.emitter.is_on() {
            let time = if word.is_timed() { self.common.now() } else { NO_TIME };
            return Pass { generation: word.generation(), time, lease: 0, refused: false };
        }
        // Taken apart, so that it need not be in memory because this one is.
        let Pass { generation, time, lease, refused } = self.enter_at(word);
        Pass { generation, time, lease, refused }
    }

    fn pass(&self, ticket: Ticket) -> Pass {
        let timed = self.front.word().is_timed() || self.common.emitter.is_timed();
        let time = if timed { self.common.now() } else { NO_TIME };
        Pass { generation: ticket.generation, time, lease: ticket.lease, refused: false }
    }

    #[inline(never)]
    fn enter_at(&self, word: front::Word) -> Pass {
        let free = Ticket { generation: FREE, lease: 0 };
        let admission = match word.kind() {
            Kind::Closed | Kind::MetricsOnly => {
                Admission::Admitted(Ticket { generation: word.generation(), lease: 0 })
            }
            Kind::Disabled => Admission::Free,
            Kind::Isolated => Admission::Refused(None),
            Kind::Ramping => self.ramp(word),
            Kind::Open | Kind::HalfOpen => {
                let now = self.common.now();
                match self.front.refused_for(word, now) {
                    Some(left) => Admission::Refused(Some(left.min(self.longest_wait()))),
                    None => {
                        let (admission, said) = self.locked(|opened| opened.admit(self.moment(now)));
                        self.after(said);
                        admission
                    }
                }
            }
        };
        match admission {
            Admission::Admitted(ticket) => self.pass(ticket),
            Admission::Free => self.pass(free),
            Admission::Refused(wait) => {
                let wait = wait.unwrap_or_else(|| self.isolated_for());
                if !self.common.hot.shadow.load(Relaxed) {
                    return Pass::refused(wait);
                }
                self.count_refusal(wait);
                self.pass(free)
            }
        }
    }

    fn ramp(&self, word: front::Word) -> Admission {
        let (now, end) = (self.common.now(), self.front.blocked_until());
        let left = end.saturating_sub(now);
        let admitted = Admission::Admitted(Ticket { generation: word.generation(), lease: 0 });
        if left == 0 {
            let ((), said) = self.locked(|opened| {
                if opened.circuit().generation() == word.generation() {
                    opened.circuit().end_ramp();
                }
            });
            self.after(said);
            return admitted;
        }
        let over = self.common.hot.ramp_over.load(Relaxed).max(1);
        let start = f64::from_bits(self.common.hot.ramp_start.load(Relaxed));
        // More than all can be left between two settings.
        let share = start + (1.0 - start) * (1.0 - left as f64 / over as f64).max(0.0);
        if self.common.chance.unit() < share {
            return admitted;
        }
        // Any time is a good time to try again; but not for all who were refused at once.
        Admission::Refused(Some(left.min(over / 10)))
    }

    /// Makes, counts and tells a refusal.
    fn refuse(&self, wait: u64) -> Rejection {
        self.count_refusal(wait);
        self.rejection(wait)
    }

    /// Counts and tells a refusal.
    #[inline]
    pub(crate) fn count_refusal(&self, wait: u64) {
        let shadow = self.common.hot.shadow.load(Relaxed);
        let counter = if shadow { &self.would_reject } else { &self.rejected };
        counter.fetch_add(1, Relaxed);
        if self.common.emitter.is_on() {
            self.tell_refusal(wait, shadow);
        }
    }

    #[cold]
    fn tell_refusal(&self, wait: u64, shadow: bool) {
        self.common.emitter.emit(Event::Refused { rejection: &self.rejection(wait), shadow });
    }

    /// Makes what a refused call comes to. It always says when to try again, and never "at once": whoever heeds
    /// that would call in a loop.
    #[inline]
    pub(crate) fn rejection(&self, wait: u64) -> Rejection {
        let rejection = Rejection::new(words::OPEN, self.common.emitter.name());
        rejection.with_retry_after(Duration::from_nanos(wait.max(1)))
    }

    /// Records that a call succeeded.
    #[inline(always)]
    pub(crate) fn succeed(&self, pass: Pass) {
        let untimed = pass.time == NO_TIME && self.front.settled_until() == u64::MAX;
        // No probe gets past this: while the circuit is half-open, the word leaves no success to count.
        if untimed && self.front.success(pass.generation) {
            if self.common.emitter.is_on() {
                self.tell_success();
            }
            return;
        }
        self.succeed_at(pass.generation, pass.time, pass.lease);
    }

    #[cold]
    fn tell_success(&self) {
        self.common.tell_done(Outcome::Success, None, false, None);
    }

    /// As [`succeed`](Self::succeed), where a clock has to be read or the circuit has to hear of it.
    #[inline(never)]
    fn succeed_at(&self, generation: u64, time: u64, lease: u32) {
        let pass = Pass { generation, time, lease, refused: false };
        let watched = self.common.emitter.is_on();
        if pass.generation == FREE && !watched {
            return;
        }
        let now = self.common.now();
        let slow = self.is_slow(pass, now);
        let counted = pass.lease == 0 && !slow && self.count_success(pass, now);
        if !counted || watched {
            self.finish(pass, now, Ending::Success, Outcome::Success, None, counted);
        }
    }

    /// Records that a call ended in another way.
    #[cold]
    pub(crate) fn settle(
        &self,
        pass: Pass,
        ending: Ending,
        outcome: Outcome,
        error: Option<&(dyn StdError + 'static)>,
    ) {
        if pass.generation == FREE && !self.common.emitter.is_on() {
            return;
        }
        let ignored =
            pass.lease == 0 && ending == Ending::Ignored && pass.generation == self.front.word().generation();
        if ignored {
            self.ignored.fetch_add(1, Relaxed);
        }
        self.finish(pass, self.common.now(), ending, outcome, error, ignored);
    }

    /// Tells how a call ended: the circuit, unless it knows by now (`counted`), and who listens.
    #[cold]
    fn finish(
        &self,
        pass: Pass,
        now: u64,
        ending: Ending,
        outcome: Outcome,
        error: Option<&(dyn StdError + 'static)>,
        counted: bool,
    ) {
        let slow = self.is_slow(pass, now);
        let told = counted || pass.generation == FREE;
        let said = !told && self.settle_locked(pass.ticket(), pass.time, ending, slow, now, error);
        if self.common.emitter.is_on() {
            let elapsed = (pass.time != NO_TIME).then(|| Duration::from_nanos(now.saturating_sub(pass.time)));
            self.common.tell_done(outcome, elapsed, slow, error);
        }
        self.after(said);
    }

    #[inline]
    fn is_slow(&self, pass: Pass, now: u64) -> bool {
        pass.time != NO_TIME && now.saturating_sub(pass.time) > self.common.hot.slow.load(Relaxed)
    }

    /// Counts a success that was in time, without the lock where that is possible.
    #[inline]
    fn count_success(&self, pass: Pass, now: u64) -> bool {
        let until = self.front.settled_until();
        let interval = self.common.hot.interval.load(Relaxed);
        if interval > 0 && pass.time < until.saturating_sub(interval) {
            return false;
        }
        // At the end of a bucket one call moves the window on, under the lock. Those that find it at that do not
        // wait: they are counted with the new bucket, if not with the old one.
        (now < until || self.front.is_busy()) && self.front.success(pass.generation)
    }

    #[cold]
    fn settle_locked(
        &self,
        ticket: Ticket,
        began: u64,
        ending: Ending,
        slow: bool,
        now: u64,
        error: Option<&(dyn StdError + 'static)>,
    ) -> bool {
        let watched = self.common.emitter.is_on();
        let ((opened, ratios), said) = self.locked(|back| {
            let opened = back.settle(ticket, began, ending, slow, self.moment(now));
            let (circuit, rules) = back.parts();
            (opened, watched.then(|| circuit.look(now).told_ratios(rules)))
        });
        if let Some(generation) = opened {
            // With no lock held: the error's `Display` is somebody else's code. A panic of it must not keep those
            // who wait from being woken, nor the caller from its error.
            let text: Arc<str> = match (error, ending) {
                (Some(error), _) => catch_unwind(AssertUnwindSafe(|| error.to_string()))
                    .map_or_else(|_| "an error that cannot be shown".into(), Into::into),
                (None, Ending::Abandoned) => "the calls were dropped before they ended".into(),
                (None, Ending::Success) => "the calls were too slow".into(),
                (None, _) => "the call failed".into(),
            };
            self.locked(|back| back.circuit().set_last_error(generation, text));
        }
        if let Some(ratios) = ratios {
            self.common.tell_ratios(ratios);
        }
        if ticket.lease != 0 && !said {
            // A probe's place is free: those who wait at the gate may want it.
            self.common.wake();
        }
        said
    }

    // ---- under the lock, and after it

    /// Does something under the lock; whether something is to be told afterwards, by [`after`](Self::after).
    fn locked<T>(&self, f: impl FnOnce(&mut Opened<'_>) -> T) -> (T, bool) {
        let mut opened = self.front.open(self.common.emitter.is_on());
        let out = f(&mut opened);
        let longest = opened.circuit().longest_wait().div_ceil(MILLI);
        self.longest_wait.store(u32::try_from(longest).unwrap_or(u32::MAX), Relaxed);
        let said = opened.circuit().has_said();
        if said {
            // Under both locks, so that transitions are told in the order in which they happened.
            let gone = self.gone.load(Relaxed);
            let told = opened.circuit().said().filter(|said| !(gone && matches!(said, Said::Changed { .. })));
            unpoisoned(&self.common.outbox).waiting.extend(told);
        }
        (out, said)
    }

    pub(crate) fn by_hand<T>(&self, f: impl FnOnce(&mut Opened<'_>, Moment) -> T) -> T {
        let now = self.common.now();
        let (out, _) = self.locked(|opened| f(opened, self.moment(now)));
        // Also where nothing is told: another wait, another gate.
        self.after(true);
        if self.common.emitter.is_on() {
            self.common.tell_ratios(self.looked(|view, rules| view.told_ratios(rules)));
        }
        out
    }

    /// Looks at the circuit. One that was half-open for too long is opened or closed by that, or what is seen would
    /// be of two states. An open one whose wait is over stays as it is: half-open begins with a call.
    pub(crate) fn looked<T>(&self, f: impl FnOnce(View<'_>, &Rules) -> T) -> T {
        let (now, refused) = (self.common.now(), self.rejected.load(Relaxed));
        let (out, said) = self.locked(|opened| {
            let (circuit, rules) = opened.parts();
            circuit.end_trial(rules, now, refused);
            f(circuit.look(now), rules)
        });
        self.after(said);
        out
    }

    /// Wakes who waits and tells what happened.
    #[inline]
    pub(crate) fn after(&self, said: bool) {
        if said {
            self.common.wake();
            self.common.tell();
        }
    }

    // ---- looking

    pub(crate) fn snapshot(&self) -> Snapshot {
        let (refused, would) = (self.rejected.load(Relaxed), self.would_reject.load(Relaxed));
        let ignored = self.ignored.load(Relaxed);
        self.looked(|view, rules| {
            let (state, wait) = view.found(rules);
            let (tally, window, trial) = (view.tally(), view.window(), view.trial());
            let (failure_ratio, slow_ratio) = view.ratios(rules);
            let (consecutive_successes, consecutive_failures) = view.in_a_row();
            let ignored = ignored.saturating_add(tally.ignored);
            let total = [tally.successes, tally.failures, ignored, tally.cancelled];
            Snapshot {
                state,
                since: self.common.instant(view.since()),
                successes: tally.successes,
                failures: tally.failures,
                timeouts: tally.timeouts,
                slow_calls: tally.slow,
                ignored,
                cancelled: tally.cancelled,
                total: total.into_iter().fold(0, u64::saturating_add),
                late: tally.late,
                rejected: refused,
                would_reject: would,
                window: WindowCounts { calls: window.calls, failures: window.failures, slow: window.slow },
                failure_ratio,
                slow_ratio,
                consecutive_successes,
                consecutive_failures,
                last_failure: view.last_failure().map(|at| self.common.instant(at)),
                half_open_successes: trial.0,
                half_open_failures: trial.1,
                probes_in_flight: trial.2,
                openings: view.openings(),
                open_reason: view.reason(),
                last_error: view.last_error(),
                next_probe_in: matches!(state, State::Open | State::HalfOpen)
                    .then(|| Duration::from_nanos(wait)),
            }
        })
    }
}

impl Levels for Common {
    fn level(&self, number: u32) -> Option<Level> {
        let state = *STATES.get(number as usize)?;
        Some(Level::of(words::KEYS, state.as_str(), self.keys_in(state)?.load(Relaxed) as f64))
    }
}

impl Levels for Shared {
    fn level(&self, number: u32) -> Option<Level> {
        let (state, ratios) = self.looked(|view, rules| (view.found(rules).0, view.told_ratios(rules)));
        match number {
            0 => Some(Level::state(state.as_str())),
            _ => levels(ratios).into_iter().nth(number as usize - 1),
        }
    }
}

/// The shares of failures and of slow calls, where enough calls are known.
type Ratios = (Option<f64>, Option<f64>);

fn levels((failures, slow): Ratios) -> [Level; 2] {
    let level = |what: Word, ratio: Option<f64>| Level::new(what, ratio.unwrap_or(f64::NAN));
    [level(words::FAILURE_RATIO, failures), level(words::SLOW_RATIO, slow)]
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
