//! temp
use buttress_core::*;
use std::sync::{Arc, Weak};
#[derive(Clone, Default)]
pub struct Listeners;
impl std::fmt::Debug for Listeners {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}
impl Listeners {
    pub fn observe(&mut self, _: impl Observer) {}
    pub fn on_event(&mut self, _: impl Fn(&Event<'_>) + Send + Sync + 'static) {}
}
#[derive(Clone)]
pub struct Emitter(Arc<(Kind, Name)>);
impl Emitter {
    pub fn new(k: Kind, n: Name, _: &Listeners) -> Self {
        Self(Arc::new((k, n)))
    }
    pub fn kind(&self) -> Kind {
        self.0.0
    }
    pub fn name(&self) -> &Name {
        &self.0.1
    }
    pub fn later(&self, _: OwnedEvent) {}
    pub fn deliver(&self) {}
    pub fn events(&self) -> Events {
        Events
    }
    pub fn set_levels(&self, _: Weak<dyn Levels>) {}
}
pub struct Events;
