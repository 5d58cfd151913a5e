use std::{
    collections::VecDeque,
    ops::ControlFlow::{Break, Continue},
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Wake,
};

use proptest::prelude::*;

use super::{
    turnstile::{Answer, Turnstile, turnstile},
    *,
};

#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Bell {
    fn rang(&self) -> usize {
        self.0.load(SeqCst)
    }
}

fn bell() -> (Arc<Bell>, Waker) {
    let bell = Arc::<Bell>::default();
    (bell.clone(), bell.into())
}

type Gate = Queue<Turnstile>;

fn waits<const W: bool>(gate: &Queue<Turnstile<W>>, waker: &Waker, weight: u32) -> Ticket {
    match gate.take(waker, weight) {
        Continue(place) => place.ticket,
        Break(answer) => panic!("{answer:?}"),
    }
}

fn end<const W: bool>(gate: &Queue<Turnstile<W>>, ticket: Ticket) -> Poll<WaitResult> {
    gate.poll(&mut Some(ticket), Waker::noop())
}

#[test]
fn those_who_wait_are_served_in_order_and_nobody_overtakes() {
    let gate: Gate = turnstile(1, 2);
    assert!(gate.slots().try_take(1));
    let ((first_bell, first), (second_bell, second)) = (bell(), bell());
    let (first, second) = (waits(&gate, &first, 1), waits(&gate, &second, 1));
    assert_eq!((gate.position(&first), gate.position(&second)), (Some(1), Some(2)));
    assert_eq!(gate.take(Waker::noop(), 1), Break(Answer::Full));
    gate.give_back(1);
    assert_eq!((first_bell.rang(), second_bell.rang()), (1, 0));
    assert!(!gate.slots().try_take(1));
    assert_eq!(gate.position(&second), Some(1));
    assert_eq!(end(&gate, first), Poll::Ready(WaitResult::Granted));
    gate.give_back(1);
    assert_eq!(end(&gate, second), Poll::Ready(WaitResult::Granted));
    gate.give_back(1);
    assert!(!gate.slots().is_attended() && gate.slots().try_take(1));
}

// A heavy caller would wait for ever if light ones could pass it.
#[test]
fn heavy_caller_at_the_front_holds_up_light_ones_until_it_is_served_or_leaves() {
    let gate: Gate = turnstile(4, 8);
    assert!(gate.slots().try_take(4));
    let (light_bell, light) = bell();
    let heavy = waits(&gate, Waker::noop(), 4);
    let light = waits(&gate, &light, 1);
    assert_eq!(gate.with(|_, _, waiting| waiting), Waiting { callers: 2, weight: 5 });
    gate.give_back(2);
    assert_eq!((gate.slots().free(), light_bell.rang()), (2, 0));
    assert_eq!(gate.leave(heavy), None);
    assert_eq!((gate.slots().free(), light_bell.rang()), (1, 1));
    assert_eq!(end(&gate, light), Poll::Ready(WaitResult::Granted));
    assert_eq!(gate.with(|_, _, waiting| waiting), Waiting::default());
}

#[test]
fn slots_of_a_waiter_that_goes_at_the_moment_it_is_granted_them_go_to_the_next() {
    let gate: Gate = turnstile(1, 8);
    assert!(gate.slots().try_take(1));
    let (first, second) = (waits(&gate, Waker::noop(), 1), waits(&gate, Waker::noop(), 1));
    gate.give_back(1);
    assert_eq!(gate.give_up(first, 1), Some(WaitResult::Granted));
    assert_eq!(end(&gate, second), Poll::Ready(WaitResult::Granted));
}

#[test]
fn cleared_and_closed_tell_all_who_wait_and_a_closed_one_lets_nobody_in() {
    let gate: Gate = turnstile(1, 8);
    assert!(gate.slots().try_take(1));
    let (bell, waker) = bell();
    let tickets: Vec<_> = (0..3).map(|_| waits(&gate, &waker, 1)).collect();
    assert_eq!((gate.clear(drop), bell.rang(), gate.slots().is_attended()), (3, 3, false));
    for ticket in tickets {
        assert_eq!(end(&gate, ticket), Poll::Ready(WaitResult::Cleared));
    }
    let ticket = waits(&gate, &waker, 1);
    assert_eq!((gate.shut(), gate.shut()), (1, 0));
    assert_eq!(gate.leave(ticket), Some(WaitResult::Closed));
    assert_eq!(gate.take(&waker, 1), Break(Answer::Closed));
}

