use std::{
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{ConfigError, Event, FailureKind, Level, Levels, Note, Outcome, OwnedEvent, Value, Word};
use buttress_kit::{BackoffState, Budget, Chance, Emitter};
use tokio::time::Instant;

use crate::{KIND, RetryConfig, words};

/// What all services of one policy share: settings, budget, chance, counts.
pub(crate) struct Engine {
    pub(crate) emitter: Emitter,
    pub(crate) budget: Option<Budget>,
    pub(crate) chance: Chance,
    // Two settings again, because a call that succeeds at once must not take the lock.
    max_attempts: AtomicU32,
    max_elapsed_nanos: AtomicU64,
    settings: RwLock<Arc<Settings>>,
    made: Instant,
    budget_told_millis: AtomicU64,
    retries: AtomicU64,
    stopped: [AtomicU64; REASONS.len()],
}

pub(crate) struct Settings {
    pub(crate) config: RetryConfig,
    curve: Option<Curve>,
}

pub(crate) type Curve = Arc<dyn Fn(u32) -> Duration + Send + Sync>;

const REASONS: [Word; 6] = [
    words::MAX_ATTEMPTS,
    words::BUDGET,
    words::DEADLINE,
    words::NOT_RETRYABLE,
    words::NOT_REPLAYABLE,
    words::NOT_READY,
];

/// In `max_elapsed_nanos`: no limit.
const UNLIMITED: u64 = u64::MAX;

const BUDGET_TOLD_EVERY_MILLIS: u64 = 250;

fn elapsed_nanos(config: &RetryConfig) -> u64 {
    config.max_elapsed.map_or(UNLIMITED, |max| u64::try_from(max.as_nanos()).unwrap_or(UNLIMITED))
}

impl Settings {
    /// The backoff after the attempt with this number has failed.
    pub(crate) fn backoff(
        &self,
        attempt: u32,
        failure: FailureKind,
        state: &mut BackoffState,
        chance: &Chance,
    ) -> Duration {
        match (&self.config.throttle_backoff, &self.curve) {
            (Some(slower), _) if failure == FailureKind::Throttled => slower.next(state, chance.unit()),
            (_, Some(curve)) => curve(attempt.saturating_sub(1)).min(self.config.backoff.max),
            (_, None) => self.config.backoff.next(state, chance.unit()),
        }
    }
}

impl Engine {
    pub(crate) fn new(
        emitter: Emitter,
        config: RetryConfig,
        curve: Option<Curve>,
        budget: Option<Budget>,
        chance: Chance,
    ) -> Arc<Self> {
        let engine = Arc::new(Self {
            emitter,
            budget,
            chance,
            max_attempts: AtomicU32::new(config.max_attempts),
            max_elapsed_nanos: AtomicU64::new(elapsed_nanos(&config)),
            settings: RwLock::new(Arc::new(Settings { config, curve })),
            made: Instant::now(),
            budget_told_millis: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            stopped: Default::default(),
        });
        let levels: Weak<Self> = Arc::downgrade(&engine);
        engine.emitter.set_levels(levels);
        engine
    }

    #[inline]
    pub(crate) fn max_attempts(&self) -> u32 {
        self.max_attempts.load(Relaxed)
    }

    #[inline]
    pub(crate) fn max_elapsed(&self) -> Option<Duration> {
        let nanos = self.max_elapsed_nanos.load(Relaxed);
        (nanos != UNLIMITED).then(|| Duration::from_nanos(nanos))
    }

    /// Whether a call can begin without the clock, and nothing is told or paid at its beginning.
    #[inline(always)]
    pub(crate) fn is_plain(&self) -> bool {
        !self.is_heard() && self.max_elapsed_nanos.load(Relaxed) == UNLIMITED
    }

    /// Whether somebody is to be told of a success: an observer, or the budget.
    #[inline(always)]
    pub(crate) fn is_heard(&self) -> bool {
        self.budget.is_some() || self.emitter.is_on()
    }

    /// Begins a call that is not [plain](Self::is_plain): pays into the budget. When that was, if anything asks.
    #[inline(never)]
    pub(crate) fn start(&self) -> Option<Instant> {
        let timed_budget = self.budget.as_ref().is_some_and(Budget::is_timed);
        let needs_clock = timed_budget || self.max_elapsed().is_some() || self.emitter.is_timed();
        let started = needs_clock.then(Instant::now);
        if let Some(budget) = &self.budget {
            // A budget that is not timed does not look at it.
            budget.deposit(started.unwrap_or(self.made).into_std());
        }
        started
    }

    /// Tells budget and observers of a success.
    #[inline(never)]
    pub(crate) fn succeeded(&self, started: Option<Instant>, attempts: u32, retried: Option<FailureKind>) {
        if let Some(budget) = &self.budget {
            budget.succeeded(retried);
            if self.emitter.is_on() {
                self.tell_budget_now_and_then(started.unwrap_or_else(Instant::now));
            }
        }
        self.tell_end(Outcome::Success, started, attempts);
    }

    /// Not for the path of a call that succeeds at once: it takes a lock for a moment.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn count_retry(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_stop(&self, reason: Word) {
        if let Some(at) = REASONS.iter().position(|known| *known == reason) {
            self.stopped[at].fetch_add(1, Relaxed);
        }
        if self.emitter.is_on() {
            self.emitter.emit(Event::Note(&Note::with(words::STOPPED, Value::Word(reason))));
        }
    }

    pub(crate) fn tell_budget(&self) {
        self.emitter.moved(0);
        self.emitter.deliver();
    }

    /// Tells what is left again at times: an outage ends with an empty budget, and nobody retries while it fills.
    #[cold]
    pub(crate) fn tell_budget_now_and_then(&self, now: Instant) {
        let since = u64::try_from(now.saturating_duration_since(self.made).as_millis()).unwrap_or(u64::MAX);
        let told = self.budget_told_millis.load(Relaxed);
        let due = since.saturating_sub(told) >= BUDGET_TOLD_EVERY_MILLIS;
        if due && self.budget_told_millis.compare_exchange(told, since, Relaxed, Relaxed).is_ok() {
            self.tell_budget();
        }
    }

    /// Tells budget and observers of a call that ended in another way.
    pub(crate) fn ended(
        &self,
        outcome: Outcome,
        started: Option<Instant>,
        attempts: u32,
        retried: Option<FailureKind>,
    ) {
        if let Some(budget) = &self.budget {
            budget.ended(retried);
        }
        self.tell_end(outcome, started, attempts);
    }

    fn tell_end(&self, outcome: Outcome, started: Option<Instant>, attempts: u32) {
        if self.emitter.is_on() {
            let elapsed = started.filter(|_| self.emitter.is_timed()).map(|started| started.elapsed());
            self.emitter.done(outcome, result(outcome, attempts), elapsed, false, attempts, None);
        }
    }

    /// Tells of a call that panicked before its first attempt had a future.
    #[cold]
    pub(crate) fn panicked(&self, started: Option<Instant>) {
        self.ended(Outcome::Panicked, started, 1, None);
    }

    pub(crate) fn reconfigure(&self, config: RetryConfig) -> Result<(), ConfigError> {
        config.validate().map_err(|why| why.of(&KIND, self.emitter.name()))?;
        let mut settings = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        if config.budget != settings.config.budget {
            let why = "cannot change while the policy runs: what was paid in cannot move";
            return Err(ConfigError::new("budget", config.budget, why).of(&KIND, self.emitter.name()));
        }
        self.max_attempts.store(config.max_attempts, Relaxed);
        self.max_elapsed_nanos.store(elapsed_nanos(&config), Relaxed);
        *settings = Arc::new(Settings { config, curve: settings.curve.clone() });
        self.emitter.later(OwnedEvent::Note(Note::new(Note::RECONFIGURED)));
        drop(settings);
        self.emitter.deliver();
        Ok(())
    }

    pub(crate) fn snapshot(&self) -> RetrySnapshot {
        let now = Instant::now().into_std();
        RetrySnapshot {
            retries: self.retries.load(Relaxed),
            stopped: std::array::from_fn(|at| self.stopped[at].load(Relaxed)),
            budget_available: self.budget.as_ref().map(|budget| budget.available(now)),
            budget_available_ratio: self.budget.as_ref().map(|budget| budget.available_ratio(now)),
        }
    }
}

