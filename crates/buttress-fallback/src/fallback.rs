use std::{
    error::Error as StdError,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{ConfigError, Event, Name, Note, Outcome, Value, Word};
use buttress_kit::{Emitter, Events, Handle, Live, Prepared, handle::Patch};
use serde::Serialize;
use tokio::time::Instant;

use crate::{FallbackBuilder, FallbackConfig, KIND, words};

/// A fallback: engine and handle in one. Clones share settings, counts and listeners.
///
/// The answers themselves belong to the layer, see [`FallbackLayer`](crate::FallbackLayer).
#[derive(Clone)]
pub struct Fallback {
    shared: Arc<Shared>,
}

struct Shared {
    emitter: Emitter,
    settings: Live<FallbackConfig>,
    /// What calls read of the settings. Saturates at 584 years, as good as for ever.
    max_age_ns: AtomicU64,
    max_keys: AtomicUsize,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    failed: AtomicU64,
    not_handled: AtomicU64,
    cancelled: AtomicU64,
    panicked: AtomicU64,
    stale: AtomicU64,
    evicted: AtomicU64,
}

/// What became of the calls that the primary did not answer. Those it did are told to observers and not counted
/// here: a shared count would be the dearest part of a call that succeeds, and the more so the more threads make
/// calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FallbackSnapshot {
    /// Calls the fallback answered.
    pub answered: u64,
    /// Calls that failed, and the fallback failed or had no answer.
    pub failed: u64,
    /// Calls that failed in a way the fallback does not handle.
    pub not_handled: u64,
    /// Calls whose future was dropped by the caller.
    pub cancelled: u64,
    /// Calls that panicked, in the primary or in the fallback.
    pub panicked: u64,
    /// Answers that came from the store.
    pub stale: u64,
    /// Stored answers that had to go to make room.
    pub evicted: u64,
}

impl Fallback {
    /// Starts a fallback. `name` names it in metrics and logs.
    pub fn builder(name: impl Into<Name>) -> FallbackBuilder {
        FallbackBuilder::new(name)
    }

    /// Makes a fallback from settings.
    ///
    /// # Errors
    /// Names the setting that cannot work, its value, and why.
    pub fn new(name: impl Into<Name>, config: FallbackConfig) -> Result<Self, ConfigError> {
        Self::builder(name).config(config).build()
    }

    /// The name.
    pub fn name(&self) -> &Name {
        self.shared.emitter.name()
    }

    /// The settings in force.
    pub fn config(&self) -> FallbackConfig {
        self.shared.settings.get()
    }

    /// Changes the settings. Stored answers beyond a smaller `max_keys` go when the next one is stored.
    ///
    /// # Errors
    /// Names the setting that cannot work, its value, and why; nothing changes then.
    pub fn reconfigure(&self, config: FallbackConfig) -> Result<(), ConfigError> {
        self.update(|now| *now = config)
    }

    /// Changes some settings: of two changes at once both count. `change` runs with the settings locked, so it must not
    /// use this handle.
    ///
    /// # Errors
    /// As [`reconfigure`](Self::reconfigure).
    pub fn update(&self, change: impl FnOnce(&mut FallbackConfig)) -> Result<(), ConfigError> {
        self.shared.settings.change(change, |_, next| self.shared.take(next))
    }

    /// What became of the calls that the primary did not answer, so far.
    pub fn snapshot(&self) -> FallbackSnapshot {
        let read = |count: &AtomicU64| count.load(Relaxed);
        let counts = &self.shared.counts;
        FallbackSnapshot {
            answered: read(&counts.answered),
            failed: read(&counts.failed),
            not_handled: read(&counts.not_handled),
            cancelled: read(&counts.cancelled),
            panicked: read(&counts.panicked),
            stale: read(&counts.stale),
            evicted: read(&counts.evicted),
        }
    }

    /// Sets all counts to zero. Stored answers stay: they belong to the layers.
    pub fn reset(&self) {
        for count in self.shared.counts.all() {
            count.store(0, Relaxed);
        }
        self.shared.emitter.note(Note::new(Note::RESET));
    }

    /// Owned copies of what this policy tells beside calls, from now on: resets.
    pub fn events(&self) -> Events {
        self.shared.emitter.events()
    }

    /// How old a stored answer may be when it is given.
    pub(crate) fn max_age(&self) -> Duration {
        // Relaxed: each setting stands for itself.
        Duration::from_nanos(self.shared.max_age_ns.load(Relaxed))
    }

    /// How many answers are stored at most.
    pub(crate) fn max_keys(&self) -> usize {
        self.shared.max_keys.load(Relaxed)
    }

    pub(crate) fn tell_stale(&self, age: Duration) {
        self.shared.counts.stale.fetch_add(1, Relaxed);
        self.tell(&Note::with(words::STALE, Value::Time(age)));
    }

