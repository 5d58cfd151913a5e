use std::{fmt, sync::Arc, time::Duration};

use buttress_core::{
    ConfigError, Event, Mode, Name, Observer, PolicyKind, Recorder, Rejection, observe::recorder_fn,
};

use crate::{Bulkhead, BulkheadConfig};

/// Makes a [`Bulkhead`]; from [`Bulkhead::builder`].
#[must_use = "nothing is made until `build`"]
pub struct BulkheadBuilder {
    name: Name,
    config: BulkheadConfig,
    observers: Vec<Box<dyn Observer>>,
}

impl BulkheadBuilder {
    pub(crate) fn new(name: Name) -> Self {
        Self { name, config: BulkheadConfig::default(), observers: Vec::new() }
    }

    /// Replaces all settings.
    pub fn config(mut self, config: BulkheadConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets the most calls that run at once, `1..=16_777_215`. Default 10.
    pub fn max_concurrent(mut self, max_concurrent: u32) -> Self {
        self.config.max_concurrent = max_concurrent;
        self
    }

    /// Sets the most calls that wait for their turn. With 0, a call that cannot run at once is refused. Default
    /// 100.
    pub fn max_queue(mut self, max_queue: u32) -> Self {
        self.config.max_queue = max_queue;
        self
    }

    /// Sets how long a call may wait, longer than zero; `None` for as long as it takes. Default 30 s.
    pub fn queue_timeout(mut self, queue_timeout: impl Into<Option<Duration>>) -> Self {
        self.config.queue_timeout = queue_timeout.into();
        self
    }

    /// Sets whether calls are held back and refused, or only counted. Default [`Mode::Enforce`].
    pub fn mode(mut self, mode: Mode) -> Self {
        self.config.mode = mode;
        self
    }

    /// Sets whether the time of every call is taken for the average in the snapshot. Default `false`.
    pub fn timed(mut self, timed: bool) -> Self {
        self.config.timed = timed;
        self
    }

    /// Adds an observer of this bulkhead alone.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers.push(Box::new(observer));
        self
    }

    /// Calls `f` with every event, outside of every lock.
    pub fn on_event<F>(self, f: F) -> Self
    where
        F: Fn(&Event<'_>) + Send + Sync + 'static,
    {
        self.recorder(recorder_fn(f))
    }

    /// Calls `f` with every refusal; `code()` says why.
    pub fn on_reject<F>(self, f: F) -> Self
    where
        F: Fn(&Rejection) + Send + Sync + 'static,
    {
        self.recorder(Arc::new(OnReject(f)))
    }

    fn recorder(self, recorder: Arc<dyn Recorder>) -> Self {
        self.observe(move |_: PolicyKind, _: &Name| Some(recorder.clone()))
    }

    /// Makes the bulkhead.
    ///
    /// # Errors
    /// Where the settings cannot work: [`BulkheadConfig::validate`].
    pub fn build(self) -> Result<Bulkhead, ConfigError> {
        let bulkhead = Bulkhead::with(self.name, self.config)?;
        for observer in &self.observers {
            bulkhead.shared.emitter.observe(&**observer);
        }
        Ok(bulkhead)
    }
}

/// Unlike a closure on all events it does not ask for times.
struct OnReject<F>(F);

impl<F: Fn(&Rejection) + Send + Sync + 'static> Recorder for OnReject<F> {
    fn record(&self, event: &Event<'_>) {
        if let Event::Refused { rejection, shadow: false } = event {
            (self.0)(rejection);
        }
    }
}

impl fmt::Debug for BulkheadBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadBuilder")
            .field("name", &self.name)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
