//! Do the tests notice what no operator mutation makes: an order, a lock, a waker, what is dropped when?
//!
//! Each breakage of `tests/breakages.toml` is put into a copy of the tree and taken out again, and only the test it
//! names is run: it must pass before and fail with it.
//!
//! ```toml
//! [[breakage]]
//! why = "the waker is dropped with the lock held"
//! file = "crates/buttress-bulkhead/src/gate.rs"
//! find = "drop(line);\n drop(former);"
//! replace = "drop(former);"
//! test = "buttress-bulkhead::it::contract::waker_that_drops_another_waiter_does_not_stop_the_queue"
//! ```

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use super::scratch::Scratch;
use crate::{
    Result,
    command::Cmd,
    report::{Done, now},
    workspace::Workspace,
};

const LIST: &str = "tests/breakages.toml";

/// How long the unbroken test may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// A broken program may wait for ever, which is noticed too: when it has taken this many times as long as the
/// unbroken one, and `AT_LEAST`.
const TIMES_AS_LONG: u32 = 10;
const AT_LEAST: Duration = Duration::from_secs(20);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    breakage: Vec<Breakage>,
}

/// One way to break the code that one named test must notice.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Breakage {
    /// What the code then does wrong.
    why: String,
    /// Where, from the root of the project.
    file: PathBuf,
    /// Stands exactly once in `file`.
    find: String,
    replace: String,
    test: TestName,
}

/// A test as `docs/coverage.toml` spells it, `package::target::path::to::test`. The target is a test binary, `lib`,
/// or `loom` for a model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct TestName {
    package: String,
    target: String,
    /// As the test binary lists it.
    path: String,
}

pub(super) fn prove(workspace: &Workspace, filter: &[String]) -> Result<Done> {
    let List { breakage: mut chosen } = List::read(&fs::read_to_string(workspace.root.join(LIST))?)?;
    chosen.retain(|breakage| filter.iter().all(|word| breakage.to_string().contains(word)));
    // All that no longer fit the code, and before anything is compiled.
    let misfits = chosen.iter().filter_map(|breakage| breakage.applied_to(&workspace.root).err());
    let misfits: Vec<_> = misfits.map(|why| why.to_string()).collect();
    if !misfits.is_empty() {
        return Err(format!("{} of {LIST} no longer fit\n{}", misfits.len(), misfits.join("\n")).into());
    }

    let copy = Scratch::of(workspace)?;
    let (mut unbroken, mut findings) = (BTreeMap::new(), Vec::new());
    for breakage in &chosen {
        let test = &breakage.test;
        if !unbroken.contains_key(test) {
            unbroken.insert(test, test.run(&copy, PATIENCE)?);
        }
        let verdict = match unbroken[test] {
            (Verdict::Passed, took) => {
                breakage.judge(&copy, took.saturating_mul(TIMES_AS_LONG).max(AT_LEAST))?.word()
            }
            (Verdict::Failed | Verdict::Hung, _) => "FAILS UNBROKEN",
            (other, _) => other.word(),
        };
        println!("{verdict:14} {breakage}");
        if !verdict.starts_with("caught") {
            findings.push(format!("{verdict}: {breakage}"));
        }
    }
    if !findings.is_empty() {
        return Err(format!("{} not as {LIST} says\n{}", findings.len(), findings.join("\n")).into());
    }
    Ok(Done::Noted(format!("all of {} noticed", chosen.len())))
}

impl List {
    fn read(text: &str) -> Result<Self> {
        Ok(toml::from_str(text).map_err(|why| format!("{LIST}: {why}"))?)
    }
}

impl Breakage {
    /// The text of its file below `root`, whole and broken.
    fn applied_to(&self, root: &Path) -> Result<(String, String)> {
        let file = self.file.display();
        let whole = fs::read_to_string(root.join(&self.file)).map_err(|why| format!("{file}: {why}"))?;
        match whole.matches(&self.find).count() {
            1 => {
                let broken = whole.replacen(&self.find, &self.replace, 1);
                Ok((whole, broken))
            }
            found => Err(format!("{file}: this stands {found} times, not once:\n{}", self.find).into()),
        }
    }

