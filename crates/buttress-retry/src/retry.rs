use std::{fmt, sync::Arc};

use buttress_core::{ByClone, ConfigError, Name, Standard};
use buttress_kit::{Budget, Chance, Events, Handle, Prepared, handle::Patch};

use crate::{KIND, RetryBuilder, RetryConfig, RetrySnapshot, engine::Engine, policy::Policy};

/// A retry policy: engine and handle in one. Clones share it; keep one to look at it or change its settings.
///
/// ```
/// # tokio_test::block_on(async {
/// # mod buttress { pub use {buttress_core::*, buttress_kit::*, buttress_retry::*}; }
/// use std::time::Duration;
/// use buttress::{BoxError, Retry, RetryConfig, context};
///
/// let retry = Retry::new("payments", RetryConfig::fixed(3, Duration::ZERO))?;
/// let answer = retry.call(|| async {
///     match context::current().attempt {
///         3 => Ok::<_, BoxError>("third time lucky"),
///         n => Err(format!("attempt {n} failed").into()),
///     }
/// });
/// assert_eq!(answer.await?, "third time lucky");
/// assert_eq!(retry.snapshot().retries, 2);
/// # Ok::<_, BoxError>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Retry {
    // The engine with the default strategies, so that `call` and `layer` allocate nothing.
    pub(crate) policy: Arc<Policy<Standard, ByClone>>,
}

impl Retry {
    /// Makes a policy with these settings. `name` names it in rejections, metrics and logs.
    ///
    /// # Errors
    /// If a setting cannot work, see [`RetryConfig`].
    pub fn new(name: impl Into<Name>, config: RetryConfig) -> Result<Self, ConfigError> {
        Self::builder(name).config(config).build()
    }

    /// Starts from the default settings.
    pub fn builder(name: impl Into<Name>) -> RetryBuilder {
        RetryBuilder::new(name)
    }

    /// The name of the policy.
    pub fn name(&self) -> &Name {
        self.engine().emitter.name()
    }

    /// The settings in force.
    pub fn config(&self) -> RetryConfig {
        self.engine().live.get()
    }

    /// The budget, if there is one.
    pub fn budget(&self) -> Option<&Budget> {
        self.engine().budget.as_ref()
    }

    /// What was counted so far.
    pub fn snapshot(&self) -> RetrySnapshot {
        self.engine().snapshot()
    }

    /// Owned copies of what happens to this policy, from now on.
    pub fn events(&self) -> Events {
        self.engine().emitter.events()
    }

    /// Counts from zero again. The budget, which others may share, and calls under way stay as they are.
    pub fn reset(&self) {
        self.engine().reset();
    }

    /// Puts new settings in force. A call under way keeps its number of attempts and its `max_elapsed`; its next
    /// wait is already chosen by the new settings. A wait computed by
    /// [`backoff_with`](RetryBuilder::backoff_with) stays; `backoff.max` bounds it.
    ///
    /// # Errors
    /// If a setting cannot work, and if `budget` is another than the one the policy was built with: what was paid
    /// into a budget cannot move. The old settings then stay.
    pub fn reconfigure(&self, config: RetryConfig) -> Result<(), ConfigError> {
        self.update(|now| *now = config)
    }

    /// Changes some settings: of two changes at once both count. `change` runs with the settings locked, so it must not
    /// use this handle.
    ///
    /// # Errors
    /// As [`reconfigure`](Self::reconfigure).
    pub fn update(&self, change: impl FnOnce(&mut RetryConfig)) -> Result<(), ConfigError> {
        let engine = self.engine();
        engine.live.change(change, |_, next| engine.apply(next))
    }

    fn engine(&self) -> &Engine {
        &self.policy.engine
    }
}

impl Handle for Retry {
    buttress_kit::handle_methods!(&KIND);

    fn prepare(&self, patch: Patch<'_, '_>) -> Result<Prepared<'_>, ConfigError> {
        let engine = self.engine();
        engine.live.prepare(patch, |_, next| engine.apply(next), || ())
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("name", self.name()).field("config", &self.config()).finish()
    }
}

impl RetryBuilder {
    /// Makes the policy.
    ///
    /// # Errors
    /// If a setting cannot work: names the field, its value, and why.
    pub fn build(self) -> Result<Retry, ConfigError> {
        let Self { parts, budget, curve, .. } = self;
        let chance = parts.seed.map_or_else(Chance::random, Chance::seeded);
        let (config, emitter) = parts.checked(&KIND)?;
        let budget = match (budget, config.budget) {
            (Some(shared), _) => Some(shared),
            (None, own) => own.map(Budget::from_config).transpose()?,
        };
        let engine = Engine::new(emitter, config, curve, budget, chance);
        Ok(Retry { policy: Arc::new(Policy { engine, classify: Standard, replay: ByClone }) })
    }
}
