use std::{
    fmt, mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant as StdInstant},
};

use buttress_core::{
    ConfigError, Event, FromRejection, Name, Outcome, Rejection, RejectionKind, context,
    observe::{Emitter, Events, Note},
};
use tokio::time::Instant;

use crate::{Refuse, TimeoutBuilder, TimeoutConfig, TimeoutFuture, TimeoutLayer, TimeoutService};

/// A time-out: engine and handle in one. Clones share limit, counts and listeners.
#[derive(Clone)]
pub struct Timeout {
    shared: Arc<Shared>,
}

struct Shared {
    emitter: Emitter,
    /// Saturates at 584 years; such a limit never ends a call.
    limit_ns: AtomicU64,
    propagate: AtomicBool,
    /// The settings as given; calls read the two atomics above.
    config: Mutex<TimeoutConfig>,
    failures: AtomicU64,
    timeouts: AtomicU64,
    cancelled: AtomicU64,
    refused: AtomicU64,
}

/// What became of the calls that did not succeed. Successes are told to observers and not counted here: a shared
/// count would be the dearest part of a call that is in time, and the more so the more threads make calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimeoutSnapshot {
    /// Calls that ended in time, with an error or a panic.
    pub failures: u64,
    /// Calls ended at the limit.
    pub timeouts: u64,
    /// Calls whose future was dropped by the caller.
    pub cancelled: u64,
    /// Calls not passed on, because a deadline from outside had passed.
    pub refused: u64,
}

impl Timeout {
    /// Starts a time-out. `name` names it in rejections, metrics and logs.
    pub fn builder(name: impl Into<Name>) -> TimeoutBuilder {
        TimeoutBuilder::new(name.into())
    }

    /// Makes a time-out from settings.
    ///
    /// # Errors
    /// Names the setting that cannot work, its value, and why.
    pub fn new(name: impl Into<Name>, config: TimeoutConfig) -> Result<Self, ConfigError> {
        Self::builder(name).config(config).build()
    }

