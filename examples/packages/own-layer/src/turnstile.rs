use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
};

use buttress_core::{ConfigError, FromRejection, Level, Levels, Name, Note, Outcome, Rejection};
use buttress_kit::{
    Admits, ByKey, Emitter, Events, Guarded, Handle, Keyed, Live, Mode, PerKey, Prepared, ThroughLayer,
    ThroughService,
    call::{Begun, Ends, begin},
    handle::Patch,
    serde::Serialize,
};

use crate::{FULL, KEYED, KIND, TurnstileBuilder, TurnstileConfig, kind::IN_FLIGHT};

/// A turnstile: engine and handle in one. Clones share it.
#[derive(Clone, Debug)]
pub struct Turnstile(Arc<Shared>);

/// A turnstile for each key; made by [`Turnstile::keyed`].
pub type KeyedTurnstile = ByKey<String, Turnstile>;
/// Puts one [`Turnstile`] before every service it wraps; made by [`Turnstile::layer`].
pub type TurnstileLayer = ThroughLayer<Turnstile>;
/// A service behind a [`Turnstile`].
pub type TurnstileService<S> = ThroughService<S, Turnstile>;
/// Resolves as the inner call does, or to a rejection.
pub type TurnstileFuture<F> = Guarded<F, Turnstile>;

#[derive(Debug)]
struct Shared {
    /// As refusals have it: with the key, if there is one.
    name: Name,
    all: Arc<OfAll>,
    in_flight: AtomicU32,
    refused: AtomicU64,
}

/// What the turnstiles of all keys share.
#[derive(Debug)]
struct OfAll {
    emitter: Emitter,
    settings: Live<TurnstileConfig>,
    max_in_flight: AtomicU32,
    shadow: AtomicBool,
}

/// What a turnstile does and has done; made by [`Turnstile::snapshot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(crate = "buttress_kit::serde")]
#[non_exhaustive]
pub struct TurnstileSnapshot {
    /// Calls under way now.
    pub in_flight: u32,
    /// Calls refused so far.
    pub refused: u64,
}

impl Turnstile {
    /// Begins with the default settings.
    pub fn builder(name: impl Into<Name>) -> TurnstileBuilder {
        TurnstileBuilder::new(name)
    }

    /// Begins a turnstile for each key.
    pub fn keyed(name: impl Into<Name>) -> TurnstileBuilder<Keyed> {
        TurnstileBuilder::new(name)
    }

    fn new(name: Name, all: Arc<OfAll>) -> Self {
        Self(Arc::new(Shared { name, all, in_flight: AtomicU32::new(0), refused: AtomicU64::new(0) }))
    }

    /// A layer that puts this turnstile before every service it wraps.
    pub fn layer(&self) -> TurnstileLayer {
        ThroughLayer::new(self.clone())
    }

    /// Runs `call` unless too many calls are under way: for what is no service.
    pub fn call<C, F, T, E>(&self, call: C) -> TurnstileFuture<F>
    where
        C: FnOnce() -> F,
        F: Future<Output = Result<T, E>>,
        E: FromRejection,
    {
        self.enter(call)
    }

    /// The settings in force.
    pub fn config(&self) -> TurnstileConfig {
        self.0.all.settings.get()
    }

    /// What it does and has done.
    pub fn snapshot(&self) -> TurnstileSnapshot {
        let Shared { in_flight, refused, .. } = &*self.0;
        TurnstileSnapshot { in_flight: in_flight.load(Relaxed), refused: refused.load(Relaxed) }
    }

    /// Takes new settings, for calls made from now on.
    ///
    /// # Errors
    /// Names the setting that cannot work, its value, and why; nothing changes then.
    pub fn reconfigure(&self, config: TurnstileConfig) -> Result<(), ConfigError> {
        self.0.all.settings.replace(config, |_, new| self.0.all.apply(new))
    }

    /// Sets the count of refusals to zero.
    pub fn reset(&self) {
        self.clear();
        self.0.all.emitter.note(Note::new(Note::RESET));
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        self.0.all.emitter.name()
    }

