//! What a pattern is called, which words it has, and what it exports: data that hosts, exporters and logs read.

use std::{fmt, hash};

use crate::{Code, Note, Outcome, Word};

/// What a policy is: a `static` of the pattern's crate. Two kinds are the same if their names are; a pattern that comes
/// with keys too has a second static of the same name.
pub type Kind = &'static KindData;

/// The words of one pattern, and the tables of what it exports: exporters read them once for each policy, so a new
/// pattern has metrics and log lines without a change to any exporter.
///
/// ```
/// use buttress_core::{Code, KindData, Level, Line, Metric, On, Outcome, Row, Rows, Source, When, Word};
///
/// pub const SHUT: &Code = &Code::refused("GATE_SHUT").says("gate {} is shut");
/// const STATES: &[Word] = &["shut", "open"];
///
/// const ENDED: &[Row] = &[
///     ("success", When::Done(&[Outcome::Success])),
///     ("failure", When::Done(&[Outcome::Failure, Outcome::Panicked])),
///     ("cancelled", When::Done(&[Outcome::Cancelled])),
///     ("refused", When::Refused),
/// ];
///
/// pub static KIND: KindData = KindData::new("gate")
///     .codes(&[SHUT])
///     .states(STATES)
///     .metrics(&[
///         Metric::new("gate_calls_total", Rows::Counters("result", ENDED), "Calls that ended, by how."),
///         Metric::new("gate_state", Rows::OneHot, "1 for the state the gate is in, 0 for the other."),
///     ])
///     .lines(&[Line::warn("gate shut", On::Change(&["shut"], &[])).fields(&[("cause", Source::Cause)])]);
/// ```
///
/// The gate of this example tells `Done`, `Refused`, a `Transition`, and its state as [`Level::state`](crate::Level::state).
#[non_exhaustive]
pub struct KindData {
    /// In snake case, as in logs, paths and settings files.
    pub name: &'static str,
    /// Why it refuses or ends calls.
    pub codes: &'static [&'static Code],
    /// The states it can be in: values of labels, so they are few.
    pub states: &'static [Word],
    /// What it exports.
    pub metrics: &'static [Metric],
    /// What it logs, besides [`Line::COMMON`].
    pub lines: &'static [Line],
}

impl KindData {
    /// A kind without words.
    pub const fn new(name: &'static str) -> Self {
        Self { name, codes: &[], states: &[], metrics: &[], lines: &[] }
    }

    /// Sets the codes.
    pub const fn codes(mut self, codes: &'static [&'static Code]) -> Self {
        self.codes = codes;
        self
    }

    /// Sets the states.
    pub const fn states(mut self, states: &'static [Word]) -> Self {
        self.states = states;
        self
    }

    /// Sets the metrics.
    pub const fn metrics(mut self, metrics: &'static [Metric]) -> Self {
        self.metrics = metrics;
        self
    }

    /// Sets the log lines.
    pub const fn lines(mut self, lines: &'static [Line]) -> Self {
        self.lines = lines;
        self
    }
}

// By name: the tables are long, and a kind is told by its name everywhere.
impl PartialEq for KindData {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for KindData {}

impl hash::Hash for KindData {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl fmt::Debug for KindData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kind").field(&self.name).finish()
    }
}

/// A metric: its name, what it means, and the events that move it.
///
/// Counters begin at 0 with their policy. Gauges begin when their level is first told, and go to rest when the last
/// policy of their kind and name is gone. Every series has the label `name`, the policy's.
#[derive(Debug)]
#[non_exhaustive]
pub struct Metric {
    /// The name, without a prefix. No two kinds of different names share one.
    pub name: &'static str,
    /// What it tells.
    pub help: &'static str,
    /// How it is made of events.
    pub rows: Rows,
    /// The unit, if there is one that the name tells too.
    pub unit: Option<Unit>,
    /// The upper bounds of a histogram's buckets; empty for what is none.
    pub buckets: &'static [f64],
    /// What a gauge is set to when its policy is gone; `None`: it stays as it is.
    pub at_rest: Option<f64>,
}

impl Metric {
    /// Upper bounds for durations of calls, in seconds: those that OpenTelemetry advises.
    pub const DURATIONS: &'static [f64] =
        &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

