//! The experiments: what is run, what must come out, and the tables.

use crate::{
    clients,
    figures::Figures,
    load::{Client, Trigger, Weather, storm},
    nested::attempts_per_call,
    server::Server,
};

/// What did not come out as it must, in words.
pub(crate) type Faults = Vec<String>;

type Make = fn(&Server) -> Client;

/// The naive clients, and whether the server notices that a caller has left.
const NAIVE: [(&str, Make, bool); 3] = [
    ("time-out, 3 retries (tower)", clients::tower, false),
    ("the same, and the server notices who left", clients::tower, true),
    ("time-out, 3 retries (buttress, no budget)", clients::unbudgeted, false),
];

/// E1: a fifth of the capacity for 10 s, and the retries keep the server down when all of it is back.
pub(crate) fn retry_storm(seeds: u64) -> Faults {
    let weather = Weather {
        clients: 50,
        load: 800.0,
        trigger: Trigger::Fifth,
        begin: 60,
        end: 70,
        seconds: 300,
        notices: false,
    };
    println!("E1, retry storm: 800 calls/s of 50 clients, a fifth of the capacity for 10 s\n{}", head());
    let mut faults = Faults::new();
    for (name, client, notices) in NAIVE {
        let weather = Weather { notices, ..weather.clone() };
        stays_down(name, &storms(&weather, seeds, client), &mut faults);
    }
    let mut readme = |name: &str, weather: &Weather| {
        comes_back(name, &storms(weather, seeds, clients::readme), 5, 1.15, &mut faults);
    };
    readme("README's client", &weather);
    for load in [300.0, 500.0, 600.0, 700.0, 900.0] {
        readme(&format!("README's client, {load} calls/s"), &Weather { load, ..weather.clone() });
    }
    readme("README's client, instead twice the load", &Weather { trigger: Trigger::Twice, ..weather });
    faults
}

/// E4: nothing for 30 s, and all clients wait for the first sign of life.
pub(crate) fn recovery_herd(seeds: u64) -> Faults {
    let weather = Weather {
        clients: 100,
        load: 800.0,
        trigger: Trigger::Outage,
        begin: 60,
        end: 90,
        seconds: 300,
        notices: false,
    };
    println!(
        "E4, recovery herd: 800 calls/s of 100 clients, no capacity for 30 s, then from 10 to 100 % in 30 s\n\
         (of which 95 % of the load can be served from second 23 on)\n{}",
        head()
    );
    let mut faults = Faults::new();
    for (name, client, notices) in NAIVE {
        let weather = Weather { notices, ..weather.clone() };
        stays_down(name, &storms(&weather, seeds, client), &mut faults);
    }
    let runs = storms(&weather, seeds, clients::readme);
    comes_back("README's client", &runs, 30, 1.15, &mut faults);
    faults
}

fn storms(weather: &Weather, seeds: u64, client: Make) -> Vec<Figures> {
    (1..=seeds).map(|seed| storm(weather, seed, client)).collect()
}

/// Where a naive client comes back, the experiment says nothing of any other.
fn stays_down(name: &str, runs: &[Figures], faults: &mut Faults) {
    println!("{}", row(name, runs));
    for (seed, run) in (1..).zip(runs) {
        if let Some(seconds) = run.recovery() {
            faults.push(format!("{name}, seed {seed}: came back after {seconds} s and must not"));
        }
    }
}

fn comes_back(name: &str, runs: &[Figures], within: u64, amplification: f64, faults: &mut Faults) {
    const PEAK: f64 = 1.3;
    const LAST_MINUTE: f64 = 0.995;
    println!("{}", row(name, runs));
    for (seed, run) in (1..).zip(runs) {
        let mut hold = |holds: bool, what: String| {
            if !holds {
                faults.push(format!("{name}, seed {seed}: {what}"));
            }
        };
        let back = run.recovery();
        hold(
            back.is_some_and(|seconds| seconds <= within),
            format!("came back after {} s, of {within} allowed", back.map_or("-".into(), |s| s.to_string())),
        );
        let attempts = run.amplification();
        hold(
            attempts <= amplification,
            format!("{attempts:.3} attempts for each call in the minute after, of {amplification} allowed"),
        );
        let peak = run.peak();
        hold(
            peak <= PEAK,
            format!("{peak:.3} attempts for each call in the worst second, of {PEAK} allowed"),
        );
        let good = run.last_minute();
        hold(
            good >= LAST_MINUTE,
            format!("{good:.4} answered well in the last minute, of {LAST_MINUTE} wanted"),
        );
    }
}

