//! What may be depended on: no crate that `deny.toml` bans, licences that it allows, and nothing from anywhere but
//! the registry. A small reading of that file by `cargo metadata`, in seconds; `cargo xtask prove deny` has cargo-deny
//! read all of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter::Peekable,
};

use serde::Deserialize;

use crate::{Result, command::Cmd, report::Done, workspace::Workspace};

/// How the source of a crate from a registry begins. All are from one: the default registry is not named anywhere.
const REGISTRY: &str = "registry+";

pub(crate) fn check(workspace: &Workspace) -> Result<Done> {
    let rules = Rules::read(&std::fs::read_to_string(workspace.root.join("deny.toml"))?)?;
    let metadata = Cmd::cargo("metadata --quiet --format-version 1 --all-features").read()?;
    let metadata: Metadata = serde_json::from_str(&metadata)?;
    let faults = rules.faults(&metadata);
    if !faults.is_empty() {
        return Err(format!("not as deny.toml allows\n{}", faults.join("\n")).into());
    }
    Ok(Done::Noted(format!("{} crates", metadata.packages.len())))
}

/// What we read of `deny.toml`.
#[derive(Deserialize)]
struct Rules {
    bans: Bans,
    licenses: Licences,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    /// Those who may all the same.
    #[serde(default)]
    wrappers: Vec<String>,
    reason: String,
}

#[derive(Deserialize)]
struct Licences {
    allow: BTreeSet<String>,
}

/// What we read of `cargo metadata`.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    license: Option<String>,
    /// `None` for a folder on this machine.
    source: Option<String>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    req: String,
    path: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

impl Edge {
    fn is_for_tests_alone(&self) -> bool {
        self.dep_kinds.iter().all(|kind| kind.kind.as_deref() == Some("dev"))
    }
}

impl Rules {
    fn read(text: &str) -> Result<Self> {
        Ok(toml::from_str(text).map_err(|why| format!("deny.toml: {why}"))?)
    }

    fn faults(&self, metadata: &Metadata) -> Vec<String> {
        let packages: BTreeMap<_, _> =
            metadata.packages.iter().map(|package| (package.id.as_str(), package)).collect();
        let mut faults = BTreeSet::new();
        for node in &metadata.resolve.nodes {
            let from = packages[node.id.as_str()];
            for to in node.deps.iter().map(|edge| packages[edge.pkg.as_str()]) {
                let ban = self.bans.deny.iter().find(|ban| ban.name == to.name);
                if let Some(ban) = ban.filter(|ban| !ban.wrappers.contains(&from.name)) {
                    faults.insert(format!("{} depends on {}: {}", from.name, ban.name, ban.reason));
                }
            }
        }
        let mut sources = metadata.packages.iter().filter_map(|package| package.source.as_deref());
        let registry = sources.find(|source| source.starts_with(REGISTRY));
        for package in &metadata.packages {
            let is_ours = metadata.workspace_members.contains(&package.id);
            match package.source.as_deref() {
                Some(source) if registry == Some(source) => {}
                None if is_ours => {}
                other => {
                    let from = other.unwrap_or("a folder outside of the workspace");
                    faults.insert(format!("{} is from {from}", package.name));
                }
            }
            let any = package.dependencies.iter().filter(|to| is_ours && to.req == "*" && to.path.is_none());
            faults.extend(any.map(|to| format!("{} takes any version of {}", package.name, to.name)));
        }
        for package in shipped(metadata).into_iter().map(|id| packages[id]) {
            match package.license.as_deref() {
                None => {
                    faults.insert(format!("{} names no licence", package.name));
                }
                Some(licence) if !self.allows(licence) => {
                    faults.insert(format!("{} is under {licence}", package.name));
                }
                Some(_) => {}
            }
        }
        faults.into_iter().collect()
    }

    /// Whether an SPDX expression can be met by allowed licences alone. `/` is how `OR` was once written.
    fn allows(&self, expression: &str) -> bool {
        let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
        let mut words = spaced.split_whitespace().peekable();
        self.any_of(&mut words) == Some(true) && words.next().is_none()
    }

    /// `None`, here and below, for what is no expression.
    fn any_of<'a>(&self, words: &mut Peekable<impl Iterator<Item = &'a str>>) -> Option<bool> {
        let mut allowed = self.all_of(words)?;
        while words.next_if_eq(&"OR").is_some() {
            allowed |= self.all_of(words)?;
        }
        Some(allowed)
    }

    fn all_of<'a>(&self, words: &mut Peekable<impl Iterator<Item = &'a str>>) -> Option<bool> {
        let mut allowed = self.one(words)?;
        while words.next_if_eq(&"AND").is_some() {
            allowed &= self.one(words)?;
        }
        Some(allowed)
    }

    fn one<'a>(&self, words: &mut Peekable<impl Iterator<Item = &'a str>>) -> Option<bool> {
        if words.next_if_eq(&"(").is_some() {
            let allowed = self.any_of(words)?;
            return words.next_if_eq(&")").map(|_| allowed);
        }
        let name = words.next()?;
        match words.next_if_eq(&"WITH") {
            Some(_) => Some(self.licenses.allow.contains(&format!("{name} WITH {}", words.next()?))),
            None => Some(self.licenses.allow.contains(name)),
        }
    }
}