impl Levels for Engine {
    fn level(&self, number: u32) -> Option<Level> {
        let budget = self.budget.as_ref().filter(|_| number == 0)?;
        let left = budget.available_ratio(Instant::now().into_std());
        Some(Level::new(words::BUDGET_AVAILABLE, left))
    }
}

/// How a call ended, in the words of retries.
fn result(outcome: Outcome, attempts: u32) -> Word {
    match (outcome, attempts > 1) {
        (Outcome::Cancelled, _) => outcome.as_str(),
        (Outcome::Success, false) => words::SUCCESSFUL_WITHOUT_RETRY,
        (Outcome::Success, true) => words::SUCCESSFUL_WITH_RETRY,
        (_, false) => words::FAILED_WITHOUT_RETRY,
        (_, true) => words::FAILED_WITH_RETRY,
    }
}

/// What a policy has counted since it was made; from [`Retry::snapshot`](crate::Retry::snapshot).
///
/// Calls and their first attempts are told to observers and not counted here: a shared count would be the dearest
/// part of a call that succeeds at once, and the more so the more threads make calls.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RetrySnapshot {
    /// Retries left in the budget, if there is one.
    pub budget_available: Option<f64>,
    /// The same as a share, `0.0..=1.0`.
    pub budget_available_ratio: Option<f64>,
    retries: u64,
    stopped: [u64; REASONS.len()],
}

impl RetrySnapshot {
    /// Attempts that were made after the first ones of their calls.
    pub fn retries(&self) -> u64 {
        self.retries
    }

    /// How many calls ended because of this reason, although another attempt was wanted or possible.
    pub fn stopped(&self, reason: Word) -> u64 {
        REASONS.iter().position(|known| *known == reason).map_or(0, |at| self.stopped[at])
    }
}
