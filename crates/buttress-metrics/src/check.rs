//! What the tables of kinds must keep to.

use std::collections::BTreeSet;

use buttress_core::{Kind, Line, Metric, On, Row, Rows, When, Word};

use crate::catalog::{BUILD_INFO, MISSED, MetricDef, MetricKind};

/// The fields that every line has, first.
pub(crate) const ALWAYS: [&str; 3] = ["message", "policy.name", "policy.kind"];

/// How many fields a line may have of its own.
pub(crate) const MOST: usize = 12;

/// Checks the tables of kinds against each other and each in itself, for a test of the crate that has them: an
/// exporter takes them as they are.
///
/// - Metrics: a help; a name that Prometheus takes, that ends in `_total` if it counts and in its unit if it has one,
///   and that no kind of another name has; buckets for a histogram; a label of its own that is not `name`; no two rows
///   for one event; only codes and states that the kind lists.
/// - Lines: a message; fields of different names, not too many; only states that the kind lists.
///
/// ```
/// use buttress_core::{KindData, Metric, Rows, When};
///
/// static GATE: KindData = KindData::new("gate").metrics(&[
///     Metric::new("gate_refused", Rows::Counter(When::Refused), "Calls that were refused."),
/// ]);
///
/// let fault = buttress_metrics::check(&[&GATE]).unwrap_err();
/// assert_eq!(fault, "gate: metric gate_refused: its name must end in _total");
/// ```
///
/// # Errors
/// All that is wrong, a line each.
pub fn check(kinds: &[Kind]) -> Result<(), String> {
    let mut faults = Vec::new();
    for kind in kinds {
        for metric in kind.metrics {
            let of = |fault| format!("{}: metric {}: {fault}", kind.name, metric.name);
            faults.extend(of_metric(kind, metric).into_iter().map(of));
            faults.extend(shared(kinds, kind, metric).map(of));
        }
        for line in kind.lines {
            let of = |fault| format!("{}: line {:?}: {fault}", kind.name, line.message);
            faults.extend(of_line(kind, line).into_iter().map(of));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

/// The same name elsewhere: another kind's, or one of this kind that is something else.
fn shared(kinds: &[Kind], kind: Kind, metric: &Metric) -> Option<String> {
    if [BUILD_INFO, MISSED].contains(&metric.name) {
        return Some("its name is that of buttress-metrics".into());
    }
    if kind.metrics.iter().filter(|other| other.name == metric.name).count() > 1 {
        return Some("the kind has it twice".into());
    }
    let all = kinds.iter().flat_map(|other| other.metrics.iter().map(|theirs| (*other, theirs)));
    let mut same = all.filter(|(_, theirs)| theirs.name == metric.name);
    same.find_map(|(other, theirs)| {
        if other != kind {
            return Some(format!("{} has it too", other.name));
        }
        let differs = MetricDef::of(other, theirs) != MetricDef::of(kind, metric)
            || (theirs.buckets, theirs.at_rest.map(f64::to_bits))
                != (metric.buckets, metric.at_rest.map(f64::to_bits));
        differs.then(|| "the kind has it in two ways".into())
    })
}

fn of_metric(kind: Kind, metric: &Metric) -> Vec<String> {
    let mut faults = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            faults.push(what.to_owned());
        }
    };
    let def = MetricDef::of(kind, metric);
    let is_histogram = def.kind == MetricKind::Histogram;
    must(!metric.help.is_empty(), "it has no help");
    must(
        is_word(metric.name, ":"),
        "its name must have letters, digits, `_` and `:` only, and no digit first",
    );
    must(
        (def.kind == MetricKind::Counter) == metric.name.ends_with("_total"),
        if def.kind == MetricKind::Counter {
            "its name must end in _total"
        } else {
            "only a counter ends in _total"
        },
    );
    if let Some(unit) = def.unit {
        let name = metric.name.trim_end_matches("_total");
        must(name.ends_with(&format!("_{}", unit.as_str())), "its name must end in its unit");
    }
    must(
        metric.buckets.is_empty() != is_histogram,
        "buckets belong to a histogram, and a histogram has some",
    );
    must(metric.buckets.windows(2).all(|pair| pair[0] < pair[1]), "its buckets must ascend");
    must(!is_histogram || def.unit.is_some(), "a histogram has a unit");
    for label in def.labels.iter().skip(1) {
        must(is_word(label.key, "") && label.key != "name", "its label's key must be a word, and not `name`");
        must(!label.values.is_empty(), "its label has no values");
    }
    for state in states_of(&metric.rows) {
        must(kind.states.contains(&state), &format!("{state:?} is no state of the kind"));
    }
    let rows = rows_of(&metric.rows);
    let mut events = BTreeSet::new();
    for when in &rows {
        if let When::Code(codes) = when {
            let strange = codes.iter().filter(|code| !kind.codes.contains(code));
            strange.for_each(|code| must(false, &format!("{code} is no code of the kind")));
        }
        for event in events_of(when) {
            must(events.insert(event.clone()), &format!("two rows are for {event}"));
        }
    }
    for when in &rows {
        if let When::NoteOf(what, _) = when {
            must(!events.contains(&format!("note {what}")), &format!("two rows are for note {what}"));
        }
        if let Rows::Elapsed(..) = metric.rows {
            let has_time = matches!(when, When::Done(_) | When::DoneAs(_) | When::Slow(_) | When::Refused);
            must(has_time, "only calls take time");
        }
    }
    faults
}

fn of_line(kind: Kind, line: &Line) -> Vec<String> {
    let mut faults = Vec::new();
    if line.message.is_empty() {
        faults.push("it says nothing".to_owned());
    }
    if line.fields.len() > MOST {
        faults.push(format!("it has more than {} fields", MOST));
    }
    let mut names = BTreeSet::from(ALWAYS);
    let twice = line.fields.iter().filter(|(name, _)| name.is_empty() || !names.insert(name));
    faults.extend(twice.map(|(name, _)| format!("field {name:?} is there twice, or has no name")));
    if let On::Change(states, _) = line.on {
        let strange = states.iter().filter(|state| !kind.states.contains(state));
        faults.extend(strange.map(|state| format!("{state:?} is no state of the kind")));
    }
    faults
}

fn rows_of(rows: &Rows) -> Vec<When> {
    match *rows {
        Rows::Counters(_, rows) | Rows::Elapsed(_, rows) => {
            rows.iter().map(|&(_, when): &Row| when).collect()
        }
        Rows::Counter(when) | Rows::Rare(when) => vec![when],
        _ => Vec::new(),
    }
}

/// The states that rows name.
fn states_of(rows: &Rows) -> Vec<Word> {
    match *rows {
        Rows::Changes(pairs) => pairs.iter().flat_map(|(from, to)| [*from, *to]).collect(),
        Rows::Level(_, states) => states.to_vec(),
        _ => Vec::new(),
    }
}

/// The events that move a row, in words.
fn events_of(when: &When) -> Vec<String> {
    match *when {
        When::Done(outcomes) | When::Slow(outcomes) => {
            outcomes.iter().map(|outcome| format!("the outcome {}", outcome.as_str())).collect()
        }
        When::DoneAs(word) => vec![format!("the result {word}")],
        When::Refused => vec!["refusals".into()],
        When::Code(codes) => codes.iter().map(|code| format!("the code {code}")).collect(),
        When::Shadow => vec!["shadow mode".into()],
        When::Note(what) | When::Begin(what) => vec![format!("note {what}")],
        When::NoteOf(what, of) => vec![format!("note {what} of {of}")],
        When::Attempt(reason) => vec![format!("attempts for {reason}")],
        _ => Vec::new(),
    }
}

fn is_word(text: &str, more: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || more.contains(c);
    !text.is_empty() && text.chars().all(fits) && !text.starts_with(|c: char| c.is_ascii_digit())
}
