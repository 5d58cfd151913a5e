//! Overload that feeds itself, after the outage that set it off is over: the README's client beside naive ones, before a
//! model server, in paused time.
//!
//! ```text
//! cargo run --release -p storms [-- [e1] [e2] [e4] [--seeds N]]
//! ```
//!
//! The policies are the real ones; the server is a queue and some workers. A naive client has to stay down, or an
//! experiment shows nothing. `cargo xtask prove storms` runs it with five seeds.

mod clients;
mod figures;
mod load;
mod nested;
mod proof;
mod server;

use std::process::ExitCode;

use crate::proof::Faults;

/// Runs with so many seeds, and prints its table.
type Experiment = fn(u64) -> Faults;

/// By the names they are called by.
const EXPERIMENTS: [(&str, Experiment); 3] =
    [("e1", proof::retry_storm), ("e2", proof::nested_retries), ("e4", proof::recovery_herd)];

fn main() -> ExitCode {
    let (names, seeds) = match asked(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("storms: {why}; [e1] [e2] [e4] [--seeds N] are wanted");
            return ExitCode::from(2);
        }
    };
    let mut faults = Faults::new();
    for (name, experiment) in EXPERIMENTS {
        if names.is_empty() || names.iter().any(|asked| asked == name) {
            faults.extend(experiment(seeds).into_iter().map(|fault| format!("{name}: {fault}")));
            println!();
        }
    }
    faults.iter().for_each(|fault| println!("{fault}"));
    if faults.is_empty() {
        println!("all as wanted, {seeds} seeds each");
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

/// Which experiments, none for all, and how many seeds.
fn asked(mut words: impl Iterator<Item = String>) -> Result<(Vec<String>, u64), String> {
    let (mut names, mut seeds) = (Vec::new(), 5);
    while let Some(word) = words.next() {
        if word == "--seeds" {
            let number = words.next().and_then(|n| n.parse().ok()).filter(|n| (1..=100).contains(n));
            seeds = number.ok_or("--seeds is a number from 1 to 100")?;
        } else if EXPERIMENTS.iter().any(|(name, _)| *name == word) {
            names.push(word);
        } else {
            return Err(format!("there is no experiment `{word}`"));
        }
    }
    Ok((names, seeds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Trigger, Weather, storm};

    /// The first experiment, shortened: what `cargo xtask prove storms` has at length.
    #[test]
    fn retry_storm_keeps_a_naive_client_down_and_not_the_readmes() {
        let weather = Weather {
            clients: 50,
            load: 800.0,
            trigger: Trigger::Fifth,
            begin: 3,
            end: 13,
            seconds: 30,
            notices: false,
        };
        assert_eq!(storm(&weather, 1, clients::tower).recovery(), None);
        let readme = storm(&weather, 1, clients::readme);
        assert!(readme.recovery().is_some_and(|seconds| seconds <= 5), "{:?}", readme.recovery());
        assert!(readme.peak() <= 1.3, "{}", readme.peak());
    }

    #[test]
    fn budget_in_every_layer_keeps_nested_retries_from_multiplying() {
        assert!(nested::attempts_per_call(2, Some(0.1), 1.0, 1) <= 1.1 * 1.1 * 1.01);
    }

    #[test]
    fn misspelt_experiment_is_refused_by_name() {
        let asked = |line: &str| asked(line.split_whitespace().map(str::to_owned));
        assert_eq!(asked("e4 --seeds 2"), Ok((vec!["e4".to_owned()], 2)));
        assert!(asked("e3").unwrap_err().contains("`e3`"));
        assert!(asked("--seeds 0").is_err());
    }
}