#[test]
fn first_is_woken_to_look_for_itself_where_slots_come_with_time() {
    let gate = turnstile::<true>(2, 8);
    assert!(gate.slots().try_take(2));
    let bells = [bell(), bell(), bell(), bell()];
    let mut tickets: VecDeque<_> = bells.iter().map(|(_, waker)| waits(&gate, waker, 1)).collect();
    let rang = || bells.each_ref().map(|(bell, _)| bell.rang());
    assert!(gate.is_first(&tickets[0]) && !gate.is_first(&tickets[1]));
    assert_eq!(rang(), [0, 0, 0, 0]); // it came as the first
    assert_eq!(gate.leave(tickets.pop_front().unwrap()), None);
    assert_eq!(rang(), [0, 1, 0, 0]);
    assert_eq!(gate.leave(tickets.pop_back().unwrap()), None);
    gate.settle();
    assert_eq!(rang(), [0, 1, 0, 0]); // once
    gate.give_back(1);
    assert_eq!(rang(), [0, 2, 1, 0]); // granted; and the next is the first
    gate.give_back(1);
    assert_eq!(rang(), [0, 2, 2, 0]);
}

#[test]
fn who_is_granted_slots_as_soon_as_it_is_first_is_woken_once() {
    let gate = turnstile::<true>(2, 8);
    assert!(gate.slots().try_take(2));
    let bells = [bell(), bell(), bell()];
    let tickets = bells.each_ref().map(|(_, waker)| waits(&gate, waker, 1));
    gate.give_back(2);
    assert_eq!(bells.each_ref().map(|(bell, _)| bell.rang()), [1, 1, 1]);
    assert!(gate.is_first(&tickets[2]));
}

/// Gives up the ticket of another caller when its last waker goes, as a task does that is dropped.
struct Task {
    gate: Weak<Gate>,
    ticket: Mutex<Option<Ticket>>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Task {
    fn drop(&mut self) {
        if let (Some(gate), Some(ticket)) = (self.gate.upgrade(), self.ticket.get_mut().unwrap().take()) {
            gate.give_up(ticket, 1);
        }
    }
}

#[test]
fn wakers_are_called_and_dropped_with_no_lock_held() {
    let gate = Arc::new(turnstile(1, 99));
    assert!(gate.slots().try_take(1));
    let task = || {
        let ticket = Mutex::new(Some(waits(&gate, Waker::noop(), 1)));
        Waker::from(Arc::new(Task { gate: Arc::downgrade(&gate), ticket }))
    };
    let mut ticket = Some(waits(&gate, &task(), 1));
    assert_eq!(gate.poll(&mut ticket, &task()), Poll::Pending); // drops the first task
    assert_eq!(gate.leave(ticket.unwrap()), None); // drops the second
    assert_eq!(gate.with(|_, _, waiting| waiting.callers), 0);
    let ticket = waits(&gate, &task(), 1);
    gate.give_back(1); // to the caller of the third task, which has not looked yet
    assert_eq!(gate.leave(ticket), None); // drops the third task, which gives it back
    assert!(gate.slots().try_take(1));
    let ticket = waits(&gate, &task(), 1);
    assert_eq!(gate.clear(drop), 2);
    assert_eq!(gate.leave(ticket), Some(WaitResult::Cleared));
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker");
    }
}

#[test]
fn a_waker_that_panics_does_not_keep_the_slots_of_the_next() {
    let gate: Gate = turnstile(2, 8);
    assert!(gate.slots().try_take(2));
    let (bell, waker) = bell();
    let first = waits(&gate, &Arc::new(Panics).into(), 1);
    let second = waits(&gate, &waker, 1);
    gate.give_back(2);
    assert_eq!(
        (end(&gate, first), end(&gate, second)),
        (Poll::Ready(WaitResult::Granted), Poll::Ready(WaitResult::Granted))
    );
    assert_eq!(bell.rang(), 1);
}

/// The same in the plainest way: who waits, in order, what each weighs, and what is to be told to whom.
#[derive(Default)]
struct Model {
    free: u64,
    closed: bool,
    queue: VecDeque<(u32, u32)>,
    owners: Vec<(u32, u32, Ticket, Option<WaitResult>)>,
    held: Vec<u32>,
    next: u32,
}

impl Model {
    fn settle(&mut self) {
        while let Some(&(name, weight)) =
            self.queue.front().filter(|(_, weight)| u64::from(*weight) <= self.free)
        {
            self.free -= u64::from(weight);
            self.queue.pop_front();
            self.tell(name, WaitResult::Granted);
        }
    }

