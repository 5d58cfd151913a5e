//! What buttress logs, as lines: the smallest `tracing` subscriber that does.

use std::fmt::{self, Write};

use tokio::time::Instant;
use tower::BoxError;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Hands every line at INFO and above to `sink`, from now on and for the whole process.
pub(crate) fn install(sink: impl Fn(String) + Send + Sync + 'static) -> Result<(), BoxError> {
    tracing::subscriber::set_global_default(Lines { sink, start: Instant::now() })?;
    buttress::metrics::trace::install();
    Ok(())
}

/// A sink.
pub(crate) fn to_stderr(line: String) {
    eprintln!("{line}");
}

struct Lines<F> {
    sink: F,
    start: Instant,
}

impl<F: Fn(String) + 'static> Subscriber for Lines<F> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("buttress")
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (at, metadata) = (self.start.elapsed().as_secs_f64(), event.metadata());
        let (level, target) = (metadata.level(), metadata.target());
        (self.sink)(format!("{at:7.3} {level:>5} {target}: {}{}", fields.message, fields.rest));
    }

    // buttress opens no spans, and no other target is enabled.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let (name, out) =
            (field.name(), if field.name() == "message" { &mut self.message } else { &mut self.rest });
        // Writing to a `String` cannot fail.
        let _ = if name == "message" { write!(out, "{value:?}") } else { write!(out, " {name}={value:?}") };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.record_debug(field, &format_args!("{value:.2}"));
    }
}