    /// `config` has been validated.
    pub(crate) fn of(config: TimeoutConfig, emitter: Emitter) -> Self {
        let shared = Shared {
            emitter,
            limit_ns: AtomicU64::new(nanos(config.limit)),
            propagate: AtomicBool::new(config.propagate),
            config: Mutex::new(config),
            failures: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A layer that puts this time-out around every service it wraps.
    pub fn layer(&self) -> TimeoutLayer {
        TimeoutLayer::new(self.clone())
    }

    /// Puts this policy around one service: `layer()` applied to it.
    pub fn wrap<S>(&self, inner: S) -> TimeoutService<S> {
        tower_layer::Layer::layer(&self.layer(), inner)
    }

    /// Runs `op` within the limit: for what cannot be a service. The time starts now.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use buttress_core::BoxError;
    /// use buttress_timeout::Timeout;
    ///
    /// let timeout = Timeout::builder("query").build()?;
    /// let rows = timeout.call(|| async { Ok::<_, BoxError>(3) }).await;
    /// assert_eq!(rows.unwrap(), 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancellation
    /// Dropping the future drops the operation.
    #[inline]
    pub fn call<O, F, T, E>(&self, op: O) -> TimeoutFuture<F>
    where
        O: FnOnce() -> F,
        F: Future<Output = Result<T, E>>,
        E: FromRejection,
    {
        self.run(None, op)
    }

    /// The same with a limit for this call only. Zero: only an answer that is there at once.
    pub fn call_within<O, F, T, E>(&self, limit: Duration, op: O) -> TimeoutFuture<F>
    where
        O: FnOnce() -> F,
        F: Future<Output = Result<T, E>>,
        E: FromRejection,
    {
        self.run(Some(limit), op)
    }

    #[inline(always)]
    fn run<O: FnOnce() -> F, F>(&self, limit: Option<Duration>, op: O) -> TimeoutFuture<F> {
        let begun = self.begin(limit);
        if begun.too_late {
            self.refuse();
            return TimeoutFuture::refused(Flight::refused(self, begun), Refuse);
        }
        let call = begun.run(self, op);
        TimeoutFuture::admitted(call, Flight::new(self, begun), Refuse)
    }

    /// The name.
    pub fn name(&self) -> &Name {
        self.shared.emitter.name()
    }

    /// The settings in force.
    pub fn config(&self) -> TimeoutConfig {
        self.shared.config.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the settings, for calls made from now on.
    ///
    /// # Errors
    /// Names the setting that cannot work, its value, and why; nothing changes then.
    pub fn reconfigure(&self, config: TimeoutConfig) -> Result<(), ConfigError> {
        config.validate()?;
        let mut stored = self.shared.config.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that `config()` and what calls obey cannot part for good.
        self.shared.limit_ns.store(nanos(config.limit), Relaxed);
        self.shared.propagate.store(config.propagate, Relaxed);
        *stored = config;
        drop(stored);
        if self.shared.emitter.is_on() {
            self.shared.emitter.emit(Event::Note(Note::Reconfigured));
        }
        Ok(())
    }

    /// What became of the calls that did not succeed, so far.
    pub fn snapshot(&self) -> TimeoutSnapshot {
        let shared = &*self.shared;
        TimeoutSnapshot {
            failures: shared.failures.load(Relaxed),
            timeouts: shared.timeouts.load(Relaxed),
            cancelled: shared.cancelled.load(Relaxed),
            refused: shared.refused.load(Relaxed),
        }
    }

    /// Owned copies of this policy's refusals, from now on.
    pub fn events(&self) -> Events {
        self.shared.emitter.events()
    }

    /// Starts the clock of one call.
    #[inline(always)]
    pub(crate) fn begin(&self, limit: Option<Duration>) -> Begun {
        let shared = &*self.shared;
        // Relaxed, here and in `reconfigure`: the two settings stand for themselves.
        let limit = limit.unwrap_or_else(|| Duration::from_nanos(shared.limit_ns.load(Relaxed)));
        let propagate = shared.propagate.load(Relaxed);
        let started = Instant::now().into_std();
        // `None`: further away than clocks reach, so never.
        let mut deadline = started.checked_add(limit);
        let mut too_late = false;
        if propagate {
            if let Some(outer) = context::deadline() {
                too_late = outer <= started;
                deadline = earlier(deadline, outer);
            }
        }
        Begun { started, deadline, propagate, too_late }
    }

    /// Counts and tells the end of a call; one that succeeded only where somebody listens.
    #[cold]
    fn settle(&self, outcome: Outcome, started: StdInstant, ended: Option<StdInstant>) {
        let shared = &*self.shared;
        let count = match outcome {
            Outcome::Success => None,
            Outcome::TimedOut => Some(&shared.timeouts),
            Outcome::Cancelled => Some(&shared.cancelled),
            _ => Some(&shared.failures),
        };
        if let Some(count) = count {
            count.fetch_add(1, Relaxed);
        }
        if shared.emitter.is_on() {
            let now = || shared.emitter.is_timed().then(|| Instant::now().into_std());
            let elapsed = ended.or_else(now).map(|ended| ended.saturating_duration_since(started));
            shared.emitter.emit(Event::Done { outcome, elapsed, slow: false, attempts: 1, error: None });
        }
    }

    /// Counts and tells the refusal of a call that was too late before it began.
    #[cold]
    pub(crate) fn refuse(&self) {
        let shared = &*self.shared;
        shared.refused.fetch_add(1, Relaxed);
        if shared.emitter.is_on() {
            shared.emitter.emit(Event::Refused { rejection: &self.refusal(), shadow: false });
        }
    }

    fn refusal(&self) -> Rejection {
        Rejection::timed_out(RejectionKind::Timeout, self.name(), Duration::ZERO, Duration::ZERO)
            .with_sent(false)
    }
}

impl fmt::Debug for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout").field("name", self.name()).field("config", &self.config()).finish()
    }
}

fn nanos(limit: Duration) -> u64 {
    u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX)
}

#[inline]
fn earlier(deadline: Option<StdInstant>, outer: StdInstant) -> Option<StdInstant> {
    match deadline {
        Some(own) if own < outer => deadline,
        _ => Some(outer),
    }
}

/// When an admitted call began and must end. Plain data, and not part of the future until the inner `call` has
/// returned: what `call` makes is then put where it stays, without a copy of a half-made future.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    started: StdInstant,
    deadline: Option<StdInstant>,
    propagate: bool,
    /// The deadline from outside had passed by then: to be refused.
    pub(crate) too_late: bool,
}

impl Begun {
    /// Runs the inner `call` in the context that carries the deadline.
    #[inline(always)]
    pub(crate) fn run<T>(&self, timeout: &Timeout, inner: impl FnOnce() -> T) -> T {
        let unless_returned = Unwound { timeout, started: self.started };
        let _entered = context::enter_deadline(self.deadline.filter(|_| self.propagate));
        let out = inner();
        mem::forget(unless_returned);
        out
    }
}

/// Settles a call whose inner `call` panicked.
struct Unwound<'a> {
    timeout: &'a Timeout,
    started: StdInstant,
}

