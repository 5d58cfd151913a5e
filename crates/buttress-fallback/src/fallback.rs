use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{
    ConfigError, Event, FromRejection, Name, Outcome, Standard,
    observe::{Emitter, Note},
};
use tokio::time::Instant;

use crate::{FallbackBuilder, FallbackConfig, FallbackFuture, FallbackLayer, Nothing, With, future::Plan};

/// A fallback: engine and handle in one. Clones share settings, counts and listeners.
///
/// The answers themselves belong to the layer, see [`FallbackLayer`].
#[derive(Clone)]
pub struct Fallback {
    shared: Arc<Shared>,
}

struct Shared {
    emitter: Emitter,
    config: Mutex<FallbackConfig>,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
        FallbackBuilder::new(name.into())
    }

    /// Makes a fallback from settings.
    ///
    /// # Errors
    /// Names the setting that cannot work, its value, and why.
    pub fn new(name: impl Into<Name>, config: FallbackConfig) -> Result<Self, ConfigError> {
        Self::builder(name).config(config).build()
    }

    /// `config` has been validated.
    pub(crate) fn of(config: FallbackConfig, emitter: Emitter) -> Self {
        let shared = Shared { emitter, config: Mutex::new(config), counts: Counts::default() };
        Self { shared: Arc::new(shared) }
    }

    /// A layer that has yet to be told what to answer, such as [`.value(..)`](FallbackLayer::value).
    pub fn layer(&self) -> FallbackLayer {
        FallbackLayer::new(self.clone(), Nothing, Standard)
    }

    /// Runs `op`, and answers a failure with what `answer` makes of it: for what cannot be a service. It
    /// allocates once.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use buttress_core::BoxError;
    /// use buttress_fallback::Fallback;
    ///
    /// let greeting = Fallback::builder("greeting").build()?;
    /// let down = || async { Err::<_, BoxError>("down".into()) };
    /// let text = greeting.call(down, |failed| failed.or(Ok("hello".to_owned()))).await;
    /// assert_eq!(text.unwrap(), "hello");
    /// # Ok(())
    /// # }
    /// ```
    pub fn call<O, F, A, T, E>(
        &self,
        op: O,
        answer: A,
    ) -> FallbackFuture<F, With<A>, Standard, (), std::future::Ready<Result<T, E>>>
    where
        O: FnOnce() -> F,
        F: Future<Output = Result<T, E>>,
        A: Fn(Result<T, E>) -> Result<T, E>,
        E: FromRejection,
    {
        let plan = Plan { fallback: self.clone(), answer: With::new(answer), handles: Standard };
        let plan = Arc::new(plan);
        FallbackFuture::start(&plan, (), |_, ()| (), |()| op())
    }

    /// The name.
    pub fn name(&self) -> &Name {
        self.shared.emitter.name()
    }

    /// The settings in force.
    pub fn config(&self) -> FallbackConfig {
        self.shared.config.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the settings. Stored answers beyond a smaller `max_keys` go when the next one is stored.
    ///
    /// # Errors
    /// Names the setting that cannot work, its value, and why; nothing changes then.
    pub fn reconfigure(&self, config: FallbackConfig) -> Result<(), ConfigError> {
        config.validate()?;
        *self.shared.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
        if self.shared.emitter.is_on() {
            self.shared.emitter.emit(Event::Note(Note::Reconfigured));
        }
        Ok(())
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

    pub(crate) fn note_stale(&self, age: Duration) {
        self.shared.counts.stale.fetch_add(1, Relaxed);
        self.note(Note::Stale(age));
    }

    pub(crate) fn note_evicted(&self) {
        self.shared.counts.evicted.fetch_add(1, Relaxed);
        self.note(Note::Evicted);
    }

    fn note(&self, note: Note) {
        if self.shared.emitter.is_on() {
            self.shared.emitter.emit(Event::Note(note));
        }
    }

    /// The start of a call, where somebody wants to know how long it takes.
    #[inline]
    pub(crate) fn started(&self) -> Option<Instant> {
        self.shared.emitter.is_timed().then(Instant::now)
    }

    /// Counts and tells the end of a call; one that succeeded only where somebody listens.
    #[inline]
    pub(crate) fn ended(&self, outcome: Outcome, started: Option<Instant>) {
        if outcome != Outcome::Success || self.shared.emitter.is_on() {
            self.settle(outcome, started);
        }
    }

    #[cold]
    fn settle(&self, outcome: Outcome, started: Option<Instant>) {
        let counts = &self.shared.counts;
        let count = match outcome {
            Outcome::Success => None,
            Outcome::FallbackSuccess => Some(&counts.answered),
            Outcome::FallbackFailure => Some(&counts.failed),
            Outcome::Cancelled => Some(&counts.cancelled),
            Outcome::Panicked => Some(&counts.panicked),
            _ => Some(&counts.not_handled),
        };
        if let Some(count) = count {
            // Relaxed: a count stands for itself.
            count.fetch_add(1, Relaxed);
        }
        if self.shared.emitter.is_on() {
            let elapsed = started.map(|started| Instant::now().saturating_duration_since(started));
            self.shared.emitter.emit(Event::Done { outcome, elapsed, slow: false, attempts: 1, error: None });
        }
    }
}

impl fmt::Debug for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback").field("name", self.name()).field("config", &self.config()).finish()
    }
}
