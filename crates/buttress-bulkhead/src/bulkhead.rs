use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Poll, Waker},
    time::Duration,
};

use buttress_core::{
    Code, ConfigError, Event, Kind, Level, Levels, Name, Note, Outcome, OwnedEvent, Rejection, Value, Word,
};
use buttress_kit::{
    Emitter, Events, Handle, Health, Live, Prepared,
    call::{Begun, Ends, begin},
    handle::{Data, Patch},
    queue::{Ticket, WaitResult},
    wakers::Parked,
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
    gate: Gate,
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
        self.shared.gate.accepts()
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
        self.shared.settings.replace(config, |_, next| self.shared.take(next))?;
        self.shared.settle();
        Ok(())
    }

    /// Sends all away that wait, with `BULKHEAD_QUEUE_CLEARED`; how many. Running calls go on.
    pub fn clear_queue(&self) -> usize {
        let Shared { gate, stats, emitter, .. } = &*self.shared;
        let count = gate.clear(|count| {
            let count = count as u64;
            stats.cleared.fetch_add(count, Relaxed);
            emitter.later(OwnedEvent::Note(Note::with(words::CLEARED, Value::Count(count))));
        });
        emitter.moved(QUEUE_DEPTH);
        emitter.deliver();
        count
    }

    /// Sets all counts back to 0, the peak to the calls that run, and forgets the execution times. A closed bulkhead
    /// stays closed.
    pub fn reset(&self) {
        let Shared { gate, stats, emitter, .. } = &*self.shared;
        stats.reset(gate.completed());
        gate.reset_peak();
        emitter.later(OwnedEvent::Note(Note::new(Note::RESET)));
        emitter.deliver();
    }

    /// Refuses every further call, and all that wait, with `BULKHEAD_CLOSED`, for good. Running calls go on.
    pub fn close(&self) {
        self.shared.gate.close();
        self.shared.emitter.moved(QUEUE_DEPTH);
        self.shared.emitter.deliver();
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.shared.gate.is_closed()
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
            stats: Stats::default(),
            timed: AtomicBool::new(config.timed),
            settings: Live::new(config, emitter.clone()),
            emitter,
        });
        let levels: Weak<Shared> = Arc::downgrade(&shared);
        shared.emitter.set_levels(levels);
        Ok(Bulkhead { shared })
    }
}

/// What a call that asked for a slot got, if it was not refused.
pub(crate) enum Admission {
    /// A slot. Tell that with [`Shared::tell_admitted`] once the call owns it.
    Admitted(Begun<Option<Instant>>),
    /// A place in the queue, and how long it may wait at most.
    Queued(Ticket, Option<Duration>),
}

impl Shared {
    /// Takes a slot if one is free and nobody waits.
    #[inline]
    pub(crate) fn try_admit(&self) -> Option<Begun<Option<Instant>>> {
        self.gate.try_take().then(|| self.begun())
    }

    /// Takes a slot, or a place in the queue, or refuses the call.
    pub(crate) fn admit(&self, waker: &Waker) -> Result<Admission, Rejection> {
        match self.gate.enter(waker) {
            Entry::Taken => {}
            Entry::Waits(queued, timeout) => return Ok(Admission::Queued(queued.ticket, timeout)),
            // As if those over the limit stood in the queue.
            Entry::TakenOver(excess) if excess <= self.gate.status().max_queue => {}
            Entry::TakenOver(_) => self.would_refuse(),
            Entry::Full => return Err(self.refuse(words::QUEUE_FULL)),
            Entry::Closed => return Err(self.refuse(words::CLOSED)),
        }
        Ok(Admission::Admitted(self.begun()))
    }

    /// Takes a slot that nobody in the queue is entitled to, or refuses the call.
    pub(crate) fn admit_or_refuse(&self) -> Result<Begun<Option<Instant>>, Rejection> {
        if let Some(begun) = self.try_admit() {
            return Ok(begun);
        }
        match self.gate.enter_or_refuse() {
            Entry::Taken => {}
            // It would not have waited, so the length of the queue does not count.
            Entry::TakenOver(_) => self.would_refuse(),
            Entry::Full | Entry::Waits(..) => return Err(self.refuse(words::QUEUE_FULL)),
            Entry::Closed => return Err(self.refuse(words::CLOSED)),
        }
        Ok(self.begun())
    }

    /// A call that has a slot, and when it began, if somebody wants to know how long calls take.
    #[inline]
    fn begun(&self) -> Begun<Option<Instant>> {
        begin((self.timed.load(Relaxed) || self.emitter.is_timed()).then(Instant::now))
    }

    /// To be called with every admission, after the call owns its slot.
    #[inline]
    pub(crate) fn tell_admitted(&self) {
        if self.emitter.is_on() {
            self.emitter.moved(IN_FLIGHT);
            self.emitter.emit(Event::Note(&Note::new(words::ADMITTED)));
        }
    }

    pub(crate) fn tell_queued(&self) {
        if self.emitter.is_on() {
            self.emitter.moved(QUEUE_DEPTH);
            self.emitter.emit(Event::Note(&Note::new(words::QUEUED)));
        }
    }

    /// The end of a wait, if it came: the call is let in or refused.
    pub(crate) fn poll_queued(
        &self,
        ticket: &mut Option<Ticket>,
        since: Instant,
        waker: &Waker,
    ) -> Poll<Result<Begun<Option<Instant>>, Rejection>> {
        self.gate.poll_wait(ticket, waker).map(|result| self.wait_ended(Some(result), since))
    }

