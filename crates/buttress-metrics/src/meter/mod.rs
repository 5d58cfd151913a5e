//! Meters a bare stage: how many calls began, how they ended, and how long they took. It has no rule and refuses nothing.
//!
//! ```
//! # mod buttress { pub use {buttress_core::*, buttress_metrics as metrics, buttress_metrics::meter::*}; }
//! # tokio_test::block_on(async {
//! # let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
//! # let page = recorder.handle();
//! # metrics::set_global_recorder(recorder).unwrap();
//! use buttress::Meter;
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! buttress::metrics::install();
//! let meter = Meter::new("parse")?;
//! let parse = meter.layer().layer(service_fn(|text: &'static str| async move { text.parse::<u32>() }));
//! assert_eq!(parse.clone().oneshot("7").await?, 7);
//! assert!(parse.oneshot("seven").await.is_err());
//!
//! let page = page.render();
//! assert!(page.contains(r#"meter_calls_started_total{name="parse"} 2"#));
//! assert!(page.contains(r#"meter_calls_total{name="parse",result="completed"} 1"#));
//! assert!(page.contains(r#"meter_calls_total{name="parse",result="failed"} 1"#));
//! # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! Not needed around a pattern of buttress: each exports its own calls. For what is between them or has none of them: a
//! stage of a pipeline, a handler, a client of somebody else's.
//!
//! # Place in a stack
//! Outermost, it sees what callers see; around one stage, that stage. A *through* layer: it is ready when the service
//! inside is. It asks nothing of request, response and error, and passes all of them on.
//!
//! # What is exported
//! | metric | what it tells |
//! |---|---|
//! | `meter_calls_started_total` | calls that began; less those that ended, it is how many are under way |
//! | `meter_calls_total` | calls that ended: `completed`, `failed` (panics too), `cancelled` (dropped by the caller) |
//! | `meter_call_duration_seconds` | how long they took |
//!
//! An observer hears the note [`STARTED`] and [`Event::Done`]. A failed call is a log line at DEBUG, `call failed`.
//! While nobody listens, a call costs one look at a flag at either end, and no clock is read.
//!
//! # Defaults
//! An `Ok` is completed and an `Err` failed. [`MeterLayer::classify`] takes any rule for that, such as `HttpClassify`.

mod kind;
mod service;

use std::{fmt, sync::Arc, time::Instant as StdInstant};

use buttress_core::{ConfigError, Event, Name, Note, Observer, Outcome};
use buttress_kit::{
    Emitter, Listeners,
    call::{Begun, Ends, begin},
};
use tokio::time::Instant;

pub use self::{
    kind::{KIND, STARTED},
    service::{ByResult, MeterFuture, MeterLayer, MeterService},
};

/// Tells what becomes of the calls of one stage. Clones are the same one.
#[derive(Clone)]
pub struct Meter {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    emitter: Emitter,
}

/// Makes a [`Meter`]; from [`Meter::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct MeterBuilder {
    name: Name,
    listeners: Listeners,
}

impl Meter {
    /// Makes the meter of a stage, heard by the observers of the process. `name` is the label in metrics and logs.
    ///
    /// # Errors
    /// The name is empty, longer than 128 bytes, or has control characters.
    pub fn new(name: impl Into<Name>) -> Result<Self, ConfigError> {
        Self::builder(name).build()
    }

    /// Begins a meter that has listeners of its own.
    pub fn builder(name: impl Into<Name>) -> MeterBuilder {
        MeterBuilder { name: name.into(), listeners: Listeners::default() }
    }

    /// The name.
    pub fn name(&self) -> &Name {
        self.shared.emitter.name()
    }

    fn begin(&self) -> Begun<Option<StdInstant>> {
        let emitter = &self.shared.emitter;
        if !emitter.is_on() {
            return begin(None);
        }
        emitter.emit(Event::Note(&Note::new(STARTED)));
        begin(emitter.is_timed().then(|| Instant::now().into_std()))
    }
}

impl MeterBuilder {
    /// Adds an observer of this meter alone.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.listeners.observe(observer);
        self
    }

    /// Calls `listen` with every event of this meter.
    pub fn on_event(mut self, listen: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.listeners.on_event(listen);
        self
    }

    /// Makes the meter.
    ///
    /// # Errors
    /// The name is empty, longer than 128 bytes, or has control characters.
    pub fn build(self) -> Result<Meter, ConfigError> {
        self.name.validate().map_err(|why| why.of(&KIND, &self.name))?;
        let emitter = Emitter::new(&KIND, self.name, &self.listeners);
        Ok(Meter { shared: Arc::new(Shared { emitter }) })
    }
}

impl Ends for Shared {
    /// When it began, if somebody wants to know.
    type Ticket = Option<StdInstant>;
    type End = Outcome;

    fn end(&self, started: &Option<StdInstant>, outcome: Outcome) {
        if self.emitter.is_on() {
            let elapsed = started.map(|started| Instant::now().into_std().saturating_duration_since(started));
            self.emitter.done(outcome, outcome.as_str(), elapsed, false, 1, None);
        }
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").field("name", self.name()).finish()
    }
}
