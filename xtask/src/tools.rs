//! Programs that the steps start and that a Rust toolchain does not bring.

use std::path::{Path, PathBuf};

use crate::{Result, command::Cmd, report::Done, workspace::Workspace};

/// A program, and the Debian packages it comes with.
pub(crate) struct Tool {
    program: &'static str,
    packages: &'static [&'static str],
    needed_by: &'static str,
}

/// What `cargo xtask test` needs.
pub(crate) const TEST: &[Tool] =
    &[Tool { program: "cc", packages: &["gcc", "libc6-dev"], needed_by: "linking whatever is compiled" }];

/// What `cargo xtask prove breakages` and `mutants` need.
pub(crate) const COPY: &[Tool] =
    &[Tool { program: "git", packages: &["git"], needed_by: "listing the files of the tree" }];

/// What `cargo xtask prove bench` needs.
pub(crate) const BENCH: &[Tool] =
    &[Tool { program: "valgrind", packages: &["valgrind"], needed_by: "counting instructions (callgrind)" }];

/// The version of cargo-deny that `deny.toml` is written for.
const CARGO_DENY: &str = "0.20.2";

/// The version of cargo-mutants that `tests/mutants.toml` is written for: another makes other mutants.
const CARGO_MUTANTS: &str = "27.1.0";

/// Makes sure that `tools` are there: installs what is missing if `install`, else fails with the command that
/// would.
pub(crate) fn ensure(tools: &[Tool], install: bool) -> Result<Done> {
    let missing: Vec<_> = tools.iter().filter(|tool| find(tool.program).is_none()).collect();
    for tool in &missing {
        println!("missing: {} ({})", tool.program, tool.needed_by);
    }
    if missing.is_empty() {
        return Ok(Done::Noted("nothing to install".into()));
    }
    let packages: Vec<_> = missing.iter().flat_map(|tool| tool.packages).copied().collect();
    let as_root = as_root();
    let by_hand = format!(
        "{sudo}apt-get update && {sudo}apt-get install -y --no-install-recommends {}",
        packages.join(" "),
        sudo = if as_root { "" } else { "sudo " }
    );
    if find("apt-get").is_none() {
        return Err(format!("there is no apt-get here; on Debian it would be: {by_hand}").into());
    }
    if !install {
        return Err(format!("run this, or add --install: {by_hand}").into());
    }
    if !as_root && find("sudo").is_none() {
        return Err(format!("neither root nor sudo; as root: {}", by_hand.replace("sudo ", "")).into());
    }
    apt("update").run()?;
    apt("install -y --no-install-recommends").args(&packages).run()?;
    match missing.iter().find(|tool| find(tool.program).is_none()) {
        Some(tool) => Err(format!("{} is still missing", tool.program).into()),
        None => Ok(Done::Noted(format!("installed {}", packages.join(" ")))),
    }
}

fn as_root() -> bool {
    Cmd::new("id").arg("-u").read().is_ok_and(|id| id.trim() == "0")
}

fn apt(arguments: &str) -> Cmd {
    let apt = if as_root() {
        Cmd::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive")
    } else {
        Cmd::new("sudo").words("DEBIAN_FRONTEND=noninteractive apt-get")
    };
    apt.words(arguments)
}

/// Makes sure of the parts of a toolchain that rustup's minimal profile leaves out.
pub(crate) fn ensure_components(install: bool) -> Result {
    let missing: Vec<_> = [("fmt", "rustfmt"), ("clippy", "clippy")]
        .into_iter()
        .filter(|(subcommand, _)| !Cmd::cargo(subcommand).arg("--version").succeeds())
        .map(|(_, component)| component)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let add = Cmd::new("rustup").words("component add").args(&missing);
    if install { add.run() } else { Err(format!("run this, or add --install: {add}").into()) }
}

/// The cargo-deny to use, if there is one.
pub(crate) fn cargo_deny(workspace: &Workspace, install: bool) -> Result<Option<PathBuf>> {
    of_cargo(workspace, install, "cargo-deny", CARGO_DENY)
}

/// The cargo-mutants to use, if there is one.
pub(crate) fn cargo_mutants(workspace: &Workspace, install: bool) -> Result<Option<PathBuf>> {
    of_cargo(workspace, install, "cargo-mutants", CARGO_MUTANTS)
}