    /// Ends a wait that took too long. A slot that is granted at this very moment comes before or after, never in
    /// between.
    pub(crate) fn time_out(
        &self,
        ticket: &mut Option<Ticket>,
        since: Instant,
    ) -> Result<Begun<Option<Instant>>, Rejection> {
        let result = ticket.take().and_then(|ticket| self.gate.leave(ticket));
        self.wait_ended(result, since)
    }

    fn wait_ended(
        &self,
        result: Option<WaitResult>,
        since: Instant,
    ) -> Result<Begun<Option<Instant>>, Rejection> {
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
        match self.gate.leave(ticket) {
            // Sent away already, and counted when the queue was cleared.
            Some(WaitResult::Cleared) => {}
            // Granted and dropped at the same time: the next one in the queue gets it.
            Some(WaitResult::Granted) => self.give_back(Outcome::Cancelled),
            Some(WaitResult::Closed) | None => _ = self.stats.cancelled.fetch_add(1, Relaxed),
        }
        self.tell_wait(since);
        // It was never let in, and ended all the same: endings add up to the calls that were made.
        self.emitter.done(Outcome::Cancelled, Outcome::Cancelled.as_str(), None, false, 0, None);
    }

    fn tell_wait(&self, since: Instant) {
        if self.emitter.is_on() {
            let waited = Instant::now().saturating_duration_since(since);
            self.emitter.moved(QUEUE_DEPTH);
            self.emitter.emit(Event::Note(&Note::with(words::QUEUE_WAIT, Value::Time(waited))));
        }
    }

    /// The 1-based position in the queue.
    pub(crate) fn position(&self, ticket: &Ticket) -> Option<usize> {
        self.gate.position(ticket)
    }

    /// Counts the end of a call and gives its slot back.
    #[inline]
    fn give_back(&self, outcome: Outcome) {
        let attended = match outcome {
            Outcome::Failure | Outcome::Panicked => self.release(&self.stats.failed),
            Outcome::Cancelled => self.release(&self.stats.cancelled),
            _ => self.gate.complete(),
        };
        self.emitter.moved(IN_FLIGHT);
        if attended {
            // The slot may have gone to the first in the queue.
            self.emitter.moved(QUEUE_DEPTH);
        }
    }

    fn release(&self, count: &AtomicU64) -> bool {
        count.fetch_add(1, Relaxed);
        self.gate.release()
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
            self.emitter.moved(IN_FLIGHT);
            self.emitter.moved(QUEUE_DEPTH);
            self.emitter.deliver();
        }
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

    pub(crate) fn poll_drained(&self, parked: &mut Option<Parked>, waker: &Waker) -> bool {
        self.gate.poll_drained(parked, waker)
    }

    pub(crate) fn forget_drainer(&self, parked: Parked) {
        self.gate.forget_drainer(parked);
    }
}

impl Ends for Shared {
    /// When it began, if that is to be known.
    type Ticket = Option<Instant>;
    type End = Outcome;

    #[inline]
    fn end(&self, since: Option<Instant>, outcome: Outcome) {
        let elapsed = since.map(|since| self.took(since, outcome));
        self.give_back(outcome);
        self.emitter.done(outcome, outcome.as_str(), elapsed, false, 1, None);
    }
}

impl Shared {
    fn took(&self, since: Instant, outcome: Outcome) -> Duration {
        let elapsed = Instant::now().saturating_duration_since(since);
        if outcome == Outcome::Success {
            self.stats.took(elapsed);
        }
        elapsed
    }
}

impl Levels for Shared {
    fn level(&self, number: u32) -> Option<Level> {
        let level = |what: Word, value: u32| Some(Level::new(what, f64::from(value)));
        match number {
            LIMIT => level(words::LIMIT, self.gate.limit()),
            IN_FLIGHT => level(words::IN_FLIGHT, self.gate.in_flight()),
            QUEUE_DEPTH => level(words::QUEUE_DEPTH, self.gate.status().queued),
            _ => None,
        }
    }
}

impl Handle for Bulkhead {
    fn pattern() -> Kind {
        &KIND
    }

    fn kind(&self) -> Kind {
        &KIND
    }

    fn name(&self) -> &Name {
        self.name()
    }

    fn snapshot_data(&self) -> Data<'_> {
        Box::new(self.snapshot())
    }

    fn config_data(&self) -> Data<'_> {
        Box::new(self.config())
    }

    /// Down once closed, degraded while a call made now would be refused.
    fn health(&self) -> Health {
        match (self.is_closed(), self.can_accept()) {
            (true, _) => Health::Down,
            (false, false) => Health::Degraded,
            (false, true) => Health::Up,
        }
    }

    fn reset(&self) {
        self.reset();
    }

    fn events(&self) -> Events {
        self.events()
    }

    fn prepare(&self, patch: Patch<'_, '_>) -> Result<Prepared<'_>, ConfigError> {
        self.shared.settings.prepare(patch, |_, next| self.shared.take(next), || self.shared.settle())
    }
}

impl fmt::Debug for Bulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gate = &self.shared.gate;
        f.debug_struct("Bulkhead")
            .field("name", self.name())
            .field("active", &gate.in_flight())
            .field("limit", &gate.limit())
            .finish_non_exhaustive()
    }
}
