//! Holds `docs/coverage.toml`: no requirement is left out, and every test it names exists.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::arrows::{Package, packages};

/// How many requirements there are of each kind, numbered from 1 without a gap, and with how many digits.
const KINDS: &[(&str, usize, usize)] =
    &[("S0", 50, 3), ("S1", 91, 3), ("S2", 100, 3), ("S3", 51, 3), ("S4", 54, 3), ("SX", 8, 2), ("C", 56, 2)];

const REASONS: &[&str] = &["not yet: ", "refused: "];

/// Its tables, in which no id can stand twice: TOML refuses that.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Coverage {
    requirements: BTreeMap<String, Row>,
    scenarios: BTreeMap<String, Row>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Row {
    Tests(Vec<String>),
    Reason(String),
}

impl Coverage {
    fn load() -> Self {
        let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/coverage.toml")).unwrap();
        toml::from_str(&text).unwrap()
    }

    fn rows(&self) -> impl Iterator<Item = (&String, &Row)> {
        self.requirements.iter().chain(&self.scenarios)
    }
}

#[test]
fn every_requirement_has_exactly_one_row() {
    let rows = Coverage::load().requirements;
    for &(kind, count, digits) in KINDS {
        for number in 1..=count {
            let id = format!("{kind}-{number:0digits$}");
            assert!(rows.contains_key(&id), "docs/coverage.toml has no row for {id}");
        }
    }
    let expected: usize = KINDS.iter().map(|(_, count, _)| count).sum();
    assert_eq!(rows.len(), expected, "docs/coverage.toml has rows for ids that do not exist");
}

#[test]
fn every_row_names_a_test_or_gives_a_reason() {
    for (id, row) in Coverage::load().rows() {
        let says_something = match row {
            Row::Tests(tests) => !tests.is_empty(),
            Row::Reason(why) => {
                REASONS.iter().any(|reason| why.starts_with(reason) && why.len() > reason.len())
            }
        };
        assert!(says_something, "docs/coverage.toml, {id}: neither a test nor a reason");
    }
}

#[test]
fn every_test_named_exists() {
    let packages = packages();
    let mut missing = Vec::new();
    for (id, row) in Coverage::load().rows() {
        let Row::Tests(tests) = row else { continue };
        for test in tests {
            if let Err(why) = find(test, &packages) {
                missing.push(format!("{id}: {test}: {why}"));
            }
        }
    }
    assert!(missing.is_empty(), "docs/coverage.toml names what is not there:\n{}", missing.join("\n"));
}

/// Looks for `package::target::path::to::test` in the sources, which are formatted by rustfmt.
/// The ids are here and nowhere else: to whoever reads a source they say nothing.
#[test]
fn no_source_speaks_in_ids() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["crates", "tests", "examples", "benches", "xtask"];
    let sources: Vec<_> = folders.iter().flat_map(|folder| sources(&root.join(folder))).collect();
    assert!(sources.len() > 200, "only {}", sources.len());
    for file in sources.iter().filter(|file| !file.ends_with("tests/it/coverage.rs")) {
        let text = read(file).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let ids: Vec<_> = words.filter(|word| is_id(word)).collect();
        assert!(ids.is_empty(), "{}: {ids:?}; docs/coverage.toml has the ids", file.display());
    }
}

/// All files of Rust below a folder, but for what cargo writes.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                found.extend(sources(&path));
            }
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found
}

fn is_id(word: &str) -> bool {
    let Some((kind, number)) = word.split_once('-') else { return false };
    let of_kind = KINDS.iter().find(|(known, ..)| *known == kind);
    let is_number =
        |digits: usize| number.len() == digits && number.bytes().all(|byte| byte.is_ascii_digit());
    of_kind.is_some_and(|(.., digits)| is_number(*digits))
}

fn find(test: &str, packages: &[Package]) -> Result<(), String> {
    let parts: Vec<&str> = test.split("::").collect();
    let [package, target, modules @ .., name] = &parts[..] else {
        return Err("not of the form package::target::path".into());
    };
    let package = packages.iter().find(|found| found.name == *package);
    let folder = package.ok_or_else(|| format!("no package {}", parts[0]))?.folder();
    // The modules of `tests/one.rs` lie beside it, as those of `tests/it/main.rs` do.
    let (root, children) = match *target {
        "lib" => (folder.join("src/lib.rs"), folder.join("src")),
        binary => {
            let (tests, many) = (folder.join("tests"), folder.join("tests").join(binary));
            let is_folder = many.join("main.rs").is_file();
            if is_folder { (many.join("main.rs"), many) } else { (many.with_extension("rs"), tests) }
        }
    };
    let text = read(&root)?;
    find_in(&text.lines().collect::<Vec<_>>(), modules, name, &children)
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|why| format!("{}: {why}", file.display()))
}

