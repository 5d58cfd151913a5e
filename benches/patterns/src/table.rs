//! The page that is written.

use std::fmt::Write;

use tokio::runtime::Runtime;

use crate::{
    cases::{self, Case, Make, NotMeasured, Row},
    measure::{self, Nanos},
    services::{Echo, Later, Subject, runtime, subject},
};

/// What was measured of a case around one of the inner services.
struct Figures {
    one_thread: Nanos,
    two_threads: Nanos,
    allocations: f64,
    instructions: Option<f64>,
}

/// What was measured of a case around both.
struct Measured {
    case: Case,
    ready: Figures,
    pending: Result<Figures, NotMeasured>,
}

enum Line {
    Measured(Box<Measured>),
    Without { group: &'static str, who: &'static str, why: NotMeasured },
}

/// Measures everything and writes it down.
pub(crate) fn measured(instructions: bool) -> String {
    let bench = Bench {
        runtimes: [runtime(), runtime()],
        ready: subject(Echo),
        pending: subject(Later),
        instructions,
    };
    let lines: Vec<Line> = cases::rows().into_iter().map(|row| bench.line(row)).collect();
    let rows: Vec<&Measured> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Measured(row) => Some(&**row),
            Line::Without { .. } => None,
        })
        .collect();
    [HEAD, &table(&lines, instructions), &ratios(&rows), MISSED].concat()
}

struct Bench {
    runtimes: [Runtime; 2],
    ready: Subject,
    pending: Subject,
    instructions: bool,
}

impl Bench {
    fn line(&self, row: Row) -> Line {
        match row {
            Row::Case(case) => {
                eprintln!("{}", case.id);
                let ready = self.figures(case.id, case.ready, &self.ready);
                let later = format!("{}-later", case.id);
                let pending = case.pending.map(|make| self.figures(&later, make, &self.pending));
                Line::Measured(Box::new(Measured { case, ready, pending }))
            }
            Row::Without { group, who, why } => Line::Without { group, who, why },
        }
    }

    fn figures(&self, name: &str, make: Make, bare: &Subject) -> Figures {
        let case = make(&self.runtimes[0]);
        Figures {
            one_thread: measure::side_by_side(&self.runtimes[..1], bare, &case),
            two_threads: measure::side_by_side(&self.runtimes, bare, &case),
            allocations: measure::allocations(&self.runtimes[0], &case),
            instructions: if self.instructions { measure::instructions(name) } else { None },
        }
    }
}

const HEAD: &str = "# Benchmarks

Written by `cargo run --release -p bench-patterns -- --write --instructions`: do not edit. One process, one run.

- **ready**, **pending once**: the inner service answers at the first poll, or at the second one. Nanoseconds per call
  beyond the bare service, in interleaved pairs of the two: the median of the differences. The first row is the bare
  service itself, whole.
- **two threads**: one policy, a clone of the service for each thread; wall time over the calls of both, beyond the bare
  service on two threads.
- **ceiling**: the budget of the design for `ready` on one thread, with 25 ns for each clock read it allows.
- **allocations** and **instructions** per call (callgrind), whole, in the order ready / pending once.

The machine is small and shared: compare rows, not runs. tower-resilience's time window walks all calls of its 10 s at
every call, so that its row depends on how many were made before.

";

fn table(lines: &[Line], instructions: bool) -> String {
    let mut page = String::from(
        "| what | whose | ready | ceiling | pending once | two threads, ready | two threads, pending once | allocations |",
    );
    page.push_str(if instructions { " instructions |\n" } else { "\n" });
    page.push_str("|---|---|---:|---:|---:|---:|---:|---:|");
    page.push_str(if instructions { "---:|\n" } else { "\n" });
    for line in lines {
        match line {
            Line::Without { group, who, why } => {
                let empty = if instructions { " | |" } else { " |" };
                let _ = writeln!(page, "| {group} | {who} | {why} | | | | |{empty}");
            }
            Line::Measured(row) => {
                page.push_str(&cells(row, instructions));
                page.push('\n');
            }
        }
    }
    page
}

