//! The whole bulkhead, with time and cancellation, against a model.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use buttress_core::rejection;
use proptest::prelude::*;
use tokio::{
    sync::oneshot,
    time::{Instant, advance},
};
use tower::BoxError;

use crate::support::{Call, builder, call, ms};

#[derive(Clone, Copy, Debug)]
enum Op {
    Start,
    Finish { nth: usize, well: bool },
    Cancel { nth: usize },
    Advance(Duration),
    SetLimit(u32),
    Clear,
}

impl Op {
    fn of(seed: u32) -> Self {
        let (kind, value) = (seed % 32, seed / 32);
        match kind {
            0..12 => Self::Start,
            12..20 => Self::Finish { nth: value as usize, well: value % 3 > 0 },
            20..24 => Self::Cancel { nth: value as usize },
            24..29 => Self::Advance(ms(u64::from(value % 70))),
            29..31 => Self::SetLimit(value % 4 + 1),
            _ => Self::Clear,
        }
    }
}

const TIMEOUT: Duration = ms(100);

#[derive(Debug, Default, PartialEq)]
struct Counts {
    completed: u64,
    failed: u64,
    cancelled: u64,
    rejected: u64,
    queue_timeouts: u64,
    cleared: u64,
}

#[derive(Default)]
struct Model {
    limit: u32,
    max_queue: usize,
    running: Vec<u32>,
    queue: VecDeque<(u32, Instant)>,
    counts: Counts,
    /// How the calls ended: `None` is well, else the code or the error.
    ended: BTreeMap<u32, Option<&'static str>>,
}

impl Model {
    fn settle(&mut self) {
        while self.running.len() < self.limit as usize {
            let Some((next, _)) = self.queue.pop_front() else { return };
            self.running.push(next);
        }
    }

    fn start(&mut self, name: u32, now: Instant) {
        if self.queue.is_empty() && self.running.len() < self.limit as usize {
            self.running.push(name);
        } else if self.queue.len() < self.max_queue {
            self.queue.push_back((name, now + TIMEOUT));
        } else {
            self.counts.rejected += 1;
            self.ended.insert(name, Some("BULKHEAD_QUEUE_FULL"));
        }
    }

    fn cancel(&mut self, name: u32) {
        self.running.retain(|running| *running != name);
        self.queue.retain(|(waiting, _)| *waiting != name);
        self.counts.cancelled += 1;
        self.settle();
    }

    fn pass(&mut self, now: Instant) {
        while let Some((name, _)) = self.queue.front().copied().filter(|(_, until)| *until <= now) {
            self.queue.pop_front();
            self.counts.queue_timeouts += 1;
            self.ended.insert(name, Some("BULKHEAD_QUEUE_TIMEOUT"));
        }
    }
}

async fn check(limit: u32, max_queue: u32, seeds: Vec<u32>) {
    let bulkhead = builder(limit, max_queue).queue_timeout(TIMEOUT).build().unwrap();
    let mut model = Model { limit, max_queue: max_queue as usize, ..Model::default() };
    type End = oneshot::Sender<Result<u32, BoxError>>;
    let mut calls: BTreeMap<u32, (End, Call)> = BTreeMap::new();
    let mut ended = BTreeMap::new();
    let mut next = 0;
    for op in seeds.into_iter().map(Op::of) {
        match op {
            Op::Start => {
                calls.insert(next, call(&bulkhead));
                model.start(next, Instant::now());
                next += 1;
            }
            Op::Finish { nth, well } if !model.running.is_empty() => {
                let name = model.running.swap_remove(nth % model.running.len());
                let (end, mut call) = calls.remove(&name).unwrap();
                end.send(if well { Ok(name) } else { Err("broken".into()) }).unwrap();
                let answer = tokio_test::assert_ready!(call.poll());
                assert_eq!(answer.ok(), well.then_some(name));
                *if well { &mut model.counts.completed } else { &mut model.counts.failed } += 1;
                model.settle();
            }
            Op::Cancel { nth } if !calls.is_empty() => {
                let name = *calls.keys().nth(nth % calls.len()).unwrap();
                calls.remove(&name);
                model.cancel(name);
            }
            Op::Finish { .. } | Op::Cancel { .. } => {}
            Op::Advance(by) => {
                advance(by).await;
                model.pass(Instant::now());
            }
            Op::SetLimit(limit) => {
                bulkhead.set_limit(limit).unwrap();
                model.limit = limit;
                model.settle();
            }
            Op::Clear => {
                assert_eq!(bulkhead.clear_queue(), model.queue.len());
                for (name, _) in model.queue.drain(..) {
                    model.counts.cleared += 1;
                    model.ended.insert(name, Some("BULKHEAD_QUEUE_CLEARED"));
                }
            }
        }
        calls.retain(|name, (_, call)| match call.poll() {
            std::task::Poll::Pending => true,
            std::task::Poll::Ready(answer) => {
                let why = answer.expect_err("nobody gave it an answer");
                ended.insert(*name, Some(rejection(&*why).unwrap().code().as_str()));
                false
            }
        });
        let s = bulkhead.snapshot();
        assert_eq!((s.active as usize, s.queued as usize), (model.running.len(), model.queue.len()));
        let counts = Counts {
            completed: s.completed,
            failed: s.failed,
            cancelled: s.cancelled,
            rejected: s.rejected,
            queue_timeouts: s.queue_timeouts,
            cleared: s.cleared,
        };
        assert_eq!((&counts, &ended), (&model.counts, &model.ended));
    }
    drop(calls);
    let s = bulkhead.snapshot();
    assert_eq!((s.active, s.queued), (0, 0));
    let calls = s.completed + s.failed + s.cancelled + s.rejected + s.queue_timeouts + s.cleared;
    assert_eq!(calls, u64::from(next));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]
    #[test]
    fn bulkhead_behaves_as_its_model(
        limit in 1..4u32,
        max_queue in 0..4u32,
        seeds in prop::collection::vec(any::<u32>(), 0..48),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(check(limit, max_queue, seeds));
    }
}
