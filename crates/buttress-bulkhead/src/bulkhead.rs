use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::Waker,
    time::Duration,
};

use buttress_core::{
    Code, ConfigError, Event, Level, Levels, Name, Note, Outcome, OwnedEvent, Rejection, Value, Word,
};
use buttress_kit::{
    Emitter, Events, Handle, Health, Live, Prepared,
    call::{self, Ends},
    handle::Patch,
    queue::{Ticket, WaitResult},
};
use tokio::time::Instant;

use crate::{
    BulkheadBuilder, BulkheadConfig, BulkheadSnapshot, KIND,
    gate::{Entry, Gate},
    stats::Stats,
    words,
};

/// A bulkhead: engine and handle in one. Clones share it; keep one to watch and steer it.
#[derive(Clone)]
pub struct Bulkhead {
    // Behind the handle, not in the services: axum builds those again for every connection.
    pub(crate) shared: Arc<Shared>,
}

/// What handles and calls share.
///
/// Whatever changes a level of the gate moves it here, after the change.
pub(crate) struct Shared {
    pub(crate) gate: Gate,
    stats: Stats,
    emitter: Emitter,
    settings: Live<BulkheadConfig>,
    /// What calls read of the settings, beside what the gate has of them.
    timed: AtomicBool,
}

// The numbers of the levels, in the order in which a new listener is told them.
const LIMIT: u32 = 0;
const IN_FLIGHT: u32 = 1;
const QUEUE_DEPTH: u32 = 2;

impl Bulkhead {
    /// Starts a bulkhead. `name` names it in rejections, metrics and logs.
    pub fn builder(name: impl Into<Name>) -> BulkheadBuilder {
        BulkheadBuilder::new(name)
    }

    /// Makes a bulkhead from settings.
    ///
    /// # Errors
    /// Names the policy, the setting that cannot work, its value, and why.
    pub fn new(name: impl Into<Name>, config: BulkheadConfig) -> Result<Self, ConfigError> {
        Self::builder(name).config(config).build()
    }

    /// The name.
    pub fn name(&self) -> &Name {
        self.shared.emitter.name()
    }

    /// The settings in force.
    pub fn config(&self) -> BulkheadConfig {
        self.shared.settings.get()
    }

    /// What it is doing and has done.
    pub fn snapshot(&self) -> BulkheadSnapshot {
        BulkheadSnapshot::of(&self.shared.gate, &self.shared.stats)
    }

    /// Whether a call made now would run or wait, as opposed to be refused.
    pub fn can_accept(&self) -> bool {
        self.shared.gate.status().accepts
    }

    /// Changes the most calls that run at once, from now on.
    ///
    /// Fewer: no call is cancelled; none is let in until fewer than `limit` run. More: as many of those who wait
    /// are let in, in order, as there is room for now.
    ///
    /// # Errors
    /// With 0, and above 16 777 215.
    pub fn set_limit(&self, limit: u32) -> Result<(), ConfigError> {
        let change = |config: &mut BulkheadConfig| config.max_concurrent = limit;
        self.shared.settings.adjust(change, |_, next| self.shared.take(next))?;
        self.shared.settle();
        Ok(())
    }

    /// Puts new settings in force. Calls that wait already keep their place and their timeout.
    ///
    /// # Errors
    /// Names the policy, the setting that cannot work, its value, and why; nothing changes then.
    pub fn reconfigure(&self, config: BulkheadConfig) -> Result<(), ConfigError> {
        self.update(|now| *now = config)
    }

    /// Changes some settings: of two changes at once both count. `change` runs with the settings locked, so it must not
    /// use this handle.
    ///
    /// # Errors
    /// As [`reconfigure`](Self::reconfigure).
    pub fn update(&self, change: impl FnOnce(&mut BulkheadConfig)) -> Result<(), ConfigError> {
        self.shared.settings.change(change, |_, next| self.shared.take(next))?;
        self.shared.settle();
        Ok(())
    }

    /// Sends all away that wait, with `BULKHEAD_QUEUE_CLEARED`; how many. Running calls go on.
    pub fn clear_queue(&self) -> usize {
        let Shared { gate, stats, emitter, .. } = &*self.shared;
        let count = gate.queue.clear(|count| {
            let count = count as u64;
            stats.cleared.fetch_add(count, Relaxed);
            emitter.later(OwnedEvent::Note(Note::with(words::CLEARED, Value::Count(count))));
        });
        self.shared.tell_levels(&[QUEUE_DEPTH]);
        count
    }

    /// Sets all counts back to 0, the peak to the calls that run, and forgets the execution times. A closed bulkhead
    /// stays closed.
    pub fn reset(&self) {
        let Shared { gate, stats, emitter, .. } = &*self.shared;
        stats.reset(gate.slots().completed());
        gate.slots().reset_peak();
        emitter.note(Note::new(Note::RESET));
    }

    /// Refuses every further call, and all that wait, with `BULKHEAD_CLOSED`, for good. Running calls go on.
    pub fn close(&self) {
        self.shared.gate.close();
        self.shared.tell_levels(&[QUEUE_DEPTH]);
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.shared.gate.slots().load().is_closed()
    }