fn head() -> String {
    format!(
        "{:<42} {:>8} {:>11} {:>11} {:>11} {:>9} {:>11}\n{:<42} {:>8} {:>11} {:>11} {:>11} {:>9} {:>11}",
        "",
        "recovery",
        "attempts a",
        "the same,",
        "attempts of",
        "openings",
        "good, last",
        "",
        "s",
        "call, 60 s",
        "worst 1 s",
        "capacity",
        "a client",
        "60 s, %",
    )
}

/// One line: the lowest and the highest of all seeds.
fn row(name: &str, runs: &[Figures]) -> String {
    let range = |of: &dyn Fn(&Figures) -> f64, decimals: usize| {
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for run in runs {
            (least, most) = (least.min(of(run)), most.max(of(run)));
        }
        let (least, most) = (format!("{least:.decimals$}"), format!("{most:.decimals$}"));
        if least == most { least } else { format!("{least}-{most}") }
    };
    let back: Vec<u64> = runs.iter().filter_map(Figures::recovery).collect();
    let recovery = match (back.iter().min(), back.iter().max()) {
        (Some(least), Some(most)) if back.len() == runs.len() && least == most => least.to_string(),
        (Some(least), Some(most)) if back.len() == runs.len() => format!("{least}-{most}"),
        (Some(_), _) => format!("{} of {}", back.len(), runs.len()),
        _ => "never".into(),
    };
    format!(
        "{name:<42} {recovery:>8} {:>11} {:>11} {:>11} {:>9} {:>11}",
        range(&Figures::amplification, 2),
        range(&Figures::peak, 2),
        range(&Figures::over, 2),
        range(&Figures::openings, 1),
        range(&|run| run.last_minute() * 100.0, 1),
    )
}

/// E2: each layer of a call chain retries.
pub(crate) fn nested_retries(seeds: u64) -> Faults {
    println!("E2, nested retries of 3 attempts each: attempts at the bottom for each call at the top");
    println!("{:<28} {:>16} {:>16} {:>16}", "", "2 layers", "3 layers", "5 layers");
    let mut faults = Faults::new();
    for (failing, name) in [(1.0, "all fail"), (0.5, "half fail")] {
        for ratio in [None, Some(0.1), Some(0.2)] {
            let budget = ratio.map_or("no budget".into(), |ratio| format!("budget {ratio}"));
            let mut line = format!("{:<28}", format!("{name}, {budget}"));
            for layers in [2, 3, 5] {
                let got = |seed| attempts_per_call(layers, ratio, failing, seed);
                let got = (1..=seeds).map(got).fold(0.0, f64::max);
                let what = format!("{name}, {budget}, {layers} layers: {got:.3} attempts for each call");
                match ratio {
                    Some(ratio) => {
                        let most = (1.0 + ratio).powi(layers as i32);
                        line += &format!(" {:>16}", format!("{got:.3} of {most:.3}"));
                        if got > most * 1.01 {
                            faults.push(format!("{what}, of {most:.3} allowed"));
                        }
                    }
                    None => {
                        line += &format!(" {got:>16.3}");
                        // Known exactly: each layer makes all of its attempts.
                        if failing == 1.0 && (got - 3_f64.powi(layers as i32)).abs() > 1e-9 {
                            faults.push(format!("{what}, and nothing is to stop them"));
                        }
                    }
                }
            }
            println!("{line}");
        }
    }
    faults
}
