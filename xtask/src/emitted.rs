//! Is what the policies emit what the catalogue says, both ways, over a whole run of all tests?
//!
//! The tests' recorders write what they were told by real policies into a folder, in Prometheus' text format:
//! `MetricsProbe` of buttress-test, and whatever renders a page. The catalogue is read from the table in
//! `docs/metrics.md`, which a test of the suite holds against the tables of all kinds.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::PathBuf,
};

use crate::{Result, report::Done, workspace::Workspace};

/// Names the folder to the tests.
pub(crate) const VARIABLE: &str = "BUTTRESS_EMITTED";

/// The folder, with nothing in it.
pub(crate) fn empty_folder(workspace: &Workspace) -> Result<PathBuf> {
    let folder = folder(workspace);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

pub(crate) fn compare(workspace: &Workspace) -> Result<Done> {
    let mut run = Run::default();
    for entry in fs::read_dir(folder(workspace))? {
        run.read(&fs::read_to_string(entry?.path())?);
    }
    let catalogue = Catalogue::read(&fs::read_to_string(workspace.root.join("docs/metrics.md"))?)?;
    let faults = catalogue.faults(&run);
    if !faults.is_empty() {
        return Err(format!("what the tests emitted is not the catalogue\n{}", faults.join("\n")).into());
    }
    let (series, metrics) = (run.series.len(), catalogue.metrics);
    Ok(Done::Noted(format!("{series} series of {metrics} metrics, as in the catalogue")))
}

fn folder(workspace: &Workspace) -> PathBuf {
    workspace.scratch("emitted")
}

/// Something that is true of a metric, and can be compared.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Fact {
    /// Its name, its type, and the keys of its labels, sorted.
    Metric(String, String, Vec<String>),
    /// A value that one of its labels has.
    Value(String, String, String),
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metric(name, kind, keys) => write!(f, "{kind} {name}{{{}}}", keys.join(",")),
            Self::Value(name, key, value) => write!(f, "{name}{{{key}={value:?}}}"),
        }
    }
}

fn facts(name: &str, kind: &str, labels: &[(String, Vec<String>)]) -> BTreeSet<Fact> {
    let mut keys: Vec<_> = labels.iter().map(|(key, _)| key.clone()).collect();
    keys.sort();
    let values = labels.iter().flat_map(|(key, values)| values.iter().map(move |value| (key, value)));
    let values = values.map(|(key, value)| Fact::Value(name.into(), key.clone(), value.clone()));
    values.chain([Fact::Metric(name.into(), kind.into(), keys)]).collect()
}

struct Catalogue {
    metrics: usize,
    facts: BTreeSet<Fact>,
    /// Keys of labels with any number of values.
    open: BTreeSet<String>,
}

impl Catalogue {
    /// Reads the rows: ``| `name` | kind | `label`; `label` = `value` `value` | help |``.
    fn read(page: &str) -> Result<Self> {
        let table = page.split_once("<!-- catalogue -->").map_or("", |(_, rest)| rest);
        let mut catalogue = Self { metrics: 0, facts: BTreeSet::new(), open: BTreeSet::new() };
        for row in table.lines().take_while(|line| !line.starts_with("<!--")) {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let [_, name, kind, labels, ..] = cells[..] else { continue };
            let Some(name) = quoted(name).pop() else { continue };
            let labels: Vec<_> = labels.split(';').map(quoted).filter_map(key_and_values).collect();
            let open = labels.iter().filter(|(_, values)| values.is_empty()).map(|(key, _)| key.clone());
            catalogue.open.extend(open);
            catalogue.facts.extend(facts(&name, kind, &labels));
            catalogue.metrics += 1;
        }
        if catalogue.metrics == 0 {
            return Err("docs/metrics.md has no table of the catalogue".into());
        }
        Ok(catalogue)
    }

    /// Where the run and this differ, both ways.
    fn faults(&self, run: &Run) -> Vec<String> {
        let (mut seen, mut told) = (BTreeSet::new(), BTreeSet::new());
        for (Series { name, kind, labels }, is_told) in &run.series {
            let closed = labels.iter().map(|(key, value)| {
                let values = if self.open.contains(key) { vec![] } else { vec![value.clone()] };
                (key.clone(), values)
            });
            let facts = facts(name, kind, &closed.collect::<Vec<_>>());
            if *is_told {
                told.extend(facts.iter().cloned());
            }
            seen.extend(facts);
        }
        let strange = seen.difference(&self.facts).map(|fact| format!("not in the catalogue: {fact}"));
        let missing = self.facts.difference(&told).map(|fact| format!("no test emits: {fact}"));
        strange.chain(missing).collect()
    }
}

