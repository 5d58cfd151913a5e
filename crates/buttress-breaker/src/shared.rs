//! What all circuits of one breaker share: one circuit, or one for each key.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{Level, Levels, Name, Note, OwnedEvent};
use buttress_kit::{Chance, Emitter, Live, Mode, Wakers, unpoisoned};
use tokio::time::Instant;

use crate::{
    BreakerConfig, OnCancel, Ramp, State,
    census::{Census, STATES, place},
    circuit::Notice,
    rules::nanos,
    words::{self, EVICTED, LEASE_EXPIRED},
};

pub(crate) struct Shared {
    /// Locked before any circuit is.
    pub(crate) live: Live<BreakerConfig>,
    pub(crate) settings: AtomicSettings,
    pub(crate) emitter: Emitter,
    pub(crate) chance: Chance,
    pub(crate) wakers: Wakers,
    epoch: Instant,
    /// How many keys are in which state, if this is a keyed breaker.
    pub(crate) census: Option<CensusLock>,
}

/// Innermost: no other lock is taken with it held.
pub(crate) struct CensusLock(Mutex<Census>);

impl CensusLock {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Census> {
        unpoisoned(self.0.lock())
    }
}

/// The settings that calls read, without a lock; the others are in a circuit's [`Rules`](crate::rules::Rules).
pub(crate) struct AtomicSettings {
    pub(crate) slow: AtomicU64,
    pub(crate) interval: AtomicU64,
    pub(crate) call_timeout: AtomicU64,
    /// What an isolated circuit says in place of a wait: nobody knows how long it lasts.
    pub(crate) isolated_for: AtomicU64,
    pub(crate) gated: AtomicBool,
    pub(crate) shadow: AtomicBool,
    /// Whether a dropped call may mean something, depending on how long it was waited for.
    pub(crate) minds_abandoned: AtomicBool,
    pub(crate) ramp_start: AtomicU64,
    pub(crate) ramp_over: AtomicU64,
}

impl AtomicSettings {
    fn new(config: &BreakerConfig) -> Self {
        let settings = Self {
            slow: AtomicU64::new(0),
            interval: AtomicU64::new(0),
            call_timeout: AtomicU64::new(0),
            isolated_for: AtomicU64::new(0),
            gated: AtomicBool::new(false),
            shadow: AtomicBool::new(false),
            minds_abandoned: AtomicBool::new(false),
            ramp_start: AtomicU64::new(0),
            ramp_over: AtomicU64::new(0),
        };
        settings.set(config);
        settings
    }

    // Relaxed, here and where they are read: each stands for itself, and a call that is between the old settings and
    // the new ones may see some of both. Two changes never mix: they come one after the other, under the settings'
    // lock.
    pub(crate) fn set(&self, config: &BreakerConfig) {
        let ramp = config.ramp.unwrap_or(Ramp { start: 1.0, over: Duration::ZERO });
        let rules = config.rules();
        self.slow.store(config.slow_call_duration.map_or(u64::MAX, nanos), Relaxed);
        self.interval.store(rules.interval, Relaxed);
        self.isolated_for.store(rules.first_wait(), Relaxed);
        self.call_timeout.store(config.call_timeout.map_or(u64::MAX, nanos), Relaxed);
        self.gated.store(config.gate_readiness, Relaxed);
        self.shadow.store(config.mode == Mode::Shadow, Relaxed);
        self.minds_abandoned.store(config.on_cancel == OnCancel::WhenAll, Relaxed);
        self.ramp_start.store(ramp.start.to_bits(), Relaxed);
        self.ramp_over.store(nanos(ramp.over), Relaxed);
    }
}

impl Shared {
    pub(crate) fn new(config: BreakerConfig, emitter: Emitter, chance: Chance, keyed: bool) -> Arc<Self> {
        Arc::new(Self {
            settings: AtomicSettings::new(&config),
            live: Live::new(config, emitter.clone()),
            emitter,
            chance,
            wakers: Wakers::default(),
            epoch: Instant::now(),
            census: keyed.then(|| CensusLock(Mutex::default())),
        })
    }

    pub(crate) fn now(&self) -> u64 {
        let since = Instant::now().saturating_duration_since(self.epoch);
        // Cheaper than through u128, and as exact.
        since.as_secs().saturating_mul(1_000_000_000).saturating_add(since.subsec_nanos().into())
    }

    pub(crate) fn instant(&self, nanos: u64) -> Instant {
        self.epoch.checked_add(Duration::from_nanos(nanos)).unwrap_or(self.epoch)
    }

    pub(crate) fn is_keyed(&self) -> bool {
        self.census.is_some()
    }

    #[inline]
    pub(crate) fn is_gated(&self) -> bool {
        self.settings.gated.load(Relaxed)
    }

    #[inline]
    pub(crate) fn is_shadow(&self) -> bool {
        self.settings.shadow.load(Relaxed)
    }

    /// How long calls may take. `None`: for ever.
    pub(crate) fn call_timeout(&self) -> Option<Duration> {
        let limit = self.settings.call_timeout.load(Relaxed);
        (limit != u64::MAX).then(|| Duration::from_nanos(limit))
    }

    /// Puts down what happened to a circuit. Called with its lock held; [`Emitter::deliver`] follows without it.
    pub(crate) fn push(&self, notice: Notice, name: Option<&Name>) {
        match notice {
            Notice::Changed { .. } if !self.emitter.is_on() => {}
            Notice::Changed { from, to, cause, detail } => {
                let mut told = detail.transition(from, to, cause);
                // Never a label: it would have as many values as there are keys.
                told.key = name.and_then(Name::key).map(Into::into);
                self.emitter.later(OwnedEvent::Transition(told));
            }
            Notice::Note(note) => self.note(note),
        }
    }

    pub(crate) fn note(&self, note: Note) {
        match note.what {
            LEASE_EXPIRED | EVICTED => self.emitter.later_unsubscribed(OwnedEvent::Note(note)),
            _ => self.emitter.later(OwnedEvent::Note(note)),
        }
    }

    /// The numbers of keys in these states may be others; to be told.
    pub(crate) fn keys_moved(&self, states: &[State]) {
        if self.is_keyed() {
            states.iter().for_each(|state| self.emitter.moved(place(*state) as u32));
        }
    }

    /// The number of keys in this state is another one; tells it. With no lock held.
    pub(crate) fn tell_keys(&self, state: State) {
        self.keys_moved(&[state]);
        self.emitter.deliver();
    }

    /// New settings are in force: wakes those who wait, and tells what came of them. With no lock held.
    pub(crate) fn tell_settings(&self) {
        self.wakers.wake_all();
        self.emitter.deliver();
    }
}

impl Levels for Shared {
    fn level(&self, number: u32) -> Option<Level> {
        let (state, census) = (*STATES.get(number as usize)?, self.census.as_ref()?);
        let (keys, moved) = {
            let mut census = census.lock();
            (census.count(state, self.now()), census.take_moved())
        };
        // What one number has lost to time another one has gained.
        moved.filter(|other| *other != state).for_each(|other| self.keys_moved(&[other]));
        Some(Level::of(words::KEYS, state.as_str(), keys as f64))
    }
}
