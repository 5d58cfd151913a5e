use std::{fmt, sync::Arc, time::Duration};

use buttress_core::{ConfigError, Event, Level, Levels, Name, Rejection};
use buttress_kit::{
    Events, Handle, Health,
    handle::{Patch, Prepared},
};

use crate::{
    BreakerBuilder, BreakerConfig, BreakerSnapshot, IllegalTransition, KIND, Permit, State, engine::Engine,
    rules::nanos, shared::Shared,
};

/// A circuit breaker: engine and handle in one. Clones share the circuit; keep one to see and steer it.
///
/// Nothing here waits, and no method but [`try_acquire`](Self::try_acquire) and [`call`](Self::call) counts as a
/// call.
#[derive(Clone)]
pub struct Breaker {
    // Behind the handle, not in the services: axum builds those again for every connection.
    pub(crate) engine: Arc<Engine>,
}

impl Breaker {
    /// Begins a breaker with the default settings. `name` is what rejections, events and metrics call it.
    pub fn builder(name: impl Into<Name>) -> BreakerBuilder {
        BreakerBuilder::new(name)
    }

    /// Makes a breaker with these settings.
    ///
    /// # Errors
    /// The settings cannot work; names the policy, the field, its value and why.
    pub fn new(name: impl Into<Name>, config: BreakerConfig) -> Result<Self, ConfigError> {
        Self::builder(name).config(config).build()
    }

    /// Asks for one call and returns a scope guard for it, to be told how the call ended.
    ///
    /// Dropping the guard untold is a cancelled call, or a failure if a panic drops it.
    ///
    /// # Errors
    /// The circuit refuses.
    ///
    /// ```
    /// # mod buttress { pub use {buttress_breaker::*, buttress_core::*}; }
    /// use buttress::{Breaker, State};
    ///
    /// let breaker = Breaker::builder("disk").consecutive_failures(2).build().unwrap();
    /// for _ in 0..2 {
    ///     let permit = breaker.try_acquire().unwrap();
    ///     permit.failure();
    /// }
    /// assert_eq!(breaker.state(), State::Open);
    /// assert_eq!(breaker.try_acquire().unwrap_err().code(), "CIRCUIT_OPEN");
    /// ```
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit, Rejection> {
        Permit::of(&self.engine, self.engine.admit())
    }

    /// The name.
    pub fn name(&self) -> &Name {
        self.engine.shared.emitter.name()
    }

    /// The settings in force.
    pub fn config(&self) -> BreakerConfig {
        self.engine.shared.live.get()
    }

    /// The state, as a call made now would find it: an open circuit whose wait is over is half-open.
    ///
    /// Takes no lock, unless the circuit was half-open for longer than `half_open_timeout`.
    pub fn state(&self) -> State {
        self.engine.state()
    }

    /// Whether calls are refused until a wait is over: the state is open.
    pub fn is_open(&self) -> bool {
        self.state() == State::Open
    }

    /// Everything there is to know, at one moment.
    pub fn snapshot(&self) -> BreakerSnapshot {
        BreakerSnapshot::of(&self.engine)
    }

    /// The text of the error that opened the circuit last, until it closes or is reset.
    pub fn last_error(&self) -> Option<Arc<str>> {
        self.engine.with_view(|view, _| view.last_error())
    }

    /// Owned copies of refusals, transitions and resets, from now on.
    pub fn events(&self) -> Events {
        self.engine.shared.emitter.events()
    }

    /// Opens the circuit, as if a rule had said so: it recovers after the wait.
    pub fn force_open(&self) {
        self.engine.manual(|circuit, rules, now| circuit.force_open(rules, None, now));
    }

    /// Opens the circuit for this long, whatever the settings say. Does not count as an opening that makes the
    /// next wait longer.
    pub fn force_open_for(&self, wait: Duration) {
        self.engine.manual(|circuit, rules, now| circuit.force_open(rules, Some(nanos(wait).max(1)), now));
    }

    /// Lets probes in at once, if the circuit is open or isolated.
    ///
    /// # Errors
    /// Calls flow: there is nothing to probe. The state stays.
    pub fn force_half_open(&self) -> Result<(), IllegalTransition> {
        let done = self.engine.manual(|circuit, rules, now| circuit.force_half_open(rules, now));
        done.map_err(|from| IllegalTransition { from, to: State::HalfOpen })
    }

