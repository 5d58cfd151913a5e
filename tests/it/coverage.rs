//! Holds `docs/coverage.md`: no requirement is left out, and every test it names exists.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::arrows::{Package, packages};

/// How many requirements there are of each kind, numbered from 1 without a gap, and with how many digits.
const KINDS: &[(&str, usize, usize)] =
    &[("S0", 50, 3), ("S1", 91, 3), ("S2", 100, 3), ("S3", 51, 3), ("S4", 54, 3), ("SX", 8, 2), ("C", 56, 2)];

const REASONS: &[&str] = &["not yet: ", "refused: "];

/// A row of either table.
struct Row {
    id: String,
    /// What stands in the second cell, without backticks.
    cell: String,
}

impl Row {
    /// The tests it names, or none if it gives a reason. After a semicolon there may be a remark.
    fn tests(&self) -> Vec<&str> {
        if self.is_reason() {
            return Vec::new();
        }
        let tests = self.cell.split(';').next().unwrap_or_default();
        tests.split(',').map(str::trim).collect()
    }

    fn is_reason(&self) -> bool {
        REASONS.iter().any(|reason| self.cell.starts_with(reason) && self.cell.len() > reason.len())
    }
}

fn rows() -> Vec<Row> {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/coverage.md")).unwrap();
    let table = page.lines().filter(|line| line.starts_with('|'));
    let cells = table.map(|line| line.trim_matches(['|', ' ']).split('|').map(str::trim).collect::<Vec<_>>());
    let mut rows = Vec::new();
    for cells in cells {
        let [id, cell] = cells[..] else { panic!("docs/coverage.md: not two cells: {cells:?}") };
        if !id.starts_with("--") && id != "id" && id != "scenario" {
            rows.push(Row { id: id.to_owned(), cell: cell.replace('`', "") });
        }
    }
    rows
}

#[test]
fn every_requirement_has_exactly_one_row() {
    let rows = rows();
    for &(kind, count, digits) in KINDS {
        for number in 1..=count {
            let id = format!("{kind}-{number:0digits$}");
            let found = rows.iter().filter(|row| row.id == id).count();
            assert_eq!(found, 1, "docs/coverage.md has {found} rows for {id}");
        }
    }
    let expected: usize = KINDS.iter().map(|(_, count, _)| count).sum();
    let scenarios = rows.iter().filter(|row| row.id.starts_with("vector ")).count();
    assert_eq!(rows.len() - scenarios, expected, "docs/coverage.md has rows for ids that do not exist");
}

#[test]
fn every_row_names_a_test_or_gives_a_reason() {
    for row in rows() {
        let named = row.tests().iter().any(|test| test.contains("::"));
        assert!(named || row.is_reason(), "docs/coverage.md, {}: neither a test nor a reason", row.id);
    }
}

#[test]
fn every_test_named_exists() {
    let packages = packages();
    let mut missing = Vec::new();
    for row in rows() {
        for test in row.tests() {
            if let Err(why) = find(test, &packages) {
                missing.push(format!("{}: {test}: {why}", row.id));
            }
        }
    }
    assert!(missing.is_empty(), "docs/coverage.md names what is not there:\n{}", missing.join("\n"));
}

/// Looks for `package::target::path::to::test` in the sources.
///
/// `lib` is the package's own source, `doc` a file with an example in its documentation (`doc::lib.rs`),
/// `example` a program in `examples/`, `xtask::prove::NAME` a command.
fn find(test: &str, packages: &[Package]) -> Result<(), String> {
    let mut parts = test.split("::");
    let (package, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let path: Vec<&str> = parts.collect();
    let Some((name, modules)) = path.split_last() else {
        return Err("not of the form package::target::path".into());
    };
    let name = *name;
    let found = packages
        .iter()
        .find(|found| found.name == if package == "suite" { "buttress-suite" } else { package });
    let folder = found.ok_or_else(|| format!("no package {package}"))?.folder();
    match target {
        "example" => {
            let examples = folder.join("examples");
            let is_there = [examples.join(name).join("main.rs"), examples.join(name).with_extension("rs")];
            is_there.iter().any(|file| file.is_file()).then_some(()).ok_or_else(|| "no such example".into())
        }
        "doc" => has_example(&folder.join("src").join(path.join("/")).with_extension("rs")),
        "prove" if package == "xtask" => {
            let proofs = read(&folder.join("src/prove.rs"))?;
            proofs.contains(&format!("\"{name}\",")).then_some(()).ok_or_else(|| "no such proof".into())
        }
        "lib" => Source::of(folder.join("src/lib.rs"))?.test(modules, name),
        "bin" => Source::of(folder.join("src/main.rs"))?.test(modules, name),
        binary => {
            let tests = folder.join("tests");
            let many = tests.join(binary).join("main.rs");
            let file = if many.is_file() { many } else { tests.join(binary).with_extension("rs") };
            Source::of(file)?.test(modules, name)
        }
    }
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|why| format!("{}: {why}", file.display()))
}

fn has_example(file: &Path) -> Result<(), String> {
    let text = read(file)?;
    let opens_code = |line: &str| {
        let doc = line.trim_start();
        let doc = doc.strip_prefix("//!").or_else(|| doc.strip_prefix("///")).unwrap_or_default().trim();
        matches!(doc.strip_prefix("```"), Some("" | "no_run" | "should_panic" | "rust"))
    };
    text.lines().any(opens_code).then_some(()).ok_or_else(|| "no example in its documentation".into())
}

/// A module: its text without strings and comments, and where its child modules are looked for.
struct Source {
    text: String,
    children: PathBuf,
}

