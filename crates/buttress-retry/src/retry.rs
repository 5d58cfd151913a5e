use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{
    Backoff, BackoffState, Budget, ByClone, Chance, ConfigError, Emitter, Event, FailureKind, FromRejection,
    Name, Observer, Outcome, PolicyKind, RejectionKind, Standard,
    observe::{Events, Level, Levels, Note, Recorder, StopReason, recorder_fn},
};
use tokio::time::Instant;
use tower_service::Service;

use crate::{RetryAfter, RetryConfig, RetryFuture, RetryLayer, RetryService, future::Again, policy::Policy};

/// A retry policy: engine and handle in one. Clones share it; keep one to look at it or change its settings.
///
/// ```
/// # tokio_test::block_on(async {
/// use buttress_core::{BoxError, context};
/// use buttress_retry::{Retry, RetryConfig};
///
/// let retry = Retry::new("payments", RetryConfig::fluxus())?;
/// let answer = retry.call(|| async {
///     match context::current().attempt {
///         3 => Ok::<_, BoxError>("third time lucky"),
///         n => Err(format!("attempt {n} failed").into()),
///     }
/// });
/// assert_eq!(answer.await?, "third time lucky");
/// assert_eq!(retry.snapshot().attempts, 3);
/// # Ok::<_, BoxError>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Retry {
    // The engine with the default strategies, so that `call` and `layer` allocate nothing.
    policy: Arc<Policy<Standard, ByClone>>,
}

impl Retry {
    /// Makes a policy with these settings. `name` names it in rejections, metrics and logs.
    ///
    /// # Errors
    /// Where a setting cannot work, see [`RetryConfig`].
    pub fn new(name: impl Into<Name>, config: RetryConfig) -> Result<Self, ConfigError> {
        Self::builder(name).config(config).build()
    }

    /// Starts from the default settings.
    pub fn builder(name: impl Into<Name>) -> RetryBuilder {
        RetryBuilder {
            name: name.into(),
            config: RetryConfig::default(),
            budget: None,
            curve: None,
            seed: None,
            recorders: Vec::new(),
            observers: Vec::new(),
        }
    }

    /// A layer that retries every service it wraps by this policy.
    pub fn layer(&self) -> RetryLayer {
        RetryLayer { policy: self.policy.clone() }
    }

    /// Puts this policy around one service: `layer()` applied to it.
    pub fn wrap<S>(&self, inner: S) -> RetryService<S> {
        tower_layer::Layer::layer(&self.layer(), inner)
    }

    /// Calls `attempt` until it succeeds or the policy stops: for what is no `Service`. Inside, the number of the
    /// attempt is `context::current().attempt`.
    ///
    /// Strategies other than the default ones are set on the layer: [`RetryLayer::call`].
    ///
    /// # Cancellation
    /// Dropping the future drops the running attempt, or the wait for the next one.
    pub fn call<F, Fut, T, E>(&self, attempt: F) -> RetryFuture<Repeat<F>, (), Standard, ByClone>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: FromRejection,
    {
        repeat(&self.policy, attempt)
    }

    /// The name of the policy.
    pub fn name(&self) -> &Name {
        self.engine().emitter.name()
    }

    /// The settings in force.
    pub fn config(&self) -> RetryConfig {
        self.engine().settings().config.clone()
    }

    /// The budget, if there is one.
    pub fn budget(&self) -> Option<&Budget> {
        self.engine().budget.as_ref()
    }

    /// What was counted so far.
    pub fn snapshot(&self) -> RetrySnapshot {
        self.engine().snapshot()
    }

    /// Owned copies of what happens to this policy, from now on.
    pub fn events(&self) -> Events {
        self.engine().emitter.events()
    }

