//! Worlds in which people leave, and worlds in which a service hangs under other people's time-outs: how often the
//! circuit opens for nothing in an hour, and how soon it finds the hang.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use super::*;
use crate::BreakerConfig;

/// Seconds in nanoseconds.
const SECOND: f64 = 1e9;

/// xorshift64.
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.unit()).ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// Times are in seconds.
#[derive(Clone, Copy)]
struct World {
    /// Calls a second.
    rate: f64,
    /// What calls take: median and sigma of a log-normal distribution.
    median: f64,
    sigma: f64,
    /// The share of callers who leave, and after how long: a least, and the mean of what comes on top.
    leave: f64,
    after: (f64, f64),
    /// A time-out of somebody further out.
    outer: f64,
    /// From when on the service answers nobody.
    hang: f64,
    end: f64,
    in_a_row: u32,
}

const HEALTHY: World = World {
    rate: 10.0,
    median: 0.02,
    sigma: 0.8,
    leave: 0.0,
    after: (0.0, 0.0),
    outer: f64::INFINITY,
    hang: f64::INFINITY,
    end: 3_600.0,
    in_a_row: 5,
};

const HANGS: World = World { hang: 600.0, end: 900.0, ..HEALTHY };

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Arrives,
    Ends(usize),
    /// A circuit that opened begins anew.
    Closes,
}

struct Call {
    ticket: Ticket,
    began: u64,
    remembered: u16,
    succeeds: bool,
}

fn nanoseconds(seconds: f64) -> u64 {
    (seconds * SECOND) as u64
}

/// Openings before the hang, and how long after it the first one came.
fn run(world: World, seed: u64) -> (u32, Option<f64>) {
    let config = BreakerConfig { consecutive_failures: Some(world.in_a_row), ..BreakerConfig::default() };
    let config = BreakerConfig { open_for: Some(Duration::from_secs(3_600)), ..config };
    let rules = config.rules();
    let at = |time| Now { time, unit: 0.5, refused: 0 };
    let mut circuit = Circuit::new(State::Closed, &rules, at(0));
    let mean = Mean::default();
    let mut rng = Rng::new(seed);
    let mut calls: Vec<Call> = Vec::new();
    let (mut opened, mut found) = (0, None);
    let mut next =
        BinaryHeap::from([Reverse((nanoseconds(rng.exponential(1.0 / world.rate)), What::Arrives))]);
    while let Some(Reverse((time, what))) = next.pop() {
        let now = time as f64 / SECOND;
        if now > world.end {
            break;
        }
        match what {
            What::Closes => circuit.force_close(&rules, at(time)),
            What::Arrives => {
                let then = now + rng.exponential(1.0 / world.rate);
                next.push(Reverse((nanoseconds(then), What::Arrives)));
                let Decision::Admitted(ticket) = circuit.admit(&rules, at(time)) else { continue };
                let answered = now + world.median * (world.sigma * rng.normal()).exp();
                let answered = if answered >= world.hang { f64::INFINITY } else { answered };
                let left = if rng.unit() < world.leave {
                    now + world.after.0 + rng.exponential(world.after.1)
                } else {
                    f64::INFINITY
                };
                let end = answered.min(left).min(now + world.outer);
                let remembered = remembered(circuit.settled());
                calls.push(Call { ticket, began: time, remembered, succeeds: answered <= end });
                if end.is_finite() {
                    next.push(Reverse((nanoseconds(end), What::Ends(calls.len() - 1))));
                }
            }
            What::Ends(which) => {
                let Call { ticket, began, remembered, succeeds } = calls[which];
                let waited = time - began;
                let ending = if succeeds {
                    if mean.is_due() {
                        mean.add(waited);
                    }
                    Ending::Success
                } else {
                    Ending::Abandoned(Waited { time: waited, settled: remembered, mean: mean.nanos() })
                };
                if circuit.record(&rules, ticket, began, ending, false, at(time)).is_none() {
                    continue;
                }
                if now < world.hang {
                    opened += 1;
                } else {
                    found = found.or(Some(now - world.hang));
                }
                next.push(Reverse((time + nanoseconds(5.0), What::Closes)));
            }
        }
    }
    (opened, found)
}

#[track_caller]
fn opens_for_nothing_at_most(times: u32, world: World) {
    for seed in 1..=5 {
        let (opened, _) = run(world, seed);
        assert!(opened <= times, "seed {seed}: {opened} times");
    }
}

#[track_caller]
fn is_found_within(seconds: std::ops::RangeInclusive<f64>, world: World) {
    for seed in 1..=5 {
        let (opened, found) = run(world, seed);
        // As printed, to a tenth.
        let found = found.map(|seconds| (10.0 * seconds).round() / 10.0);
        assert!(found.is_some_and(|found| seconds.contains(&found)), "seed {seed}: {found:?}");
        assert_eq!(opened, 0, "seed {seed}");
    }
}

#[test]
fn users_who_leave_after_ten_milliseconds_open_nothing_in_an_hour() {
    let world = World { rate: 1.0, after: (0.01, 0.0), in_a_row: 3, median: 0.05, ..HEALTHY };
    opens_for_nothing_at_most(0, World { leave: 1.0, ..world });
    opens_for_nothing_at_most(0, World { leave: 0.5, ..world });
}

#[test]
fn typing_ahead_opens_nothing_in_an_hour() {
    opens_for_nothing_at_most(
        0,
        World { rate: 4.0, leave: 0.8, after: (0.15, 0.05), median: 0.12, ..HEALTHY },
    );
}

#[test]
fn reports_that_nine_of_ten_do_not_wait_for_open_hardly_ever() {
    let world = World { rate: 2.0, leave: 0.9, after: (1.0, 3.0), median: 3.0, ..HEALTHY };
    opens_for_nothing_at_most(1, world);
}

#[test]
fn hang_under_a_time_out_of_a_second_is_found_as_soon_as_calls_end() {
    is_found_within(1.2..=1.5, World { outer: 1.0, ..HANGS });
}

#[test]
fn hang_under_a_time_out_of_less_than_a_second_is_found() {
    is_found_within(1.0..=1.3, World { outer: 0.8, ..HANGS });
    is_found_within(0.4..=0.7, World { outer: 0.25, ..HANGS });
}

#[test]
fn hang_is_found_though_some_leave_before_the_time_out() {
    is_found_within(1.1..=1.8, World { leave: 0.3, after: (0.0, 0.3), outer: 1.0, ..HANGS });
}

#[test]
fn hang_from_the_first_call_on_is_found() {
    is_found_within(0.6..=1.3, World { outer: 0.25, hang: 0.0, end: 300.0, ..HEALTHY });
}

#[test]
fn hang_of_a_slow_service_is_found_as_soon_as_calls_end() {
    is_found_within(10.4..=11.0, World { rate: 5.0, median: 1.0, sigma: 0.5, outer: 10.0, ..HANGS });
}
