use std::{fmt, sync::Arc, time::Duration};

use buttress_core::{ConfigError, Event, Level, Name, Rejection, Standard};
use buttress_kit::Events;

use crate::{
    BreakerBuilder, BreakerConfig, BreakerFuture, BreakerLayer, BreakerService, Health, IllegalTransition,
    Permit, Snapshot, State, engine::Shared, rules::nanos,
};

/// A circuit breaker: engine and handle in one. Clones share the circuit; keep one to see and steer it.
///
/// Nothing here waits, and no method but [`try_acquire`](Self::try_acquire) and [`call`](Self::call) counts as a
/// call.
#[derive(Clone)]
pub struct Breaker {
    // Behind the handle, not in the services: axum builds those again for every connection.
    pub(crate) shared: Arc<Shared>,
}

impl Breaker {
    /// Begins a breaker with the default settings. `name` is what rejections, events and metrics call it.
    pub fn builder(name: impl Into<Name>) -> BreakerBuilder {
        BreakerBuilder::new(name)
    }

    /// Makes a breaker with these settings.
    ///
    /// # Errors
    /// Where the settings cannot work; names the field, its value and why.
    pub fn new(name: impl Into<Name>, config: BreakerConfig) -> Result<Self, ConfigError> {
        Self::builder(name).config(config).build()
    }

    /// A layer that puts this breaker before every service it wraps. All of them share the circuit.
    pub fn layer(&self) -> BreakerLayer {
        BreakerLayer::new(self.clone(), Standard)
    }

    /// Puts this policy around one service: `layer()` applied to it.
    pub fn wrap<S>(&self, inner: S) -> BreakerService<S> {
        tower_layer::Layer::layer(&self.layer(), inner)
    }

    /// Makes one call under the breaker, for what cannot be a service.
    ///
    /// The decision falls here and not at the first poll: a refusal does not run `f`, and a call that was let in
    /// holds its permit until the future ends or is dropped. [`BreakerFuture::classify_with`] says what counts as
    /// a failure.
    ///
    /// ```
    /// # tokio_test::block_on(async {
    /// use buttress_breaker::Breaker;
    /// use buttress_core::BoxError;
    ///
    /// let breaker = Breaker::builder("db").consecutive_failures(1).build().unwrap();
    /// breaker.call(|| async { Err::<(), BoxError>("gone".into()) }).await.unwrap_err();
    /// let refused = breaker.call(|| async { Ok::<_, BoxError>(()) }).await.unwrap_err();
    /// assert_eq!(buttress_core::rejection(&*refused).unwrap().code(), "CIRCUIT_OPEN");
    /// # });
    /// ```
    pub fn call<F, Fut>(&self, f: F) -> BreakerFuture<Fut>
    where
        F: FnOnce() -> Fut,
    {
        BreakerFuture::of(self.shared.clone(), Standard, f)
    }