    /// Puts new settings in force. A call under way keeps its number of attempts and its `max_elapsed`; its next
    /// wait is already chosen by the new settings. A wait computed by
    /// [`backoff_with`](RetryBuilder::backoff_with) stays; `backoff.max` bounds it.
    ///
    /// # Errors
    /// Where a setting cannot work, and where `budget` is another than the one the policy was built with: what
    /// was paid into a budget cannot move. The old settings then stay.
    pub fn reconfigure(&self, config: RetryConfig) -> Result<(), ConfigError> {
        self.engine().reconfigure(config)
    }

    fn engine(&self) -> &Engine {
        &self.policy.engine
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("name", self.name()).field("config", &self.config()).finish()
    }
}

pub(crate) fn repeat<F, Fut, T, E, C, R>(
    policy: &Arc<Policy<C, R>>,
    attempt: F,
) -> RetryFuture<Repeat<F>, (), C, R>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let first = policy.begin();
    let mut inner = Repeat { attempt };
    let attempt = first.inside(|| inner.call(()));
    // Nothing to save: a closure can always be called again.
    let again = (!first.is_last()).then(|| Again { inner, req: Some(()) });
    RetryFuture::calling(attempt, again, first.run(policy))
}

/// A closure that makes attempts, as a service; what [`Retry::call`] calls.
#[derive(Clone, Copy)]
pub struct Repeat<F> {
    attempt: F,
}

impl<F, Fut, T, E> Service<()> for Repeat<F>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Response = T;
    type Error = E;
    type Future = Fut;

    fn poll_ready(&mut self, _cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), E>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Fut {
        (self.attempt)()
    }
}

impl<F> fmt::Debug for Repeat<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Repeat(..)")
    }
}

/// What all services of one policy share.
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
    calls: AtomicU64,
    retries: AtomicU64,
    stopped: [AtomicU64; REASONS.len()],
}

pub(crate) struct Settings {
    pub(crate) config: RetryConfig,
    curve: Option<Curve>,
}

type Curve = Arc<dyn Fn(u32) -> Duration + Send + Sync>;

