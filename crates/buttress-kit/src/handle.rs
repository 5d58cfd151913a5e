//! What registries, reload, health and pages treat all policies by.

use std::{any::Any, fmt};

use buttress_core::{ConfigError, Kind, Name};
use serde::Serialize;

use crate::Events;

/// A change of settings in any format: `&mut <dyn erased_serde::Deserializer>::erase(..)`.
pub type Patch<'a, 'de> = &'a mut dyn erased_serde::Deserializer<'de>;

/// Data in no format yet, to be written in any.
pub type Data<'a> = Box<dyn erased_serde::Serialize + 'a>;

/// What registry, reload, health, pages and command line treat all policies by. Each handle implements it.
///
/// A handle's own methods are typed and come first; [`handle_methods!`](crate::handle_methods) passes on to them.
pub trait Handle: AsAny + Send + Sync + 'static {
    /// What handles of this type are.
    fn pattern() -> Kind
    where
        Self: Sized;

    /// What this one is: as [`pattern`](Self::pattern), or the kind of the form with keys, which has the same name.
    fn kind(&self) -> Kind;

    /// Its name.
    fn name(&self) -> &Name;

    /// What it does and has done, as data.
    fn snapshot_data(&self) -> Data<'_>;

    /// The settings in force, as data.
    fn config_data(&self) -> Data<'_>;

    /// Whether calls get through. [`Health::Up`] unless the pattern knows better.
    fn health(&self) -> Health {
        Health::Up
    }

    /// Back to how it began: counts at zero, states that were set by hand or by rules at their first.
    fn reset(&self);

    /// Refusals, changes of state and the notes that are worth it, as owned copies, from now on.
    fn events(&self) -> Events;

    /// Reads a change of some settings, which replaces each one that it names. Then it can be [held](Prepared::hold),
    /// and then [committed](Held::commit): so one file changes many policies or none.
    ///
    /// # Errors
    /// Names the policy, and the setting that there is not or whose value cannot be read.
    fn prepare(&self, patch: Patch<'_, '_>) -> Result<Prepared<'_>, ConfigError>;

    /// Changes some settings.
    ///
    /// # Errors
    /// Names the policy, the setting that cannot work, its value, and why; nothing changes then.
    fn apply(&self, patch: Patch<'_, '_>) -> Result<(), ConfigError> {
        let held = self.prepare(patch)?.hold()?;
        held.commit()();
        Ok(())
    }
}

