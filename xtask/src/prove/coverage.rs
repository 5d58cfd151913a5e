//! Does each test that `docs/coverage.md` names notice when what it covers is broken?
//!
//! The tree is copied, each breakage of `tests/breakages/` is put into the copy and taken out again, and only
//! the test it names is run: it must pass before and fail with it. The copy and what is built of it stay in
//! the target folder, so that a second run compiles only what changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::Duration,
};

use serde::Deserialize;

use super::scratch::Scratch;
use crate::{
    Result,
    breakages::{self, Breakage, TestName},
    command::Cmd,
    report::{Done, now},
    workspace::Workspace,
};

/// How long the unbroken test may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// A broken program may wait for ever, which is noticed too: when it has taken this many times as long as the
/// unbroken one, and `AT_LEAST`.
const TIMES_AS_LONG: u32 = 10;
const AT_LEAST: Duration = Duration::from_secs(20);

pub(super) fn prove(workspace: &Workspace, filter: &[String]) -> Result<Done> {
    let mut chosen = breakages::load(&workspace.root)?;
    if filter.is_empty() {
        breakages::enough(&chosen, &breakages::covered(&workspace.root)?)?;
    }
    chosen.retain(|breakage| filter.iter().all(|word| described(breakage).contains(word)));
    // Side by side what changes the same file, so that the least is compiled again.
    chosen.sort_by(|one, other| (&one.file, &one.test).cmp(&(&other.file, &other.test)));

    println!("first the tests that are named, with nothing broken");
    let copy = Scratch::of(workspace)?;
    let (took, mut findings) = copy.test_unbroken(&chosen)?;
    let sound = findings.is_empty();
    for breakage in chosen.iter().filter(|_| sound) {
        let usual = took.get(&breakage.test).copied().unwrap_or_default();
        let verdict = copy.test_broken(breakage, usual.saturating_mul(TIMES_AS_LONG).max(AT_LEAST))?;
        println!("{:13} {}", verdict.word(), described(breakage));
        if !verdict.is_caught() {
            findings.push(format!("{}: {}", verdict.word(), described(breakage)));
        }
    }
    if !findings.is_empty() {
        return Err(format!("{} not as it must be\n{}", findings.len(), findings.join("\n")).into());
    }
    Ok(Done::Noted(format!("all of {} noticed", chosen.len())))
}

fn described(breakage: &Breakage) -> String {
    let line = breakage.find.trim().lines().next().unwrap_or_default();
    format!("{}  {}  {}: {line}", breakage.ids.join(","), breakage.test, breakage.file.display())
}

/// What one test says.
#[derive(Clone, Copy, PartialEq)]
enum Verdict {
    Passed,
    Failed,
    Hung,
    /// The test binary has no test of that name.
    Missing,
    DoesNotCompile,
}

impl Verdict {
    /// Of the broken code. What does not compile proves nothing about the test.
    fn is_caught(self) -> bool {
        matches!(self, Self::Failed | Self::Hung)
    }

    /// In the words of the broken code.
    fn word(self) -> &'static str {
        match self {
            Self::Passed => "SURVIVED",
            Self::Failed => "caught",
            Self::Hung => "caught (hung)",
            Self::Missing => "NO SUCH TEST",
            Self::DoesNotCompile => "NO COMPILE",
        }
    }
}

impl Scratch {
    /// How long each test takes before anything is broken, and a line for each that does not pass.
    fn test_unbroken(&self, breakages: &[Breakage]) -> Result<(BTreeMap<TestName, Duration>, Vec<String>)> {
        let (mut took, mut wrong) = (BTreeMap::new(), Vec::new());
        let tests: BTreeSet<&TestName> = breakages.iter().map(|breakage| &breakage.test).collect();
        for test in tests {
            let (verdict, time) = self.test(test, PATIENCE)?;
            took.insert(test.clone(), time);
            let why = match verdict {
                Verdict::Passed => continue,
                Verdict::Failed => "fails unbroken",
                Verdict::Hung => "hangs unbroken",
                other => other.word(),
            };
            println!("{why}: {test}");
            wrong.push(format!("{why}: {test}"));
        }
        Ok((took, wrong))
    }

    fn test_broken(&self, breakage: &Breakage, patience: Duration) -> Result<Verdict> {
        let file = self.tree.join(&breakage.file);
        let whole = fs::read_to_string(&file).map_err(|why| format!("{}: {why}", breakage.file.display()))?;
        fs::write(&file, breakage.applied_to(&whole)?)?;
        let verdict = self.test(&breakage.test, patience);
        fs::write(&file, whole)?;
        Ok(verdict?.0)
    }

    /// What `test` says, and how long it took to say it.
    fn test(&self, test: &TestName, patience: Duration) -> Result<(Verdict, Duration)> {
        let Some(binary) = self.build(test)? else {
            return Ok((Verdict::DoesNotCompile, Duration::ZERO));
        };
        // The binary itself and not `cargo test`: one that hangs is then ours to end.
        let run = Cmd::new(&binary.executable.to_string_lossy()).arg(&test.path).arg("--exact");
        let run = run.dir(&binary.folder).env("CARGO_MANIFEST_DIR", &binary.folder);
        let begun = now();
        let verdict = match run.run_within(patience)? {
            None => Verdict::Hung,
            Some((status, text)) if status.success() && text.contains("1 passed") => Verdict::Passed,
            Some((status, _)) if status.success() => Verdict::Missing,
            // An abort (a stack overflow, a panic while panicking) reports no count.
            Some(_) => Verdict::Failed,
        };
        Ok((verdict, now().saturating_duration_since(begun)))
    }

    /// The test binary that `test` is in, or `None` if it does not compile.
    fn build(&self, test: &TestName) -> Result<Option<Binary>> {
        let build =
            Cmd::cargo("test --no-run --quiet --all-features --message-format json-render-diagnostics");
        // Nobody will look at it in a debugger.
        let build = build.env("CARGO_PROFILE_DEV_DEBUG", "0").arg("--target-dir").arg(&self.built);
        let build = build.args(["-p", &test.package]);
        let build = match test.target.as_str() {
            "lib" => build.arg("--lib"),
            target => build.args(["--test", target]),
        };
        let Some((status, text)) = build.dir(&self.tree).run_within(PATIENCE * 4)? else {
            return Err(format!("{test} takes too long to compile").into());
        };
        if !status.success() {
            // Each line that is no message for a program.
            text.lines().filter(|line| !line.starts_with('{')).for_each(|line| println!("{line}"));
            return Ok(None);
        }
        let mut built = text.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
        let binary = built.find_map(Message::test_binary);
        binary.map(Some).ok_or_else(|| format!("cargo built no binary for {test}").into())
    }
}

/// A test binary, and the package it is of.
struct Binary {
    executable: PathBuf,
    folder: PathBuf,
}

/// A line of `cargo test --message-format json`.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    manifest_path: PathBuf,
    profile: Profile,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

impl Message {
    /// A package's programs are built for its tests too; those are not meant.
    fn test_binary(self) -> Option<Binary> {
        let executable = self.executable.filter(|_| self.profile.test)?;
        Some(Binary { executable, folder: self.manifest_path.parent()?.to_owned() })
    }
}
