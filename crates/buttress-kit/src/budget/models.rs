//! Two threads, three operations each, every interleaving.

use std::time::Duration;

use loom::thread;

use super::{ratio::ONE, *};

fn booked(budget: &Budget) -> (i64, i64) {
    match &*budget.kind {
        Kind::Ratio(ratio) => ratio.booked(),
        _ => unreachable!("made as a ratio"),
    }
}

#[test]
fn no_more_is_taken_out_than_was_paid_in() {
    loom::model(|| {
        let (budget, now) = (Budget::new(1.0, 0).unwrap(), tokio::time::Instant::now().into_std());
        budget.deposit(now);
        let other = budget.clone();
        let thread = thread::spawn(move || {
            other.deposit(now);
            usize::from(other.try_withdraw(now)) + usize::from(other.try_withdraw(now))
        });
        let taken = usize::from(budget.try_withdraw(now)) + usize::from(budget.try_withdraw(now));
        let taken = taken + thread.join().unwrap();
        assert!((1..=2).contains(&taken), "{taken} of 2");
        let (balance, slots) = booked(&budget);
        assert_eq!((balance, slots), ((2 - taken as i64) * ONE, (2 - taken as i64) * ONE));
    });
}

#[test]
fn nothing_is_lost_or_made_when_slots_turn_under_way() {
    loom::model(|| {
        let (budget, now) = (Budget::new(1.0, 1).unwrap(), tokio::time::Instant::now().into_std());
        budget.deposit(now);
        let later = now + Duration::from_secs(10); // the slot of `now` expires
        let other = budget.clone();
        let thread = thread::spawn(move || {
            other.deposit(later);
            other.try_withdraw(later);
        });
        budget.try_withdraw(now);
        budget.deposit(later);
        thread.join().unwrap();
        let (balance, slots) = booked(&budget);
        assert_eq!(balance, slots + 10 * ONE);
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
