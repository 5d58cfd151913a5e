//! Interleaved pairs on one thread and on two, allocations, instruction counts.

use std::{process::Command, sync::Barrier, thread, time::Duration};

use tokio::{runtime::Runtime, time::Instant};

use crate::services::{Drive, Subject};

/// Interleaved pairs per figure.
const PAIRS: usize = 21;

/// How long one side of a pair runs, about.
const SLICE: Duration = Duration::from_millis(4);

/// What a call of a case costs, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nanos {
    /// All of it: the median.
    pub(crate) whole: f64,
    /// What it costs beyond the bare service: the median of the pairs' differences.
    pub(crate) over: f64,
}

/// A policy, or the bare service, and the threads that use it: one for each runtime.
struct Crew<'a>(Vec<(&'a Runtime, Drive)>);

impl<'a> Crew<'a> {
    fn new(runtimes: &'a [Runtime], subject: &Subject) -> Self {
        Self(runtimes.iter().map(|runtime| (runtime, subject())).collect())
    }

    /// Makes so many calls on each thread. Wall time over all calls of all threads, in nanoseconds.
    fn run(&mut self, calls: u64) -> f64 {
        let barrier = Barrier::new(self.0.len());
        let timed = |runtime: &Runtime, drive: &mut Drive| {
            barrier.wait();
            let start = Instant::now();
            drive(runtime, calls);
            start.elapsed()
        };
        let longest = match &mut self.0[..] {
            [(runtime, drive)] => timed(runtime, drive),
            crew => thread::scope(|scope| {
                let started: Vec<_> =
                    crew.iter_mut().map(|(runtime, drive)| scope.spawn(|| timed(runtime, drive))).collect();
                let ended = started.into_iter().map(|thread| thread.join().expect("no call panics"));
                ended.max().unwrap_or_default()
            }),
        };
        longest.as_nanos() as f64 / (calls * self.0.len() as u64) as f64
    }

    /// Calls of a thread that fill a slice of time.
    fn calibrate(&mut self) -> u64 {
        self.run(1_000); // warm up
        let per_call = self.run(1_000).max(0.1) * self.0.len() as f64;
        ((SLICE.as_nanos() as f64 / per_call) as u64).clamp(20, 4_000_000)
    }
}

/// Measures `case` beside `bare`, in turn, so that a disturbance meets both; on as many threads as there are
/// runtimes.
pub(crate) fn side_by_side(runtimes: &[Runtime], bare: &Subject, case: &Subject) -> Nanos {
    let (mut bare, mut case) = (Crew::new(runtimes, bare), Crew::new(runtimes, case));
    let (calls_bare, calls_case) = (bare.calibrate(), case.calibrate());
    let pairs: Vec<(f64, f64)> = (0..PAIRS)
        .map(|n| {
            // Which side goes first changes from pair to pair.
            if n % 2 == 0 {
                let b = bare.run(calls_bare);
                (b, case.run(calls_case))
            } else {
                let c = case.run(calls_case);
                (bare.run(calls_bare), c)
            }
        })
        .collect();
    Nanos {
        whole: median(pairs.iter().map(|(_, case)| *case)),
        over: median(pairs.iter().map(|(bare, case)| case - bare)),
    }
}

/// Allocations per call.
pub(crate) fn allocations(runtime: &Runtime, case: &Subject) -> f64 {
    let mut drive = case();
    drive(runtime, 1_000); // warm up
    let calls = 1_000;
    let allocated = allocation_counter::measure(|| drive(runtime, calls)).count_total;
    // The runtime's own `block_on` may allocate once per run, not per call.
    (allocated as f64 / calls as f64 * 100.0).floor() / 100.0
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
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