    /// Asks for one call and returns a scope guard for it, to be told how the call ended.
    ///
    /// Dropping the guard untold is a cancelled call, or a failure where a panic drops it.
    ///
    /// # Errors
    /// Where the circuit refuses.
    ///
    /// ```
    /// use buttress_breaker::{Breaker, State};
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
        self.shared.admit()
    }

    /// The name.
    pub fn name(&self) -> &Name {
        self.shared.common.emitter.name()
    }

    /// The settings in force.
    pub fn config(&self) -> BreakerConfig {
        self.shared.common.live.get()
    }

    /// The state, as a call made now would find it: an open circuit whose wait is over is half-open.
    ///
    /// Takes no lock, but where the circuit was half-open for longer than `half_open_timeout`.
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// Whether calls are refused until a wait is over: the state is open.
    pub fn is_open(&self) -> bool {
        self.state() == State::Open
    }

    /// Everything there is to know, at one moment.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// Whether the service behind it looks well: closed, and no rate at its threshold.
    pub fn health(&self) -> Health {
        let snapshot = self.snapshot();
        let config = self.config();
        let rules = config.rules();
        let over = |ratio: Option<f64>, rate: Option<f64>| match (ratio, rate) {
            (Some(ratio), Some(rate)) => ratio >= rate,
            _ => false,
        };
        let healthy = matches!(snapshot.state, State::Closed | State::Disabled | State::MetricsOnly)
            && !over(snapshot.failure_ratio, rules.failure_rate)
            && !over(snapshot.slow_ratio, rules.slow_rate);
        Health {
            state: snapshot.state,
            healthy,
            failure_rate: snapshot.failure_ratio,
            slow_call_rate: snapshot.slow_ratio,
            metrics: snapshot,
        }
    }

    /// The text of the error that opened the circuit last, until it closes or is reset.
    pub fn last_error(&self) -> Option<Arc<str>> {
        self.shared.looked(|view, _| view.last_error())
    }

    /// Owned copies of refusals, transitions and resets, from now on.
    pub fn events(&self) -> Events {
        self.shared.common.emitter.events()
    }

    /// Opens the circuit, as if a rule had said so: it recovers after the wait.
    pub fn force_open(&self) {
        self.shared.by_hand(|opened, at| {
            let (circuit, rules) = opened.parts();
            circuit.force_open(rules, None, at);
        });
    }

    /// Opens the circuit for this long, whatever the settings say. Does not count as an opening that makes the
    /// next wait longer.
    pub fn force_open_for(&self, wait: Duration) {
        self.shared.by_hand(|opened, at| {
            let (circuit, rules) = opened.parts();
            circuit.force_open(rules, Some(nanos(wait).max(1)), at);
        });
    }

    /// Lets probes in at once, where the circuit is open or isolated.
    ///
    /// # Errors
    /// Where calls flow: there is nothing to probe. The state stays.
    pub fn force_half_open(&self) -> Result<(), IllegalTransition> {
        let done = self.shared.by_hand(|opened, at| {
            let (circuit, rules) = opened.parts();
            circuit.force_half_open(rules, at)
        });
        done.map_err(|from| IllegalTransition { from, to: State::HalfOpen })
    }

    /// Closes the circuit, with an empty window.
    pub fn force_close(&self) {
        self.shared.by_hand(|opened, at| {
            let (circuit, rules) = opened.parts();
            circuit.force_close(rules, at);
        });
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
        self.shared.by_hand(|opened, at| {
            let (circuit, rules) = opened.parts();
            circuit.force(rules, to, at);
        });
    }

    /// Begins anew: closed, nothing counted, no last error. What calls already made come to changes nothing.
    pub fn reset(&self) {
        self.shared.by_hand(|opened, at| {
            let (circuit, rules) = opened.parts();
            circuit.reset(rules, at);
            self.shared.forget();
        });
    }

    /// Takes new settings at once. The window keeps what it holds unless its own shape changes; state, counts and
    /// calls under way stay as they are; a wait that has begun keeps its length.
    ///
    /// # Errors
    /// Where the settings cannot work; then the old ones stay.
    pub fn reconfigure(&self, config: BreakerConfig) -> Result<(), ConfigError> {
        if self.shared.common.is_keyed() {
            let why = "all keys have the same settings: reconfigure the keyed breaker";
            return Err(ConfigError::new("config", "of one key", why));
        }
        self.shared.common.live.replace(config, |_, config| {
            self.shared.common.hot.set(config);
            self.shared.take_rules(Arc::new(config.rules()));
        })?;
        self.shared.after(true);
        Ok(())
    }
}

impl BreakerBuilder {
    /// Makes the breaker.
    ///
    /// # Errors
    /// The settings cannot work; names the policy, the field, its value and why.
    pub fn build(self) -> Result<Breaker, ConfigError> {
        let (config, emitter, chance, _) = self.checked()?;
        let shared = Shared::new(emitter, config, chance);
        if shared.common.emitter.is_on() {
            // So that observers of the whole process know of it before its first call.
            shared.common.emitter.emit(Event::Level(Level::state(shared.state().as_str())));
        }
        Ok(Breaker { shared })
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("name", self.name()).field("state", &self.state()).finish()
    }
}