    /// Owned copies of refusals, cleared queues and resets, from now on.
    pub fn events(&self) -> Events {
        self.shared.emitter.events()
    }
}

impl BulkheadBuilder {
    /// Makes the bulkhead.
    ///
    /// # Errors
    /// Names the policy, the setting that cannot work, its value, and why.
    pub fn build(self) -> Result<Bulkhead, ConfigError> {
        let (config, emitter) = self.parts.checked(&KIND)?;
        let shared = Arc::new(Shared {
            gate: Gate::new(&config),
            stats: Stats::new(),
            timed: AtomicBool::new(config.timed),
            settings: Live::new(config, emitter.clone()),
            emitter,
        });
        let levels: Weak<Shared> = Arc::downgrade(&shared);
        shared.emitter.set_levels(levels);
        Ok(Bulkhead { shared })
    }
}

/// A call that has a slot, and when it began, if somebody wants to know how long calls take.
pub(crate) type Begun = call::Begun<Option<Instant>>;

/// What a call that asked for a slot got, if it was not refused.
pub(crate) enum Admission {
    /// A slot. Say so with [`Shared::admitted`] once the call owns it.
    Admitted(Begun),
    /// A place in the queue, and how long it may wait at most.
    Queued(Ticket, Option<Duration>),
}

impl Shared {
    /// Lets a call in if a slot is free for the taking.
    #[inline]
    pub(crate) fn take_free(&self) -> Option<Begun> {
        self.gate.slots().try_take().then(|| self.begun())
    }

    /// Lets a call in, makes it wait, or refuses it. Without a waker it does not wait.
    pub(crate) fn admit(&self, waker: Option<&Waker>) -> Result<Admission, Rejection> {
        if let Some(begun) = self.take_free() {
            return Ok(Admission::Admitted(begun));
        }
        match self.gate.enter(waker) {
            Entry::Taken => {}
            Entry::Waits(queued, timeout) => return Ok(Admission::Queued(queued.ticket, timeout)),
            Entry::TakenOver(excess) => {
                // As if those over the limit stood in the queue, in which only a call with a waker would.
                if waker.is_none() || excess > self.gate.status().max_queue {
                    self.would_refuse();
                }
            }
            Entry::Full => return Err(self.refuse(words::QUEUE_FULL)),
            Entry::Closed => return Err(self.refuse(words::CLOSED)),
        }
        Ok(Admission::Admitted(self.begun()))
    }

    #[inline]
    fn begun(&self) -> Begun {
        let asked = self.timed.load(Relaxed) || self.emitter.is_on();
        call::begin(if asked { self.time() } else { None })
    }

    fn time(&self) -> Option<Instant> {
        (self.timed.load(Relaxed) || self.emitter.is_timed()).then(Instant::now)
    }

    /// A call was let in. To be called when the call owns its slot.
    #[inline]
    pub(crate) fn admitted(&self) {
        if self.emitter.is_on() {
            self.tell_admitted();
        }
    }

    fn tell_admitted(&self) {
        self.tell(IN_FLIGHT, &Note::new(words::ADMITTED));
    }

    /// A call waits.
    pub(crate) fn queued(&self) {
        if self.emitter.is_on() {
            self.tell(QUEUE_DEPTH, &Note::new(words::QUEUED));
        }
    }

    /// Tells what happened, and the level that it moved.
    fn tell(&self, level: u32, what: &Note) {
        self.emitter.moved(level);
        self.emitter.emit(Event::Note(what));
    }

    /// Lets a call in whose wait ended, or refuses it. Without a result it waited for too long.
    pub(crate) fn wait_ended(&self, result: Option<WaitResult>, since: Instant) -> Result<Begun, Rejection> {
        self.tell_wait(since);
        match result {
            Some(WaitResult::Granted) => Ok(self.begun()),
            Some(WaitResult::Cleared) => Err(self.refuse(words::QUEUE_CLEARED)),
            Some(WaitResult::Closed) => Err(self.refuse(words::CLOSED)),
            None => Err(self.refuse(words::QUEUE_TIMEOUT)),
        }
    }

    /// Gives back what a call has that is dropped while it waits.
    pub(crate) fn abandon(&self, ticket: Ticket, since: Instant) {
        match self.gate.queue.leave(ticket) {
            // Sent away already, and counted when the queue was cleared.
            Some(WaitResult::Cleared) => {}
            // Granted and dropped at the same time: the next one in the queue gets it.
            Some(WaitResult::Granted) => self.moved_by_giving_back(self.give_back(Outcome::Cancelled)),
            Some(WaitResult::Closed) | None => _ = self.stats.cancelled.fetch_add(1, Relaxed),
        }
        self.tell_wait(since);
        // It was never let in, and ended all the same: endings add up to the calls that were made.
        self.emitter.done(Outcome::Cancelled, Outcome::Cancelled.as_str(), None, false, 0, None);
    }

