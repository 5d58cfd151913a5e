use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{
    ConfigError, Emitter, Event, Name, Outcome, PolicyKind, Rejection, RejectionKind, Standard,
    observe::{Events, Level, Levels, Note},
};
use buttress_kit::CallOnce;
use tokio::time::Instant;

use crate::{
    Acquire, BulkheadBuilder, BulkheadConfig, BulkheadFuture, BulkheadLayer, BulkheadService, Drain, Permit,
    config::check_limit,
    gate::{Gate, Standing},
    lease::Lease,
    stats::Stats,
};

/// A bulkhead: engine and handle in one. Clones share it; keep one to watch and steer it.
#[derive(Clone)]
pub struct Bulkhead {
    // Behind the handle, not in the services: axum builds those again for every connection.
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) gate: Gate,
    pub(crate) stats: Stats,
    pub(crate) emitter: Emitter,
    /// Beside the settings in the gate, which are behind a lock.
    timed: AtomicBool,
}

impl Bulkhead {
    /// Makes a bulkhead. `name` names it in rejections, metrics and logs.
    ///
    /// # Errors
    /// Where the settings cannot work: [`BulkheadConfig::validate`].
    pub fn new(name: impl Into<Name>, config: BulkheadConfig) -> Result<Self, ConfigError> {
        Self::builder(name).config(config).build()
    }

    /// Begins with the default settings.
    pub fn builder(name: impl Into<Name>) -> BulkheadBuilder {
        BulkheadBuilder::new(name.into())
    }

    pub(crate) fn with(name: Name, config: BulkheadConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let shared = Arc::new(Shared {
            timed: AtomicBool::new(config.timed),
            gate: Gate::new(config),
            stats: Stats::new(),
            emitter: Emitter::new(PolicyKind::Bulkhead, name),
        });
        let levels: Weak<Shared> = Arc::downgrade(&shared);
        shared.emitter.set_levels(levels);
        Ok(Self { shared })
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.shared.emitter.name()
    }

    /// The settings in force.
    pub fn config(&self) -> BulkheadConfig {
        self.shared.gate.config()
    }

    /// A layer that puts this bulkhead before every service it wraps; all of them share its slots.
    pub fn layer(&self) -> BulkheadLayer {
        BulkheadLayer::new(self.clone())
    }

    /// Puts this policy around one service: `layer()` applied to it.
    pub fn wrap<S>(&self, inner: S) -> BulkheadService<S> {
        tower_layer::Layer::layer(&self.layer(), inner)
    }

