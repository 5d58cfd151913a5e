//! Steps with a heading, how long each took, and a closing table.

use std::{
    cell::Cell,
    fmt,
    time::{Duration, Instant},
};

use crate::Result;

/// A named piece of work.
pub(crate) struct Step<'a> {
    name: String,
    work: Box<dyn Fn() -> Result<Done> + 'a>,
}

impl<'a> Step<'a> {
    pub(crate) fn new(name: impl Into<String>, work: impl Fn() -> Result<Done> + 'a) -> Self {
        Self { name: name.into(), work: Box::new(work) }
    }
}

/// How a step ended that did not fail.
pub(crate) enum Done {
    Passed,
    /// Passed, with something to say in the table.
    Noted(String),
    /// Could not be done here, and why. Not a failure: a tool is missing that only this step needs.
    Skipped(String),
}

/// Runs steps in order and tells how each went.
pub(crate) struct Report {
    title: &'static str,
    stops: bool,
}

impl Report {
    /// Stops at the first failure.
    pub(crate) fn stopping(title: &'static str) -> Self {
        Self { title, stops: true }
    }

    /// Runs every step, whatever the others did.
    pub(crate) fn going_on(title: &'static str) -> Self {
        Self { title, stops: false }
    }

    /// Whether no step failed.
    pub(crate) fn run(&self, steps: &[Step<'_>]) -> bool {
        let started = now();
        let mut rows = Vec::new();
        for (nth, step) in steps.iter().enumerate() {
            println!("\n== {}/{}: {} ==", nth + 1, steps.len(), step.name);
            let begun = now();
            let outcome = (step.work)();
            let took = now().saturating_duration_since(begun);
            if let Err(why) = &outcome {
                eprintln!("error: {why}");
            }
            let failed = outcome.is_err();
            rows.push(Row { name: &step.name, took, outcome });
            if failed && self.stops {
                break;
            }
        }
        self.close(steps, &rows, now().saturating_duration_since(started))
    }

    fn close(&self, steps: &[Step<'_>], rows: &[Row<'_>], took: Duration) -> bool {
        let width = steps.iter().map(|step| step.name.len()).max().unwrap_or(0);
        println!("\n{:width$}  result           time", "step");
        for row in rows {
            println!("{row:width$}");
        }
        for step in &steps[rows.len()..] {
            println!("{:width$}  not run", step.name);
        }
        let count = |kind: fn(&Row<'_>) -> bool| rows.iter().filter(|row| kind(row)).count();
        let failed = count(|row| row.outcome.is_err());
        let skipped = count(|row| matches!(row.outcome, Ok(Done::Skipped(_))));
        let passed = rows.len() - failed - skipped;
        let tests = TESTS.get();
        if tests.passed + tests.failed > 0 {
            println!("\ntests: {} passed; {} failed; {} ignored", tests.passed, tests.failed, tests.ignored);
        }
        println!(
            "{}: {passed} passed; {failed} failed; {skipped} skipped; {} not run; in {}",
            self.title,
            steps.len() - rows.len(),
            Took(took)
        );
        failed == 0
    }
}

struct Row<'a> {
    name: &'a str,
    took: Duration,
    outcome: Result<Done>,
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = f.width().unwrap_or(0);
        let (word, note) = match &self.outcome {
            Ok(Done::Passed) => ("passed", String::new()),
            Ok(Done::Noted(note)) => ("passed", note.clone()),
            Ok(Done::Skipped(why)) => ("skipped", why.clone()),
            // One line: the whole of it stands above the table.
            Err(why) => ("FAILED", why.to_string().lines().next().unwrap_or_default().to_owned()),
        };
        let took = Took(self.took).to_string();
        let row = format!("{:width$}  {word:8} {took:>12}  {note}", self.name);
        f.write_str(row.trim_end())
    }
}

/// A duration as a person says it: `8.3 s`, `4 min 12 s`.
struct Took(Duration);

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0..60 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            _ => write!(f, "{} min {:02} s", seconds / 60, seconds % 60),
        }
    }
}

/// How many tests ran, over all steps of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) ignored: usize,
}

thread_local! {
    static TESTS: Cell<Tally> = const { Cell::new(Tally { passed: 0, failed: 0, ignored: 0 }) };
}

impl Tally {
    /// Reads a test binary's closing line, `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let counts = line.trim().strip_prefix("test result: ")?.split_once(". ")?.1;
        let mut tally = Self::default();
        for count in counts.split(';') {
            let (number, what) = count.trim().split_once(' ')?;
            match what {
                "passed" => tally.passed = number.parse().ok()?,
                "failed" => tally.failed = number.parse().ok()?,
                "ignored" => tally.ignored = number.parse().ok()?,
                _ => {}
            }
        }
        Some(tally)
    }

    /// Adds this to the line that closes the report.
    pub(crate) fn count(self) {
        let so_far = TESTS.get();
        TESTS.set(Self {
            passed: so_far.passed + self.passed,
            failed: so_far.failed + self.failed,
            ignored: so_far.ignored + self.ignored,
        });
    }
}

/// Real time: what is timed here is compilers, not patterns.
#[expect(clippy::disallowed_methods, reason = "no tokio here, and no clock to pause")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_line_of_a_test_binary_is_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.52s";
        assert_eq!(Tally::read(line), Some(Tally { passed: 12, failed: 3, ignored: 1 }));
        assert_eq!(Tally::read("test result of nothing"), None);
    }

    #[test]
    fn first_failure_stops_what_follows_where_asked() {
        let ran = Cell::new(0);
        let steps = [
            Step::new("breaks", || Err("broken".into())),
            Step::new("follows", || {
                ran.set(ran.get() + 1);
                Ok(Done::Passed)
            }),
        ];
        assert!(!Report::stopping("t").run(&steps));
        assert_eq!(ran.get(), 0);
        assert!(!Report::going_on("t").run(&steps));
        assert_eq!(ran.get(), 1);
    }

    #[test]
    fn what_is_skipped_has_not_failed() {
        assert!(Report::stopping("t").run(&[Step::new("s", || Ok(Done::Skipped("no tool".into())))]));
    }
}
