//! Every interleaving of two threads, without a bound on preemptions.

use loom::{
    sync::{Arc, Mutex, atomic::AtomicU32},
    thread,
};

use super::*;
use crate::sync::Ordering::Relaxed;

/// A policy whose state is a number and whose level is another.
struct Policy {
    lane: Lane<u32>,
    made: Mutex<u32>,
    level: AtomicU32,
    /// What a listener was told last; written with the turn only.
    event_told: AtomicU32,
    level_told: AtomicU32,
}

impl Policy {
    fn new() -> Arc<Self> {
        let [level, event_told, level_told] = [0; 3].map(AtomicU32::new);
        Arc::new(Self { lane: Lane::new(), made: Mutex::new(0), level, event_told, level_told })
    }

    fn change(&self) {
        let mut made = self.made.lock().unwrap();
        *made += 1;
        assert!(self.lane.push(*made).is_none());
        drop(made);
        self.deliver();
    }

    fn step(&self, by: u32) {
        self.level.fetch_add(by, Relaxed);
        self.lane.mark(1);
        self.deliver();
    }

    fn deliver(&self) {
        self.lane.run(|next| match next {
            // One at a time, and in order.
            Next::Event(event) => assert_eq!(self.event_told.swap(event, Relaxed) + 1, event),
            Next::Level(_) => self.level_told.store(self.level.load(Relaxed), Relaxed),
        });
    }
}

fn two_threads(
    each: impl Fn(&Policy, u32) + Copy + Send + Sync + 'static,
    check: impl Fn(&Policy) + Copy + Send + Sync + 'static,
) {
    loom::model(move || {
        let policy = Policy::new();
        let other = policy.clone();
        let thread = thread::spawn(move || each(&other, 2));
        each(&policy, 1);
        thread.join().unwrap();
        check(&policy);
    });
}

#[test]
fn whoever_returns_last_leaves_no_event_untold() {
    two_threads(|policy, _| policy.change(), |policy| assert_eq!(policy.event_told.load(Relaxed), 2));
}

#[test]
fn last_value_told_is_the_last_value() {
    two_threads(Policy::step, |policy| assert_eq!(policy.level_told.load(Relaxed), 3));
}

#[test]
fn level_and_event_do_not_cover_each_other() {
    let each = |policy: &Policy, number| if number == 1 { policy.change() } else { policy.step(number) };
    two_threads(each, |policy| {
        assert_eq!((policy.event_told.load(Relaxed), policy.level_told.load(Relaxed)), (1, 2));
    });
}
