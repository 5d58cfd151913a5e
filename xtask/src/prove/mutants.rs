//! Do the tests notice when an operator, a condition or a whole body is another?
//!
//! cargo-mutants breaks the files that `tests/mutants.toml` lists, one thing at a time, in a copy of the tree, and
//! runs the tests of the file's own package. What no test notices survives; each survivor is either accepted there,
//! with the reason, or a fault. So is an accepted one that survives no more: the list says what is so.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use super::scratch::Scratch;
use crate::{Result, command::Cmd, report::Done, tools, workspace::Workspace};

const LIST: &str = "tests/mutants.toml";

/// How long the tests of one mutant may take at least, however quick they are on the unbroken code. What takes
/// longer waits for ever, which is noticed too.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    file: Vec<Mutated>,
}

/// A file to break, as the list has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutated {
    package: String,
    /// From the root of the project.
    file: PathBuf,
    /// How long all of it may take on two cores, the build included.
    seconds: u64,
    /// The test binaries that are run, `lib` being the tests in `src/`.
    #[serde(default = "lib")]
    tests: Vec<String>,
    #[serde(default)]
    survivors: Vec<Survivor>,
}

fn lib() -> Vec<String> {
    vec!["lib".into()]
}

/// A mutant that no test notices, and need not. One that is made twice in a function stands here twice.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Survivor {
    /// As cargo-mutants calls it, without the place: `replace < with <= in Ring::push`.
    mutant: String,
    why: String,
}

/// The files whose path has every word of `filter` in it.
pub(super) fn prove(workspace: &Workspace, install: bool, filter: &[String]) -> Result<Done> {
    let list = List::load(&workspace.root)?;
    let Some(program) = tools::cargo_mutants(workspace, install)? else {
        return Ok(Done::Skipped("cargo-mutants is not installed; --install does it".into()));
    };
    let named = |file: &&Mutated| {
        let path = file.file.to_string_lossy();
        filter.iter().all(|word| path.contains(word.as_str()))
    };
    let copy = Scratch::of(workspace)?;
    let (mut files, mut made, mut accepted, mut findings) = (0, 0, 0, Vec::new());
    for file in list.file.iter().filter(named) {
        println!("\n{}, within {} s", file.file.display(), file.seconds);
        let ran = file.run(&program, &copy, &workspace.scratch("mutants"));
        let wrong = match ran {
            Ok(outcomes) => {
                made += outcomes.len();
                file.findings(&outcomes)
            }
            Err(why) => vec![why.to_string()],
        };
        findings.extend(wrong.into_iter().map(|line| format!("{}: {line}", file.file.display())));
        files += 1;
        accepted += file.survivors.len();
    }
    if files == 0 {
        return Err(format!("{LIST} has no file with {} in its path", filter.join(" and ")).into());
    }
    if !findings.is_empty() {
        return Err(format!("{} not as {LIST} says\n{}", findings.len(), findings.join("\n")).into());
    }
    Ok(Done::Noted(format!("{made} mutants of {files} files, {accepted} survive as accepted")))
}

impl List {
    fn load(root: &Path) -> Result<Self> {
        let list = Self::read(&fs::read_to_string(root.join(LIST))?)?;
        match list.file.iter().find(|file| !root.join(&file.file).is_file()) {
            Some(gone) => {
                Err(format!("{LIST}: {} is not there: where did it go?", gone.file.display()).into())
            }
            None => Ok(list),
        }
    }

    fn read(text: &str) -> Result<Self> {
        let list: Self = toml::from_str(text).map_err(|why| format!("{LIST}: {why}"))?;
        for file in &list.file {
            if let Some(unexplained) = file.survivors.iter().find(|survivor| survivor.why.trim().is_empty()) {
                let mutant = &unexplained.mutant;
                return Err(format!("{LIST}: {}: `{mutant}` gives no reason", file.file.display()).into());
            }
        }
        Ok(list)
    }
}

impl Mutated {
    /// Breaks the file, and tells what became of each mutant.
    fn run(&self, program: &Path, copy: &Scratch, results: &Path) -> Result<Vec<Outcome>> {
        let limit = Duration::from_secs(self.seconds);
        let mutants = Cmd::new(&program.to_string_lossy())
            .words("mutants --in-place --no-config --colors never --all-features")
            // Compiled with loom alone, or without it alone: cargo-mutants does not know these for tests.
            .args(["--exclude-re", "models::|tests::"])
            .args(["--minimum-test-timeout", &PATIENCE.as_secs().to_string()])
            .args(["--package", &self.package, "--file"])
            .arg(&self.file)
            .args(self.tests.iter().map(|target| match target.as_str() {
                "lib" => "--cargo-arg=--lib".to_owned(),
                target => format!("--cargo-arg=--test={target}"),
            }))
            .arg("--output")
            .arg(results)
            .env("CARGO_TARGET_DIR", &copy.built)
            .env("CARGO_PROFILE_DEV_DEBUG", "0");
        fs::create_dir_all(results)?;
        let Some(status) = mutants.dir(&copy.tree).ends_within(limit)? else {
            return Err(format!("took longer than its {} s", self.seconds).into());
        };
        // 2: some survived; 3: some hung. Both are in the outcomes.
        if !matches!(status.code(), Some(0 | 2 | 3)) {
            return Err(format!("cargo-mutants failed ({status})").into());
        }
        let outcomes = outcomes(&fs::read_to_string(results.join("mutants.out/outcomes.json"))?)?;
        if outcomes.is_empty() {
            return Err(format!("nothing in it to break: is it a file of {}?", self.package).into());
        }
        Ok(outcomes)
    }