    fn tell_wait(&self, since: Instant) {
        if self.emitter.is_on() {
            let waited = Instant::now().saturating_duration_since(since);
            self.tell(QUEUE_DEPTH, &Note::with(words::QUEUE_WAIT, Value::Time(waited)));
        }
    }

    /// Counts the end of a call and gives its slot back. Whether somebody waited for it.
    fn give_back(&self, outcome: Outcome) -> bool {
        let count = match outcome {
            Outcome::Failure | Outcome::Panicked => &self.stats.failed,
            Outcome::Cancelled => &self.stats.cancelled,
            _ => return self.gate.give_back(true),
        };
        count.fetch_add(1, Relaxed);
        self.gate.give_back(false)
    }

    /// `attended`: the slot may have gone to the first in the queue.
    fn moved_by_giving_back(&self, attended: bool) {
        self.emitter.moved(IN_FLIGHT);
        if attended {
            self.emitter.moved(QUEUE_DEPTH);
        }
    }

    /// Copies out what calls read. Only with the lock of the settings held.
    fn take(&self, config: &BulkheadConfig) {
        self.timed.store(config.timed, Relaxed);
        self.gate.apply(config);
        self.emitter.moved(LIMIT);
    }

    /// Lets those who wait in as far as there is room by the settings now in force. It wakes, so never with the lock of
    /// the settings held.
    fn settle(&self) {
        if self.gate.settle() {
            self.tell_levels(&[IN_FLIGHT, QUEUE_DEPTH]);
        }
    }

    fn tell_levels(&self, moved: &[u32]) {
        moved.iter().for_each(|level| self.emitter.moved(*level));
        self.emitter.deliver();
    }

    /// Makes, counts and tells a refusal.
    fn refuse(&self, code: &'static Code) -> Rejection {
        match code {
            words::QUEUE_TIMEOUT => _ = self.stats.queue_timeouts.fetch_add(1, Relaxed),
            // Counted when the queue was cleared.
            words::QUEUE_CLEARED => {}
            _ => _ = self.stats.rejected.fetch_add(1, Relaxed),
        }
        let rejection = Rejection::new(code, self.emitter.name());
        self.emitter.refused(&rejection, false);
        rejection
    }

    /// Counts and tells what would have been a refusal, in shadow mode.
    fn would_refuse(&self) {
        self.stats.would_reject.fetch_add(1, Relaxed);
        if self.emitter.is_on() {
            self.emitter.refused(&Rejection::new(words::QUEUE_FULL, self.emitter.name()), true);
        }
    }
}

impl Ends for Shared {
    /// When it began, if that is to be known.
    type Ticket = Option<Instant>;
    type End = Outcome;

    #[inline]
    fn end(&self, since: &Option<Instant>, outcome: Outcome) {
        if outcome == Outcome::Success && since.is_none() {
            let attended = self.gate.give_back(true);
            // Asked after the change: a listener that came before it and was told the former level must hear of it.
            if self.emitter.is_on() {
                self.tell_end(attended, outcome, None);
            }
        } else {
            self.end_timed(*since, outcome);
        }
    }
}

impl Shared {
    fn end_timed(&self, since: Option<Instant>, outcome: Outcome) {
        let elapsed = since.map(|since| Instant::now().saturating_duration_since(since));
        if let (Outcome::Success, Some(elapsed)) = (outcome, elapsed) {
            self.stats.took(elapsed);
        }
        let attended = self.give_back(outcome);
        if self.emitter.is_on() {
            self.tell_end(attended, outcome, elapsed);
        }
    }

    fn tell_end(&self, attended: bool, outcome: Outcome, elapsed: Option<Duration>) {
        self.moved_by_giving_back(attended);
        self.emitter.done(outcome, outcome.as_str(), elapsed, false, 1, None);
    }
}

impl Levels for Shared {
    fn level(&self, number: u32) -> Option<Level> {
        let level = |what: Word, value: u32| Some(Level::new(what, f64::from(value)));
        match number {
            LIMIT => level(words::LIMIT, self.gate.slots().load().limit()),
            IN_FLIGHT => level(words::IN_FLIGHT, self.gate.slots().load().in_flight()),
            QUEUE_DEPTH => level(words::QUEUE_DEPTH, self.gate.status().queued),
            _ => None,
        }
    }
}

impl Handle for Bulkhead {
    buttress_kit::handle_methods!(&KIND);

    /// Down once closed, degraded while a call made now would be refused.
    fn health(&self) -> Health {
        match (self.is_closed(), self.can_accept()) {
            (true, _) => Health::Down,
            (false, false) => Health::Degraded,
            (false, true) => Health::Up,
        }
    }

    fn prepare(&self, patch: Patch<'_, '_>) -> Result<Prepared<'_>, ConfigError> {
        self.shared.settings.prepare(patch, |_, next| self.shared.take(next), || self.shared.settle())
    }
}

impl fmt::Debug for Bulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.shared.gate.slots().load();
        f.debug_struct("Bulkhead")
            .field("name", self.name())
            .field("active", &word.in_flight())
            .field("limit", &word.limit())
            .finish_non_exhaustive()
    }
}