/// Writes the methods of [`Handle`] that only pass on to what every handle has itself: `name`, `snapshot`, `config`,
/// `reset` and `events`. Takes the pattern's kind, and then, if it has several forms, what this one is.
///
/// ```
/// use buttress_core::{ConfigError, KindData, Name};
/// use buttress_kit::{Events, Handle, Live, Prepared, handle::Patch};
/// # use buttress_core::Kind;
/// # use buttress_kit::{Emitter, Listeners};
/// # use std::sync::Arc;
/// # buttress_kit::settings! {
/// #     /// The settings of a gate.
/// #     pub struct GateConfig, builder GateBuilder {
/// #         /// How wide.
/// #         pub width: u32 = 3,
/// #     }
/// # }
/// # impl GateConfig { fn validate(&self) -> Result<(), ConfigError> { Ok(()) } }
///
/// static KIND: KindData = KindData::new("gate");
///
/// #[derive(Clone)]
/// struct Gate {
///     settings: Arc<Live<GateConfig>>,
///     // ..
/// #   emitter: Emitter,
/// }
/// # impl Gate {
/// #     fn name(&self) -> &Name { self.emitter.name() }
/// #     fn snapshot(&self) -> u32 { 7 }
/// #     fn config(&self) -> GateConfig { self.settings.get() }
/// #     fn reset(&self) {}
/// #     fn events(&self) -> Events { self.emitter.events() }
/// # }
///
/// impl Handle for Gate {
///     buttress_kit::handle_methods!(&KIND);
///
///     fn prepare(&self, patch: Patch<'_, '_>) -> Result<Prepared<'_>, ConfigError> {
///         self.settings.prepare(patch, |_, _| (), || ())
///     }
/// }
/// # let emitter = Emitter::new(&KIND, "front".into(), &Listeners::default());
/// # let gate = Gate { settings: Arc::new(Live::new(GateConfig::default(), emitter.clone())), emitter };
/// # let gate: Arc<dyn Handle> = Arc::new(gate);
/// # assert_eq!((gate.kind(), gate.name().as_str()), (&KIND, "front"));
/// # assert_eq!(serde_json::to_string(&gate.snapshot_data()).unwrap(), "7");
/// # assert_eq!(serde_json::to_string(&gate.config_data()).unwrap(), "{\"width\":3}");
/// ```
#[macro_export]
macro_rules! handle_methods {
    ($kind:expr) => {
        $crate::handle_methods!($kind, |_this| $kind);
    };
    ($pattern:expr, |$this:ident| $kind:expr) => {
        fn pattern() -> $crate::buttress_core::Kind {
            $pattern
        }

        fn kind(&self) -> $crate::buttress_core::Kind {
            let $this = self;
            $kind
        }

        fn name(&self) -> &$crate::buttress_core::Name {
            self.name()
        }

        fn snapshot_data(&self) -> $crate::handle::Data<'_> {
            Box::new(self.snapshot())
        }

        fn config_data(&self) -> $crate::handle::Data<'_> {
            Box::new(self.config())
        }

        fn reset(&self) {
            self.reset();
        }

        fn events(&self) -> $crate::Events {
            self.events()
        }
    };
}

/// Whether the calls of a policy get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Health {
    /// They do.
    Up,
    /// Some do.
    Degraded,
    /// None does.
    Down,
}

impl Health {
    /// In snake case, as in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

/// Tells the listeners of a change that is in force; only when no settings are held any more, because listeners may
/// change settings.
pub type Tell<'a> = Box<dyn FnOnce() + Send + 'a>;

/// A change of settings that was read. Nothing is held yet: what reads a patch is the code of others, and may wait.
#[must_use = "nothing changes before `commit`"]
pub struct Prepared<'a>(Box<dyn FnOnce() -> Result<Held<'a>, ConfigError> + 'a>);

impl<'a> Prepared<'a> {
    /// Wraps what takes the policy's settings and checks the change.
    pub fn new(hold: impl FnOnce() -> Result<Held<'a>, ConfigError> + 'a) -> Self {
        Self(Box::new(hold))
    }

    /// Takes the policy's settings, so that nobody else can change them, and checks the change.
    ///
    /// # Errors
    /// Names the policy, the setting that cannot work, its value, and why; nothing is held then.
    pub fn hold(self) -> Result<Held<'a>, ConfigError> {
        (self.0)()
    }
}

/// A change of settings that was found good. It holds the policy's settings until it is committed or dropped.
#[must_use = "nothing changes before `commit`"]
pub struct Held<'a>(Box<dyn FnOnce() -> Tell<'a> + 'a>);

impl<'a> Held<'a> {
    /// Wraps what puts the change in force, lets go of the settings, and returns what tells the listeners.
    pub fn new(commit: impl FnOnce() -> Tell<'a> + 'a) -> Self {
        Self(Box::new(commit))
    }

    /// Puts the change in force, and lets go of the settings. Call what it returns once no settings are held.
    #[must_use = "listeners are told by calling it"]
    pub fn commit(self) -> Tell<'a> {
        (self.0)()
    }
}

impl fmt::Debug for Held<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held(..)")
    }
}

impl fmt::Debug for Prepared<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prepared(..)")
    }
}

/// The way back from `dyn Handle` to the handle. (Upcasting to `dyn Any` needs Rust 1.86.)
pub trait AsAny {
    /// The same value, to be downcast.
    fn as_any(&self) -> &dyn Any;
}

impl<T: Any> AsAny for T {
    fn as_any(&self) -> &dyn Any {
        self
    }
}