impl Drop for Unwound<'_> {
    #[cold]
    fn drop(&mut self) {
        self.timeout.settle(Outcome::Panicked, self.started, None);
    }
}

/// One admitted call, from the return of the inner `call` to its end. Told and counted once, when it is dropped.
#[derive(Debug)]
pub(crate) struct Flight {
    timeout: Timeout,
    started: StdInstant,
    deadline: Option<StdInstant>,
    propagate: bool,
    /// What it is, should it be dropped now: `Cancelled` between polls, `Panicked` while foreign code runs.
    /// `None`: refused, which has been told.
    outcome: Option<Outcome>,
}

impl Flight {
    #[inline(always)]
    pub(crate) fn new(timeout: &Timeout, begun: Begun) -> Self {
        Self::with(timeout, begun, Some(Outcome::Cancelled))
    }

    #[inline(always)]
    pub(crate) fn refused(timeout: &Timeout, begun: Begun) -> Self {
        Self::with(timeout, begun, None)
    }

    #[inline(always)]
    fn with(timeout: &Timeout, begun: Begun, outcome: Option<Outcome>) -> Self {
        let Begun { started, deadline, propagate, .. } = begun;
        Self { timeout: timeout.clone(), started, deadline, propagate, outcome }
    }

    /// Why the call was refused, if it was.
    #[cold]
    pub(crate) fn refusal(&self) -> Option<Rejection> {
        if self.outcome.is_none() { Some(self.timeout.refusal()) } else { None }
    }

    /// Runs the inner `poll`, in the context that carries the deadline. The context is asked at every poll anew: a
    /// future may be polled in another one than it was made in.
    #[inline]
    pub(crate) fn run<T>(&mut self, inner: impl FnOnce() -> T) -> T {
        self.outcome = Some(Outcome::Panicked);
        let _entered = context::enter_deadline(self.deadline.filter(|_| self.propagate));
        let out = inner();
        self.outcome = Some(Outcome::Cancelled);
        out
    }

    /// The deadline for the timer; asks the context of the poll too, which may be another one than that of the
    /// call.
    #[inline]
    pub(crate) fn deadline(&mut self) -> Option<Instant> {
        if self.propagate {
            if let Some(outer) = context::deadline() {
                self.deadline = earlier(self.deadline, outer);
            }
        }
        self.deadline.map(Instant::from_std)
    }

    /// Settles a call that succeeded.
    #[inline]
    pub(crate) fn succeeded(&mut self) {
        self.outcome = Some(Outcome::Success);
    }

    /// Settles a call that failed. A time-out inside obeys this one's deadline, as the line of a bulkhead does, and
    /// notices it first: what is up then is this one's time, and it is this one that answers.
    #[cold]
    pub(crate) fn failed(&mut self, inner: Option<&Rejection>) -> Option<Rejection> {
        self.outcome = Some(Outcome::Failure);
        let inner = inner.filter(|_| self.propagate)?;
        let sent = match inner.kind() {
            RejectionKind::Timeout => true,
            // A call that only waited for its turn is nothing to hold against the service.
            RejectionKind::BulkheadQueueTimeout => inner.was_sent(),
            _ => return None,
        };
        let (deadline, now) = (self.deadline()?, Instant::now());
        (now >= deadline).then(|| self.timed_out(deadline, now).with_sent(sent))
    }

    /// Counts and tells the end of the call.
    #[cold]
    #[inline(never)]
    fn tell(&self) {
        if let Some(outcome) = self.outcome {
            // Of a call that timed out the end is known, see `timed_out`.
            let ended = if outcome == Outcome::TimedOut { self.deadline } else { None };
            self.timeout.settle(outcome, self.started, ended);
        }
    }

    /// Settles a call at its limit.
    #[cold]
    pub(crate) fn timed_out(&mut self, deadline: Instant, now: Instant) -> Rejection {
        let started = Instant::from_std(self.started);
        let elapsed = now.saturating_duration_since(started);
        let limit = deadline.saturating_duration_since(started);
        self.outcome = Some(Outcome::TimedOut);
        // From here on it is when the call did end: see `drop`.
        self.deadline = Some(now.into_std());
        Rejection::timed_out(RejectionKind::Timeout, self.timeout.name(), limit, elapsed)
    }
}

impl Drop for Flight {
    // Not more than the one question here: then it is asked where the answer is known already.
    #[inline(always)]
    fn drop(&mut self) {
        if self.outcome != Some(Outcome::Success) || self.timeout.shared.emitter.is_on() {
            self.tell();
        }
    }
}
