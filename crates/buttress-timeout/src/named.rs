use std::{
    collections::BTreeMap,
    fmt, mem,
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use buttress_core::{ConfigError, FromRejection, Name};
use buttress_kit::unpoisoned;

use crate::{KIND, Race, Timeout, TimeoutConfig, TimeoutFuture};

/// The limit for names that nobody registered.
const UNKNOWN: Duration = Duration::from_secs(30);

/// Timeouts by name. Clones share them.
///
/// A name that is not registered gets 30 s, and counts under the one policy `unknown`: so names made of user
/// input grow no table and no metric series.
///
/// ```
/// # mod buttress { pub use {buttress_core::*, buttress_timeout::*}; }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use buttress::{BoxError, TimeoutConfig, Timeouts};
///
/// let timeouts = Timeouts::new();
/// timeouts.register("api.search", TimeoutConfig::of(Duration::from_secs(2)))?;
/// let hang = || std::future::pending::<Result<(), BoxError>>();
/// let late = timeouts.call("api.search", hang).await.unwrap_err();
/// assert_eq!(late.to_string(), "\"api.search\" timed out: limit 2s");
/// # Ok(())
/// # }
/// ```
///
/// Looking up a name takes a read lock for a moment; if that matters, keep the [`Timeout`] that
/// [`resolve`](Self::resolve) returns.
#[derive(Clone)]
pub struct Timeouts {
    shared: Arc<Shared>,
}

struct Shared {
    named: RwLock<BTreeMap<Box<str>, Timeout>>,
    unknown: Timeout,
    start: Vec<(Name, TimeoutConfig)>,
}

impl Timeouts {
    /// Makes an empty table.
    pub fn new() -> Self {
        Self::starting(Vec::new())
    }

    /// Makes a table of these names and settings, to which [`reset`](Self::reset) goes back.
    ///
    /// # Errors
    /// Names the policy and the setting that cannot work, its value, and why.
    pub fn starting_with<N: Into<Name>>(
        named: impl IntoIterator<Item = (N, TimeoutConfig)>,
    ) -> Result<Self, ConfigError> {
        let start: Vec<_> = named.into_iter().map(|(name, config)| (name.into(), config)).collect();
        start.iter().try_for_each(|(name, config)| check(name, config))?;
        let timeouts = Self::starting(start);
        timeouts.reset();
        Ok(timeouts)
    }

    fn starting(start: Vec<(Name, TimeoutConfig)>) -> Self {
        let unknown = Timeout::new("unknown", TimeoutConfig::of(UNKNOWN)).expect("30 s is within bounds");
        Self { shared: Arc::new(Shared { named: RwLock::default(), unknown, start }) }
    }

    /// Registers a name, or gives a registered one new settings: its counts, and the handles that others hold,
    /// stay.
    ///
    /// # Errors
    /// Names the policy and the setting that cannot work, its value, and why; nothing changes then.
    pub fn register(&self, name: impl Into<Name>, config: TimeoutConfig) -> Result<Timeout, ConfigError> {
        let name = name.into();
        check(&name, &config)?;
        let mut named = self.write();
        let Some(timeout) = named.get(&*name).cloned() else {
            let timeout = Timeout::new(&name, config)?;
            named.insert((*name).into(), timeout.clone());
            return Ok(timeout);
        };
        // Listeners hear of the new settings: not under the lock.
        drop(named);
        if timeout.config() != config {
            timeout.reconfigure(config)?;
        }
        Ok(timeout)
    }

    /// Changes some settings of a name. One that is not registered starts from 30 s, and is registered by this.
    /// Of two changes made at the same moment, both count; so `change` must use neither this table nor the timeout.
    ///
    /// # Errors
    /// Names the policy and the setting that cannot work, its value, and why; nothing changes then.
    pub fn update<F>(&self, name: &str, change: F) -> Result<Timeout, ConfigError>
    where
        F: FnOnce(&mut TimeoutConfig),
    {
        let mut named = self.write();
        let Some(timeout) = named.get(name).cloned() else {
            let mut config = self.shared.unknown.config();
            change(&mut config);
            let name = Name::from(name);
            check(&name, &config)?;
            let timeout = Timeout::new(&name, config)?;
            named.insert((*name).into(), timeout.clone());
            return Ok(timeout);
        };
        drop(named);
        timeout.change(change)?;
        Ok(timeout)
    }

    /// The timeout registered under a name.
    pub fn get(&self, name: &str) -> Option<Timeout> {
        self.read().get(name).cloned()
    }

    /// The timeout that a call under this name obeys: the registered one, or `unknown`.
    pub fn resolve(&self, name: &str) -> Timeout {
        self.get(name).unwrap_or_else(|| self.shared.unknown.clone())
    }

    /// All registered names and their settings, by name.
    pub fn all(&self) -> Vec<(Name, TimeoutConfig)> {
        self.read().values().map(|timeout| (timeout.name().clone(), timeout.config())).collect()
    }

    /// Goes back to the names and settings this table started with. Handles of names that go stay usable, as they
    /// are.
    pub fn reset(&self) {
        let start = &self.shared.start;
        let is_kept = |name: &str| start.iter().any(|(kept, _)| **kept == *name);
        let mut named = self.write();
        let (kept, gone) = mem::take(&mut *named).into_iter().partition(|(name, _)| is_kept(name));
        *named = kept;
        drop(named);
        // A listener to the events of a name that goes is woken by that: not under the lock.
        drop::<BTreeMap<_, _>>(gone);
        for (name, config) in start {
            // They were checked, so this cannot fail.
            let _ = self.register(name, config.clone());
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

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Box<str>, Timeout>> {
        unpoisoned(self.shared.named.read())
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Box<str>, Timeout>> {
        unpoisoned(self.shared.named.write())
    }
}

/// Checks settings before a policy is made of them.
fn check(name: &Name, config: &TimeoutConfig) -> Result<(), ConfigError> {
    let checked = name.validate().and_then(|()| config.validate());
    checked.map_err(|why| why.of(&KIND, name))
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Timeouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.all().iter().map(|(name, config)| (name, config.limit))).finish()
    }
}