    /// A line for each survivor that is not accepted, and for each accepted one that does not survive.
    fn findings(&self, outcomes: &[Outcome]) -> Vec<String> {
        let mut accepted: Vec<_> = self.survivors.iter().map(|survivor| survivor.mutant.as_str()).collect();
        let mut findings = Vec::new();
        for Outcome { mutant, at, end } in outcomes {
            if *end != End::Survived {
                continue;
            }
            if let Some(nth) = accepted.iter().position(|accepted| accepted == mutant) {
                accepted.swap_remove(nth);
            } else {
                findings.push(format!("line {at}: SURVIVED {{ mutant = {mutant:?}, why = \"\" }}"));
            }
        }
        findings.extend(accepted.iter().map(|gone| format!("accepted, but survives no more: `{gone}`")));
        findings
    }
}

/// What became of one mutant.
#[derive(Debug, PartialEq)]
struct Outcome {
    mutant: String,
    /// Line and column.
    at: String,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
enum End {
    #[serde(rename = "CaughtMutant")]
    Caught,
    #[serde(rename = "Timeout")]
    Hung,
    #[serde(rename = "Unviable")]
    DoesNotCompile,
    #[serde(rename = "MissedMutant")]
    Survived,
}

/// Reads the `outcomes.json` of cargo-mutants.
fn outcomes(json: &str) -> Result<Vec<Outcome>> {
    let all: serde_json::Value = serde_json::from_str(json)?;
    let all = all["outcomes"].as_array().ok_or("cargo-mutants wrote no outcomes")?;
    let mut outcomes = Vec::new();
    for one in all {
        // The first is the unbroken code, which has no mutant.
        let Some(name) = one["scenario"]["Mutant"]["name"].as_str() else { continue };
        // `crates/…/ring.rs:12:5: replace < with <= in Ring::push`
        let (place, mutant) =
            name.split_once(": ").ok_or_else(|| format!("a mutant without a place: {name}"))?;
        let at = place.split_once(':').map_or("", |(_, at)| at);
        let end = End::deserialize(&one["summary"]).map_err(|why| format!("{name}: {why}"))?;
        outcomes.push(Outcome { mutant: mutant.to_owned(), at: at.to_owned(), end });
    }
    Ok(outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "[[file]]\npackage = 'p'\nfile = 'src/ring.rs'\nseconds = 60\n";

    fn file(survivors: &str) -> Mutated {
        List::read(&format!("{FILE}survivors = [{survivors}]")).unwrap().file.remove(0)
    }

    fn outcome(mutant: &str, end: End) -> Outcome {
        Outcome { mutant: mutant.into(), at: "12:5".into(), end }
    }

    #[test]
    fn survivor_that_is_not_accepted_is_a_finding_and_can_be_pasted() {
        let made = [outcome("delete ! in f", End::Survived), outcome("replace f with ()", End::Caught)];
        assert_eq!(
            file("").findings(&made),
            [r#"line 12:5: SURVIVED { mutant = "delete ! in f", why = "" }"#]
        );
        assert_eq!(file("{ mutant = 'delete ! in f', why = 'w' }").findings(&made), [""; 0]);
    }

    #[test]
    fn accepted_survivor_that_is_noticed_or_no_longer_made_is_a_finding() {
        let listed = file("{ mutant = 'delete ! in f', why = 'w' }");
        let gone = ["accepted, but survives no more: `delete ! in f`"];
        assert_eq!(listed.findings(&[outcome("delete ! in f", End::Hung)]), gone);
        assert_eq!(listed.findings(&[outcome("delete ! in g", End::Caught)]), gone);
    }

    #[test]
    fn mutant_that_is_made_twice_is_accepted_twice() {
        let twice = [outcome("delete ! in f", End::Survived), outcome("delete ! in f", End::Survived)];
        let one = "{ mutant = 'delete ! in f', why = 'w' }";
        assert_eq!(file(one).findings(&twice).len(), 1);
        assert_eq!(file(&format!("{one}, {one}")).findings(&twice), [""; 0]);
    }

    #[test]
    fn survivor_without_a_reason_is_refused() {
        let why = List::read(&format!("{FILE}survivors = [{{ mutant = 'm', why = ' ' }}]"));
        assert!(why.err().unwrap().to_string().contains("`m` gives no reason"));
    }

    #[test]
    fn file_that_moved_is_named() {
        let root = std::env::temp_dir().join(format!("xtask-mutants-{}", std::process::id()));
        fs::create_dir_all(root.join("tests")).unwrap();
        fs::write(root.join(LIST), FILE).unwrap();
        let why = List::load(&root).err().unwrap().to_string();
        fs::remove_dir_all(&root).unwrap();
        assert!(why.contains("src/ring.rs is not there"), "{why}");
    }

    #[test]
    fn outcomes_are_read_without_the_unbroken_run() {
        let json = r#"{ "outcomes": [
            { "scenario": "Baseline", "summary": "Success" },
            { "scenario": { "Mutant": { "name": "src/ring.rs:12:5: delete ! in f" } }, "summary": "MissedMutant" }
        ] }"#;
        assert_eq!(outcomes(json).unwrap(), [outcome("delete ! in f", End::Survived)]);
        assert!(outcomes(&json.replace("MissedMutant", "Odd")).is_err());
        assert!(outcomes("{}").is_err());
    }

    #[test]
    fn list_of_the_project_can_be_read() {
        List::read(include_str!("../../../tests/mutants.toml")).unwrap();
    }
}
