use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant as StdInstant},
};

use buttress_core::{ConfigError, Name, Note, Outcome, Rejection, context};
use buttress_kit::{
    Emitter, Events, Handle, Live, Prepared,
    call::{Begun, Ends, Entered, begin},
    handle::Patch,
};
use serde::Serialize;
use tokio::time::Instant;

use crate::{KIND, TIMEOUT, TimeoutBuilder, TimeoutConfig, deadline::Deadline};

/// A timeout: engine and handle in one. Clones share limit, counts and listeners.
#[derive(Clone)]
pub struct Timeout {
    pub(crate) shared: Arc<Shared>,
}

/// What handles and calls share.
pub(crate) struct Shared {
    emitter: Emitter,
    settings: Live<TimeoutConfig>,
    /// What calls read of the settings. Saturates at 584 years; such a limit never ends a call.
    limit_ns: AtomicU64,
    propagate: AtomicBool,
    failures: AtomicU64,
    timeouts: AtomicU64,
    cancelled: AtomicU64,
    refused: AtomicU64,
}

/// What became of the calls that did not succeed. Successes are told to observers and not counted here: a shared
/// count would be the dearest part of a call that is in time, and the more so the more threads make calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
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
    /// Starts a timeout. `name` names it in rejections, metrics and logs.
    pub fn builder(name: impl Into<Name>) -> TimeoutBuilder {
        TimeoutBuilder::new(name)
    }

    /// Makes a timeout from settings.
    ///
    /// # Errors
    /// Names the policy, the setting that cannot work, its value, and why.
    pub fn new(name: impl Into<Name>, config: TimeoutConfig) -> Result<Self, ConfigError> {
        Self::builder(name).config(config).build()
    }

    /// The name.
    pub fn name(&self) -> &Name {
        self.shared.emitter.name()
    }

    /// The settings in force.
    pub fn config(&self) -> TimeoutConfig {
        self.shared.settings.get()
    }

    /// Changes the settings, for calls made from now on.
    ///
    /// # Errors
    /// Names the policy, the setting that cannot work, its value, and why; nothing changes then.
    pub fn reconfigure(&self, config: TimeoutConfig) -> Result<(), ConfigError> {
        self.update(|now| *now = config)
    }

    /// Changes some settings: of two changes at once both count. `change` runs with the settings locked, so it must not
    /// use this handle.
    ///
    /// # Errors
    /// As [`reconfigure`](Self::reconfigure).
    pub fn update(&self, change: impl FnOnce(&mut TimeoutConfig)) -> Result<(), ConfigError> {
        self.shared.settings.change(change, |_, next| self.shared.take(next))
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

    /// Sets all counts to zero.
    pub fn reset(&self) {
        let Shared { failures, timeouts, cancelled, refused, emitter, .. } = &*self.shared;
        for count in [failures, timeouts, cancelled, refused] {
            count.store(0, Relaxed);
        }
        emitter.note(Note::new(Note::RESET));
    }

    /// Owned copies of this policy's refusals and resets, from now on.
    pub fn events(&self) -> Events {
        self.shared.emitter.events()
    }

    /// Starts the clock of one call. Without a ticket it is refused, which is told, because the deadline from outside
    /// has passed.
    #[inline]
    pub(crate) fn admit(&self, limit: Option<Duration>) -> (Option<Begun<StdInstant>>, Deadline) {
        let shared = &*self.shared;
        // Relaxed, here and in `take`: the two settings stand for themselves.
        let limit = limit.unwrap_or_else(|| Duration::from_nanos(shared.limit_ns.load(Relaxed)));
        let now = Instant::now().into_std();
        let mut deadline = Deadline::new(now, limit, shared.propagate.load(Relaxed));
        if deadline.obey(context::deadline) && deadline.has_passed(now) {
            shared.refuse();
            return (None, deadline);
        }
        (Some(begin(now)), deadline)
    }

    /// Runs the inner `call`, in the context that carries the deadline.
    #[inline]
    pub(crate) fn enter<F>(
        &self,
        begun: Begun<StdInstant>,
        deadline: &Deadline,
        inner: impl FnOnce() -> F,
    ) -> (F, Entered<StdInstant>) {
        let entering = begun.entering(&*self.shared);
        let shown = deadline.show();
        let call = inner();
        drop(shown);
        (call, entering.entered())
    }
}

