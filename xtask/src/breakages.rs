//! The small breakages kept in `tests/breakages/`, each of which one test must notice.
//!
//! ```toml
//! [[breakage]]
//! ids = ["S1-046"]
//! file = "crates/buttress-bulkhead/src/queue.rs"
//! find = "if self.waiting.len() >= self.max_queue {"
//! replace = "if self.waiting.len() > self.max_queue {"
//! test = "buttress-bulkhead::it::queue::full_queue_refuses"
//! ```
//! The test is spelt as in `docs/coverage.md`: package, test binary (`lib` for those in `src/`), path.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::Result;

/// One way to break the code that one named test must notice.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Breakage {
    /// The requirements that the code then no longer meets.
    pub(crate) ids: Vec<String>,
    /// Where, from the root of the project.
    pub(crate) file: PathBuf,
    /// Stands exactly once in `file`.
    pub(crate) find: String,
    pub(crate) replace: String,
    pub(crate) test: TestName,
}

/// A test as `docs/coverage.md` spells it, `package::target::path::to::test`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct TestName {
    pub(crate) package: String,
    /// A test binary, or `lib`.
    pub(crate) target: String,
    /// As the test binary lists it.
    pub(crate) path: String,
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

impl std::fmt::Display for TestName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}::{}::{}", self.package, self.target, self.path)
    }
}

impl Breakage {
    /// `text` with the breakage in it.
    pub(crate) fn applied_to(&self, text: &str) -> Result<String> {
        match text.matches(&self.find).count() {
            1 => Ok(text.replacen(&self.find, &self.replace, 1)),
            found => Err(format!(
                "{}: the text of the breakage of {} stands {found} times, not once:\n{}",
                self.file.display(),
                self.ids.join(", "),
                self.find
            )
            .into()),
        }
    }
}

/// All breakages, by file and then in the order they stand.
pub(crate) fn load(root: &Path) -> Result<Vec<Breakage>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        breakage: Vec<Breakage>,
    }
    let folder = root.join("tests/breakages");
    let entries: std::io::Result<Vec<_>> = fs::read_dir(&folder)?.collect();
    let mut files: Vec<_> = entries?.into_iter().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let parsed: File = toml::from_str(&fs::read_to_string(&file)?)
            .map_err(|why| format!("{}: {why}", file.display()))?;
        all.extend(parsed.breakage);
    }
    Ok(all)
}

/// The ids that `docs/coverage.md` says a test shows, with the tests it names.
pub(crate) fn covered(root: &Path) -> Result<Vec<(String, String)>> {
    let doc = fs::read_to_string(root.join("docs/coverage.md"))?;
    let mut rows = Vec::new();
    for line in doc.lines() {
        let cells: Vec<_> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        if let [id, tests] = cells[..] {
            // Ids are `S1-046`, `SX-01`, `C-01`; what has no test says why not.
            let is_id = id.starts_with(['S', 'C']) && id.ends_with(|c: char| c.is_ascii_digit());
            if is_id && !tests.starts_with("not yet") && !tests.starts_with("refused") {
                rows.push((id.to_owned(), tests.to_owned()));
            }
        }
    }
    Ok(rows)
}

/// Fails unless there is a breakage for every ten covered ids.
pub(crate) fn enough(breakages: &[Breakage], covered: &[(String, String)]) -> Result {
    let broken: BTreeSet<_> = breakages.iter().flat_map(|breakage| &breakage.ids).collect();
    let (have, need) = (breakages.len(), covered.len().div_ceil(10));
    if have < need {
        return Err(format!(
            "{} covered ids need {need} breakages, and tests/breakages/ has {have} (for {} ids)",
            covered.len(),
            broken.len()
        )
        .into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
    }

    /// Without this, code that moves on would leave its breakages behind until somebody proves coverage.
    #[test]
    fn breakages_still_fit_the_code() {
        for breakage in load(root()).unwrap() {
            let text = fs::read_to_string(root().join(&breakage.file)).unwrap();
            let broken = breakage.applied_to(&text).unwrap();
            assert_ne!(broken, text, "{} of {:?} changes nothing", breakage.file.display(), breakage.ids);
        }
    }

    #[test]
    fn breakages_name_tests_that_the_coverage_names() {
        let covered = covered(root()).unwrap();
        for breakage in load(root()).unwrap() {
            for id in &breakage.ids {
                let tests = covered.iter().find(|(covered, _)| covered == id).map(|(_, tests)| tests);
                let test = breakage.test.to_string();
                assert!(
                    tests.is_some_and(|tests| tests.contains(&test)),
                    "docs/coverage.md does not name {test} for {id}"
                );
            }
        }
    }

    #[test]
    fn there_is_a_breakage_for_every_ten_covered_ids() {
        enough(&load(root()).unwrap(), &covered(root()).unwrap()).unwrap();
    }

    #[test]
    fn breakage_that_fits_twice_is_refused() {
        let breakage = Breakage {
            ids: vec!["S1-046".into()],
            file: "a.rs".into(),
            find: ">=".into(),
            replace: ">".into(),
            test: TestName::try_from("p::it::m::t".to_owned()).unwrap(),
        };
        assert_eq!(breakage.applied_to("a >= b").unwrap(), "a > b");
        assert!(breakage.applied_to("a >= b >= c").unwrap_err().to_string().contains("2 times"));
    }

    #[test]
    fn doctests_and_examples_cannot_be_asked_for_one_test() {
        assert!(TestName::try_from("buttress-core::doc::lib.rs".to_owned()).is_err());
        assert!(TestName::try_from("buttress-core::it".to_owned()).is_err());
    }
}
