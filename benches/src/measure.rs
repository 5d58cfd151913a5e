//! Interleaved pairs, allocations, two threads, instruction counts.

use std::{process::Command, thread, time::Duration};

use tokio::time::Instant;

use crate::services::Drive;

/// Interleaved pairs per case.
const PAIRS: usize = 21;

/// How long one side of a pair runs, about.
const SLICE: Duration = Duration::from_millis(4);

/// What was measured of one case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Nanoseconds per call.
    pub(crate) nanos: f64,
    /// Nanoseconds per call beyond the bare service: the median of the pairs' differences.
    pub(crate) over: f64,
    /// Allocations per call.
    pub(crate) allocations: f64,
}

/// Measures `case` beside `bare`, in turn, so that a disturbance meets both.
pub(crate) fn side_by_side(bare: &mut Drive, case: &mut Drive) -> Figures {
    let (calls_bare, calls_case) = (calibrate(bare), calibrate(case));
    let mut pairs: Vec<(f64, f64)> = (0..PAIRS)
        .map(|n| {
            // Which side goes first changes from pair to pair.
            if n % 2 == 0 {
                let b = timed(bare, calls_bare);
                (b, timed(case, calls_case))
            } else {
                let c = timed(case, calls_case);
                (timed(bare, calls_bare), c)
            }
        })
        .collect();
    let nanos = median(pairs.iter().map(|(_, case)| *case));
    let over = median(pairs.drain(..).map(|(bare, case)| case - bare));
    let calls = 1_000;
    let allocated = allocation_counter::measure(|| case(calls)).count_total;
    // The runtime's own `block_on` may allocate once per run, not per call.
    let allocations = (allocated as f64 / calls as f64 * 100.0).floor() / 100.0;
    Figures { nanos, over, allocations }
}

/// Calls that fill a slice of time.
fn calibrate(drive: &mut Drive) -> u64 {
    drive(1_000); // warm up
    let per_call = timed(drive, 1_000).max(0.1);
    ((SLICE.as_nanos() as f64 / per_call) as u64).clamp(20, 4_000_000)
}

fn timed(drive: &mut Drive, calls: u64) -> f64 {
    let start = Instant::now();
    drive(calls);
    start.elapsed().as_nanos() as f64 / calls as f64
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Aggregate nanoseconds per call of two threads on one shared policy; `make` runs on each thread.
pub(crate) fn two_threads(make: &(dyn Fn() -> Drive + Sync)) -> f64 {
    let calls = 200_000;
    let runs = (0..9).map(|_| {
        let barrier = std::sync::Barrier::new(3);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut drive = make();
                    drive(1_000);
                    barrier.wait();
                    drive(calls);
                    barrier.wait();
                });
            }
            barrier.wait();
            let start = Instant::now();
            barrier.wait();
            start.elapsed().as_nanos() as f64 / (2 * calls) as f64
        })
    });
    median(runs)
}

/// Instructions per call, by callgrind; `None` where valgrind is not installed.
///
/// The program runs itself with `--one CASE CALLS`, twice, and the difference is divided by the difference in
/// calls: start-up costs fall out.
pub(crate) fn instructions(case: &str) -> Option<f64> {
    let collected = |calls: u64| -> Option<f64> {
        let this = std::env::current_exe().ok()?;
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(this)
            .args(["--one", case, &calls.to_string()])
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stderr);
        text.lines().find_map(|line| line.split("Collected :").nth(1)?.trim().parse().ok())
    };
    let (few, many) = (1_000, 11_000);
    Some((collected(many)? - collected(few)?) / (many - few) as f64)
}