    fn tell(&mut self, name: u32, result: WaitResult) {
        self.owners.iter_mut().filter(|owner| owner.0 == name).for_each(|owner| owner.3 = Some(result));
    }

    fn send_away(&mut self, result: WaitResult) -> usize {
        let gone: Vec<_> = self.queue.drain(..).collect();
        gone.iter().for_each(|(name, _)| self.tell(*name, result));
        gone.len()
    }
}

const ALL: u64 = 4;
const MAX: usize = 5;

fn check(seeds: &[u32]) {
    let gate: Gate = turnstile(ALL, MAX);
    let mut model = Model { free: ALL, ..Model::default() };
    for seed in seeds {
        let (kind, value) = (seed % 16, *seed as usize / 16);
        let weight = value as u32 % 4;
        match kind {
            0..6 => {
                let is_free = model.queue.is_empty() && model.free >= u64::from(weight);
                match gate.take(Waker::noop(), weight) {
                    Break(Answer::Closed) => assert!(model.closed),
                    Break(Answer::Full) => assert!(!is_free && model.queue.len() == MAX),
                    Break(Answer::Taken) => {
                        assert!(is_free && !model.closed);
                        model.free -= u64::from(weight);
                        model.held.push(weight);
                    }
                    Continue(place) => {
                        assert!(!is_free && !model.closed && model.queue.len() < MAX);
                        model.queue.push_back((model.next, weight));
                        assert_eq!(place.position, model.queue.len());
                        model.owners.push((model.next, weight, place.ticket, None));
                        model.next += 1;
                    }
                }
            }
            6..9 if !model.held.is_empty() => {
                let weight = model.held.swap_remove(value % model.held.len());
                gate.give_back(weight);
                model.free += u64::from(weight);
                model.settle();
            }
            9..12 if !model.owners.is_empty() => {
                let (name, weight, ticket, told) = model.owners.swap_remove(value % model.owners.len());
                let used = Ticket(ticket.0);
                assert_eq!(gate.leave(ticket), told);
                model.queue.retain(|(other, _)| *other != name);
                if told == Some(WaitResult::Granted) {
                    model.held.push(weight);
                }
                model.settle();
                // A ticket works once, also after its slot went to somebody else.
                assert_eq!(gate.position(&used), None);
                assert_eq!(gate.leave(used), None);
            }
            12..14 if !model.owners.is_empty() => {
                let index = value % model.owners.len();
                let (name, weight, ticket, told) = model.owners.swap_remove(index);
                let position = model.queue.iter().position(|(other, _)| *other == name).map(|at| at + 1);
                assert_eq!(gate.position(&ticket), position);
                assert_eq!(gate.is_first(&ticket), position == Some(1));
                let mut ticket = Some(ticket);
                assert_eq!(gate.poll(&mut ticket, Waker::noop()), told.map_or(Poll::Pending, Poll::Ready));
                match ticket {
                    Some(ticket) => model.owners.push((name, weight, ticket, None)),
                    None if told == Some(WaitResult::Granted) => model.held.push(weight),
                    None => {}
                }
            }
            14 => assert_eq!(gate.clear(drop), model.send_away(WaitResult::Cleared)),
            15 if value % 16 == 0 => {
                model.closed = true;
                assert_eq!(gate.shut(), model.send_away(WaitResult::Closed));
            }
            _ => {}
        }
        let weight = model.queue.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let waiting = Waiting { callers: model.queue.len(), weight };
        assert_eq!(gate.with(|_, _, waiting| waiting), waiting);
        assert_eq!((gate.slots().free(), gate.slots().is_attended()), (model.free, !model.queue.is_empty()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, ..ProptestConfig::default() })]
    #[test]
    fn queue_behaves_as_a_list_of_names(seeds in prop::collection::vec(any::<u32>(), 0..48)) {
        check(&seeds);
    }
}

/// The same again and again, without what proptest costs. Prints the number of the sequence that fails.
#[test]
fn queue_behaves_as_a_list_of_names_in_a_hundred_thousand_sequences() {
    for sequence in 0..100_000 {
        let chance = crate::Chance::seeded(sequence);
        let seeds: Vec<u32> = (0..chance.bits() % 48).map(|_| (chance.bits() >> 32) as u32).collect();
        let outcome = std::panic::catch_unwind(|| check(&seeds));
        assert!(outcome.is_ok(), "sequence {sequence}");
    }
}