/// The one on the path, or one of our own beside the build, which `install` puts there.
fn of_cargo(workspace: &Workspace, install: bool, name: &str, version: &str) -> Result<Option<PathBuf>> {
    if let Some(found) = find(name) {
        return Ok(Some(found));
    }
    let root = workspace.scratch("tools");
    let ours = root.join("bin").join(name);
    if !ours.is_file() {
        if !install {
            return Ok(None);
        }
        // Not optimised: built in half the time, and what takes long is not the program itself.
        Cmd::cargo("install --quiet --locked --debug")
            .args([name, "--version", version, "--root"])
            .arg(&root)
            .arg("--target-dir")
            .arg(workspace.scratch("tools-build"))
            .run()?;
    }
    Ok(Some(ours))
}

/// The promtool to use: the one on the path, or one of our own beside the build, which `install` puts there.
pub(crate) fn promtool(workspace: &Workspace, install: bool) -> Result<Option<PathBuf>> {
    if let Some(found) = find("promtool") {
        return Ok(Some(found));
    }
    let root = workspace.scratch("tools");
    let ours = root.join("usr/bin/promtool");
    if !ours.is_file() {
        if !install || find("apt-get").is_none() {
            return Ok(None);
        }
        std::fs::create_dir_all(&root)?;
        // Out of the package and not with it: that would also set up a server, and start it.
        let unpack = "apt-get download prometheus && \
            dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool && rm prometheus_*.deb";
        let get = || Cmd::new("sh").arg("-c").arg(unpack).dir(&root);
        if !get().succeeds() {
            apt("update").run()?; // a new machine knows of no packages
            get().run()?;
        }
    }
    Ok(Some(ours))
}

/// The redis-server to use: the one on the path, or one of our own beside the build, which `install` puts there
/// with the libraries it wants.
pub(crate) fn redis_server(workspace: &Workspace, install: bool) -> Result<Option<PathBuf>> {
    if let Some(found) = find("redis-server") {
        return Ok(Some(found));
    }
    let root = workspace.scratch("tools");
    let ours = root.join("redis-server");
    if !ours.is_file() {
        if !install || find("apt-get").is_none() {
            return Ok(None);
        }
        let folder = root.join("redis");
        let debs = folder.join("debs");
        std::fs::create_dir_all(debs.join("partial"))?;
        // Fetched as if to be installed, because apt then knows which libraries are missing; and unpacked instead,
        // because the package would also start a server. The lock is for what only root may change.
        let get = || {
            let fetch =
                "install -y --no-install-recommends --download-only redis-server -o Debug::NoLocking=1";
            let here = format!("Dir::Cache::archives={}", debs.display());
            Cmd::new("apt-get").words(fetch).args(["-o", &here])
        };
        if !get().succeeds() {
            apt("update").run()?; // a new machine knows of no packages
            get().run()?;
        }
        std::fs::write(folder.join("start"), START_REDIS)?;
        let unpack = "for deb in debs/*.deb; do dpkg-deb --fsys-tarfile $deb | tar -x || exit; done && \
            rm -r debs && chmod +x start && mv start ../redis-server";
        Cmd::new("sh").arg("-c").arg(unpack).dir(&folder).run()?;
    }
    Ok(Some(ours))
}

/// Starts the redis-server that lies in the folder `redis` beside this script, with the libraries there.
const START_REDIS: &str = r#"#!/bin/sh
here=$(dirname "$0")/redis
for lib in "$here"/lib/*-linux-gnu* "$here"/usr/lib/*-linux-gnu*; do
    LD_LIBRARY_PATH=$lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
done
export LD_LIBRARY_PATH
exec "$here/usr/bin/redis-server" "$@"
"#;

/// Where the path has `program`.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file: &PathBuf| is_program(file))
}

#[cfg(unix)]
fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(file: &Path) -> bool {
    file.with_extension(std::env::consts::EXE_EXTENSION).is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOWHERE: &[Tool] =
        &[Tool { program: "no-such-program-here", packages: &["no-such-package"], needed_by: "this test" }];

    #[test]
    fn without_the_flag_the_exact_command_is_named() {
        let why = ensure(NOWHERE, false).err().unwrap().to_string();
        assert!(why.contains("apt-get install -y --no-install-recommends no-such-package"), "{why}");
    }

    #[test]
    fn what_is_there_needs_no_flag() {
        assert!(ensure(TEST, false).is_ok());
    }
}
