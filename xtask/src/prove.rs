//! `cargo xtask prove`: what takes longer than a change should wait for, or needs tools of its own.

mod breakages;
mod mutants;
mod release;
mod scratch;
mod toy;

use crate::{
    Result,
    command::Cmd,
    report::{Done, Step},
    test, tools,
    workspace::{Workspace, selecting},
};

/// What there is to prove.
const PROOFS: &[(&str, &str)] = &[
    (
        "breakages",
        "what no operator mutation makes, of tests/breakages.toml: the named test must fail; -- FILTER",
    ),
    ("mutants", "breaks the files of tests/mutants.toml with cargo-mutants, and holds its list; -- FILE"),
    ("toy", "as in `test`: adds a pattern to a copy of the tree, and counts what that touched"),
    ("loom", "the loom models, as in `test`"),
    ("storms", "the README's client after an outage, and naive ones, which must stay down; -- e1 --seeds 1"),
    ("deny", "licences, sources and banned crates, with cargo-deny"),
    ("alone", "the tests of each crate by itself"),
    ("msrv", "each library compiles with the oldest Rust it names, where rustup has it (--install gets it)"),
    ("package", "each crate that is to be published can be packaged"),
    ("bench", "the benches side by side with the peers, with instruction counts; -- ARGS"),
];

pub(crate) fn exists(name: &str) -> bool {
    name == "all" || PROOFS.iter().any(|(proof, _)| *proof == name)
}

/// A line for each proof, for the usage text.
pub(crate) fn list() -> String {
    PROOFS.iter().map(|(name, what)| format!("    {name:9} {what}\n")).collect()
}

/// The steps named, or all.
pub(crate) fn steps<'a>(
    workspace: &'a Workspace,
    names: &[String],
    install: bool,
    rest: &'a [String],
) -> Vec<Step<'a>> {
    let all = names.is_empty() || names.iter().any(|name| name == "all");
    let chosen = PROOFS.iter().filter(|(name, _)| all || names.iter().any(|chosen| chosen == name));
    chosen.map(|&(name, _)| Step::new(name, move || prove(name, workspace, install, rest))).collect()
}

fn prove(name: &str, workspace: &Workspace, install: bool, rest: &[String]) -> Result<Done> {
    match name {
        "breakages" => {
            tools::ensure(tools::COPY, install)?;
            breakages::prove(workspace, rest)
        }
        "mutants" => {
            tools::ensure(tools::COPY, install)?;
            mutants::prove(workspace, install, rest)
        }
        "toy" => toy(workspace, install),
        "loom" => test::loom(workspace),
        "storms" => {
            Cmd::cargo("run --release -p storms --").args(rest).run()?;
            Ok(Done::Passed)
        }
        "deny" => deny(workspace, install),
        "alone" => alone(workspace),
        "msrv" => release::msrv(workspace, install),
        "package" => release::package(workspace),
        "bench" => {
            tools::ensure(tools::BENCH, install)?;
            bench(workspace, rest)
        }
        other => Err(format!("nothing to prove by the name `{other}`").into()),
    }
}

/// In `test` as well: what the toy is written on changes, and nobody else would notice.
pub(crate) fn toy(workspace: &Workspace, install: bool) -> Result<Done> {
    tools::ensure(tools::COPY, install)?;
    toy::prove(workspace)
}

/// All of `deny.toml`, which `dependencies::check` reads but a part of.
fn deny(workspace: &Workspace, install: bool) -> Result<Done> {
    let Some(program) = tools::cargo_deny(workspace, install)? else {
        return Ok(Done::Skipped("cargo-deny is not installed; --install does it".into()));
    };
    Cmd::new(&program.to_string_lossy())
        .words("--workspace --all-features check bans licenses sources")
        .dir(&workspace.root)
        .run()?;
    Ok(Done::Passed)
}

/// Clippy besides, because `cargo xtask test` leaves the benches out: their peers take long to build.
fn bench(workspace: &Workspace, rest: &[String]) -> Result<Done> {
    for package in workspace.benches() {
        let clippy = Cmd::cargo("clippy --all-targets").args(selecting([package]));
        clippy.words("-- -D warnings").run()?;
        Cmd::cargo("run --release").args(selecting([package])).arg("--").args(rest).run()?;
    }
    Ok(Done::Passed)
}

/// In the workspace, one crate's tests lend their features to the next.
fn alone(workspace: &Workspace) -> Result<Done> {
    for package in workspace.crates() {
        Cmd::cargo("test --no-fail-fast").args(selecting([package])).run_tests()?;
    }
    Ok(Done::Passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_proof_listed_is_one_that_can_be_asked_for() {
        for (name, _) in PROOFS {
            assert!(exists(name) && list().contains(name));
        }
        assert!(exists("all") && !exists("nothing"));
    }
}