    pub(crate) fn tell_evicted(&self) {
        self.shared.counts.evicted.fetch_add(1, Relaxed);
        self.tell(&Note::new(words::EVICTED));
    }

    fn tell(&self, note: &Note) {
        if self.shared.emitter.is_on() {
            self.shared.emitter.emit(Event::Note(note));
        }
    }

    /// The start of a call, if somebody wants to know how long it takes.
    #[inline]
    pub(crate) fn started(&self) -> Option<Instant> {
        self.shared.emitter.is_timed().then(Instant::now)
    }

    /// Whether somebody listens.
    pub(crate) fn is_heard(&self) -> bool {
        self.shared.emitter.is_on()
    }

    /// Counts and tells the end of a call; one that succeeded only if somebody listens.
    #[inline]
    pub(crate) fn ended(
        &self,
        end: FallbackEnd,
        started: Option<Instant>,
        error: Option<&(dyn StdError + 'static)>,
    ) {
        if end != FallbackEnd::Success || self.is_heard() {
            self.shared.settle(end, started, error);
        }
    }
}

impl FallbackBuilder {
    /// Makes the fallback.
    ///
    /// # Errors
    /// Names the policy, the setting that cannot work, its value, and why.
    pub fn build(self) -> Result<Fallback, ConfigError> {
        let (config, emitter) = self.parts.checked(&KIND)?;
        let shared = Shared {
            max_age_ns: AtomicU64::new(nanos(config.max_age)),
            max_keys: AtomicUsize::new(config.max_keys),
            settings: Live::new(config, emitter.clone()),
            emitter,
            counts: Counts::default(),
        };
        Ok(Fallback { shared: Arc::new(shared) })
    }
}

impl Shared {
    /// Copies out what calls read. Only with the lock of the settings held.
    fn take(&self, config: &FallbackConfig) {
        self.max_age_ns.store(nanos(config.max_age), Relaxed);
        self.max_keys.store(config.max_keys, Relaxed);
    }

    fn settle(&self, end: FallbackEnd, started: Option<Instant>, error: Option<&(dyn StdError + 'static)>) {
        if let Some(count) = self.counts.of(end) {
            // Relaxed: a count stands for itself.
            count.fetch_add(1, Relaxed);
        }
        let elapsed = started.map(|started| Instant::now().saturating_duration_since(started));
        let (outcome, result) = end.told();
        self.emitter.done(outcome, result, elapsed, false, 1, error);
    }
}

impl Counts {
    fn of(&self, end: FallbackEnd) -> Option<&AtomicU64> {
        match end {
            FallbackEnd::Success => None,
            FallbackEnd::Answered => Some(&self.answered),
            FallbackEnd::Failed => Some(&self.failed),
            FallbackEnd::NotHandled => Some(&self.not_handled),
            FallbackEnd::Cancelled => Some(&self.cancelled),
            FallbackEnd::Panicked => Some(&self.panicked),
        }
    }

    fn all(&self) -> [&AtomicU64; 7] {
        let Self { answered, failed, not_handled, cancelled, panicked, stale, evicted } = self;
        [answered, failed, not_handled, cancelled, panicked, stale, evicted]
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FallbackEnd {
    /// The primary answered.
    Success,
    /// The primary failed, and the fallback answered.
    Answered,
    /// The primary failed, and so did the fallback, or it had no answer.
    Failed,
    /// The primary failed in a way that is not handled.
    NotHandled,
    Cancelled,
    Panicked,
}

impl FallbackEnd {
    /// The outcome that events carry, and the fallback's own word for it.
    fn told(self) -> (Outcome, Word) {
        match self {
            Self::Success => (Outcome::Success, Outcome::Success.as_str()),
            Self::Answered => (Outcome::Success, words::FALLBACK_SUCCESS),
            Self::Failed => (Outcome::Failure, words::FALLBACK_FAILURE),
            Self::NotHandled => (Outcome::Failure, words::NOT_HANDLED),
            Self::Cancelled => (Outcome::Cancelled, Outcome::Cancelled.as_str()),
            Self::Panicked => (Outcome::Panicked, Outcome::Panicked.as_str()),
        }
    }
}

impl From<Outcome> for FallbackEnd {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Success => Self::Success,
            Outcome::Failure | Outcome::TimedOut | Outcome::Ignored => Self::NotHandled,
            Outcome::Cancelled => Self::Cancelled,
            Outcome::Panicked => Self::Panicked,
        }
    }
}

impl Handle for Fallback {
    buttress_kit::handle_methods!(&KIND);

    fn prepare(&self, patch: Patch<'_, '_>) -> Result<Prepared<'_>, ConfigError> {
        self.shared.settings.prepare(patch, |_, next| self.shared.take(next), || ())
    }
}

impl fmt::Debug for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback").field("name", self.name()).field("config", &self.config()).finish()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
