//! The project's own commands. `cargo xtask test` is what a change must pass; `cargo xtask prove` holds what
//! takes longer or needs tools of its own.

mod command;
mod dependencies;
mod emitted;
mod prove;
mod report;
mod test;
mod tools;
mod workspace;

use std::{error::Error, process::ExitCode};

use crate::{report::Report, workspace::Workspace};

/// What every step returns. The error is shown as it stands, so it names the command or the file.
type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "\
cargo xtask test [--install]
    Format, clippy, tests, loom models, rustdoc, every feature of every crate, a further pattern. Stops at the
    first failure.
    --install   installs what is missing (Debian packages, rustup components) instead of naming it

cargo xtask prove [NAME…] [--install] [-- ARGS]
    Longer proofs, all of them if none is named:
";

fn main() -> ExitCode {
    match Request::parse(std::env::args().skip(1)) {
        Ok(request) => match request.carry_out() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(why) => {
                eprintln!("error: {why}");
                ExitCode::FAILURE
            }
        },
        Err(why) => {
            eprint!("{why}\n\n{USAGE}{}", prove::list());
            ExitCode::from(2)
        }
    }
}

/// What the command line asks for.
#[derive(Debug, PartialEq)]
enum Request {
    Help,
    Test { install: bool },
    Prove { names: Vec<String>, install: bool, rest: Vec<String> },
}

impl Request {
    fn parse(args: impl IntoIterator<Item = String>) -> std::result::Result<Self, String> {
        let mut args = args.into_iter();
        let command = args.next().unwrap_or_else(|| "help".into());
        let (mut names, mut install, mut rest) = (Vec::new(), false, Vec::new());
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--install" => install = true,
                "--" => rest = args.by_ref().collect(),
                option if option.starts_with('-') => return Err(format!("no such option: {option}")),
                _ => names.push(arg),
            }
        }
        match command.as_str() {
            "help" | "--help" | "-h" => Ok(Self::Help),
            "test" if names.is_empty() && rest.is_empty() => Ok(Self::Test { install }),
            "test" => Err("`test` runs everything and takes no names: use `cargo test` to choose".into()),
            "prove" => match names.iter().find(|name| !prove::exists(name)) {
                Some(unknown) => Err(format!("nothing to prove by the name `{unknown}`")),
                None => Ok(Self::Prove { names, install, rest }),
            },
            other => Err(format!("no such command: {other}")),
        }
    }

    /// Whether every step passed.
    fn carry_out(self) -> Result<bool> {
        match self {
            Self::Help => {
                print!("{USAGE}{}", prove::list());
                Ok(true)
            }
            Self::Test { install } => {
                let workspace = Workspace::load()?;
                Ok(Report::stopping("xtask test").run(&test::steps(&workspace, install)))
            }
            Self::Prove { names, install, rest } => {
                let workspace = Workspace::load()?;
                Ok(Report::going_on("xtask prove").run(&prove::steps(&workspace, &names, install, &rest)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> std::result::Result<Request, String> {
        Request::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_may_stand_anywhere_before_the_dashes() {
        assert_eq!(parse("test --install"), Ok(Request::Test { install: true }));
        let (names, rest) = (vec!["mutants".to_owned()], vec!["--window.rs".to_owned()]);
        assert_eq!(
            parse("prove --install mutants -- --window.rs"),
            Ok(Request::Prove { names, install: true, rest })
        );
    }

    #[test]
    fn what_is_misspelt_is_refused_by_name() {
        assert!(parse("prove loam").unwrap_err().contains("`loam`"));
        assert!(parse("test --instal").unwrap_err().contains("--instal"));
        assert!(parse("tset").unwrap_err().contains("tset"));
    }
}
