//! What a pattern is called, which words it has, and what it exports: data that hosts, exporters and logs read.

use std::{fmt, hash};

use crate::{Code, Outcome, Word};

/// What a policy is: a `static` of the pattern's crate. Two kinds are the same if their names are; a pattern that comes
/// with keys too has a second static of the same name.
pub type Kind = &'static KindData;

/// The words of one pattern, and the tables of what it exports.
///
/// ```
/// use buttress_core::{Code, KindData};
///
/// pub const SHUT: &Code = &Code::refused("GATE_SHUT").says("gate {} is shut");
///
/// pub static KIND: KindData = KindData::new("gate").codes(&[SHUT]).states(&["shut", "open"]);
/// assert_eq!(KIND.name, "gate");
/// ```
#[non_exhaustive]
pub struct KindData {
    /// In snake case, as in logs, paths and settings files.
    pub name: &'static str,
    /// Why it refuses or ends calls.
    pub codes: &'static [&'static Code],
    /// The states it can be in.
    pub states: &'static [Word],
    /// What it exports.
    pub metrics: &'static [Metric],
    /// What it logs.
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
#[derive(Debug)]
#[non_exhaustive]
pub struct Metric {
    /// The name, without a prefix.
    pub name: &'static str,
    /// What it tells.
    pub help: &'static str,
    /// How it is made of events.
    pub rows: Rows,
}

impl Metric {
    /// Makes a metric.
    pub const fn new(name: &'static str, rows: Rows, help: &'static str) -> Self {
        Self { name, help, rows }
    }
}

/// One series of a metric: which value its label has, and when it moves.
pub type Row = (Word, When);

/// When a row of a table moves.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum When {
    /// Calls that ended so.
    Done(&'static [Outcome]),
    /// Refusals of calls that were not sent, by any code that no other row of this metric has.
    Refused,
}

/// How a metric is made of events.
#[derive(Debug)]
#[non_exhaustive]
pub enum Rows {
    /// A counter that begins at 0; the label's key and one series for each row.
    Counters(&'static str, &'static [Row]),
}

/// A log line: when it is written, how it reads.
#[derive(Debug)]
#[non_exhaustive]
pub struct Line {
    /// What it says.
    pub message: &'static str,
}