impl Source {
    fn of(file: PathBuf) -> Result<Self, String> {
        let text = code_only(&read(&file)?);
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        let is_root =
            file.file_name().is_some_and(|name| name == "main.rs" || name == "lib.rs" || name == "mod.rs");
        // `tests/loom.rs` is a root too, and its modules lie beside it.
        let is_root = is_root || folder.file_name().is_some_and(|name| name == "tests");
        let children = if is_root { folder } else { file.with_extension("") };
        Ok(Self { text, children })
    }

    /// Whether `modules` lead to a test called `name`.
    fn test(self, modules: &[&str], name: &str) -> Result<(), String> {
        let (own, inline) = split(&self.text);
        let Some((first, rest)) = modules.split_first() else {
            return has_test(&own, name);
        };
        if let Some((_, text)) = inline.iter().find(|(module, _)| module == first) {
            let text = (*text).to_owned();
            return Self { text, children: self.children.join(first) }.test(rest, name);
        }
        if !own.contains(&format!("mod {first};")) {
            return Err(format!("no module {first}"));
        }
        let file = self.children.join(first).with_extension("rs");
        let file = if file.is_file() { file } else { self.children.join(first).join("mod.rs") };
        Self::of(file)?.test(rest, name)
    }
}

/// Whether `text`, of one module, has a test called `name`.
fn has_test(text: &str, name: &str) -> Result<(), String> {
    let Some(at) = text.find(&format!("fn {name}(")) else {
        return Err(format!("no function {name}"));
    };
    // Its attributes stand between it and whatever comes before it.
    let before = &text[..at];
    let attributes = &before[before.rfind(['}', ';']).map_or(0, |end| end + 1)..];
    // `#[test]`, `#[tokio::test(…)]`; inside `proptest!` the attribute is the same.
    let is_test = ["#[test]", "::test]", "::test("].iter().any(|mark| attributes.contains(mark));
    is_test.then_some(()).ok_or_else(|| format!("{name} is no test"))
}

/// The text of a module without the modules written inside it, and those, by name.
fn split(text: &str) -> (String, Vec<(&str, &str)>) {
    let (mut own, mut inline, mut rest) = (String::new(), Vec::new(), text);
    while let Some(at) = rest.find("mod ") {
        let after = &rest[at + "mod ".len()..];
        let name = after.split(|c| !is_name(c)).next().unwrap_or_default();
        let opens = after[name.len()..].trim_start().starts_with('{') && !rest[..at].ends_with(is_name);
        let end = if opens {
            let block = block(after);
            inline.push((name, &block[block.find('{').map_or(0, |brace| brace + 1)..]));
            own.push_str(&rest[..at]);
            at + "mod ".len() + block.len() + 1
        } else {
            own.push_str(&rest[..at + "mod ".len()]);
            at + "mod ".len()
        };
        rest = rest.get(end..).unwrap_or_default();
    }
    own.push_str(rest);
    (own, inline)
}

/// The block that opens first in `text`, by its braces.
fn block(text: &str) -> &str {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return &text[..at],
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    text
}

/// `source` with its comments, strings and characters left out, so that what is found is code.
fn code_only(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => string_length(rest),
            'r' if !code.ends_with(is_name) => raw_string_length(rest),
            '\'' => character_length(rest),
            _ => 0,
        };
        if skipped == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            rest = &rest[skipped..];
        }
    }
    code
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Of `r"…"`, `r#"…"#` and so on; 0 for what only begins with an `r`.
fn raw_string_length(text: &str) -> usize {
    let hashes = text[1..].chars().take_while(|c| *c == '#').count();
    let opening = 1 + hashes;
    if !text[opening..].starts_with('"') {
        return 0;
    }
    let closing = format!("\"{}", "#".repeat(hashes));
    text[opening + 1..].find(&closing).map_or(text.len(), |end| opening + 1 + end + closing.len())
}

/// Of `'x'` and `'\n'`; 0 for a lifetime.
fn character_length(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        // The escaped character may itself be a quote.
        (Some((_, '\\')), Some(_)) => chars.find(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

#[test]
fn tests_are_found_in_modules_of_both_kinds() {
    let packages = packages();
    let here = |path: &str| find(&format!("suite::it::coverage::{path}"), &packages);
    assert_eq!(here("every_test_named_exists"), Ok(()));
    assert_eq!(here("inline::deeper::is_found"), Ok(()));
    assert_eq!(here("code_only"), Err("code_only is no test".into()));
    assert_eq!(here("inline::is_found"), Err("no function is_found".into()));
    assert_eq!(here("nowhere::is_found"), Err("no module nowhere".into()));
    assert!(find("no-such-package::it::a", &packages).is_err());
    assert_eq!(find("suite::example::storm", &packages), Ok(()));
    assert_eq!(find("xtask::prove::mutants", &packages), Ok(()));
    assert!(find("xtask::prove::nothing", &packages).is_err());
}

mod inline {
    mod deeper {
        #[test]
        fn is_found() {}
    }
}

#[test]
fn names_in_strings_and_comments_are_no_tests() {
    let source = r##"
        // #[test] fn a() {}
        const S: &str = "#[test] fn b() { \" }"; const R: &str = r#"fn c("#; const C: char = '"';
        fn d<'a>(x: &'a str) {}
    "##;
    let code = code_only(source);
    for gone in ["fn a", "fn b", "fn c("] {
        assert!(!code.contains(gone), "{gone} is still in: {code}");
    }
    assert!(code.contains("fn d<'a>(x: &'a str) {}"), "{code}");
}