/// Looks for the test in the lines of a module, whose child modules are in the folder `children`.
fn find_in(lines: &[&str], modules: &[&str], name: &str, children: &Path) -> Result<(), String> {
    let Some((first, rest)) = modules.split_first() else { return has_test(lines, name) };
    if let Some(block) = blocks(lines).into_iter().find(|block| opens(lines[block.start], first)) {
        return find_in(&lines[block.start + 1..block.end], rest, name, &children.join(first));
    }
    if !lines.iter().any(|line| line.trim_end().ends_with(&format!("mod {first};"))) {
        return Err(format!("no module {first}"));
    }
    let files: [PathBuf; 2] =
        [children.join(first).with_extension("rs"), children.join(first).join("mod.rs")];
    let text = files.iter().find_map(|file| read(file).ok());
    let text = text.ok_or_else(|| format!("no file for module {first}"))?;
    find_in(&text.lines().collect::<Vec<_>>(), rest, name, &children.join(first))
}

fn opens(line: &str, module: &str) -> bool {
    line.trim_end().ends_with(&format!("mod {module} {{"))
}

/// The modules written out in these lines, each from the line that opens it to that of its closing brace, which
/// stands as far to the right.
fn blocks(lines: &[&str]) -> Vec<std::ops::Range<usize>> {
    let mut blocks: Vec<std::ops::Range<usize>> = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let is_module = code.strip_prefix("pub(crate) ").unwrap_or(code).starts_with("mod ");
        if !is_module || !code.ends_with('{') || blocks.last().is_some_and(|block| start < block.end) {
            continue;
        }
        let closing = format!("{}}}", &line[..line.len() - code.len()]);
        let end = lines[start..].iter().position(|line| *line == closing);
        blocks.push(start..end.map_or(lines.len(), |end| start + end));
    }
    blocks
}

/// Whether these lines, without the modules in them, have a test called `name`.
fn has_test(lines: &[&str], name: &str) -> Result<(), String> {
    let blocks = blocks(lines);
    let is_own = |at: &usize| !blocks.iter().any(|block| block.contains(at));
    let is_it = |line: &str| {
        let code = line.trim_start();
        code.strip_prefix("async ").unwrap_or(code).starts_with(&format!("fn {name}("))
    };
    let own: Vec<&str> = (0..lines.len()).filter(is_own).map(|at| lines[at]).collect();
    let at = own.iter().position(|line| is_it(line)).ok_or_else(|| format!("no function {name}"))?;
    // `#[test]`, `#[tokio::test(…)]`; inside `proptest!` the attribute is the same.
    let is_test = own[..at]
        .iter()
        .rev()
        .map(|line| line.trim())
        .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
        .any(|line| {
            ["#[test]", "#[tokio::test]", "#[tokio::test("].iter().any(|mark| line.starts_with(mark))
        });
    is_test.then_some(()).ok_or_else(|| format!("{name} is no test"))
}

#[test]
fn tests_are_found_in_modules_of_both_kinds() {
    let packages = packages();
    let here = |path: &str| find(&format!("buttress-suite::it::coverage::{path}"), &packages);
    assert_eq!(here("every_test_named_exists"), Ok(()));
    assert_eq!(here("inline::deeper::is_found"), Ok(()));
    assert_eq!(here("opens"), Err("opens is no test".into()));
    assert_eq!(here("inline::is_found"), Err("no function is_found".into()));
    assert_eq!(here("nowhere::is_found"), Err("no module nowhere".into()));
    assert!(find("no-such-package::it::a", &packages).is_err());
    assert!(find("buttress-suite::it", &packages).is_err());
}

mod inline {
    mod deeper {
        #[test]
        fn is_found() {}
    }
}

#[test]
fn names_in_strings_and_comments_are_no_tests() {
    let lines = [
        "// #[test]",
        "// fn a() {}",
        "const S: &str = \"#[test] fn b() {}\";",
        "",
        "fn d() {}",
        "#[test]",
        "fn e() {}",
    ];
    for name in ["a", "b", "c", "d"] {
        assert!(has_test(&lines, name).is_err(), "{name} is no test");
    }
    assert_eq!(has_test(&lines, "e"), Ok(()));
}
