//! The page that is written.

use std::fmt::Write;

use crate::{
    cases::{self, Case},
    measure::{self, Figures},
    services::{Echo, Later, drive, runtime},
};

/// Measures everything and writes it down.
pub(crate) fn measured(instructions: bool) -> String {
    let runtime = runtime();
    let (mut bare, mut later) = (drive(&runtime, Echo), drive(&runtime, Later));
    let cases = cases::all();
    let rows: Vec<(&Case, Figures)> = cases
        .iter()
        .map(|case| {
            eprintln!("{}", case.id);
            let beside = if case.pending { &mut later } else { &mut bare };
            (case, measure::side_by_side(beside, &mut (case.make)(&runtime)))
        })
        .collect();

    let mut page = String::from(HEAD);
    page.push_str("| what | whose | ns per call | over bare | ceiling | allocations |");
    page.push_str(if instructions { " instructions |\n" } else { "\n" });
    page.push_str("|---|---|---:|---:|---:|---:|");
    page.push_str(if instructions { "---:|\n" } else { "\n" });
    for (case, figures) in &rows {
        let ceiling = case.ceiling.map_or_else(String::new, |ceiling| format!("{ceiling:.0}"));
        let _ = write!(
            page,
            "| {} | {} | {:.1} | {:+.1} | {ceiling} | {} |",
            case.group, case.who, figures.nanos, figures.over, figures.allocations
        );
        if instructions {
            let counted =
                measure::instructions(case.id).map_or_else(|| "-".into(), |count| format!("{count:.0}"));
            let _ = write!(page, " {counted} |");
        }
        page.push('\n');
    }

    page.push_str("\n## Two threads on one policy\n\nAggregate ns per call: wall time over all calls of both threads.\n\n");
    page.push_str("| what | whose | ns per call |\n|---|---|---:|\n");
    for (group, who, make) in cases::shared() {
        eprintln!("two threads: {group}, {who}");
        let nanos = measure::two_threads(&|| make(&crate::services::runtime()));
        let _ = writeln!(page, "| {group} | {who} | {nanos:.1} |");
    }
    page.push_str(&ratios(&rows));
    page.push_str(MISSED);
    page
}

const HEAD: &str = "# Benchmarks

Written by `cargo run --release -p buttress-benches -- --write`: do not edit. One process, one run; each row beside
the bare service in interleaved pairs, the median of the differences. \"Ceiling\" is the budget of the design, with
25 ns for each clock read it allows. The machine is small and shared: compare rows, not runs.

";

const MISSED: &str = "
## Where a budget of the design is missed, and why

- **breaker, consecutive** (+5): three locked operations are left, the engine's `Arc` up and down and the exact count of
  successes, about 2 to 3 ns each.
- **breaker, slow-call rule** (+60): two clock reads with their subtractions, on top of the row above.
- **retry** (tower + 1): the engine's `Arc`, because the future outlives the service; the number of the attempt, put in the
  context around `call` and around `poll`.
- **bulkhead** (tower + 0): within the noise; fewer instructions than tower's limit, and cheaper with two threads.
- **timeout, pending once** (tower + 0): the engine's `Arc`, and one copy of the timer's 112 bytes when it is made at the first
  pending poll, which only a box or unsafe code would avoid.
- **six layers** (+150): the rows above added up; two clock reads are in it. Each layer that keeps a clone of the service
  for later clones every engine's `Arc` inside it.
";

fn ratios(rows: &[(&Case, Figures)]) -> String {
    let over =
        |id: &str| rows.iter().find(|(case, _)| case.id == id).map_or(f64::NAN, |(_, figures)| figures.over);
    format!(
        "\n## Ratios\n\n- four layers: tower-resilience's cost {:.1} times ours (target: 6)\n- three layers: seatbelt's cost {:.1} times \
         ours (target: 2)\n- retry: ours is tower's {:+.1} ns (target: +1)\n- bulkhead: ours is tower's {:+.1} ns (target: 0)\n- \
         timeout pending once: ours is tower's {:+.1} ns (target: 0)\n",
        over("resilience-stack") / over("four"),
        over("seatbelt-stack") / over("three"),
        over("retry") - over("tower-retry"),
        over("bulkhead") - over("tower-limit"),
        over("timeout-later") - over("tower-timeout-later"),
    )
}
