use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{
    CallContext, ConfigError, Event, FromRejection, Name, Outcome, Rejection, RejectionKind, context,
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
    successes: AtomicU64,
    failures: AtomicU64,
    timeouts: AtomicU64,
    cancelled: AtomicU64,
    refused: AtomicU64,
}

/// What became of the calls so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimeoutSnapshot {
    /// Calls that were passed on and ended, in any way.
    pub calls: u64,
    /// Calls that ended in time, with `Ok`.
    pub successes: u64,
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
            successes: AtomicU64::new(0),
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
    pub fn call<O, F, T, E>(&self, op: O) -> TimeoutFuture<F>
    where
        O: FnOnce() -> F,
        F: Future<Output = Result<T, E>>,
        E: FromRejection,
    {
        self.run(None, op)
    }

    /// The same with a limit for this call only. A limit of zero polls once.
    pub fn call_within<O, F, T, E>(&self, limit: Duration, op: O) -> TimeoutFuture<F>
    where
        O: FnOnce() -> F,
        F: Future<Output = Result<T, E>>,
        E: FromRejection,
    {
        self.run(Some(limit), op)
    }

    fn run<O: FnOnce() -> F, F>(&self, limit: Option<Duration>, op: O) -> TimeoutFuture<F> {
        match self.admit(limit) {
            Ok(mut flight) => {
                let call = flight.run(op);
                TimeoutFuture::admitted(call, flight, Refuse)
            }
            Err(why) => TimeoutFuture::refused(why, Refuse),
        }
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

    /// What became of the calls so far.
    pub fn snapshot(&self) -> TimeoutSnapshot {
        let read = |count: &AtomicU64| count.load(Relaxed);
        let shared = &*self.shared;
        let (successes, failures) = (read(&shared.successes), read(&shared.failures));
        let (timeouts, cancelled) = (read(&shared.timeouts), read(&shared.cancelled));
        let calls = successes.saturating_add(failures).saturating_add(timeouts).saturating_add(cancelled);
        TimeoutSnapshot { calls, successes, failures, timeouts, cancelled, refused: read(&shared.refused) }
    }

    /// Owned copies of this policy's refusals, from now on.
    pub fn events(&self) -> Events {
        self.shared.emitter.events()
    }

    /// Starts the clock of one call, or refuses it because its deadline has passed already.
    pub(crate) fn admit(&self, limit: Option<Duration>) -> Result<Flight, Rejection> {
        let shared = &*self.shared;
        // Relaxed, here and in `reconfigure`: the two settings stand for themselves.
        let limit = limit.unwrap_or_else(|| Duration::from_nanos(shared.limit_ns.load(Relaxed)));
        let propagate = shared.propagate.load(Relaxed);
        let started = Instant::now();
        // `None`: further away than clocks reach, so never.
        let mut deadline = started.checked_add(limit);
        if propagate {
            if let Some(outer) = context::current().deadline.map(Instant::from_std) {
                if outer <= started {
                    return Err(self.refuse());
                }
                deadline = earlier(deadline, outer);
            }
        }
        let timeout = self.clone();
        Ok(Flight {
            timeout,
            started,
            deadline,
            propagate,
            busy: false,
            outcome: Outcome::Cancelled,
            elapsed: None,
        })
    }

    #[cold]
    fn refuse(&self) -> Rejection {
        let shared = &*self.shared;
        shared.refused.fetch_add(1, Relaxed);
        let why = Rejection::timed_out(RejectionKind::Timeout, self.name(), Duration::ZERO, Duration::ZERO)
            .with_sent(false);
        if shared.emitter.is_on() {
            shared.emitter.emit(Event::Refused { rejection: &why, shadow: false });
        }
        why
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

fn earlier(deadline: Option<Instant>, outer: Instant) -> Option<Instant> {
    Some(deadline.map_or(outer, |own| own.min(outer)))
}

/// One admitted call, from `call` to its end. Told and counted once, when it is dropped: `Cancelled` or
/// `Panicked` unless it was settled before.
#[derive(Debug)]
pub(crate) struct Flight {
    timeout: Timeout,
    started: Instant,
    deadline: Option<Instant>,
    propagate: bool,
    /// Set while foreign code runs: still set on drop, it panicked.
    busy: bool,
    outcome: Outcome,
    elapsed: Option<Duration>,
}

impl Flight {
    /// Runs the inner `call` or `poll`, in the context that carries the deadline.
    #[inline]
    pub(crate) fn run<T>(&mut self, inner: impl FnOnce() -> T) -> T {
        self.busy = true;
        let _entered = match self.deadline {
            Some(deadline) if self.propagate => Some(context::enter(self.context(deadline))),
            _ => None,
        };
        let out = inner();
        self.busy = false;
        out
    }

    /// Taken at every poll anew: a future may be polled in another context than it was made in.
    #[inline]
    fn context(&self, deadline: Instant) -> CallContext {
        context::current().until(deadline.into_std())
    }

    /// The deadline for the timer; asks the context of the poll too, which may be another one than that of the
    /// call.
    pub(crate) fn deadline(&mut self) -> Option<Instant> {
        if self.propagate {
            if let Some(outer) = context::current().deadline {
                self.deadline = earlier(self.deadline, Instant::from_std(outer));
            }
        }
        self.deadline
    }

    /// Settles a call that finished.
    #[inline]
    pub(crate) fn finished(&mut self, ok: bool) {
        self.outcome = if ok { Outcome::Success } else { Outcome::Failure };
    }

    /// Settles a call at its limit.
    pub(crate) fn timed_out(&mut self, deadline: Instant, now: Instant) -> Rejection {
        let elapsed = now.saturating_duration_since(self.started);
        let limit = deadline.saturating_duration_since(self.started);
        self.outcome = Outcome::TimedOut;
        self.elapsed = Some(elapsed);
        Rejection::timed_out(RejectionKind::Timeout, self.timeout.name(), limit, elapsed)
    }

    #[cold]
    fn tell(&self) {
        let emitter = &self.timeout.shared.emitter;
        let elapsed = match self.elapsed {
            None if emitter.is_timed() => Some(Instant::now().saturating_duration_since(self.started)),
            known => known,
        };
        emitter.emit(Event::Done { outcome: self.outcome, elapsed, slow: false, attempts: 1 });
    }
}

impl Drop for Flight {
    #[inline]
    fn drop(&mut self) {
        if self.busy {
            self.outcome = Outcome::Panicked;
        }
        let shared = &*self.timeout.shared;
        let count = match self.outcome {
            Outcome::Success => &shared.successes,
            Outcome::TimedOut => &shared.timeouts,
            Outcome::Cancelled => &shared.cancelled,
            _ => &shared.failures,
        };
        count.fetch_add(1, Relaxed);
        if shared.emitter.is_on() {
            self.tell();
        }
    }
}
