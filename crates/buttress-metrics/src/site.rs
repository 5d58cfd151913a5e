//! Call sites of `tracing` that are made at run time.
//!
//! `tracing::event!` wants its target at compile time, and the target of a line is its kind. A call site is no more
//! than a `static`: one is made for each line of each kind that has had a policy, and kept for good. So their number is
//! bounded by what is linked.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, OnceLock, PoisonError},
};

use buttress_core::{Kind, Line, Severity, Source};
use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};
use tracing_core::{
    Event, Interest, Level, Metadata,
    callsite::{Callsite, DefaultCallsite, Identifier},
    dispatcher,
    field::{FieldSet, Value},
};

use crate::check::{ALWAYS, MOST};

/// The field of a line that says how many were held back before it.
const SUPPRESSED: &str = "suppressed";

/// Where the lines of one row of one kind come from.
pub(crate) struct Site {
    callsite: OnceLock<DefaultCallsite>,
}

/// Whether of the lines for one reason only one in a second is written.
pub(crate) fn is_throttled(line: &Line) -> bool {
    line.throttled || matches!(line.level, Severity::Error | Severity::Warn | Severity::Info)
}

/// Whether a field is added that says how many lines were held back.
pub(crate) fn adds_suppressed(line: &Line) -> bool {
    let says_so = |(name, source): &(&str, Source)| *name == SUPPRESSED || *source == Source::Suppressed;
    is_throttled(line) && !line.fields.iter().any(says_so)
}

/// The names of a line's own fields.
fn fields_of(line: &Line) -> impl Iterator<Item = &'static str> {
    let own = line.fields.iter().map(|(name, _)| *name).take(MOST);
    own.chain(adds_suppressed(line).then_some(SUPPRESSED))
}

/// What makes two lines of a kind the same.
type Key = (&'static str, Severity, &'static str, Vec<&'static str>);

impl Site {
    /// The call site for a line of a kind. Made once, also if two statics of one name have the line.
    pub(crate) fn of(kind: Kind, line: &'static Line) -> &'static Self {
        static SITES: Mutex<Option<HashMap<Key, &'static Site>>> = Mutex::new(None);

        let names = fields_of(line).collect::<Vec<_>>();
        let mut sites = SITES.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (kind.name, line.level, line.message, names.clone());
        sites.get_or_insert_default().entry(key).or_insert_with(|| Self::leak(kind, line, names))
    }

    fn leak(kind: Kind, line: &Line, names: Vec<&'static str>) -> &'static Self {
        let site: &'static Self = Box::leak(Box::new(Self { callsite: OnceLock::new() }));
        let target = Box::leak(format!("buttress::{}", kind.name).into_boxed_str());
        let names = ALWAYS.into_iter().chain(names).collect::<Vec<_>>().leak();
        let fields = FieldSet::new(names, Identifier(site));
        let metadata = Metadata::new(
            line.message,
            target,
            level_of(line.level),
            None,
            None,
            None,
            fields,
            tracing_core::Kind::EVENT,
        );
        site.callsite.get_or_init(|| DefaultCallsite::new(Box::leak(Box::new(metadata))));
        site
    }

    fn callsite(&'static self) -> &'static DefaultCallsite {
        self.callsite.get().expect("set before anybody has the site")
    }

    /// Whether anybody would hear a line. As in the macros of `tracing`: what nobody wants costs one load.
    pub(crate) fn is_enabled(&'static self) -> bool {
        let metadata = self.callsite().metadata();
        let level = metadata.level();
        if *level > STATIC_MAX_LEVEL || *level > LevelFilter::current() {
            return false;
        }
        let interest = self.callsite().interest();
        !interest.is_never()
            && (interest.is_always() || dispatcher::get_default(|dispatch| dispatch.enabled(metadata)))
    }

    /// Writes a line. `values` are those of its own fields, in order.
    pub(crate) fn write<'a>(
        &'static self,
        message: fmt::Arguments<'a>,
        name: &'a str,
        kind: &'a str,
        values: [Option<&'a dyn Value>; MOST + 1],
    ) {
        let metadata = self.callsite().metadata();
        let fields = metadata.fields();
        let always: [Option<&dyn Value>; 3] = [Some(&message), Some(&name), Some(&kind)];
        let mut values = always.into_iter().chain(values);
        let mut names = fields.iter();
        let Some(first) = fields.iter().next() else { return };
        // An array's length is part of its type, so a shorter line is filled up with nothing.
        let named: [_; ALWAYS.len() + MOST + 1] = std::array::from_fn(|_| {
            let (name, value) = (names.next(), values.next().flatten());
            (name.unwrap_or_else(|| first.clone()), value)
        });
        let set = named.each_ref().map(|(name, value)| (name, *value));
        Event::dispatch(metadata, &fields.value_set(&set));
    }
}

impl Callsite for Site {
    fn set_interest(&self, interest: Interest) {
        if let Some(callsite) = self.callsite.get() {
            callsite.set_interest(interest);
        }
    }

    fn metadata(&self) -> &Metadata<'_> {
        self.callsite.get().expect("set before anybody has the site").metadata()
    }
}

fn level_of(severity: Severity) -> Level {
    match severity {
        Severity::Error => Level::ERROR,
        Severity::Warn => Level::WARN,
        Severity::Info => Level::INFO,
        Severity::Debug => Level::DEBUG,
        _ => Level::TRACE,
    }
}