    /// What the test says of the broken code.
    fn judge(&self, copy: &Scratch, patience: Duration) -> Result<Verdict> {
        let (whole, broken) = self.applied_to(&copy.tree)?;
        let file = copy.tree.join(&self.file);
        fs::write(&file, broken)?;
        let verdict = self.test.run(copy, patience);
        fs::write(&file, whole)?;
        Ok(verdict?.0)
    }
}

impl std::fmt::Display for Breakage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let TestName { package, target, path } = &self.test;
        write!(f, "{}: {} ({package}::{target}::{path})", self.file.display(), self.why)
    }
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
    /// In the words of the broken code. What does not compile proves nothing about the test.
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

impl TryFrom<String> for TestName {
    type Error = String;

    fn try_from(name: String) -> std::result::Result<Self, String> {
        let mut parts = name.splitn(3, "::").map(str::to_owned);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(package), Some(target), Some(path)) if target != "doc" && target != "example" => {
                Ok(Self { package, target, path })
            }
            _ => Err(format!("`{name}` is not of the form package::target::path")),
        }
    }
}

impl TestName {
    /// What the test says of the copy as it stands, and how long it took to say it.
    fn run(&self, copy: &Scratch, patience: Duration) -> Result<(Verdict, Duration)> {
        let Some(binary) = self.build(copy)? else {
            return Ok((Verdict::DoesNotCompile, Duration::ZERO));
        };
        // The binary itself and not `cargo test`: one that hangs is then ours to end.
        let run = Cmd::new(&binary.executable.to_string_lossy()).arg(&self.path).arg("--exact");
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

    /// The test binary that it is in, or `None` if that does not compile.
    fn build(&self, copy: &Scratch) -> Result<Option<Binary>> {
        // Nobody will look at it in a debugger.
        let build = Cmd::cargo("test --no-run --quiet --message-format json-render-diagnostics")
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .args(["--package", &self.package]);
        let build = match self.target.as_str() {
            // As `test::loom` builds them.
            "loom" => build
                .words("--profile loom --lib")
                .env("RUSTFLAGS", "--cfg buttress_loom")
                .arg("--target-dir")
                .arg(copy.built.join("loom")),
            target => {
                let build = build.arg("--all-features").arg("--target-dir").arg(&copy.built);
                if target == "lib" { build.arg("--lib") } else { build.args(["--test", target]) }
            }
        };
        let Some((status, text)) = build.dir(&copy.tree).run_within(PATIENCE * 4)? else {
            return Err(format!("{}::{} takes too long to compile", self.package, self.target).into());
        };
        if !status.success() {
            // Each line that is no message for a program.
            text.lines().filter(|line| !line.starts_with('{')).for_each(|line| println!("{line}"));
            return Ok(None);
        }
        let mut built = text.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
        let binary = built.find_map(Message::test_binary);
        binary.map(Some).ok_or_else(|| format!("cargo built no {} of {}", self.target, self.package).into())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> std::result::Result<TestName, String> {
        name.to_owned().try_into()
    }

    #[test]
    fn breakage_that_fits_twice_or_nowhere_is_refused() {
        let root = std::env::temp_dir().join(format!("xtask-breakages-{}", std::process::id()));
        let mut breakage = Breakage {
            why: "the waker is lost".into(),
            file: "a.rs".into(),
            find: "wake();".into(),
            replace: String::new(),
            test: named("p::it::m::t").unwrap(),
        };
        let mut applied_to = |text: &str, find: &str| {
            fs::create_dir_all(&root).unwrap();
            fs::write(root.join("a.rs"), text).unwrap();
            breakage.find = find.into();
            let applied = breakage.applied_to(&root).map_err(|why| why.to_string());
            fs::remove_dir_all(&root).unwrap();
            applied
        };
        let (whole, broken) = applied_to("take(); wake();", "wake();").unwrap();
        assert_eq!((whole.as_str(), broken.as_str()), ("take(); wake();", "take(); "));
        assert!(applied_to("wake(); wake();", "wake();").unwrap_err().contains("2 times"));
        assert!(applied_to("wake();", "park();").unwrap_err().contains("0 times"));
    }

    #[test]
    fn doctests_and_examples_cannot_be_asked_for_one_test() {
        assert!(named("buttress-core::doc::lib.rs").is_err());
        assert!(named("buttress-core::it").is_err());
    }

    #[test]
    fn list_of_the_project_can_be_read() {
        List::read(include_str!("../../../tests/breakages.toml")).unwrap();
    }
}
