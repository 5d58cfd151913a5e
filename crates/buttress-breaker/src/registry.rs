use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use buttress_core::{ConfigError, Event, Name, Recorder, Transition};
use buttress_kit::unpoisoned;
use tokio::sync::broadcast;

use crate::{Breaker, BreakerBuilder, BreakerSnapshot, State};

/// How many changes of state wait for a subscriber that does not read.
const MAILBOX: usize = 1024;
/// How many names there may be.
const MAX_NAMES: usize = 10_000;
/// How many of the highest failure rates are listed.
const TOP: usize = 10;

/// Breakers by name: one for each service that is called, never one for all. Clones are the same registry.
///
/// For at most 10 000 names, or [another number](Self::with_max_names): no name may come from a request, and where
/// one does after all, what it takes is bounded. For keys of requests there is
/// [`keyed`](crate::Breaker::keyed), which forgets those that are idle.
///
/// ```
/// use buttress_breaker::{Registry, State};
///
/// let registry = Registry::new();
/// let tool = registry.get_or_create("demucs", |builder| builder.consecutive_failures(3)).unwrap();
/// let api = registry.get_or_create("api", |builder| builder.consecutive_failures(5)).unwrap();
/// tool.force_open();
/// assert_eq!(api.state(), State::Closed);
/// let health = registry.health();
/// assert_eq!((health.total, health.healthy, health.by_state.open), (2, 1, 1));
/// ```
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    entries: Mutex<BTreeMap<Box<str>, Arc<Entry>>>,
    max_names: usize,
    changes: broadcast::Sender<StateChange>,
}

/// A name that is asked for; its breaker is made by the first who holds the lock. Who only looks takes no lock.
#[derive(Default)]
struct Entry {
    breaker: OnceLock<Breaker>,
    making: Mutex<()>,
    /// Its changes of state are passed on.
    followed: AtomicBool,
}

impl Registry {
    /// Makes an empty registry.
    pub fn new() -> Self {
        Self::with_max_names(MAX_NAMES)
    }

    /// Makes an empty registry that makes no breaker for a further name where it has so many.
    pub fn with_max_names(max_names: usize) -> Self {
        let (changes, _) = broadcast::channel(MAILBOX);
        Self { shared: Arc::new(Shared { entries: Mutex::default(), max_names, changes }) }
    }

    /// The breaker of this name; made with `settings` where there is none, by exactly one of those who ask at
    /// the same time. The others wait for it; who only looks does not, and does not see it yet.
    ///
    /// # Errors
    /// Where the settings cannot work: then there is still none, and the next one tries again. With `max_names`
    /// where the name is new and there are as many as there may be.
    pub fn get_or_create(
        &self,
        name: impl Into<Name>,
        settings: impl FnOnce(BreakerBuilder) -> BreakerBuilder,
    ) -> Result<Breaker, ConfigError> {
        let name = name.into();
        let entry = self.entry(&name)?;
        // Not under the lock of the registry: the settings are somebody else's code.
        let making = unpoisoned(entry.making.lock());
        if let Some(breaker) = entry.breaker.get() {
            return Ok(breaker.clone());
        }
        let built = settings(Breaker::builder(name.clone())).build();
        match built {
            Ok(breaker) => {
                // Before anybody can get it; and again for who subscribed meanwhile and did not find it.
                self.shared.follow(&entry, &breaker);
                let _ = entry.breaker.set(breaker.clone());
                self.shared.follow(&entry, &breaker);
                Ok(breaker)
            }
            Err(why) => {
                drop(making);
                self.forget_unmade(&name, &entry);
                Err(why)
            }
        }
    }

    fn entry(&self, name: &Name) -> Result<Arc<Entry>, ConfigError> {
        let max_names = self.shared.max_names;
        let mut entries = unpoisoned(self.shared.entries.lock());
        if let Some(entry) = entries.get(name.as_str()) {
            return Ok(entry.clone());
        }
        if entries.len() >= max_names {
            let why = "there are as many names already; where they come from requests, use `Breaker::keyed`";
            return Err(ConfigError::new("max_names", max_names, why));
        }
        Ok(entries.entry(name.as_str().into()).or_default().clone())
    }

    /// Adds a breaker that exists, in place of one of the same name, which is returned. Whatever `max_names` is.
    pub fn insert(&self, breaker: &Breaker) -> Option<Breaker> {
        let entry = Arc::new(Entry { breaker: breaker.clone().into(), ..Entry::default() });
        self.shared.follow(&entry, breaker);
        let old = unpoisoned(self.shared.entries.lock()).insert(breaker.name().as_str().into(), entry)?;
        let _made = unpoisoned(old.making.lock());
        old.breaker.get().cloned()
    }

    /// The breaker of this name.
    pub fn get(&self, name: &str) -> Option<Breaker> {
        unpoisoned(self.shared.entries.lock()).get(name)?.breaker.get().cloned()
    }

    /// Takes the breaker of this name out. Those who hold it go on using it.
    pub fn remove(&self, name: &str) -> Option<Breaker> {
        let entry = unpoisoned(self.shared.entries.lock()).remove(name)?;
        let _made = unpoisoned(entry.making.lock());
        entry.breaker.get().cloned()
    }

