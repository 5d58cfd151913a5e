use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use buttress_core::{ConfigError, Note, OwnedEvent};

use crate::{
    Config, Emitter,
    handle::{Held, Patch, Prepared, Tell},
};

/// The settings in force. One lock over them and over what is copied out of them, so that what
/// [`get`](Self::get) names is what holds; calls read the copies, without the lock.
pub struct Live<C> {
    config: Mutex<C>,
    emitter: Emitter,
    allows: fn(&C, &C) -> Result<(), ConfigError>,
}

impl<C: Config> Live<C> {
    /// Settings that were found good. Changes are told through the policy's emitter.
    pub fn new(config: C, emitter: Emitter) -> Self {
        Self { config: Mutex::new(config), emitter, allows: |_, _| Ok(()) }
    }

    /// Refuses changes that a policy cannot make while it runs: `allows` is given the settings in force and the new
    /// ones, which are good in themselves.
    pub fn allowing(self, allows: fn(&C, &C) -> Result<(), ConfigError>) -> Self {
        Self { allows, ..self }
    }

    fn lock(&self) -> MutexGuard<'_, C> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The settings.
    pub fn get(&self) -> C {
        self.lock().clone()
    }

    /// Looks at the settings, with the lock held.
    pub fn with<T>(&self, look: impl FnOnce(&C) -> T) -> T {
        look(&self.lock())
    }

    /// Replaces the settings as a whole. `apply` is given the former ones and the new ones with the lock held, and
    /// copies out what calls read; it must not call listeners.
    ///
    /// # Errors
    /// Names the policy, the setting that cannot work, its value, and why; nothing changes then.
    pub fn replace(&self, config: C, apply: impl FnOnce(&C, &C)) -> Result<(), ConfigError> {
        self.change(|current| *current = config, apply)
    }

    /// Changes some settings, as [`replace`](Self::replace) does all. `change` runs with the lock held: two changes at
    /// once both count.
    ///
    /// # Errors
    /// As [`replace`](Self::replace).
    pub fn change(&self, change: impl FnOnce(&mut C), apply: impl FnOnce(&C, &C)) -> Result<(), ConfigError> {
        let held = self.lock();
        let mut next = held.clone();
        change(&mut next);
        self.check(&held, &next)?;
        self.put(held, next, apply);
        self.emitter.deliver();
        Ok(())
    }

    /// As [`change`](Self::change), without a note: for settings that are told as levels, which the policy moves.
    ///
    /// # Errors
    /// As [`replace`](Self::replace).
    pub fn adjust(&self, change: impl FnOnce(&mut C), apply: impl FnOnce(&C, &C)) -> Result<(), ConfigError> {
        let mut held = self.lock();
        let mut next = held.clone();
        change(&mut next);
        self.check(&held, &next)?;
        apply(&held, &next);
        *held = next;
        drop(held);
        self.emitter.deliver();
        Ok(())
    }

    /// [`Handle::prepare`](crate::Handle::prepare) of a policy with these settings; `after` runs once no settings are
    /// held, before the change is told.
    ///
    /// # Errors
    /// If the patch cannot be read.
    pub fn prepare<'a>(
        &'a self,
        patch: Patch<'_, '_>,
        apply: impl FnOnce(&C, &C) + 'a,
        after: impl FnOnce() + Send + 'a,
    ) -> Result<Prepared<'a>, ConfigError> {
        let changes = C::read(patch).map_err(|why| self.named(why))?;
        Ok(Prepared::new(move || {
            let held = self.lock();
            let mut next = held.clone();
            changes.into_iter().for_each(|change| change(&mut next));
            self.check(&held, &next)?;
            Ok(Held::new(move || {
                self.put(held, next, apply);
                let tell: Tell<'a> = Box::new(move || {
                    after();
                    self.emitter.deliver();
                });
                tell
            }))
        }))
    }

    fn check(&self, former: &C, next: &C) -> Result<(), ConfigError> {
        next.validate().and_then(|()| (self.allows)(former, next)).map_err(|why| self.named(why))
    }

    fn named(&self, why: ConfigError) -> ConfigError {
        why.of(self.emitter.kind(), self.emitter.name())
    }

    fn put(&self, mut held: MutexGuard<'_, C>, next: C, apply: impl FnOnce(&C, &C)) {
        apply(&held, &next);
        *held = next;
        self.emitter.later_unsubscribed(OwnedEvent::Note(Note::new(Note::RECONFIGURED)));
    }
}

impl<C: fmt::Debug> fmt::Debug for Live<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.config.lock().unwrap_or_else(PoisonError::into_inner), f)
    }
}
