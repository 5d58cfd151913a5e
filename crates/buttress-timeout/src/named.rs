use std::{
    collections::BTreeMap,
    fmt, mem,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use buttress_core::{ConfigError, FromRejection, Name, PolicyKind, observe::Emitter};

use crate::{Race, Timeout, TimeoutConfig, TimeoutFuture};

/// The limits that [`Timeouts::with_defaults`] starts with, in seconds.
const DEFAULTS: [(&str, u64); 13] = [
    ("api.default", 30),
    ("api.ai", 120),
    ("api.upload", 300),
    ("db.query", 30),
    ("db.transaction", 60),
    ("db.migration", 300),
    ("external.weather", 10),
    ("external.carbon", 15),
    ("external.regulatory", 20),
    ("cache.get", 1),
    ("cache.set", 2),
    ("queue.enqueue", 5),
    ("queue.process", 60),
];

/// The limit for names that nobody registered.
const UNKNOWN: Duration = Duration::from_secs(30);

/// Time-outs by name. Clones share them.
///
/// A name that is not registered gets 30 s, and counts under the one policy `unknown`: so names made of user
/// input grow no table and no metric series.
///
/// | name | limit | name | limit |
/// |---|---|---|---|
/// | `api.default` | 30 s | `external.weather` | 10 s |
/// | `api.ai` | 120 s | `external.carbon` | 15 s |
/// | `api.upload` | 300 s | `external.regulatory` | 20 s |
/// | `db.query` | 30 s | `cache.get` | 1 s |
/// | `db.transaction` | 60 s | `cache.set` | 2 s |
/// | `db.migration` | 300 s | `queue.enqueue` | 5 s |
/// | | | `queue.process` | 60 s |
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use buttress_core::BoxError;
/// use buttress_timeout::{TimeoutConfig, Timeouts};
///
/// let timeouts = Timeouts::with_defaults();
/// timeouts.register("api.search", TimeoutConfig::of(Duration::from_secs(2)))?;
/// let hang = || std::future::pending::<Result<(), BoxError>>();
/// let late = timeouts.call("api.search", hang).await.unwrap_err();
/// assert_eq!(late.to_string(), "\"api.search\" timed out: limit 2s");
/// # Ok(())
/// # }
/// ```
///
/// Looking up a name takes a read lock for a moment; where that matters, keep the [`Timeout`] of
/// [`resolve`](Self::resolve).
#[derive(Clone)]
pub struct Timeouts {
    shared: Arc<Shared>,
}

struct Shared {
    named: RwLock<BTreeMap<Box<str>, Timeout>>,
    unknown: Timeout,
    defaults: &'static [(&'static str, u64)],
}

impl Timeouts {
    /// Makes an empty table.
    pub fn new() -> Self {
        Self::starting_with(&[])
    }

    /// Makes a table with the names and limits above.
    pub fn with_defaults() -> Self {
        Self::starting_with(&DEFAULTS)
    }