    /// All breakers, by name.
    pub fn all(&self) -> Vec<Breaker> {
        unpoisoned(self.shared.entries.lock())
            .values()
            .filter_map(|entry| entry.breaker.get().cloned())
            .collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes all of them out.
    pub fn clear(&self) {
        unpoisoned(self.shared.entries.lock()).clear();
    }

    /// Resets all of them.
    pub fn reset_all(&self) {
        for breaker in self.all() {
            breaker.reset();
        }
    }

    /// How all of them are.
    pub fn health(&self) -> RegistryHealth {
        let breakers: Vec<_> =
            self.all().iter().map(|breaker| (breaker.name().clone(), breaker.snapshot())).collect();
        let healthy = breakers.iter().filter(|(_, health)| health.healthy).count();
        let mut by_state = ByState::default();
        for (_, health) in &breakers {
            match health.state {
                State::Open | State::Isolated => by_state.open = by_state.open.saturating_add(1),
                State::HalfOpen => by_state.half_open = by_state.half_open.saturating_add(1),
                _ => by_state.closed = by_state.closed.saturating_add(1),
            }
        }
        let total = breakers.len();
        RegistryHealth { total, healthy, unhealthy: total.saturating_sub(healthy), by_state, breakers }
    }

    /// The numbers a page shows: how many in which state, the ten highest failure rates, and who is not healthy.
    pub fn metrics(&self) -> RegistryMetrics {
        let RegistryHealth { by_state, breakers, .. } = self.health();
        let unhealthy = breakers.iter().filter(|(_, health)| !health.healthy);
        let unhealthy = unhealthy.map(|(name, _)| name.clone()).collect();
        let mut top_failure_rates: Vec<_> =
            breakers.into_iter().filter_map(|(name, health)| Some((name, health.failure_ratio?))).collect();
        top_failure_rates.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        top_failure_rates.truncate(TOP);
        RegistryMetrics { by_state, top_failure_rates, unhealthy }
    }

    /// The changes of state of all breakers from now on, also of those that come later.
    pub fn subscribe(&self) -> StateChanges {
        // Subscribed first: who is added from here on sees that somebody listens.
        let changes = self.shared.changes.subscribe();
        let entries: Vec<_> = unpoisoned(self.shared.entries.lock()).values().cloned().collect();
        for entry in entries {
            if let Some(breaker) = entry.breaker.get() {
                self.shared.follow(&entry, breaker);
            }
        }
        StateChanges { changes, missed: 0 }
    }

    /// A name whose settings could not work must not stay behind.
    fn forget_unmade(&self, name: &Name, entry: &Arc<Entry>) {
        let mut entries = unpoisoned(self.shared.entries.lock());
        let same = entries.get(&**name).is_some_and(|kept| Arc::ptr_eq(kept, entry));
        // Somebody may be making it right now, or have made it.
        let unmade = entry.making.try_lock().is_ok() && entry.breaker.get().is_none();
        if same && unmade {
            entries.remove(&**name);
        }
    }
}

impl Shared {
    /// Passes the breaker's changes on, once somebody listens: a listener makes every call a little slower.
    fn follow(&self, entry: &Entry, breaker: &Breaker) {
        if self.changes.receiver_count() == 0 || entry.followed.swap(true, Relaxed) {
            return;
        }
        let (name, changes) = (breaker.name().clone(), self.changes.clone());
        breaker.engine.shared.emitter.add(Arc::new(Follow { name, changes }));
    }
}

struct Follow {
    name: Name,
    changes: broadcast::Sender<StateChange>,
}

impl Recorder for Follow {
    fn record(&self, event: &Event<'_>) {
        if let Event::Transition(transition) = *event {
            // Nobody listens any more: nothing to do.
            let _ =
                self.changes.send(StateChange { name: self.name.clone(), transition: transition.clone() });
        }
    }
}

/// How all breakers of a registry are; made by [`Registry::health`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RegistryHealth {
    /// How many there are.
    pub total: usize,
    /// Closed, and no rate at its threshold.
    pub healthy: usize,
    /// The others; a half-open one is among them.
    pub unhealthy: usize,
    /// How many are in which state.
    pub by_state: ByState,
    /// Each of them, by name.
    pub breakers: Vec<(Name, BreakerSnapshot)>,
}

/// How many breakers are in which state. Isolated ones count as open; disabled ones, and those that only
/// measure, as closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct ByState {
    /// Calls flow.
    pub closed: usize,
    /// Calls are refused.
    pub open: usize,
    /// Probes are let in.
    pub half_open: usize,
}

/// The numbers a page shows; made by [`Registry::metrics`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RegistryMetrics {
    /// How many are in which state.
    pub by_state: ByState,
    /// The ten highest failure rates, highest first; of those with enough calls.
    pub top_failure_rates: Vec<(Name, f64)>,
    /// Who is not healthy, by name.
    pub unhealthy: Vec<Name>,
}

/// One breaker's change of state; from [`StateChanges`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StateChange {
    /// Whose.
    pub name: Name,
    /// From which state to which, why, and what was known at that moment.
    pub transition: Transition,
}

/// The changes of state of all breakers of a registry; made by [`Registry::subscribe`].
///
/// At most 1024 wait; then the oldest are dropped and counted.
#[derive(Debug)]
pub struct StateChanges {
    changes: broadcast::Receiver<StateChange>,
    missed: u64,
}

impl StateChanges {
    /// The next one. `None` once the registry and all its breakers are gone.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<StateChange> {
        loop {
            match self.changes.recv().await {
                Ok(change) => return Some(change),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    self.missed = self.missed.saturating_add(missed);
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// The next one, if one waits.
    pub fn try_next(&mut self) -> Option<StateChange> {
        loop {
            match self.changes.try_recv() {
                Ok(change) => return Some(change),
                Err(broadcast::error::TryRecvError::Lagged(missed)) => {
                    self.missed = self.missed.saturating_add(missed);
                }
                Err(_) => return None,
            }
        }
    }

    /// How many were dropped because nobody read.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all()).finish()
    }
}
