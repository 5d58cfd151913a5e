use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Poll, Wake},
};

use buttress_kit::queue::{Ticket, WaitResult};
use proptest::prelude::*;

use super::{slots::BATCH, *};

#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[derive(Debug)]
enum Op {
    TryTake,
    Enter,
    EnterOrRefuse,
    Release { completes: bool },
    Poll(usize),
    Leave(usize),
    Clear,
    Reconfigure { limit: u32, max_queue: u32, shadow: bool },
    Drain,
    ForgetDrain,
    Close,
}

impl Op {
    /// Of a number, because that is ten times faster to make than a tree of strategies.
    fn of(seed: u32) -> Self {
        let (kind, value) = (seed % 64, seed / 64);
        match kind {
            0..8 => Self::TryTake,
            8..20 => Self::Enter,
            20..24 => Self::EnterOrRefuse,
            24..39 => Self::Release { completes: value % 4 > 0 },
            39..47 => Self::Poll(value as usize),
            47..54 => Self::Leave(value as usize),
            54 => Self::Clear,
            55..59 => Self::Reconfigure {
                limit: value % 5 + 1,
                max_queue: value / 5 % 6,
                shadow: value / 30 % 10 == 0,
            },
            59..62 => Self::Drain,
            62 => Self::ForgetDrain,
            _ if value % 8 == 0 => Self::Close,
            _ => Self::Release { completes: false },
        }
    }
}

struct Waiter {
    name: u32,
    ticket: Option<Ticket>,
    bell: Arc<Bell>,
    result: Option<WaitResult>,
}

/// What a bulkhead is, said in the simplest way.
struct Model {
    in_flight: u32,
    completed: u64,
    limit: u32,
    max_queue: u32,
    shadow: bool,
    closed: bool,
    queue: VecDeque<u32>,
    waiters: Vec<Waiter>,
    /// The wait for the end, whether the end came, and what is to ring.
    drain: Option<(Parked, bool, Arc<Bell>)>,
}

impl Model {
    fn tell_front(&mut self, result: WaitResult) {
        let front = self.queue.pop_front();
        for waiter in self.waiters.iter_mut().filter(|waiter| Some(waiter.name) == front) {
            waiter.result = Some(result);
        }
    }

    fn send_away(&mut self, result: WaitResult) {
        while !self.queue.is_empty() {
            self.tell_front(result);
        }
    }

    fn settle(&mut self) {
        while !self.queue.is_empty() && (self.in_flight < self.limit || self.shadow) {
            self.tell_front(WaitResult::Granted);
            self.in_flight += 1;
        }
        if let (Some((_, ended, _)), true, 0) = (&mut self.drain, self.queue.is_empty(), self.in_flight) {
            *ended = true;
        }
    }
}

fn config(limit: u32, max_queue: u32, shadow: bool) -> BulkheadConfig {
    BulkheadConfig {
        max_concurrent: limit,
        max_queue,
        mode: if shadow { Mode::Shadow } else { Mode::Enforce },
        ..BulkheadConfig::default()
    }
}

