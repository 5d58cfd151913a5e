//! Side by side: every layer beside the bare service and the peers, in one process, one table.
//!
//! `cargo run --release -p bench-patterns` prints the table; `-- --write` also writes `docs/benchmarks.md`;
//! `-- --instructions` adds instruction counts, where valgrind is installed.

mod cases;
mod measure;
mod ours;
mod peers;
mod services;
mod table;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    match &args[..] {
        [one, case, calls] if one == "--one" => return run_one(case, calls),
        _ => {}
    }
    let table = table::measured(has("--instructions"));
    println!("{table}");
    if has("--write") {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/benchmarks.md");
        if let Err(error) = std::fs::write(page, table) {
            eprintln!("docs/benchmarks.md cannot be written: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Runs one case for callgrind to count.
fn run_one(case: &str, calls: &str) -> ExitCode {
    let (Some(make), Ok(calls)) = (cases::named(case), calls.parse()) else {
        eprintln!(
            "--one takes a case, or a case with `-later` for a service that is pending once, and a number of calls"
        );
        return ExitCode::from(2);
    };
    let runtime = services::runtime();
    make(&runtime)()(&runtime, calls);
    ExitCode::SUCCESS
}
