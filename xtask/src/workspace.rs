//! The workspace as cargo sees it.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::{Result, command::Cmd};

/// What we read of `cargo metadata --no-deps`.
#[derive(Deserialize)]
pub(crate) struct Workspace {
    #[serde(rename = "workspace_root")]
    pub(crate) root: PathBuf,
    /// Where cargo builds. What we build beside it has a folder of its own there.
    #[serde(rename = "target_directory")]
    pub(crate) target: PathBuf,
    packages: Vec<Package>,
}

/// A member of the workspace.
#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) rust_version: Option<String>,
    manifest_path: PathBuf,
    features: std::collections::BTreeMap<String, Vec<String>>,
    /// `None`: to any registry; empty: to none.
    publish: Option<Vec<String>>,
}

impl Workspace {
    pub(crate) fn load() -> Result<Self> {
        let metadata = Cmd::cargo("metadata --format-version 1 --no-deps").read()?;
        Ok(serde_json::from_str(&metadata)?)
    }

    /// The libraries, which is what lies in `crates/`.
    pub(crate) fn crates(&self) -> impl Iterator<Item = &Package> {
        let folder = self.root.join("crates");
        self.packages.iter().filter(move |package| package.manifest_path.starts_with(&folder))
    }

    /// What is measured beside its peers, which lies in `benches/`.
    pub(crate) fn benches(&self) -> impl Iterator<Item = &Package> {
        let folder = self.root.join("benches");
        self.packages.iter().filter(move |package| package.manifest_path.starts_with(&folder))
    }

    /// `--workspace` without the benches: their peers take longer to build than all of ours.
    pub(crate) fn without_benches(&self) -> Vec<String> {
        let excluded = self.benches().flat_map(|package| ["--exclude".to_owned(), package.name.clone()]);
        std::iter::once("--workspace".to_owned()).chain(excluded).collect()
    }

    /// What is to be published.
    pub(crate) fn published(&self) -> impl Iterator<Item = &Package> {
        let published = |package: &&Package| package.publish.as_ref().is_none_or(|to| !to.is_empty());
        self.packages.iter().filter(published)
    }

    /// A scratch folder of ours, kept between runs.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.target.join("xtask").join(name)
    }

    /// The packages whose concurrency is modelled: those with a module `models` that is only there for loom.
    pub(crate) fn modelled(&self) -> Vec<&Package> {
        self.crates().filter(|package| has_models(&package.folder().join("src"))).collect()
    }
}

impl Package {
    pub(crate) fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("."))
    }

    /// Every choice of features that must compile by itself: none, each alone, all.
    pub(crate) fn feature_choices(&self) -> Vec<String> {
        let mut choices = vec!["--no-default-features".to_owned()];
        let features: Vec<_> = self.features.keys().collect();
        choices.extend(features.iter().map(|feature| format!("--no-default-features --features {feature}")));
        // With one feature or none, all is one of those already.
        if features.len() > 1 {
            choices.push("--all-features".to_owned());
        }
        choices
    }
}

/// `-p NAME` for each.
pub(crate) fn selecting<'a>(packages: impl IntoIterator<Item = &'a Package>) -> Vec<String> {
    packages.into_iter().flat_map(|package| ["-p".to_owned(), package.name.clone()]).collect()
}

fn has_models(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().map(|entry| entry.path()).any(|path| {
        if path.is_dir() {
            return has_models(&path);
        }
        std::fs::read_to_string(path).is_ok_and(|text| text.contains("#[cfg(all(test, buttress_loom))]"))
    })
}
