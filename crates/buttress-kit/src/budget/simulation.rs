//! The share of the calls in worlds that fail: how even it is over time, and what it can end and what it cannot.
//!
//! Attempts are events in a queue, and times are passed in. Up to four attempts a call, the wait before the n-th retry
//! between nothing and 100 ms · 2ⁿ⁻¹.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    ops::Range,
    time::Duration,
};

use super::*;
use crate::Chance;

const ATTEMPTS: u32 = 4;

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn secs(secs: f64) -> Duration {
    Duration::from_nanos((secs * 1e9) as u64)
}

fn backoff(chance: &Chance, attempt: u32) -> Duration {
    secs(chance.unit() * 0.1 * 2_f64.powi(attempt as i32 - 1))
}

fn within(times: &[Duration], of: Range<Duration>) -> usize {
    times.partition_point(|at| *at < of.end) - times.partition_point(|at| *at < of.start)
}

/// The most attempts for each call in any second, which slides by 50 ms.
fn peak(calls: &[Duration], attempts: &[Duration], of: Range<u32>) -> f64 {
    let starts = (of.start * 20..(of.end - 1) * 20).map(|n| Duration::from_millis(50) * n);
    let share = |start: Duration| {
        let second = start..start + Duration::from_secs(1);
        within(attempts, second.clone()) as f64 / within(calls, second).max(1) as f64
    };
    starts.map(share).fold(0.0, f64::max)
}

#[derive(Default)]
struct Seen {
    calls: Vec<Duration>,
    attempts: Vec<Duration>,
    retries: Vec<Duration>,
    wanted: usize,
    granted: usize,
}

impl Seen {
    fn retries_in(&self, second: u64) -> usize {
        within(&self.retries, Duration::from_secs(second)..Duration::from_secs(second + 1))
    }
}

/// 1000 calls/s for a minute, each answered after 5 ms; `fails` is the share of the attempts that fail, by the second.
fn steady(ratio: f64, fails: impl Fn(f64) -> f64) -> Seen {
    let (budget, start, chance) = (Budget::new(ratio, 0).unwrap(), now(), Chance::seeded(7));
    let (mut seen, mut queue) = (Seen::default(), BinaryHeap::new());
    // When, which attempt, and how it failed or did not, once it has ended.
    (0..60_000).for_each(|n| queue.push(Reverse((Duration::from_millis(n), 1, None))));
    while let Some(Reverse((at, attempt, failed))) = queue.pop() {
        let Some(failed) = failed else {
            if attempt == 1 {
                budget.deposit(start + at);
                seen.calls.push(at);
            } else {
                seen.retries.push(at);
            }
            seen.attempts.push(at);
            let failed = chance.unit() < fails(at.as_secs_f64());
            queue.push(Reverse((at + Duration::from_millis(5), attempt, Some(failed))));
            continue;
        };
        if failed && attempt < ATTEMPTS {
            seen.wanted += 1;
            if budget.try_withdraw(start + at) {
                seen.granted += 1;
                queue.push(Reverse((at + backoff(&chance, attempt), attempt + 1, None)));
            }
        }
    }
    seen
}

// Finagle's rule: three times the load in one second, no retry in the next nine, and so on for ever.
#[test]
fn retries_of_an_outage_are_the_same_in_every_second() {
    for (ratio, a_second, most) in [(0.2, 190..=210, 1.38), (0.1, 93..=107, 1.19)] {
        let all = steady(ratio, |_| 1.0);
        let later = steady(ratio, |at| f64::from(u8::from(at >= 30.0)));
        for seen in [&all, &later] {
            (40..58).for_each(|second| {
                let retries = seen.retries_in(second);
                assert!(a_second.contains(&retries), "ratio {ratio}, second {second}: {retries}");
            });
        }
        // What was saved while all was well is spent in the first second, and is one second's worth.
        let peak_of = |seen: &Seen| peak(&seen.calls, &seen.attempts, 0..58);
        assert!(peak_of(&later) <= most && peak_of(&later) <= 1.0 + 2.0 * ratio, "{}", peak_of(&later));
        assert!(peak_of(&all) <= 1.0 + 1.1 * ratio, "{}", peak_of(&all));
    }
}

#[test]
fn failures_that_the_share_covers_are_all_retried() {
    let seen = steady(0.2, |_| 0.1);
    assert!(seen.wanted > 6_000);
    // The first calls have paid for less than one.
    assert!(seen.granted as f64 >= 0.999 * seen.wanted as f64, "{} of {}", seen.granted, seen.wanted);
}

#[test]
fn blip_of_a_third_of_a_second_is_covered_by_half() {
    let seen = steady(0.2, |at| f64::from(u8::from(at % 10.0 < 0.3)));
    let granted = seen.granted as f64 / seen.wanted as f64;
    assert!((0.40..0.50).contains(&granted), "{granted}");
}