/// What is needed to build something of ours, as cargo-deny reads licences: what only tests use reaches nobody.
fn shipped(metadata: &Metadata) -> BTreeSet<&str> {
    let nodes: BTreeMap<_, _> = metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let mut found = BTreeSet::new();
    let mut next: Vec<&str> = metadata.workspace_members.iter().map(String::as_str).collect();
    while let Some(id) = next.pop() {
        if found.insert(id) {
            let needed = nodes[id].deps.iter().filter(|edge| !edge.is_for_tests_alone());
            next.extend(needed.map(|edge| edge.pkg.as_str()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules() -> Rules {
        Rules::read(
            "[bans]\nwildcards = 'deny'\ndeny = [\n\
             { crate = 'sled', reason = 'no stable release' },\n\
             { crate = 'parking_lot', wrappers = ['tokio'], reason = 'std does' },\n]\n\
             [licenses]\nallow = ['MIT', 'Apache-2.0', 'Unicode-3.0']",
        )
        .unwrap()
    }

    /// `ours` depends on `tokio`, and that on `parking_lot`; with `change` to it.
    fn faults(change: impl FnOnce(&mut serde_json::Value)) -> Vec<String> {
        let package = |name: &str, source: Option<&str>| json!({ "id": name, "name": name, "license": "MIT", "source": source, "dependencies": [] });
        let on = |name: &str| json!([{ "pkg": name, "dep_kinds": [{ "kind": null }] }]);
        let mut metadata = json!({
            "packages": [
                package("ours", None),
                package("tokio", Some(REGISTRY)),
                package("parking_lot", Some(REGISTRY)),
            ],
            "workspace_members": ["ours"],
            "resolve": { "nodes": [
                { "id": "ours", "deps": on("tokio") },
                { "id": "tokio", "deps": on("parking_lot") },
                { "id": "parking_lot", "deps": [] },
            ] },
        });
        change(&mut metadata);
        rules().faults(&serde_json::from_value(metadata).unwrap())
    }

    #[test]
    fn banned_crate_is_a_fault_of_all_but_those_who_may() {
        assert_eq!(faults(|_| ()), [""; 0]);
        let direct =
            faults(|metadata| metadata["resolve"]["nodes"][0]["deps"][0]["pkg"] = "parking_lot".into());
        assert_eq!(direct, ["ours depends on parking_lot: std does"]);
    }

    #[test]
    fn what_is_not_from_the_registry_is_a_fault() {
        let git = "git+https://github.com/tokio-rs/tokio#1";
        let faults_of =
            |source: serde_json::Value| faults(|metadata| metadata["packages"][1]["source"] = source);
        assert_eq!(faults_of(git.into()), [format!("tokio is from {git}")]);
        assert_eq!(faults_of(json!(null)), ["tokio is from a folder outside of the workspace"]);
        assert_eq!(faults_of("registry+another".into()), ["parking_lot is from registry+"], "one of two");
    }

    #[test]
    fn any_version_is_a_fault_of_ours_but_for_a_folder() {
        let star = |path: Option<&str>| {
            faults(|metadata| {
                metadata["packages"][0]["dependencies"] =
                    json!([{ "name": "tokio", "req": "*", "path": path }]);
            })
        };
        assert_eq!(star(None), ["ours takes any version of tokio"]);
        assert_eq!(star(Some("/here")), [""; 0]);
    }

    #[test]
    fn licence_is_a_fault_unless_only_tests_need_the_crate() {
        let under = |licence: serde_json::Value, kind: &str| {
            faults(|metadata| {
                metadata["packages"][1]["license"] = licence;
                metadata["resolve"]["nodes"][0]["deps"][0]["dep_kinds"] = json!([{ "kind": kind }]);
            })
        };
        assert_eq!(under("GPL-3.0".into(), "build"), ["tokio is under GPL-3.0"]);
        assert_eq!(under(json!(null), "build"), ["tokio names no licence"]);
        assert_eq!(under("GPL-3.0".into(), "dev"), [""; 0]);
    }

    #[test]
    fn licence_expressions_are_read_as_spdx_has_them() {
        let rules = rules();
        for met in [
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/Apache-2.0",
            "MIT AND Apache-2.0",
            "(GPL-3.0 OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR MIT",
            // `AND` binds closer.
            "MIT OR Apache-2.0 AND GPL-3.0",
        ] {
            assert!(rules.allows(met), "{met}");
        }
        for not in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "Apache-2.0 WITH LLVM-exception",
            "(MIT OR Apache-2.0) AND GPL-3.0",
            "(MIT",
            "MIT)",
            "MIT Apache-2.0",
            "MIT OR",
        ] {
            assert!(!rules.allows(not), "{not}");
        }
    }
}