    /// Runs `f` once a slot is free: for calls that are no [`Service`](tower_service::Service).
    ///
    /// # Errors
    /// Those of the call, and rejections: see [the crate](crate#refusals).
    ///
    /// # Cancellation
    /// Dropping the future gives up the slot or the place in the line. Until it is polled, it has neither.
    pub fn call<F, Fut, T, E>(&self, f: F) -> BulkheadFuture<CallOnce<F>, ()>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        BulkheadFuture::new(CallOnce::new(f), (), Lease::new(self.clone()), Standard)
    }

    /// Takes a slot if one is free and nobody waits for it.
    ///
    /// # Errors
    /// `BULKHEAD_QUEUE_FULL`, or `BULKHEAD_CLOSED`. Either counts as rejected.
    pub fn try_acquire(&self) -> Result<Permit, Rejection> {
        let mut lease = Lease::new(self.clone());
        lease.try_take()?;
        Ok(Permit::new(lease))
    }

    /// Takes a slot, waiting for its turn as a call does: for work whose begin and end are in different places.
    ///
    /// # Errors
    /// See [the crate](crate#refusals).
    ///
    /// # Cancellation
    /// Dropping the future gives up the place in the line. Until it is polled, it has none.
    pub fn acquire(&self) -> Acquire {
        Acquire::new(Lease::new(self.clone()))
    }

    /// Whether a call made now would run or wait, as opposed to be refused.
    pub fn can_accept(&self) -> bool {
        let Standing { in_flight, limit, queued, max_queue, closed } = self.shared.gate.standing();
        !closed && (in_flight < limit && queued == 0 || queued < max_queue)
    }

    /// What it is doing and has done.
    pub fn snapshot(&self) -> BulkheadSnapshot {
        let Shared { gate, stats, .. } = &*self.shared;
        let Standing { in_flight, limit, queued, max_queue, closed } = gate.standing();
        BulkheadSnapshot {
            active: in_flight,
            queued,
            available: limit.saturating_sub(in_flight),
            queue_available: max_queue.saturating_sub(queued),
            limit,
            max_queue,
            peak: gate.peak(),
            completed: gate.completed().saturating_sub(stats.completed_before.load(Relaxed)),
            failed: stats.failed.load(Relaxed),
            cancelled: stats.cancelled.load(Relaxed),
            rejected: stats.rejected.load(Relaxed),
            would_reject: stats.would_reject.load(Relaxed),
            queue_timeouts: stats.queue_timeouts.load(Relaxed),
            cleared: stats.cleared.load(Relaxed),
            average_execution: stats.average(),
            closed,
        }
    }

    /// Changes the most calls that run at once, from now on.
    ///
    /// Fewer: no call is cancelled; none is let in until fewer than `limit` run. More: as many of those who wait
    /// are let in, in order, as there is room for now.
    ///
    /// # Errors
    /// With 0, and above 16 777 215.
    pub fn set_limit(&self, limit: u32) -> Result<(), ConfigError> {
        check_limit(limit)?;
        self.shared.gate.reconfigure(|config| config.max_concurrent = limit);
        self.shared.tell_limit();
        Ok(())
    }

    /// Puts new settings in force. Who waits already keeps its place and its time-out.
    ///
    /// # Errors
    /// Where the settings cannot work; then the old ones stay.
    pub fn reconfigure(&self, config: BulkheadConfig) -> Result<(), ConfigError> {
        config.validate()?;
        self.shared.timed.store(config.timed, Relaxed);
        self.shared.gate.reconfigure(|old| *old = config);
        self.shared.tell(|| Event::Note(Note::Reconfigured));
        self.shared.tell_limit();
        Ok(())
    }

    /// Sends all away that wait, with `BULKHEAD_QUEUE_CLEARED`; how many. Running calls go on.
    pub fn clear_queue(&self) -> usize {
        let count = self.shared.gate.clear();
        self.shared.stats.cleared.fetch_add(count as u64, Relaxed);
        self.shared.tell(|| Event::Note(Note::QueueCleared(count as u64)));
        self.shared.tell_queue_depth();
        count
    }

    /// Sets all counters back to 0, the peak to the calls that run, and forgets the execution times.
    pub fn reset_metrics(&self) {
        self.shared.stats.reset(self.shared.gate.completed());
        self.shared.gate.reset_peak();
        self.shared.tell(|| Event::Note(Note::Reset));
    }

    /// Refuses every further call, and all that wait, with `BULKHEAD_CLOSED`, for good. Running calls go on.
    pub fn close(&self) {
        self.shared.gate.close();
        self.shared.tell_queue_depth();
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.shared.gate.is_closed()
    }

    /// Waits for a moment at which no call runs and none waits. To get there under steady load,
    /// [`close`](Self::close) first.
    ///
    /// # Cancellation
    /// Dropping the future changes nothing for anybody else.
    pub fn drain(&self) -> Drain {
        Drain::new(self.clone())
    }

    /// Owned copies of refusals and resets, from now on.
    pub fn events(&self) -> Events {
        self.shared.emitter.events()
    }
}

impl Shared {
    /// The time, where somebody wants to know how long calls take.
    #[inline]
    pub(crate) fn start(&self) -> Option<Instant> {
        (self.timed.load(Relaxed) || self.emitter.is_timed()).then(Instant::now)
    }

