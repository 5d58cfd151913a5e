use std::sync::{
    Arc, Weak,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use buttress_core::{ConfigError, Level, Levels, Name, Note, Outcome, OwnedEvent, Rejection, Transition};
use buttress_kit::{
    Admits, Emitter, Events, Guarded, Handle, Live, Prepared, ThroughLayer, ThroughService,
    call::{Begun, Ends, begin},
    handle::Patch,
};
use serde::Serialize;

use crate::{
    KIND, SHUT, ToyBuilder, ToyConfig,
    kind::{self, FAILURES, OPEN_STATE, RULE, SHUT_STATE},
};

/// A toy: engine and handle in one. Clones share it.
#[derive(Clone, Debug)]
pub struct Toy(Arc<Shared>);

/// Puts one [`Toy`] before every service it wraps.
pub type ToyLayer = ThroughLayer<Toy>;
/// A service behind a [`Toy`].
pub type ToyService<S> = ThroughService<S, Toy>;
/// Resolves as the inner call does, or to a rejection.
pub type ToyFuture<F> = Guarded<F, Toy>;

#[derive(Debug)]
struct Shared {
    emitter: Emitter,
    settings: Live<ToyConfig>,
    max_failures: AtomicU32,
    failures: AtomicU32,
}

/// What a toy has seen; made by [`Toy::snapshot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ToySnapshot {
    /// Failures since it was open.
    pub failures: u32,
}

impl Toy {
    /// Begins with the default settings.
    pub fn builder(name: impl Into<Name>) -> ToyBuilder {
        ToyBuilder::new(name)
    }

    /// A layer that puts this toy before every service it wraps.
    pub fn layer(&self) -> ToyLayer {
        ThroughLayer::new(self.clone())
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        self.0.emitter.name()
    }

    /// The settings in force.
    pub fn config(&self) -> ToyConfig {
        self.0.settings.get()
    }

    /// What it has seen.
    pub fn snapshot(&self) -> ToySnapshot {
        ToySnapshot { failures: self.0.failures.load(Relaxed) }
    }

    /// Opens it.
    pub fn reset(&self) {
        self.0.failures.store(0, Relaxed);
        self.0.moved();
        self.0.emitter.note(Note::new(Note::RESET));
    }

    /// Owned copies of refusals and changes of state, from now on.
    pub fn events(&self) -> Events {
        self.0.emitter.events()
    }
}

impl Shared {
    fn is_shut(&self) -> bool {
        self.failures.load(Relaxed) >= self.max_failures.load(Relaxed)
    }

    fn moved(&self) {
        self.emitter.moved(0);
        self.emitter.moved(1);
    }
}

impl Levels for Shared {
    fn level(&self, number: u32) -> Option<Level> {
        match number {
            0 => Some(kind::state(self.is_shut())),
            1 => Some(Level::new(FAILURES, self.failures.load(Relaxed).into())),
            _ => None,
        }
    }
}

impl Admits for Toy {
    fn admit(&self) -> Result<Begun<()>, Rejection> {
        if self.0.is_shut() {
            let why = Rejection::new(SHUT, self.name());
            self.0.emitter.refused(&why, false);
            return Err(why);
        }
        Ok(begin(()))
    }
}

impl Ends for Toy {
    type Ticket = ();
    type End = Outcome;

    fn end(&self, (): &(), outcome: Outcome) {
        let Shared { emitter, failures, max_failures, .. } = &*self.0;
        if let Outcome::Failure | Outcome::Panicked = outcome {
            let before = failures.fetch_add(1, Relaxed);
            if before.saturating_add(1) == max_failures.load(Relaxed) {
                emitter.later(OwnedEvent::Transition(Transition::new(OPEN_STATE, SHUT_STATE, RULE)));
            }
            self.0.moved();
        }
        emitter.done(outcome, outcome.as_str(), None, false, 1, None);
    }
}

impl ToyBuilder {
    /// Makes the toy.
    ///
    /// # Errors
    /// Names the setting that cannot work, its value, and why.
    pub fn build(self) -> Result<Toy, ConfigError> {
        let (config, emitter) = self.parts.checked(&KIND)?;
        let max_failures = AtomicU32::new(config.max_failures);
        let settings = Live::new(config, emitter.clone());
        let shared = Arc::new(Shared { emitter, settings, max_failures, failures: AtomicU32::new(0) });
        let levels: Weak<Shared> = Arc::downgrade(&shared);
        shared.emitter.set_levels(levels);
        Ok(Toy(shared))
    }
}

impl Handle for Toy {
    buttress_kit::handle_methods!(&KIND);

    fn prepare(&self, patch: Patch<'_, '_>) -> Result<Prepared<'_>, ConfigError> {
        let apply = |new: &ToyConfig| self.0.max_failures.store(new.max_failures, Relaxed);
        self.0.settings.prepare(patch, move |_, new| apply(new), || self.0.moved())
    }
}