fn check(limit: u32, max_queue: u32, seeds: &[u32]) {
    let gate = Gate::new(&config(limit, max_queue, false));
    let mut next = 0;
    let mut peak = 0;
    let mut model = Model {
        in_flight: 0,
        completed: 0,
        limit,
        max_queue,
        shadow: false,
        closed: false,
        queue: VecDeque::new(),
        waiters: Vec::new(),
        drain: None,
    };
    for op in seeds.iter().copied().map(Op::of) {
        let is_free = model.queue.is_empty() && model.in_flight < model.limit;
        match op {
            Op::TryTake => {
                let taken = gate.slots().try_take();
                // While somebody waits for the end, the way is by the lock.
                if model.drain.is_none() {
                    assert_eq!(taken, is_free && !model.closed);
                }
                model.in_flight += u32::from(taken);
            }
            Op::Enter | Op::EnterOrRefuse => {
                let bell = Arc::<Bell>::default();
                let may_wait = matches!(op, Op::Enter);
                let entry = match may_wait {
                    true => gate.enter(Some(&bell.clone().into())),
                    false => gate.enter(None),
                };
                match entry {
                    Entry::Closed => assert!(model.closed),
                    _ if model.closed => panic!("let in after the close"),
                    Entry::Taken => {
                        assert!(is_free);
                        model.in_flight += 1;
                    }
                    Entry::TakenOver(excess) => {
                        assert!(model.shadow && !is_free);
                        model.in_flight += 1;
                        assert_eq!(excess, model.in_flight - model.limit);
                    }
                    Entry::Waits(queued, _) => {
                        assert!(may_wait && !is_free && !model.shadow);
                        assert!(model.queue.len() < model.max_queue as usize);
                        model.queue.push_back(next);
                        assert_eq!(queued.position, model.queue.len());
                        let ticket = Some(queued.ticket);
                        model.waiters.push(Waiter { name: next, ticket, bell, result: None });
                        next += 1;
                    }
                    Entry::Full => {
                        assert!(!is_free && !model.shadow);
                        assert!(!may_wait || model.queue.len() >= model.max_queue as usize);
                    }
                }
            }
            Op::Release { completes } => {
                // Those that were granted and not collected yet are in flight, but not ours to release.
                let collected = model.in_flight
                    - model.waiters.iter().filter(|waiter| waiter.result == Some(WaitResult::Granted)).count()
                        as u32;
                if collected > 0 {
                    match completes {
                        true => gate.give_back(true),
                        false => gate.give_back(false),
                    };
                    model.completed += u64::from(completes);
                    model.in_flight -= 1;
                    model.settle();
                }
            }
            Op::Poll(index) if !model.waiters.is_empty() => {
                let index = index % model.waiters.len();
                let waiter = &mut model.waiters[index];
                let waker = waiter.bell.clone().into();
                let expected = waiter.result.map_or(Poll::Pending, Poll::Ready);
                assert_eq!(gate.queue.poll(&mut waiter.ticket, &waker), expected);
                if waiter.result.is_some() {
                    model.waiters.swap_remove(index);
                }
            }
            Op::Leave(index) if !model.waiters.is_empty() => {
                let waiter = model.waiters.swap_remove(index % model.waiters.len());
                assert_eq!(gate.queue.leave(waiter.ticket.unwrap()), waiter.result);
                model.queue.retain(|name| *name != waiter.name);
                if waiter.result == Some(WaitResult::Granted) {
                    gate.give_back(false);
                    model.in_flight -= 1;
                }
                model.settle();
            }
            Op::Poll(_) | Op::Leave(_) => {}
            Op::Clear => {
                assert_eq!(gate.queue.clear(drop), model.queue.len());
                model.send_away(WaitResult::Cleared);
                model.settle();
            }
            Op::Close => {
                assert_eq!(gate.close(), model.queue.len());
                model.closed = true;
                model.send_away(WaitResult::Closed);
                model.settle();
            }
            Op::Reconfigure { limit, max_queue, shadow } => {
                gate.apply(&config(limit, max_queue, shadow));
                gate.settle();
                (model.limit, model.max_queue, model.shadow) = (limit, max_queue, shadow);
                model.settle();
            }
            Op::Drain => {
                let (parked, ended, bell) = match model.drain.take() {
                    Some((parked, ended, bell)) => (Some(parked), ended, bell),
                    None => (None, model.in_flight == 0 && model.queue.is_empty(), Arc::default()),
                };
                let mut parked = parked;
                assert_eq!(gate.poll_drained(&mut parked, &bell.clone().into()), ended);
                model.drain = parked.map(|parked| (parked, ended, bell));
                assert_eq!(model.drain.is_some(), !ended);
            }
            Op::ForgetDrain => {
                if let Some((parked, ..)) = model.drain.take() {
                    gate.forget_drainer(parked);
                }
            }
        }
        peak = peak.max(model.in_flight);
        // A waiter was woken if its wait has ended, and no other one was.
        for waiter in &model.waiters {
            assert_eq!(waiter.bell.0.load(SeqCst) > 0, waiter.result.is_some());
        }
        if let Some((_, ended, bell)) = &model.drain {
            assert_eq!(bell.0.load(SeqCst) > 0, *ended);
        }
        let status = Status {
            in_flight: model.in_flight,
            limit: model.limit,
            queued: model.queue.len() as u32,
            max_queue: model.max_queue,
            closed: model.closed,
            accepts: !model.closed
                && (model.shadow
                    || model.queue.is_empty() && model.in_flight < model.limit
                    || model.queue.len() < model.max_queue as usize),
        };
        assert_eq!((gate.status(), gate.slots().peak()), (status, peak));
        assert_eq!(gate.slots().completed(), model.completed);
        // The way without the lock is open again as soon as nobody waits.
        let waits = !model.queue.is_empty() || matches!(model.drain, Some((_, false, _)));
        assert_eq!(gate.slots().load().is_attended(), waits);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, ..ProptestConfig::default() })]
    #[test]
    fn gate_behaves_as_its_model(
        limit in 1..5u32,
        max_queue in 0..5u32,
        seeds in prop::collection::vec(any::<u32>(), 0..40),
    ) {
        check(limit, max_queue, &seeds);
    }
}

#[test]
fn completed_calls_are_counted_beyond_what_the_word_holds() {
    let gate = Gate::new(&config(3, 0, false));
    assert!(gate.slots().try_take());
    for count in 0..5 * BATCH + 7 {
        assert_eq!(gate.slots().completed(), count);
        assert!(gate.slots().try_take());
        gate.give_back(true);
    }
    let Status { in_flight, limit, .. } = gate.status();
    assert_eq!((in_flight, limit), (1, 3));
}

#[test]
fn peak_that_is_forgotten_is_that_of_the_calls_in_flight() {
    let gate = Gate::new(&config(3, 0, false));
    assert!((0..3).all(|_| gate.slots().try_take()));
    gate.give_back(true);
    assert_eq!(gate.slots().peak(), 3);
    gate.slots().reset_peak();
    assert_eq!(gate.slots().peak(), 2);
}

#[test]
fn highest_limit_touches_nothing_else_in_the_word() {
    let gate = Gate::new(&config(u32::MAX, 0, false));
    assert!(gate.slots().try_take());
    gate.give_back(true);
    let status = gate.status();
    assert_eq!((status.limit, status.in_flight, status.closed), (MAX_LIMIT, 0, false));
    assert_eq!(gate.slots().completed(), 1);
    gate.slots().set_limit(1);
    assert_eq!((gate.status().limit, gate.slots().completed()), (1, 1));
}

/// The same again and again, without what proptest costs. Prints the number of the sequence that fails.
#[test]
fn gate_behaves_as_its_model_in_a_hundred_thousand_sequences() {
    for sequence in 0..100_000u64 {
        let chance = buttress_kit::Chance::seeded(sequence);
        let next = || (chance.bits() >> 32) as u32;
        let (limit, max_queue) = (next() % 4 + 1, next() % 5);
        let seeds: Vec<u32> = (0..next() % 40).map(|_| next()).collect();
        let outcome = std::panic::catch_unwind(|| check(limit, max_queue, &seeds));
        assert!(outcome.is_ok(), "sequence {sequence}");
    }
}