fn cells(Measured { case, ready, pending }: &Measured, instructions: bool) -> String {
    let nanos = |nanos: Nanos| match case.id {
        "bare" => format!("{:.1}", nanos.whole),
        _ => format!("{:+.1}", nanos.over),
    };
    let or_why = |figures: &dyn Fn(&Figures) -> String| match pending {
        Ok(pending) => figures(pending),
        Err(why) => (*why).into(),
    };
    let both = |figure: &dyn Fn(&Figures) -> String| match pending {
        Ok(pending) => format!("{} / {}", figure(ready), figure(pending)),
        Err(_) => figure(ready),
    };
    let mut cells = format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} |",
        case.group,
        case.who,
        nanos(ready.one_thread),
        case.ceiling.map_or_else(String::new, |ceiling| format!("{ceiling:.0}")),
        or_why(&|pending| nanos(pending.one_thread)),
        nanos(ready.two_threads),
        or_why(&|pending| nanos(pending.two_threads)),
        both(&|figures| figures.allocations.to_string()),
    );
    if instructions {
        let counted = |figures: &Figures| {
            figures.instructions.map_or_else(|| "-".into(), |count| format!("{count:.0}"))
        };
        let _ = write!(cells, " {} |", both(&counted));
    }
    cells
}

const MISSED: &str = "
## Where a budget of the design is missed or met with nothing to spare, and why

- **breaker, consecutive** (+5): three locked operations are left, the engine's `Arc` up and down and the exact count of
  successes, about 2 to 3 ns each.
- **breaker, time window** (+35): one to three over, at the edge of what the clock read takes.
- **breaker, slow-call rule** (+60): two clock reads with their subtractions, on top of the row above.
- **retry** (tower + 5): nothing to spare. The engine's `Arc` goes up and down, because the future outlives the service;
  the number of the attempt is put in the context around `call` and around `poll`.
- **timeout, pending once** (tower + 0): the engine's `Arc`; the deadline, put in the context around `call` and around both
  polls; and one copy of the timer's 112 bytes, which only a box or unsafe code would avoid. It is made at the first
  pending poll and not before: that is why a call that is ready costs less than through tower's.
- **six layers** (+150): 157 to 171 in three runs. Measured alone, the parts add up to about 110, two clock reads among them,
  and to 190 instructions fewer than the whole; what is left is the future, which each layer makes larger for the next.
- **stacks**: what a layer costs inside of others is one `Arc` up and down for each layer further in, where it keeps a clone
  of the service: a retry for its next attempt, a bulkhead for the wait before the call.
";

/// What the design asks for beside the peers.
fn ratios(rows: &[&Measured]) -> String {
    let of = |id: &str, cost: fn(&Measured) -> f64| {
        rows.iter().find(|row| row.case.id == id).map_or(f64::NAN, |row| cost(row))
    };
    let ready = |id| of(id, |row| row.ready.one_thread.over);
    let pending = |id| of(id, |row| row.pending.as_ref().map_or(f64::NAN, |pending| pending.one_thread.over));
    let two = |id| of(id, |row| row.ready.two_threads.over);
    format!(
        "
## Beside the peers

- four layers: tower-resilience's cost {:.1} times ours (target: 6)
- three layers: seatbelt's cost {:.1} times ours (target: 2)
- retry: ours is tower's {:+.1} ns (target: +5, of which 4 are for the context)
- bulkhead: ours is tower's {:+.1} ns (target: 0)
- timeout, pending once: ours is tower's {:+.1} ns (target: 0)
- two threads, beside tower's concurrency limit (target: 0): bulkhead {:+.1} ns, breaker with a count window {:+.1} ns, with
  the consecutive rule {:+.1} ns
",
        ready("resilience-stack") / ready("four"),
        ready("seatbelt-stack") / ready("three"),
        ready("retry") - ready("tower-retry"),
        ready("bulkhead") - ready("tower-limit"),
        pending("timeout") - pending("tower-timeout"),
        two("bulkhead") - two("tower-limit"),
        two("breaker-count") - two("tower-limit"),
        two("breaker-consecutive") - two("tower-limit"),
    )
}
