//! Two threads, two or three operations each: every interleaving of the tokens and of what is in flight; of the share of
//! the calls, whose operations have many steps, those in which a thread is held up four times.

use std::time::Duration;

use loom::thread;

use super::{ratio::ONE, *};

fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(run);
}

fn saved(budget: &Budget) -> (i64, i64) {
    match &*budget.kind {
        Kind::Ratio(ratio) => ratio.saved(),
        _ => unreachable!("made as a ratio"),
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[test]
fn no_more_is_taken_out_than_was_paid_in() {
    model(|| {
        let (budget, now) = (Budget::new(1.0, 0).unwrap(), now());
        budget.deposit(now);
        let other = budget.clone();
        let thread = thread::spawn(move || {
            other.deposit(now);
            usize::from(other.try_withdraw(now)) + usize::from(other.try_withdraw(now))
        });
        let taken = usize::from(budget.try_withdraw(now)) + usize::from(budget.try_withdraw(now));
        let taken = taken + thread.join().unwrap();
        assert!((1..=2).contains(&taken), "{taken} of 2");
        assert_eq!(saved(&budget), ((2 - taken as i64) * ONE, 2 * ONE));
    });
}

#[test]
fn nothing_is_made_when_slots_turn_under_way_and_one_second_is_kept() {
    model(|| {
        let (budget, now) = (Budget::new(1.0, 0).unwrap(), now());
        budget.deposit(now);
        let later = now + Duration::from_secs(1); // the slot of `now` expires
        let other = budget.clone();
        let thread = thread::spawn(move || {
            other.deposit(later);
            i64::from(other.try_withdraw(later))
        });
        let taken = i64::from(budget.try_withdraw(now));
        budget.deposit(later);
        let taken = taken + thread.join().unwrap();
        budget.available(later);
        let left = (0..4).filter(|_| budget.try_withdraw(later)).count() as i64;
        assert!(taken + left <= 3, "{taken} and {left} of 3");
        // One at least may be kept: that of the last second, or the one that everybody may save for.
        assert!(taken + left >= 1, "{taken} and {left}");
        assert_eq!(saved(&budget).0, 0);
    });
}

#[test]
fn either_allows_a_retry_and_nobody_is_granted_what_another_took() {
    model(|| {
        let (budget, now) = (Budget::new(1.0, 1).unwrap(), now());
        budget.deposit(now);
        let other = budget.clone();
        let thread = thread::spawn(move || other.withdraw(FailureKind::Transient, now));
        let here = budget.withdraw(FailureKind::Transient, now);
        let there = thread.join().unwrap();
        // One after the other it is one; at the same moment each may get one of the two.
        let granted = usize::from(here.is_some()) + usize::from(there.is_some());
        assert!((1..=2).contains(&granted));
        assert!(!budget.try_withdraw(now));
        here.into_iter().chain(there).for_each(|waiting| budget.refund(waiting, now));
        assert!(budget.try_withdraw(now) && !budget.try_withdraw(now));
    });
}

#[test]
fn floor_grants_one_to_one_and_what_is_given_back_to_the_other() {
    model(|| {
        let (budget, now) = (Budget::new(0.0, 1).unwrap(), now());
        let leaves = |budget: &Budget| {
            let waiting = budget.withdraw(FailureKind::Transient, now);
            waiting.into_iter().for_each(|waiting| budget.refund(waiting, now));
        };
        let other = budget.clone();
        let thread = thread::spawn(move || usize::from(other.try_withdraw(now)));
        leaves(&budget);
        let granted = thread.join().unwrap();
        assert_eq!(granted + usize::from(budget.try_withdraw(now)), 1);
        assert!(!budget.try_withdraw(now));
    });
}

#[test]
fn tokens_are_never_overdrawn() {
    loom::model(|| {
        let budget = Budget::tokens(TokenBudgetConfig::default().with_capacity(20)).unwrap();
        let now = tokio::time::Instant::now().into_std();
        let other = budget.clone();
        let thread = thread::spawn(move || {
            let taken = other.try_withdraw(now);
            other.succeeded(None);
            usize::from(taken) + usize::from(other.try_withdraw(now))
        });
        let taken = usize::from(budget.try_withdraw(now));
        budget.succeeded(None);
        let taken = taken + usize::from(budget.try_withdraw(now));
        assert_eq!(taken + thread.join().unwrap(), 1);
        // 20 - 14 and twice 1, except where a success came while the bucket was full.
        assert!((7.0..=8.0).contains(&budget.available(now)), "{}", budget.available(now));
    });
}

#[test]
fn calls_and_retries_in_flight_are_granted_together_and_all_leave() {
    loom::model(|| {
        let (budget, now) = (Budget::in_flight(0.5, 0).unwrap(), tokio::time::Instant::now().into_std());
        budget.deposit(now);
        let call = move |budget: &Budget| {
            budget.deposit(now);
            let retried = budget.try_withdraw(now).then_some(FailureKind::Transient);
            budget.ended(retried);
            usize::from(retried.is_some())
        };
        let other = budget.clone();
        let thread = thread::spawn(move || call(&other));
        // Of two calls, and of three, one may be at a retry: the second is granted one where the first has left.
        let granted = call(&budget) + thread.join().unwrap();
        assert!((1..=2).contains(&granted), "{granted}");
        assert!(!budget.try_withdraw(now)); // half of one call
        budget.deposit(now);
        assert!(budget.try_withdraw(now) && !budget.try_withdraw(now));
    });
}
