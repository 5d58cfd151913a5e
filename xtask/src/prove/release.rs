//! What a release must hold: the oldest Rust, and crates that can be packaged.

use std::collections::BTreeMap;

use crate::{
    Result,
    command::Cmd,
    report::Done,
    workspace::{Package, Workspace, selecting},
};

/// Each library, with all its features, on the oldest Rust its manifest names.
pub(super) fn msrv(workspace: &Workspace, install: bool) -> Result<Done> {
    let mut by_version = BTreeMap::<&str, Vec<&Package>>::new();
    for package in workspace.crates() {
        let version = package.rust_version.as_deref();
        let version = version.ok_or_else(|| format!("{} names no rust-version", package.name))?;
        by_version.entry(version).or_default().push(package);
    }
    let mut absent = Vec::new();
    for (version, packages) in by_version {
        if install {
            Cmd::new("rustup").words("toolchain install --profile minimal").arg(version).run()?;
        }
        let cargo = || Cmd::new("rustup").words("run").arg(version).arg("cargo");
        if !cargo().arg("--version").succeeds() {
            absent.push(version);
            continue;
        }
        // Ours was started by another cargo, which told its children what it is.
        let check = cargo().words("check --lib --all-features --target-dir").arg(workspace.scratch("msrv"));
        check.args(selecting(packages)).env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN").run()?;
    }
    if absent.is_empty() {
        return Ok(Done::Passed);
    }
    Ok(Done::Skipped(format!("rustup has no {}; --install gets it", absent.join(", "))))
}

/// Every crate that is to be published can be packaged, together with the others it needs.
pub(super) fn package(workspace: &Workspace) -> Result<Done> {
    let published: Vec<_> = workspace.published().collect();
    let outside: Vec<_> = published
        .iter()
        .filter(|package| !package.folder().starts_with(workspace.root.join("crates")))
        .collect();
    if let Some(package) = outside.first() {
        return Err(format!("{} would be published: it lacks `publish = false`", package.name).into());
    }
    let count = published.len();
    Cmd::cargo("package --no-verify --allow-dirty --target-dir")
        .arg(workspace.scratch("package"))
        .args(selecting(published))
        .run()?;
    Ok(Done::Noted(format!("{count} crates")))
}