/// Calls that pay a tenth each, two in a second, all fail: as many are retried as have paid.
#[test]
fn slow_client_saves_for_one_retry_and_no_more() {
    let (budget, start) = (Budget::new(0.1, 0).unwrap(), now());
    let mut granted = Vec::new();
    for n in 0..100_u32 {
        let at = start + n * Duration::from_millis(500);
        budget.deposit(at);
        if budget.try_withdraw(at) {
            granted.push(n);
        }
    }
    assert_eq!(granted, (9..100).step_by(10).collect::<Vec<_>>());
    let well = start + Duration::from_secs(100);
    (0..100_u32).for_each(|n| budget.deposit(well + n * Duration::from_millis(500)));
    let after = well + Duration::from_secs(50);
    assert_eq!((0..9).filter(|_| budget.try_withdraw(after)).count(), 1);
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    Call,
    Attempt(usize),
    Served(usize, u32),
    TimedOut(usize, u32),
}

struct Call {
    client: usize,
    attempt: u32,
    over: bool,
}

struct Storm {
    /// After how many seconds of the service being well again 95 % of the calls were good for five of them.
    recovered: Option<usize>,
    peak: f64,
}

/// A retry storm: 800 calls/s of 50 clients, each with such a budget, at a service that does 975/s, first in, first out,
/// and does not notice who has gone after half a second; from 60 to 70 s it does a fifth of it.
fn storm(ratio: f64, min_per_second: u32, end: usize) -> Storm {
    let start = now();
    let (chance, work) = (Chance::seeded(1), Chance::seeded(1001));
    let exponential = |chance: &Chance, mean: f64| secs(-mean * (1.0 - chance.unit()).ln());
    let budgets: Vec<_> = (0..50).map(|_| Budget::new(ratio, min_per_second).unwrap()).collect();
    let (mut happens, mut order) = (BinaryHeap::new(), 0_u64);
    let mut push = |happens: &mut BinaryHeap<_>, at: Duration, what: Happens| {
        order += 1;
        happens.push(Reverse((at, order, what)));
    };
    let (mut calls, mut waiting, mut busy) = (Vec::new(), VecDeque::new(), 0);
    let (mut arrived, mut good) = (vec![0_u32; end + 1], vec![0_u32; end + 1]);
    let (mut called, mut attempted) = (Vec::new(), Vec::new());
    push(&mut happens, Duration::ZERO, Happens::Call);
    while let Some(Reverse((at, _, what))) = happens.pop() {
        let second = at.as_secs() as usize;
        if second >= end {
            break;
        }
        let ended = match what {
            Happens::Call => {
                push(&mut happens, at + exponential(&chance, 1.0 / 800.0), Happens::Call);
                let client = ((chance.unit() * 50.0) as usize).min(49);
                budgets[client].deposit(start + at);
                calls.push(Call { client, attempt: 1, over: false });
                arrived[second] += 1;
                called.push(at);
                push(&mut happens, at, Happens::Attempt(calls.len() - 1));
                None
            }
            Happens::Attempt(call) => {
                attempted.push(at);
                waiting.push_back((call, calls[call].attempt));
                push(&mut happens, at + secs(0.5), Happens::TimedOut(call, calls[call].attempt));
                None
            }
            Happens::Served(call, attempt) => {
                busy -= 1;
                Some((call, attempt, true))
            }
            Happens::TimedOut(call, attempt) => Some((call, attempt, false)),
        };
        // An answer that came too late is one for nobody.
        let in_time = |(call, attempt, _): &(usize, u32, bool)| {
            let of: &Call = &calls[*call];
            !of.over && of.attempt == *attempt
        };
        if let Some((call, _, ok)) = ended.filter(in_time) {
            let of = &mut calls[call];
            let retries = !ok && of.attempt < ATTEMPTS && budgets[of.client].try_withdraw(start + at);
            good[second] += u32::from(ok);
            of.over = !retries;
            if retries {
                let wait = backoff(&chance, of.attempt);
                of.attempt += 1;
                push(&mut happens, at + wait, Happens::Attempt(call));
            }
        }
        let workers = if (60..70).contains(&second) { 4 } else { 20 };
        while busy < workers {
            let Some((call, attempt)) = waiting.pop_front() else { break };
            busy += 1;
            push(&mut happens, at + exponential(&work, 0.0205), Happens::Served(call, attempt));
        }
    }
    let sum = |of: &[u32], from: usize| of[from..from + 5].iter().sum::<u32>();
    let well = |from: &usize| f64::from(sum(&good, *from)) >= 0.95 * f64::from(sum(&arrived, *from));
    Storm {
        recovered: (70..end - 5).find(well).map(|second| second - 70),
        peak: peak(&called, &attempted, 60..end.min(130) as u32),
    }
}

// 800 calls, 80 retries that they pay for and 50 of the floors are 930 of 975: what piled up goes slowly.
#[test]
fn budget_alone_ends_a_storm_in_about_a_minute_if_the_floors_leave_room() {
    let storm = storm(0.1, 1, 145);
    assert!(storm.recovered.is_some_and(|after| (50..=80).contains(&after)), "{:?}", storm.recovered);
    assert!(storm.peak <= 1.2, "{}", storm.peak);
}

// 800 calls and 150 retries of the floors leave nothing to work off what has piled up.
#[test]
fn budget_alone_ends_no_storm_that_its_floors_feed() {
    let storm = storm(0.1, 3, 190);
    assert_eq!(storm.recovered, None);
    assert!(storm.peak <= 1.35, "{}", storm.peak);
}