    /// Closes the circuit, with an empty window.
    pub fn force_close(&self) {
        self.engine.manual(|circuit, rules, now| circuit.force_close(rules, now));
    }

    /// Refuses every call until [`force_close`](Self::force_close), [`reset`](Self::reset) or another change by
    /// hand.
    ///
    /// No time ends it, so its refusals cannot know when to try again. They give a hint all the same, how long a
    /// first opening would last by the settings (`open_for`, or the first wait of `open_backoff` without jitter):
    /// a client that is told nothing tends to come back at once.
    pub fn isolate(&self) {
        self.force(State::Isolated);
    }

    /// Lets every call in and records nothing.
    pub fn disable(&self) {
        self.force(State::Disabled);
    }

    /// Lets every call in and records it, and no rule acts: each tells once that its threshold was passed.
    pub fn metrics_only(&self) {
        self.force(State::MetricsOnly);
    }

    fn force(&self, to: State) {
        self.engine.manual(|circuit, rules, now| circuit.force(rules, to, now));
    }

    /// Begins anew: closed, nothing counted, no last error. What calls already made come to changes nothing.
    pub fn reset(&self) {
        self.engine.reset();
    }

    /// Takes new settings at once. The window keeps what it holds unless its own shape changes; state, counts and
    /// calls under way stay as they are; a wait that has begun keeps its length.
    ///
    /// # Errors
    /// The settings cannot work; then the old ones stay. Or this is one key of a keyed breaker.
    pub fn reconfigure(&self, config: BreakerConfig) -> Result<(), ConfigError> {
        self.update(|now| *now = config)
    }

    /// Changes some settings: of two changes at once both count. `change` runs with the settings locked, so it must not
    /// use this handle.
    ///
    /// # Errors
    /// As [`reconfigure`](Self::reconfigure).
    pub fn update(&self, change: impl FnOnce(&mut BreakerConfig)) -> Result<(), ConfigError> {
        self.check_unkeyed()?;
        self.engine.shared.live.change(change, |_, config| self.put(config))?;
        self.engine.shared.tell_settings();
        Ok(())
    }

    fn check_unkeyed(&self) -> Result<(), ConfigError> {
        if !self.engine.shared.is_keyed() {
            return Ok(());
        }
        let why = "all keys have the same settings: reconfigure the keyed breaker";
        Err(ConfigError::new("config", "of one key", why).of(&KIND, self.name()))
    }

    /// Puts settings in force, with their lock held.
    fn put(&self, config: &BreakerConfig) {
        self.engine.shared.settings.set(config);
        self.engine.take_rules(Arc::new(config.rules()));
    }
}

impl Handle for Breaker {
    buttress_kit::handle_methods!(&KIND);

    /// [`Down`](Health::Down) while calls are refused, [`Degraded`](Health::Degraded) while probes are let in, or with
    /// a share of failures or slow calls that is at its threshold.
    fn health(&self) -> Health {
        let BreakerSnapshot { state, healthy, .. } = self.snapshot();
        match state {
            State::Open | State::Isolated => Health::Down,
            _ if healthy => Health::Up,
            _ => Health::Degraded,
        }
    }

    fn prepare(&self, patch: Patch<'_, '_>) -> Result<Prepared<'_>, ConfigError> {
        self.check_unkeyed()?;
        let shared = &self.engine.shared;
        shared.live.prepare(patch, |_, config| self.put(config), || shared.tell_settings())
    }
}

impl BreakerBuilder {
    /// Makes the breaker.
    ///
    /// # Errors
    /// The settings cannot work; names the policy, the field, its value and why.
    pub fn build(self) -> Result<Breaker, ConfigError> {
        let (config, emitter, chance, _) = self.checked(&KIND)?;
        let (rules, state) = (Arc::new(config.rules()), config.initial_state);
        let engine = Engine::new(Shared::new(config, emitter, chance, false), rules, state, None);
        let emitter = &engine.shared.emitter;
        emitter.set_levels(Arc::downgrade(&(engine.clone() as Arc<dyn Levels>)));
        if emitter.is_on() {
            // So that observers of the whole process know of it before its first call.
            emitter.emit(Event::Level(Level::state(engine.state().as_str())));
        }
        Ok(Breaker { engine })
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("name", self.name()).field("state", &self.state()).finish()
    }
}