const REASONS: [StopReason; 6] = [
    StopReason::MaxAttempts,
    StopReason::Budget,
    StopReason::Deadline,
    StopReason::NotRetryable,
    StopReason::NotReplayable,
    StopReason::NotReady,
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
    #[inline]
    pub(crate) fn max_attempts(&self) -> u32 {
        self.max_attempts.load(Relaxed)
    }

    #[inline]
    pub(crate) fn max_elapsed(&self) -> Option<Duration> {
        let nanos = self.max_elapsed_nanos.load(Relaxed);
        (nanos != UNLIMITED).then(|| Duration::from_nanos(nanos))
    }

    /// Not for the path of a call that succeeds at once: it takes a lock for a moment.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[inline]
    pub(crate) fn count_call(&self) {
        self.calls.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_retry(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_stop(&self, reason: StopReason) {
        if let Some(at) = REASONS.iter().position(|known| *known == reason) {
            self.stopped[at].fetch_add(1, Relaxed);
        }
        if self.emitter.is_on() {
            self.emitter.emit(Event::Note(Note::Stopped(reason)));
        }
    }

    pub(crate) fn tell_budget(&self, now: Instant) {
        if let Some(budget) = self.budget.as_ref().filter(|_| self.emitter.is_on()) {
            let value = budget.available(now.into_std());
            self.emitter.emit(Event::Level { what: Level::BudgetAvailable, value });
        }
    }

    /// Tells what is left again at times: an outage ends with an empty budget, and nobody retries while it fills.
    #[cold]
    pub(crate) fn tell_budget_now_and_then(&self, now: Instant) {
        let since = u64::try_from(now.saturating_duration_since(self.made).as_millis()).unwrap_or(u64::MAX);
        let told = self.budget_told_millis.load(Relaxed);
        let due = since.saturating_sub(told) >= BUDGET_TOLD_EVERY_MILLIS;
        if due && self.budget_told_millis.compare_exchange(told, since, Relaxed, Relaxed).is_ok() {
            self.tell_budget(now);
        }
    }

    #[inline]
    pub(crate) fn tell_end(&self, outcome: Outcome, started: Option<Instant>, attempts: u32) {
        if self.emitter.is_on() {
            let elapsed = started.filter(|_| self.emitter.is_timed()).map(|started| started.elapsed());
            self.emitter.emit(Event::Done { outcome, elapsed, slow: false, attempts });
        }
    }

    fn reconfigure(&self, config: RetryConfig) -> Result<(), ConfigError> {
        config.validate()?;
        let mut settings = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        if config.budget != settings.config.budget {
            let why = "cannot change while the policy runs: what was paid in cannot move";
            return Err(ConfigError::new("budget", config.budget, why));
        }
        self.max_attempts.store(config.max_attempts, Relaxed);
        self.max_elapsed_nanos.store(elapsed_nanos(&config), Relaxed);
        *settings = Arc::new(Settings { config, curve: settings.curve.clone() });
        drop(settings);
        if self.emitter.is_on() {
            self.emitter.emit(Event::Note(Note::Reconfigured));
        }
        Ok(())
    }

    fn snapshot(&self) -> RetrySnapshot {
        let calls = self.calls.load(Relaxed);
        RetrySnapshot {
            calls,
            attempts: calls.saturating_add(self.retries.load(Relaxed)),
            stopped: std::array::from_fn(|at| self.stopped[at].load(Relaxed)),
            budget_available: self.budget.as_ref().map(|b| b.available(Instant::now().into_std())),
        }
    }
}

impl Levels for Engine {
    fn levels(&self, tell: &mut dyn FnMut(Event<'_>)) {
        if let Some(budget) = &self.budget {
            let value = budget.available(Instant::now().into_std());
            tell(Event::Level { what: Level::BudgetAvailable, value });
        }
    }
}

/// What a policy has counted since it was made; from [`Retry::snapshot`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RetrySnapshot {
    /// Calls begun.
    pub calls: u64,
    /// Calls of the inner service: one per call, and one per retry that came to be made.
    pub attempts: u64,
    /// Retries left in the budget, if there is one.
    pub budget_available: Option<f64>,
    stopped: [u64; REASONS.len()],
}

impl RetrySnapshot {
    /// Attempts after the first ones.
    pub fn retries(&self) -> u64 {
        self.attempts.saturating_sub(self.calls)
    }

    /// How many calls ended because of this reason, although another attempt was wanted or possible.
    pub fn stopped(&self, reason: StopReason) -> u64 {
        REASONS.iter().position(|known| *known == reason).map_or(0, |at| self.stopped[at])
    }
}

/// Makes a [`Retry`]; from [`Retry::builder`]. A method has the name of the field of [`RetryConfig`] it sets.
pub struct RetryBuilder {
    name: Name,
    config: RetryConfig,
    budget: Option<Budget>,
    curve: Option<Curve>,
    seed: Option<u64>,
    recorders: Vec<Arc<dyn Recorder>>,
    observers: Vec<Box<dyn Observer>>,
}

impl RetryBuilder {
    /// Takes all settings from `config`.
    pub fn config(mut self, config: RetryConfig) -> Self {
        self.config = config;
        self
    }

    /// How often the service is called at most, the first call included; 1 means no retry. Default 3.
    pub fn max_attempts(mut self, max_attempts: u32) -> Self {
        self.config.max_attempts = max_attempts;
        self
    }

    /// The same, counting only the calls after the first: `retries(2)` is `max_attempts(3)`.
    pub fn retries(self, retries: u32) -> Self {
        self.max_attempts(retries.saturating_add(1))
    }

    /// The waits between attempts. Default 100 ms · 2ⁿ up to 30 s, full jitter.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.config.backoff = backoff;
        self.curve = None;
        self
    }

    /// The waits between attempts, from the number of the retry, 0 for the first. No jitter is added; waits above
    /// `backoff.max` (30 s) are cut to it.
    pub fn backoff_with<F>(mut self, wait: F) -> Self
    where
        F: Fn(u32) -> Duration + Send + Sync + 'static,
    {
        self.curve = Some(Arc::new(wait));
        self
    }

    /// The waits after the service asked for fewer calls. Default: as all others.
    pub fn throttle_backoff(mut self, throttle_backoff: impl Into<Option<Backoff>>) -> Self {
        self.config.throttle_backoff = throttle_backoff.into();
        self
    }

    /// No attempt starts later than this after the call began. Default none.
    pub fn max_elapsed(mut self, max_elapsed: impl Into<Option<Duration>>) -> Self {
        self.config.max_elapsed = max_elapsed.into();
        self
    }

    /// What is made of "try again after" hints. Default [`RetryAfter::Obey`].
    pub fn retry_after(mut self, retry_after: RetryAfter) -> Self {
        self.config.retry_after = retry_after;
        self
    }

    /// The longest hint that is obeyed. Default 30 s.
    pub fn retry_after_max(mut self, retry_after_max: Duration) -> Self {
        self.config.retry_after_max = retry_after_max;
        self
    }

    /// Refusals by policies inside that get another attempt. Default none.
    pub fn retry_rejections(mut self, kinds: impl IntoIterator<Item = RejectionKind>) -> Self {
        self.config.retry_rejections = kinds.into_iter().collect();
        self
    }

    /// Whether the last error is wrapped in a `RETRIES_EXHAUSTED` rejection. Default no.
    pub fn report_exhaustion(mut self, report_exhaustion: bool) -> Self {
        self.config.report_exhaustion = report_exhaustion;
        self
    }

    /// Whether a call that the budget stops waits out its backoff before it returns the error. Default no.
    pub fn pause_without_budget(mut self, pause_without_budget: bool) -> Self {
        self.config.pause_without_budget = pause_without_budget;
        self
    }

    /// Keeps retries within a budget. Clones of a [`Budget`] share it: give one to all policies, and hedges, that
    /// load the same service. Default none.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Makes jitter come out the same every time.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Tells this observer, besides those of the process.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers.push(Box::new(observer));
        self
    }

    /// Tells this closure what happens.
    pub fn on_event<F>(mut self, listener: F) -> Self
    where
        F: Fn(&Event<'_>) + Send + Sync + 'static,
    {
        self.recorders.push(recorder_fn(listener));
        self
    }

    /// Makes the policy.
    ///
    /// # Errors
    /// Where a setting cannot work: names the field, its value, and why.
    pub fn build(self) -> Result<Retry, ConfigError> {
        let Self { name, config, budget, curve, seed, recorders, observers } = self;
        config.validate()?;
        let budget = match (budget, config.budget) {
            (Some(shared), _) => Some(shared),
            (None, Some(own)) => Some(Budget::from_config(own).map_err(|error| error.within("budget"))?),
            (None, None) => None,
        };
        let engine = Arc::new(Engine {
            emitter: Emitter::new(PolicyKind::Retry, name),
            budget,
            chance: seed.map_or_else(Chance::random, Chance::seeded),
            max_attempts: AtomicU32::new(config.max_attempts),
            max_elapsed_nanos: AtomicU64::new(elapsed_nanos(&config)),
            settings: RwLock::new(Arc::new(Settings { config, curve })),
            made: Instant::now(),
            budget_told_millis: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            stopped: Default::default(),
        });
        let levels: Weak<Engine> = Arc::downgrade(&engine);
        engine.emitter.set_levels(levels);
        recorders.into_iter().for_each(|recorder| engine.emitter.add(recorder));
        observers.iter().for_each(|observer| engine.emitter.observe(&**observer));
        Ok(Retry { policy: Arc::new(Policy { engine, classify: Standard, replay: ByClone }) })
    }
}

impl fmt::Debug for RetryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryBuilder").field("name", &self.name).field("config", &self.config).finish()
    }
}
