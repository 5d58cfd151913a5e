use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn budget(ratio: f64, min_per_second: u32, ttl_secs: u64) -> Budget {
    let ttl = Duration::from_secs(ttl_secs);
    Budget::from_config(BudgetConfig { ratio, min_per_second, ttl }).unwrap()
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn drain(budget: &Budget, now: Instant) -> usize {
    (0..1_000_000).take_while(|_| budget.try_withdraw(now)).count()
}

#[test]
fn deposits_and_withdrawals_in_turn_give_the_exact_ratio() {
    for (ratio, expected) in [(0.5, 5000), (0.75, 7500), (0.999, 9990), (0.01, 100), (0.001, 10)] {
        let (budget, now) = (budget(ratio, 0, 60), now());
        let taken = (0..10_000)
            .filter(|_| {
                budget.deposit(now);
                budget.try_withdraw(now)
            })
            .count();
        assert!(taken.abs_diff(expected) <= 1, "{ratio}: {taken}");
    }
}

#[test]
fn ratio_of_two_saves_two_retries_a_call() {
    let (budget, now) = (budget(2.0, 0, 60), now());
    (0..10_000).for_each(|_| budget.deposit(now));
    assert_eq!(budget.available(now), 20_000.0);
    assert_eq!(drain(&budget, now), 20_000);
}

#[test]
fn reserve_comes_back_after_the_time_to_live() {
    let (budget, start) = (budget(0.0, 10, 5), now());
    assert_eq!(drain(&budget, start), 50);
    assert_eq!(drain(&budget, start + Duration::from_secs(4)), 0);
    assert_eq!(drain(&budget, start + Duration::from_secs(6)), 50);
}

#[test]
fn deposits_expire() {
    let (budget, start) = (budget(1.0, 0, 10), now());
    (0..100).for_each(|_| budget.deposit(start));
    assert_eq!(budget.available(start + Duration::from_secs(9)), 100.0);
    assert_eq!(budget.available(start + Duration::from_secs(10)), 0.0);
}

// Of the suites of tower and Finagle.
#[test]
fn reserve_and_deposits_add_up_and_expire_each_in_its_own_time() {
    let start = now();
    let taken = |budget: &Budget, after: u64| {
        let now = start + Duration::from_millis(after);
        (0..1000).filter(|_| budget.try_withdraw(now)).count()
    };
    let both = budget(0.1, 2, 5);
    (0..20).for_each(|_| both.deposit(start));
    assert_eq!(taken(&both, 0), 12);
    let reserve = budget(1.0, 5, 1);
    assert_eq!([0, 900, 1000, 50_000].map(|after| taken(&reserve, after)), [5, 0, 5, 5]);
    // A call every tenth of a second: those of the last ttl count. What was taken out leaves no debt behind.
    let flow = budget(1.0, 0, 10);
    (0..100).for_each(|n| flow.deposit(start + Duration::from_millis(100 * n)));
    assert_eq!([10_000, 19_000, 40_000].map(|after| taken(&flow, after)), [90, 0, 0]);
    flow.deposit(start + Duration::from_secs(40));
    assert_eq!(taken(&flow, 40_000), 1);
}

#[test]
fn ratio_is_what_is_left_beside_what_was_taken_out_within_the_time_to_live() {
    let (budget, start) = (budget(0.5, 1, 10), now());
    (0..20).for_each(|_| budget.deposit(start));
    assert_eq!(budget.available_ratio(start), 1.0);
    assert_eq!((0..5).filter(|_| budget.try_withdraw(start)).count(), 5);
    assert_eq!((budget.available(start), budget.available_ratio(start)), (15.0, 0.75));
    drain(&budget, start);
    assert_eq!(budget.available_ratio(start), 0.0);
    // Five more calls in the middle of the time to live, and one retry for them.
    let middle = start + Duration::from_secs(5);
    (0..5).for_each(|_| budget.deposit(middle));
    assert!(budget.try_withdraw(middle));
    assert_eq!(budget.available_ratio(middle), 1.5 / (1.5 + 21.0));
    // What was paid in and taken out at the start is forgotten: the reserve of 10, 2.5, and 1 taken out.
    let later = start + Duration::from_secs(10);
    assert_eq!(budget.available_ratio(later), 11.5 / 12.5);
    assert_eq!(budget.available_ratio(later + Duration::from_secs(3600)), 1.0);
}

#[test]
fn ratio_is_one_before_the_first_call_and_zero_where_nothing_can_ever_be_taken() {
    let now = now();
    assert_eq!(budget(0.2, 0, 10).available_ratio(now), 1.0);
    assert_eq!(budget(0.0, 1, 10).available_ratio(now), 1.0);
    assert_eq!(budget(0.0, 0, 10).available_ratio(now), 0.0);
    assert_eq!(Budget::grpc(10, 0.5).unwrap().available_ratio(now), 1.0);
    let none = Budget::tokens(TokenBudgetConfig::default().with_capacity(0)).unwrap();
    assert_eq!(none.available_ratio(now), 0.0);
    let tokens = Budget::tokens(TokenBudgetConfig::default()).unwrap();
    assert!((0..5).all(|_| tokens.try_withdraw(now)));
    assert_eq!((tokens.available(now), tokens.available_ratio(now)), (430.0, 0.86));
}

#[test]
fn thirty_days_idle_cost_one_turn_and_leave_the_reserve() {
    let (budget, start) = (budget(0.2, 10, 10), now());
    (0..1000).for_each(|_| budget.deposit(start));
    let later = start + Duration::from_secs(30 * 24 * 3600);
    assert_eq!(budget.available(later), 100.0);
}

#[test]
fn time_that_goes_back_is_taken_as_standing_still() {
    let (budget, start) = (budget(1.0, 0, 10), now() + Duration::from_secs(100));
    budget.deposit(start);
    assert!(budget.try_withdraw(start.checked_sub(Duration::from_secs(50)).unwrap()));
}

#[test]
fn settings_that_cannot_work_are_named() {
    let ttl = Duration::from_secs(10);
    let base = BudgetConfig::default();
    for ratio in [f64::NAN, f64::INFINITY, -0.1, 1001.0] {
        assert_eq!(BudgetConfig { ratio, ..base }.validate().unwrap_err().field(), "ratio");
    }
    assert_eq!(
        BudgetConfig { min_per_second: u32::MAX, ttl, ..base }.validate().unwrap_err().field(),
        "min_per_second"
    );
    for ttl in [Duration::ZERO, Duration::from_millis(999), Duration::from_secs(61), Duration::MAX] {
        assert_eq!(BudgetConfig { ttl, ..base }.validate().unwrap_err().field(), "ttl");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn allowed_is_the_ratio_of_the_deposits_plus_the_reserve(
        ratio in 0.0..2.0_f64, deposits in 0_u32..2000, min in 0_u32..20,
    ) {
        let (budget, now) = (budget(ratio, min, 10), now());
        (0..deposits).for_each(|_| budget.deposit(now));
        let exact = (ratio * f64::from(deposits)).floor() as i64 + i64::from(min) * 10;
        prop_assert!((drain(&budget, now) as i64 - exact).abs() <= 1);
    }

    #[test]
    fn balance_is_the_reserve_and_what_is_younger_than_the_time_to_live(
        steps in proptest::collection::vec((0_u64..4_000, any::<bool>()), 0..200),
    ) {
        let (budget, start) = (budget(0.5, 2, 10), now());
        let (mut at, mut log) = (0_u64, Vec::new());
        budget.available(start); // slots are counted from the first operation
        for (advance, deposit) in steps {
            at += advance;
            let now = start + Duration::from_millis(at);
            // The reference: every booking with the number of its second, ten seconds count.
            let live = |log: &[(u64, f64)]| 20.0 + log.iter()
                .filter(|(slot, _)| slot + 10 > at / 1000).map(|(_, amount)| amount).sum::<f64>();
            if deposit {
                budget.deposit(now);
                log.push((at / 1000, 0.5));
            } else {
                let expected = live(&log) >= 1.0;
                prop_assert_eq!(budget.try_withdraw(now), expected);
                if expected {
                    log.push((at / 1000, -1.0));
                }
            }
            let left = live(&log).max(0.0);
            prop_assert_eq!(budget.available(now), left);
            let taken = |(slot, amount): &&(u64, f64)| slot + 10 > at / 1000 && *amount < 0.0;
            let taken = log.iter().filter(taken).count() as f64;
            let ratio = if taken == 0.0 { 1.0 } else { left / (left + taken) };
            prop_assert_eq!(budget.available_ratio(now), ratio);
        }
    }
}
