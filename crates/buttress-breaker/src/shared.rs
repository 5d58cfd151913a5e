//! What all circuits of one breaker share: one circuit, or one for each key.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{Level, Levels, Note, OwnedEvent};
use buttress_kit::{Chance, Emitter, Live, Mode, Wakers};
use tokio::time::Instant;

use crate::{
    BreakerConfig, OnCancel, Ramp, State,
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
    keys: Option<[AtomicU64; STATES.len()]>,
}

/// In the order of their levels.
pub(crate) const STATES: [State; 6] =
    [State::Closed, State::Open, State::HalfOpen, State::Isolated, State::Disabled, State::MetricsOnly];

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
            keys: keyed.then(Default::default),
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
        self.keys.is_some()
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
    pub(crate) fn push(&self, notice: Notice) {
        match notice {
            // Which key it was would be a label without bounds, so only the numbers of keys are told.
            Notice::Changed { .. } if self.is_keyed() || !self.emitter.is_on() => {}
            Notice::Changed { from, to, cause, detail } => {
                self.emitter.later(OwnedEvent::Transition(detail.transition(from, to, cause)));
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

    /// A key came (`1`) or went (`-1`), in this state. In any order: the sum is what counts.
    pub(crate) fn add_keys(&self, state: State, more: i64) {
        if let Some(counter) = self.keys.as_ref().and_then(|keys| keys.get(level(state) as usize)) {
            counter.fetch_add(more as u64, Relaxed);
        }
    }

    /// The numbers of keys in these states may be others; to be told.
    pub(crate) fn keys_moved(&self, states: &[State]) {
        if self.is_keyed() {
            states.iter().for_each(|state| self.emitter.moved(level(*state)));
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

/// The number of the level that says how many keys are in this state.
fn level(state: State) -> u32 {
    STATES.iter().position(|one| *one == state).map_or(u32::MAX, |place| place as u32)
}

impl Levels for Shared {
    fn level(&self, number: u32) -> Option<Level> {
        let number = number as usize;
        let (state, counter) = (STATES.get(number)?, self.keys.as_ref()?.get(number)?);
        // Below zero for a moment, if a key that was just made opens before it is counted.
        let keys = (counter.load(Relaxed) as i64).max(0);
        Some(Level::of(words::KEYS, state.as_str(), keys as f64))
    }
}
