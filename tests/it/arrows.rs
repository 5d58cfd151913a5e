//! Which crate of the workspace may depend on which. The list is the rule; `docs/architecture.md` says why.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

/// Every arrow there is between our crates: from, and to what. Dev-dependencies are free.
const ARROWS: &[(&str, &[&str])] = &[
    ("buttress-core", &[]),
    ("buttress-kit", &["buttress-core"]),
    // The patterns know the shared words, the shared mechanism, and nothing of each other.
    ("buttress-breaker", &["buttress-core", "buttress-kit"]),
    ("buttress-retry", &["buttress-core", "buttress-kit"]),
    ("buttress-timeout", &["buttress-core", "buttress-kit"]),
    ("buttress-bulkhead", &["buttress-core", "buttress-kit"]),
    ("buttress-fallback", &["buttress-core", "buttress-kit"]),
    // So does the one that watches: the meter is a layer.
    ("buttress-metrics", &["buttress-core", "buttress-kit"]),
    // Those who judge, and those who speak a host's language, know the words alone.
    ("buttress-http", &["buttress-core"]),
    ("buttress-test", &["buttress-core"]),
    (
        "buttress",
        &[
            "buttress-core",
            "buttress-kit",
            "buttress-breaker",
            "buttress-retry",
            "buttress-timeout",
            "buttress-bulkhead",
            "buttress-fallback",
            "buttress-metrics",
            "buttress-http",
            "buttress-test",
        ],
    ),
];

/// What DESIGN promises somebody who wants a breaker and nothing else.
const MOST_TRANSITIVE: usize = 16;

/// What we read of `cargo metadata`.
#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
    publish: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    path: Option<PathBuf>,
}

impl Package {
    pub(crate) fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap()
    }

    /// Published crates are what the rule is about. Examples, benches and xtask may use what they like.
    fn is_published(&self) -> bool {
        self.publish.as_ref().is_none_or(|registries| !registries.is_empty())
    }

    /// The members of the workspace it needs to be compiled: what its tests use besides is not asked.
    fn arrows(&self) -> BTreeSet<&str> {
        let needed = |dependency: &&Dependency| dependency.kind.as_deref() != Some("dev");
        let ours = |dependency: &&Dependency| dependency.path.is_some();
        self.dependencies.iter().filter(needed).filter(ours).map(|to| to.name.as_str()).collect()
    }
}

/// The members of the workspace.
pub(crate) fn packages() -> Vec<Package> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    let json = cargo("metadata --format-version 1 --no-deps");
    serde_json::from_str::<Metadata>(&json).unwrap().packages
}

fn cargo(arguments: &str) -> String {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(arguments.split_whitespace())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn crates_depend_on_each_other_only_along_the_listed_arrows() {
    let mut wrong = Vec::new();
    for package in packages().iter().filter(|package| package.is_published()) {
        let from = &package.name;
        let Some((_, allowed)) = ARROWS.iter().find(|(listed, _)| listed == from) else {
            wrong.push(format!("{from} is new: list its arrows here and in docs/architecture.md"));
            continue;
        };
        let (allowed, drawn) = (allowed.iter().copied().collect(), package.arrows());
        for to in drawn.difference(&allowed) {
            wrong.push(format!("{from} -> {to} is not allowed: docs/architecture.md says what is, and why"));
        }
        for to in allowed.difference(&drawn) {
            wrong.push(format!("{from} -> {to} is listed but gone: take it out of docs/architecture.md too"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_depends_on_what_is_not_published() {
    let packages = packages();
    for package in &packages {
        for to in package.arrows() {
            let target = packages.iter().find(|other| other.name == to);
            assert!(
                target.is_none_or(Package::is_published),
                "{} -> {to}: examples, benches and xtask stand on top; see docs/architecture.md",
                package.name
            );
        }
    }
}

#[test]
fn architecture_page_has_a_row_for_every_crate() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/architecture.md")).unwrap();
    for (name, arrows) in ARROWS {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/architecture.md has no row for {name}"));
        for to in arrows.iter().map(|to| to.trim_start_matches("buttress-")) {
            let named = row.contains(to) || *name == "buttress" && row.contains("all of the above");
            assert!(named, "docs/architecture.md does not say that {name} depends on {to}");
        }
    }
}

#[test]
fn core_kit_and_breaker_are_at_most_sixteen_crates() {
    // `cargo tree` and not `cargo metadata`, which joins the features of the whole workspace.
    let tree = cargo(
        "tree -p buttress-breaker --edges normal --prefix none --no-dedupe --target x86_64-unknown-linux-gnu",
    );
    let brought: BTreeSet<_> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(brought.contains("buttress-core"), "this reads the tree wrongly: {tree}");
    let besides: Vec<_> = brought.into_iter().filter(|name| *name != "buttress-breaker").collect();
    assert!(besides.len() <= MOST_TRANSITIVE, "{} crates: {besides:?}", besides.len());
}
