use std::{fmt, sync::Arc};

use buttress_core::{Event, Kind, Name, Observer, Recorder, observe};

/// The listeners that a builder collects; attached by [`Emitter::new`](crate::Emitter::new), once the settings were
/// found good. Clones share the listeners.
#[derive(Clone, Default)]
pub struct Listeners {
    observers: Vec<Arc<dyn Observer>>,
}

impl Listeners {
    /// Adds an observer.
    pub fn observe(&mut self, observer: impl Observer) {
        self.observers.push(Arc::new(observer));
    }

    /// Adds a closure; it is given the time that calls took.
    pub fn on_event(&mut self, listen: impl Fn(&Event<'_>) + Send + Sync + 'static) {
        let recorder = observe::recorder_fn(listen);
        self.observe(move |_: Kind, _: &Name| Some(recorder.clone()));
    }

    /// As [`on_event`](Self::on_event), for a closure that does not want the time that calls took: no call reads the
    /// clock for it.
    pub fn on_event_untimed(&mut self, listen: impl Fn(&Event<'_>) + Send + Sync + 'static) {
        let recorder: Arc<dyn Recorder> = Arc::new(Untimed(listen));
        self.observe(move |_: Kind, _: &Name| Some(recorder.clone()));
    }

    /// The recorders that observers have for this policy.
    pub(crate) fn attach<'a>(
        &'a self,
        kind: Kind,
        name: &'a Name,
    ) -> impl Iterator<Item = Arc<dyn Recorder>> + 'a {
        self.observers.iter().filter_map(move |one| crate::recorders::attached(&**one, kind, name))
    }
}

struct Untimed<F>(F);

impl<F: Fn(&Event<'_>) + Send + Sync + 'static> Recorder for Untimed<F> {
    fn record(&self, event: &Event<'_>) {
        (self.0)(event);
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners").field("observers", &self.observers.len()).finish()
    }
}