    /// Upper bounds for waits, in seconds: those for durations, and two more for long backoffs.
    pub const WAITS: &'static [f64] =
        &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0];

    /// Makes a metric without a unit. If it is a gauge, it rests at 0.
    pub const fn new(name: &'static str, rows: Rows, help: &'static str) -> Self {
        Self { name, help, rows, unit: None, buckets: &[], at_rest: Some(0.0) }
    }

    /// It is in seconds. The name ends so, too.
    pub const fn seconds(mut self) -> Self {
        self.unit = Some(Unit::Seconds);
        self
    }

    /// It is in bytes. The name ends so, too, before a `_total`.
    pub const fn bytes(mut self) -> Self {
        self.unit = Some(Unit::Bytes);
        self
    }

    /// Sets the bounds of the histogram's buckets.
    pub const fn buckets(mut self, upper_bounds: &'static [f64]) -> Self {
        self.buckets = upper_bounds;
        self
    }

    /// Sets what the gauge says when its policy is gone. Default: 0.
    pub const fn rests_at(mut self, value: f64) -> Self {
        self.at_rest = Some(value);
        self
    }

    /// The gauge keeps its last value when its policy is gone.
    pub const fn stays(mut self) -> Self {
        self.at_rest = None;
        self
    }
}

/// What a metric is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

/// How a metric is made of events.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Rows {
    /// Counters: the label's key, and its values with what counts for each.
    Counters(&'static str, &'static [Row]),
    /// One counter, without a label of its own.
    Counter(When),
    /// One counter that appears when it is first counted: for what most policies never see.
    Rare(When),
    /// A counter for each change of state, by the labels `from` and `to`. The changes listed here begin at 0, or
    /// `increase` would miss the first; the others appear when they were made.
    Changes(&'static [(Word, Word)]),
    /// Histograms of how long calls took: the label's key, and its values with which calls are meant. Exporting one
    /// asks the policy for times.
    Elapsed(&'static str, &'static [Row]),
    /// A histogram of the times that come with this note.
    Took(Word),
    /// A histogram of the waits before the next attempt.
    Delays,
    /// A gauge of this level. A change to one of these states makes it NaN, until it is told again.
    Level(Word, &'static [Word]),
    /// A gauge for each part of this level ([`Level::of`](crate::Level::of)): the label's key, and its values.
    LevelOf(Word, &'static str, &'static [Word]),
    /// A gauge for each state of the kind, by the label `state`: 1 for the one the policy is in, 0 for the others.
    OneHot,
    /// A gauge: when the state changed last, in seconds since 1970.
    ChangedAt,
}

/// A value of a label, and when its series moves. Rows of one value are one series.
pub type Row = (Word, When);

/// When a row moves. No two rows of one metric are for the same event; what no row is for moves nothing.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum When {
    /// Calls that ended so.
    Done(&'static [Outcome]),
    /// Calls that ended so in the pattern's own word. No row with [`Done`](Self::Done) of the same metric moves then.
    DoneAs(Word),
    /// Calls that ended so and were slow.
    Slow(&'static [Outcome]),
    /// Refusals of calls that were not sent, by any code that no other row of the metric names. What was sent ends
    /// with `Done`.
    Refused,
    /// Refusals of calls that were not sent, by one of these codes.
    Code(&'static [&'static Code]),
    /// Calls that in shadow mode were let through.
    Shadow,
    /// This note.
    Note(Word),
    /// This note, which every call begins with. A short call then looks at the clock once: its end goes without.
    Begin(Word),
    /// This note with this word as its value.
    NoteOf(Word, Word),
    /// Attempts that another one followed, for this reason.
    Attempt(Word),
}

/// A log line: when it is written, how it reads.
///
/// Its target is `buttress::` and the kind's name. It begins with the message and the fields `policy.name` and
/// `policy.kind`. The first line that an event is for is written, and no other; a kind's own come before
/// [`COMMON`](Self::COMMON).
///
/// At [`Severity::Info`] and above, a policy writes a line at most once a second for each reason: the words of the event,
/// such as a code, or the states and the cause of a change; of a note those that [`On::NoteOf`] lists. The others are
/// counted, and the next one has the count as the field `suppressed`.
#[derive(Debug)]
#[non_exhaustive]
pub struct Line {
    /// How much it matters.
    pub level: Severity,
    /// What it says.
    pub message: &'static str,
    /// When it is written.
    pub on: On,
    /// Its fields, and what each shows. A field that the event has nothing for is left out.
    pub fields: &'static [(&'static str, Source)],
    /// At most one in a second is written for each policy and reason at any severity.
    pub throttled: bool,
}