    #[inline]
    pub(crate) fn tell<'a>(&self, event: impl FnOnce() -> Event<'a>) {
        if self.emitter.is_on() {
            self.emitter.emit(event());
        }
    }

    #[cold]
    pub(crate) fn tell_admitted(&self) {
        self.emitter.emit(Event::Note(Note::Admitted));
        self.tell_in_flight();
    }

    /// Counts the end of a call and gives its slot back.
    #[inline]
    pub(crate) fn end(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Failure | Outcome::Panicked => &self.stats.failed,
            Outcome::Cancelled => &self.stats.cancelled,
            _ => return self.gate.complete(),
        };
        counter.fetch_add(1, Relaxed);
        self.gate.release();
    }

    /// Where somebody listens, or times are taken.
    #[cold]
    pub(crate) fn end_and_tell(&self, outcome: Outcome, since: Option<Instant>) {
        let elapsed = since.map(|since| Instant::now().saturating_duration_since(since));
        if let (Outcome::Success, Some(elapsed)) = (outcome, elapsed) {
            self.stats.took(elapsed);
        }
        self.end(outcome);
        if self.emitter.is_on() {
            self.emitter.emit(Event::Done { outcome, elapsed, slow: false, attempts: 1, error: None });
            self.tell_in_flight();
        }
    }

    pub(crate) fn tell_queued(&self) {
        if self.emitter.is_on() {
            self.emitter.emit(Event::Note(Note::Queued));
            self.tell_queue_depth();
        }
    }

    pub(crate) fn tell_wait_ended(&self, since: Instant) {
        if self.emitter.is_on() {
            let waited = Instant::now().saturating_duration_since(since);
            self.emitter.emit(Event::Note(Note::QueueWait(waited)));
            self.tell_queue_depth();
        }
    }

    fn tell_in_flight(&self) {
        self.tell_level(Level::InFlight, || self.gate.in_flight());
    }

    fn tell_queue_depth(&self) {
        self.tell_level(Level::QueueDepth, || self.gate.standing().queued);
    }

    fn tell_limit(&self) {
        self.tell_level(Level::Limit, || self.gate.limit());
    }

    /// Tells a level, and again if it has changed meanwhile: of two threads that tell at once the one that read
    /// first may be heard last. So the last value told is the last value.
    fn tell_level(&self, what: Level, read: impl Fn() -> u32) {
        if !self.emitter.is_on() {
            return;
        }
        let mut value = read();
        loop {
            self.emitter.emit(level(what, f64::from(value)));
            let told = std::mem::replace(&mut value, read());
            if told == value {
                return;
            }
        }
    }

    /// Makes, counts and tells a refusal.
    #[cold]
    pub(crate) fn refuse(&self, kind: RejectionKind) -> Rejection {
        let rejection = Rejection::new(kind, self.emitter.name());
        match kind {
            RejectionKind::BulkheadQueueTimeout => self.stats.queue_timeouts.fetch_add(1, Relaxed),
            // Counted where the line was cleared.
            RejectionKind::BulkheadQueueCleared => 0,
            _ => self.stats.rejected.fetch_add(1, Relaxed),
        };
        self.tell(|| Event::Refused { rejection: &rejection, shadow: false });
        rejection
    }

    /// Counts and tells what would have been a refusal, in shadow mode.
    #[cold]
    pub(crate) fn would_refuse(&self) {
        self.stats.would_reject.fetch_add(1, Relaxed);
        let rejection = Rejection::new(RejectionKind::BulkheadQueueFull, self.emitter.name());
        self.tell(|| Event::Refused { rejection: &rejection, shadow: true });
    }
}

fn level(what: Level, value: f64) -> Event<'static> {
    Event::Level { what, value }
}

impl Levels for Shared {
    fn levels(&self, tell: &mut dyn FnMut(Event<'_>)) {
        let Standing { in_flight, limit, queued, .. } = self.gate.standing();
        tell(level(Level::Limit, f64::from(limit)));
        tell(level(Level::InFlight, f64::from(in_flight)));
        tell(level(Level::QueueDepth, f64::from(queued)));
    }
}

impl fmt::Debug for Bulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gate = &self.shared.gate;
        f.debug_struct("Bulkhead")
            .field("name", &self.name())
            .field("active", &gate.in_flight())
            .field("limit", &gate.limit())
            .finish_non_exhaustive()
    }
}

/// What a [`Bulkhead`] is doing and has done since it was made or its metrics were reset.
///
/// `active`, `queued`, `limit` and what is derived from them are of one moment; the counters are exact one by one.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BulkheadSnapshot {
    /// Calls that run.
    pub active: u32,
    /// Calls that wait.
    pub queued: u32,
    /// Free slots; 0 while more run than a lowered limit allows.
    pub available: u32,
    /// Free places in the line.
    pub queue_available: u32,
    /// The most calls that may run at once.
    pub limit: u32,
    /// The most calls that may wait.
    pub max_queue: u32,
    /// The most calls that ran at once.
    pub peak: u32,
    /// Calls that ran to their end and did not fail.
    pub completed: u64,
    /// Calls that failed or panicked.
    pub failed: u64,
    /// Calls that their callers dropped, running or waiting.
    pub cancelled: u64,
    /// Calls refused at once: the line was full, or the bulkhead closed.
    pub rejected: u64,
    /// Calls that would have been refused, in shadow mode.
    pub would_reject: u64,
    /// Calls refused because they waited for too long.
    pub queue_timeouts: u64,
    /// Calls sent away by [`Bulkhead::clear_queue`].
    pub cleared: u64,
    /// The mean time of the last 100 successful calls, the wait not included; `None` where no time was taken.
    pub average_execution: Option<Duration>,
    /// Whether the bulkhead was closed.
    pub closed: bool,
}

impl BulkheadSnapshot {
    /// Running calls in percent of the slots: `active / (active + available) * 100`, so `0.0..=100.0`.
    pub fn utilization(&self) -> f64 {
        let slots = u64::from(self.active) + u64::from(self.available);
        if slots == 0 { 0.0 } else { f64::from(self.active) / slots as f64 * 100.0 }
    }

    /// Whether the line is filled by 80 % or more. Never, where there is none.
    pub fn is_congested(&self) -> bool {
        self.max_queue > 0 && u64::from(self.queued) * 5 >= u64::from(self.max_queue) * 4
    }
}