    fn starting_with(defaults: &'static [(&'static str, u64)]) -> Self {
        let unknown = valid("unknown".into(), UNKNOWN);
        let shared = Shared { named: RwLock::default(), unknown, defaults };
        let timeouts = Self { shared: Arc::new(shared) };
        timeouts.reset();
        timeouts
    }

    /// Registers a name, or gives a registered one new settings: its counts, and the handles that others hold,
    /// stay.
    ///
    /// # Errors
    /// Names the setting that cannot work, its value, and why; nothing changes then.
    pub fn register(&self, name: impl Into<Name>, config: TimeoutConfig) -> Result<Timeout, ConfigError> {
        let name = name.into();
        config.validate().map_err(|why| why.within(&name))?;
        let mut named = self.write();
        let timeout = named
            .entry((*name).into())
            .or_insert_with(|| Timeout::of(config.clone(), Emitter::new(PolicyKind::Timeout, name)))
            .clone();
        // Listeners hear of the new settings: not under the lock.
        drop(named);
        if timeout.config() != config {
            timeout.reconfigure(config)?;
        }
        Ok(timeout)
    }

    /// Changes some settings of a name. One that is not registered starts from 30 s, and is registered by this.
    /// Of two changes made at the same moment, one may be lost.
    ///
    /// # Errors
    /// Names the setting that cannot work, its value, and why; nothing changes then.
    pub fn update<F>(&self, name: &str, change: F) -> Result<Timeout, ConfigError>
    where
        F: FnOnce(&mut TimeoutConfig),
    {
        let mut config = self.resolve(name).config();
        change(&mut config);
        self.register(name, config)
    }

    /// The time-out registered under a name.
    pub fn get(&self, name: &str) -> Option<Timeout> {
        self.read().get(name).cloned()
    }

    /// The time-out that a call under this name obeys: the registered one, or `unknown`.
    pub fn resolve(&self, name: &str) -> Timeout {
        self.get(name).unwrap_or_else(|| self.shared.unknown.clone())
    }

    /// All registered names and their settings, by name.
    pub fn all(&self) -> Vec<(Name, TimeoutConfig)> {
        self.read().values().map(|timeout| (timeout.name().clone(), timeout.config())).collect()
    }

    /// Goes back to the names and limits this table started with. Handles of names that go stay usable, as they
    /// are.
    pub fn reset(&self) {
        let defaults = self.shared.defaults;
        let is_kept = |name: &str| defaults.iter().any(|(kept, _)| *kept == name);
        let mut named = self.write();
        let (kept, gone) = mem::take(&mut *named).into_iter().partition(|(name, _)| is_kept(name));
        *named = kept;
        drop(named);
        // Whoever waits for events of what goes is woken by that: not under the lock.
        drop::<BTreeMap<_, _>>(gone);
        for (name, seconds) in defaults {
            let config = TimeoutConfig::of(Duration::from_secs(*seconds));
            // The table's limits are within bounds, so this cannot fail.
            let _ = self.register(*name, config);
        }
    }

    /// Runs `op` within the limit of a name.
    ///
    /// # Cancellation
    /// Dropping the future drops the operation.
    pub fn call<O, F, T, E>(&self, name: &str, op: O) -> TimeoutFuture<F>
    where
        O: FnOnce() -> F,
        F: Future<Output = Result<T, E>>,
        E: FromRejection,
    {
        self.resolve(name).call(op)
    }

    /// Runs `op` under a name, with a limit for this call only.
    pub fn call_within<O, F, T, E>(&self, name: &str, limit: Duration, op: O) -> TimeoutFuture<F>
    where
        O: FnOnce() -> F,
        F: Future<Output = Result<T, E>>,
        E: FromRejection,
    {
        self.resolve(name).call_within(limit, op)
    }

    /// Runs several named operations at once, each with its own limit, or that of its name: the first that
    /// succeeds wins, see [`race`](crate::race()). Resolves to the name as it was given.
    pub fn race<I, N, L, F, T, E>(&self, operations: I) -> Race<N, F>
    where
        I: IntoIterator<Item = (N, L, F)>,
        N: AsRef<str>,
        L: Into<Option<Duration>>,
        F: Future<Output = Result<T, E>>,
        E: FromRejection,
    {
        Race::new(operations.into_iter().map(|(name, limit, operation)| {
            let timeout = self.resolve(name.as_ref());
            let call = match limit.into() {
                Some(limit) => timeout.call_within(limit, || operation),
                None => timeout.call(|| operation),
            };
            (name, call)
        }))
    }

    // A panic while the lock is held cannot leave the map half-changed, so poison says nothing.
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Box<str>, Timeout>> {
        self.shared.named.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Box<str>, Timeout>> {
        self.shared.named.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `limit` is known to be within bounds.
fn valid(name: Name, limit: Duration) -> Timeout {
    Timeout::of(TimeoutConfig::of(limit), Emitter::new(PolicyKind::Timeout, name))
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::with_defaults()
    }
}

impl fmt::Debug for Timeouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.all().iter().map(|(name, config)| (name, config.limit))).finish()
    }
}