impl Line {
    /// The lines that every kind has unasked, unless one of its own is for the same event.
    pub const COMMON: &'static [Self] = &[
        Self::debug("refused", On::Refused).fields(&[
            ("code", Source::Code),
            ("retry_after_ms", Source::RetryAfter),
            ("shadow", Source::Shadow),
            ("policy.key", Source::Key),
        ]),
        Self::debug("timed out", On::Done(&[Outcome::TimedOut])).fields(&[("elapsed_ms", Source::Elapsed)]),
        Self::warn("policy reset", On::Note(Note::RESET)),
        Self::info("policy reconfigured", On::Note(Note::RECONFIGURED)),
    ];

    /// A line of this severity, without fields.
    pub const fn new(level: Severity, message: &'static str, on: On) -> Self {
        Self { level, message, on, fields: &[], throttled: false }
    }

    /// Something failed for good: somebody should look.
    pub const fn error(message: &'static str, on: On) -> Self {
        Self::new(Severity::Error, message, on)
    }

    /// Something is wrong, or somebody intervened.
    pub const fn warn(message: &'static str, on: On) -> Self {
        Self::new(Severity::Warn, message, on)
    }

    /// Something happened that happens once in a while.
    pub const fn info(message: &'static str, on: On) -> Self {
        Self::new(Severity::Info, message, on)
    }

    /// Something that may happen with every call.
    pub const fn debug(message: &'static str, on: On) -> Self {
        Self::new(Severity::Debug, message, on)
    }

    /// Something that happens more than once in a call.
    pub const fn trace(message: &'static str, on: On) -> Self {
        Self::new(Severity::Trace, message, on)
    }

    /// Sets the fields: names and what they show. A time is shown in whole milliseconds.
    pub const fn fields(mut self, fields: &'static [(&'static str, Source)]) -> Self {
        self.fields = fields;
        self
    }

    /// Writes at most one in a second for each policy and reason, also below [`Severity::Info`].
    pub const fn once_a_second(mut self) -> Self {
        self.throttled = true;
        self
    }
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// Something failed for good.
    Error,
    /// Something is wrong, or somebody intervened.
    Warn,
    /// Once in a while.
    Info,
    /// Perhaps with every call.
    Debug,
    /// More than once in a call.
    Trace,
}

/// When a log line is written.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum On {
    /// A change to one of these states, for one of these causes; no states or no causes: any.
    Change(&'static [Word], &'static [Word]),
    /// A call that ended so.
    Done(&'static [Outcome]),
    /// A call that ended so in the pattern's own word.
    DoneAs(Word),
    /// A refusal, be it of a call that was sent, or in shadow mode.
    Refused,
    /// A failed attempt that another one follows.
    Attempt,
    /// This note.
    Note(Word),
    /// This note with one of these words as its value.
    NoteOf(Word, &'static [Word]),
}

/// What a field of a log line shows.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Source {
    /// The state before a change.
    From,
    /// The state after a change.
    To,
    /// Who or what changed the state.
    Cause,
    /// What else was known of a change, under this word.
    Detail(Word),
    /// The code of a refusal.
    Code,
    /// When to come back after a refusal.
    RetryAfter,
    /// Whether a refusal was one in shadow mode only.
    Shadow,
    /// The number of the attempt that failed.
    Attempt,
    /// The wait before the next attempt.
    Delay,
    /// What called for the next attempt.
    Reason,
    /// What the attempt or the call failed with.
    Error,
    /// How long the call took.
    Elapsed,
    /// The value of a note.
    Value,
    /// The key, of a policy by key that shows its keys: of a change of state or a refusal.
    Key,
    /// How many lines were held back since the last one, also if that is none. A line without this says so in a field
    /// `suppressed` if there were any.
    Suppressed,
}