    /// Owned copies of refusals and resets, from now on.
    pub fn events(&self) -> Events {
        self.0.all.emitter.events()
    }

    fn refuse(&self, shadow: bool) -> Rejection {
        let why = Rejection::new(FULL, &self.0.name);
        if !shadow {
            self.0.refused.fetch_add(1, Relaxed);
        }
        self.0.all.emitter.refused(&why, shadow);
        why
    }
}

impl OfAll {
    fn new(config: TurnstileConfig, emitter: Emitter) -> Arc<Self> {
        let (max_in_flight, shadow) = (AtomicU32::default(), AtomicBool::default());
        let all = Self { settings: Live::new(config, emitter.clone()), emitter, max_in_flight, shadow };
        all.apply(&config);
        Arc::new(all)
    }

    /// Copies out what calls read.
    fn apply(&self, config: &TurnstileConfig) {
        self.max_in_flight.store(config.max_in_flight, Relaxed);
        self.shadow.store(config.mode == Mode::Shadow, Relaxed);
    }
}

impl Admits for Turnstile {
    fn admit(&self) -> Result<Begun<()>, Rejection> {
        let Shared { all, in_flight, .. } = &*self.0;
        if in_flight.fetch_add(1, Relaxed) >= all.max_in_flight.load(Relaxed) {
            let shadow = all.shadow.load(Relaxed);
            if !shadow {
                in_flight.fetch_sub(1, Relaxed);
            }
            let why = self.refuse(shadow);
            if !shadow {
                return Err(why);
            }
        }
        all.emitter.moved(0);
        all.emitter.deliver();
        Ok(begin(()))
    }
}

impl Ends for Turnstile {
    type Ticket = ();
    type End = Outcome;

    fn end(&self, (): &(), outcome: Outcome) {
        let Shared { all, in_flight, .. } = &*self.0;
        in_flight.fetch_sub(1, Relaxed);
        all.emitter.moved(0);
        all.emitter.done(outcome, outcome.as_str(), None, false, 1, None);
    }
}

impl Levels for Shared {
    fn level(&self, number: u32) -> Option<Level> {
        (number == 0).then(|| Level::new(IN_FLIGHT, self.in_flight.load(Relaxed).into()))
    }
}

impl TurnstileBuilder {
    /// Makes the turnstile.
    ///
    /// # Errors
    /// Names the setting that cannot work, its value, and why.
    pub fn build(self) -> Result<Turnstile, ConfigError> {
        let (config, emitter) = self.parts.checked(&KIND)?;
        let turnstile = Turnstile::new(emitter.name().clone(), OfAll::new(config, emitter));
        let levels: Weak<Shared> = Arc::downgrade(&turnstile.0);
        turnstile.0.all.emitter.set_levels(levels);
        Ok(turnstile)
    }
}

impl TurnstileBuilder<Keyed> {
    /// Makes a turnstile for each key.
    ///
    /// # Errors
    /// Names the setting that cannot work, its value, and why.
    pub fn build(self) -> Result<KeyedTurnstile, ConfigError> {
        let (config, emitter) = self.parts.checked(&KEYED)?;
        let all = Turnstile::new(emitter.name().clone(), OfAll::new(config, emitter));
        ByKey::new(all, self.form)
    }
}

impl PerKey for Turnstile {
    fn of_key(&self, name: Name) -> Self {
        Self::new(name, self.0.all.clone())
    }

    fn must_stay(&self) -> bool {
        // Each call under way holds a clone, and so does one that is about to be let in.
        Arc::strong_count(&self.0) > 1
    }

    fn clear(&self) {
        self.0.refused.store(0, Relaxed);
    }

    fn full(&self) -> Rejection {
        self.refuse(false)
    }
}

impl Handle for Turnstile {
    buttress_kit::handle_methods!(&KIND, |this| this.0.all.emitter.kind());

    fn prepare(&self, patch: Patch<'_, '_>) -> Result<Prepared<'_>, ConfigError> {
        self.0.all.settings.prepare(patch, |_, new| self.0.all.apply(new), || ())
    }
}