impl TimeoutBuilder {
    /// Makes the timeout.
    ///
    /// # Errors
    /// Names the policy, the setting that cannot work, its value, and why.
    pub fn build(self) -> Result<Timeout, ConfigError> {
        let (config, emitter) = self.parts.checked(&KIND)?;
        let shared = Shared {
            limit_ns: AtomicU64::new(nanos(config.limit)),
            propagate: AtomicBool::new(config.propagate),
            settings: Live::new(config, emitter.clone()),
            emitter,
            failures: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        };
        Ok(Timeout { shared: Arc::new(shared) })
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeoutEnd {
    outcome: Outcome,
    /// When, if that is known: of a call that timed out.
    at: Option<StdInstant>,
}

impl TimeoutEnd {
    pub(crate) fn timed_out(at: StdInstant) -> Self {
        Self { outcome: Outcome::TimedOut, at: Some(at) }
    }
}

impl From<Outcome> for TimeoutEnd {
    #[inline]
    fn from(outcome: Outcome) -> Self {
        Self { outcome, at: None }
    }
}

impl Ends for Shared {
    /// When it began.
    type Ticket = StdInstant;
    type End = TimeoutEnd;

    #[inline]
    fn end(&self, started: &StdInstant, end: TimeoutEnd) {
        if end.outcome != Outcome::Success || self.emitter.is_on() {
            self.settle(*started, end);
        }
    }
}

impl Shared {
    /// Copies out what calls read. Only with the lock of the settings held.
    fn take(&self, config: &TimeoutConfig) {
        self.limit_ns.store(nanos(config.limit), Relaxed);
        self.propagate.store(config.propagate, Relaxed);
    }

    /// Counts and tells the end of a call.
    fn settle(&self, started: StdInstant, end: TimeoutEnd) {
        let TimeoutEnd { outcome, at } = end;
        let count = match outcome {
            Outcome::Success => None,
            Outcome::TimedOut => Some(&self.timeouts),
            Outcome::Cancelled => Some(&self.cancelled),
            _ => Some(&self.failures),
        };
        if let Some(count) = count {
            count.fetch_add(1, Relaxed);
        }
        let now = || self.emitter.is_timed().then(|| Instant::now().into_std());
        let elapsed = at.or_else(now).map(|ended| ended.saturating_duration_since(started));
        self.emitter.done(outcome, outcome.as_str(), elapsed, false, 1, None);
    }

    /// Counts and tells the refusal of a call that was too late before it began.
    fn refuse(&self) {
        self.refused.fetch_add(1, Relaxed);
        self.emitter.refused(&self.refusal(), false);
    }

    /// Why a call was refused.
    pub(crate) fn refusal(&self) -> Rejection {
        Rejection::timed_out(TIMEOUT, self.emitter.name(), Duration::ZERO, Duration::ZERO).with_sent(false)
    }

    /// Why a call was ended that had begun at `started`.
    pub(crate) fn timed_out(&self, started: StdInstant, at: StdInstant, now: StdInstant) -> Rejection {
        let (limit, elapsed) =
            (at.saturating_duration_since(started), now.saturating_duration_since(started));
        Rejection::timed_out(TIMEOUT, self.emitter.name(), limit, elapsed)
    }
}

impl Handle for Timeout {
    buttress_kit::handle_methods!(&KIND);

    fn prepare(&self, patch: Patch<'_, '_>) -> Result<Prepared<'_>, ConfigError> {
        self.shared.settings.prepare(patch, |_, next| self.shared.take(next), || ())
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