/// `None` in the cell of a metric without labels.
fn key_and_values(words: Vec<String>) -> Option<(String, Vec<String>)> {
    let (key, values) = words.split_first()?;
    Some((key.clone(), values.to_vec()))
}

/// The words in backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What was emitted, and whether each series had a value other than 0.
#[derive(Default)]
struct Run {
    series: BTreeMap<Series, bool>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    name: String,
    kind: String,
    labels: Vec<(String, String)>,
}

impl Run {
    /// Reads a page in Prometheus' text format. Of histograms, the counts stand for all.
    fn read(&mut self, page: &str) {
        let mut kind = "";
        for line in page.lines() {
            if let Some(declared) = line.strip_prefix("# TYPE ") {
                kind = declared.split_once(' ').map_or("", |(_, kind)| kind);
            }
            let sample =
                Some(line).filter(|line| !line.starts_with('#')).and_then(|line| line.rsplit_once(' '));
            let Some((series, value)) = sample else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let name = match kind {
                "histogram" => name.strip_suffix("_count"),
                _ => Some(name),
            };
            let Some(name) = name.map(str::to_owned) else { continue };
            let told = value.parse() != Ok(0.0);
            let series = Series { name, kind: kind.to_owned(), labels: labelled(labels) };
            *self.series.entry(series).or_default() |= told;
        }
    }
}

/// `key="value",key="value"}`, with quotes in values escaped.
fn labelled(mut text: &str) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    while let Some((key, rest)) = text.split_once("=\"") {
        let mut escaped = false;
        let end = rest.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let (value, rest) = rest.split_at(end.unwrap_or(rest.len()));
        labels.push((key.trim_start_matches(',').to_owned(), value.to_owned()));
        text = rest.strip_prefix('"').unwrap_or_default();
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
        # TYPE calls_total counter\n\
        calls_total{name=\"pay, \\\"or\\\" {not}\",result=\"ok\"} 2\n\
        calls_total{name=\"b\",result=\"failed\"} 1\n\
        # TYPE wait_seconds histogram\n\
        wait_seconds_bucket{name=\"a\",le=\"+Inf\"} 1\n\
        wait_seconds_sum{name=\"a\"} 0.5\n\
        wait_seconds_count{name=\"a\"} 1\n\
        # TYPE ratio gauge\n\
        ratio{name=\"a\"} NaN\n";

    fn faults(rows: &[&str], page: &str) -> Vec<String> {
        let table = format!(
            "<!-- catalogue -->\n| metric | kind | labels | what |\n|---|---|\n{}\n<!-- -->\n| `x` | |",
            rows.join("\n")
        );
        let mut run = Run::default();
        run.read(page);
        Catalogue::read(&table).unwrap().faults(&run)
    }

    const ROWS: [&str; 3] = [
        "| `calls_total` | counter | `name`; `result` = `ok` `failed` | Calls. |",
        "| `wait_seconds` | histogram | `name` | Waits. |",
        "| `ratio` | gauge | `name` | A share. |",
    ];

    #[test]
    fn run_that_emits_the_catalogue_has_no_faults() {
        assert_eq!(faults(&ROWS, PAGE), [""; 0]);
    }

    #[test]
    fn what_the_catalogue_lacks_is_named() {
        assert_eq!(faults(&ROWS[..2], PAGE), ["not in the catalogue: gauge ratio{name}"]);
        let more = PAGE.to_owned() + "# TYPE calls_total counter\ncalls_total{name=\"a\",result=\"odd\"} 0\n";
        assert_eq!(faults(&ROWS, &more), [r#"not in the catalogue: calls_total{result="odd"}"#]);
    }

    #[test]
    fn what_no_test_emits_is_named() {
        assert_eq!(
            faults(&ROWS, &PAGE.replace("\"failed\"} 1", "\"failed\"} 0")),
            [r#"no test emits: calls_total{result="failed"}"#]
        );
        let last = ["| `more` | gauge | `name` | More. |"];
        assert_eq!(faults(&[&ROWS[..], &last[..]].concat(), PAGE), ["no test emits: gauge more{name}"]);
    }

    #[test]
    fn metric_may_have_no_labels() {
        let row = "| `starts_total` | counter | | Starts. |";
        assert_eq!(faults(&[row], "# TYPE starts_total counter\nstarts_total 1\n"), [""; 0]);
    }

    #[test]
    fn other_types_and_other_label_keys_are_faults_both_ways() {
        let gauge = ROWS.map(|row| row.replace("histogram", "gauge"));
        assert_eq!(faults(&gauge.each_ref().map(String::as_str), PAGE).len(), 2);
        let unlabelled = PAGE.replace("ratio{name=\"a\"} ", "ratio ");
        assert_eq!(
            faults(&ROWS, &unlabelled),
            ["not in the catalogue: gauge ratio{}", "no test emits: gauge ratio{name}"]
        );
    }
}
