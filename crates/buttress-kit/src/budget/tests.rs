use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn budget(ratio: f64, min_per_second: u32) -> Budget {
    Budget::new(ratio, min_per_second).unwrap()
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
        let (budget, now) = (budget(ratio, 0), now());
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
    let (budget, now) = (budget(2.0, 0), now());
    (0..10_000).for_each(|_| budget.deposit(now));
    assert_eq!(budget.available(now), 20_000.0);
    assert_eq!(drain(&budget, now), 20_000);
}

#[test]
fn floor_comes_back_within_a_second() {
    let (budget, start) = (budget(0.0, 10), now());
    let at = |millis| start + Duration::from_millis(millis);
    assert_eq!(drain(&budget, start), 10);
    assert_eq!(drain(&budget, at(99)), 0);
    assert_eq!(drain(&budget, at(500)), 5);
    assert_eq!(drain(&budget, at(3_600_000)), 10);
}

#[test]
fn deposits_expire_but_for_one_retry() {
    let (budget, start) = (budget(1.0, 0), now());
    (0..100).for_each(|_| budget.deposit(start));
    assert_eq!(budget.available(start + Duration::from_millis(999)), 100.0);
    assert_eq!(budget.available(start + Duration::from_secs(1)), 1.0);
    assert_eq!(drain(&budget, start + Duration::from_secs(3600)), 1);
}

#[test]
fn floor_is_no_addition_and_a_retry_takes_from_both() {
    let start = now();
    let taken = |budget: &Budget, after: u64| {
        let now = start + Duration::from_millis(after);
        (0..1000).filter(|_| budget.try_withdraw(now)).count()
    };
    let paid = budget(0.5, 2);
    (0..20).for_each(|_| paid.deposit(start));
    assert_eq!([0, 400, 500, 1000, 1500].map(|after| taken(&paid, after)), [10, 0, 1, 1, 1]);
    let floor = budget(0.1, 5);
    (0..20).for_each(|_| floor.deposit(start));
    assert_eq!([0, 100, 200, 1000].map(|after| taken(&floor, after)), [5, 0, 1, 4]);
    // A call every tenth of a second: those of the last second count. What was taken out leaves no debt behind.
    let flow = budget(1.0, 0);
    (0..100).for_each(|n| flow.deposit(start + Duration::from_millis(100 * n)));
    assert_eq!([10_000, 10_900, 40_000].map(|after| taken(&flow, after)), [9, 0, 0]);
    flow.deposit(start + Duration::from_secs(40));
    assert_eq!(taken(&flow, 40_000), 1);
}

#[test]
fn ratio_is_what_is_left_beside_what_was_taken_out_within_the_last_second() {
    let (budget, start) = (budget(0.5, 1), now());
    (0..20).for_each(|_| budget.deposit(start));
    assert_eq!(budget.available_ratio(start), 1.0);
    assert_eq!((0..5).filter(|_| budget.try_withdraw(start)).count(), 5);
    assert_eq!((budget.available(start), budget.available_ratio(start)), (5.0, 0.5));
    drain(&budget, start);
    assert_eq!(budget.available_ratio(start), 0.0);
    // Five more calls in the middle of the second, and one retry for them.
    let middle = start + Duration::from_millis(500);
    (0..5).for_each(|_| budget.deposit(middle));
    assert!(budget.try_withdraw(middle));
    assert_eq!(budget.available_ratio(middle), 1.5 / (1.5 + 11.0));
    // What was taken out at the start is forgotten: 1.5 that are left of five calls, and 1 taken out.
    let later = start + Duration::from_secs(1);
    assert_eq!(budget.available_ratio(later), 1.5 / 2.5);
    assert_eq!(budget.available_ratio(later + Duration::from_secs(3600)), 1.0);
}

// Three ways to leave: what was taken is there again, and no more than that.
#[test]
fn refund_gives_back_what_was_taken_and_no_more() {
    let start = now();
    let take = |budget: &Budget| budget.withdraw(FailureKind::Transient, start);

    let paid = budget(0.5, 0);
    (0..4).for_each(|_| paid.deposit(start));
    let (first, second) = (take(&paid).unwrap(), take(&paid).unwrap());
    assert!(take(&paid).is_none());
    paid.refund(first, start);
    assert_eq!((paid.available(start), paid.available_ratio(start)), (1.0, 0.5));
    assert!(take(&paid).is_some() && take(&paid).is_none());
    // A minute later the calls have expired: there is room for one.
    let later = start + Duration::from_secs(60);
    paid.refund(second, later);
    paid.refund(first, later);
    assert_eq!((paid.available(later), paid.available_ratio(later)), (1.0, 1.0));

    // Of the calls that a floor retried, none has paid for a whole one: a hundred that leave make none of it.
    let floor = budget(0.3, 1);
    for n in 0..100 {
        let now = start + n * Duration::from_secs(1);
        floor.deposit(now);
        let waiting = floor.withdraw(FailureKind::Transient, now).unwrap();
        assert!(floor.available(now) < 1.0);
        floor.refund(waiting, now);
        assert_eq!(floor.available(now), 1.0);
    }
    let both = budget(1.0, 2);
    both.deposit(start);
    let waiting = take(&both).unwrap();
    assert_eq!(both.available(start), 1.0);
    both.refund(waiting, start);
    assert_eq!(drain(&both, start), 2);

    let tokens = Budget::tokens(TokenBudgetConfig::default()).unwrap();
    let throttled = tokens.withdraw(FailureKind::Throttled, start).unwrap();
    assert_eq!((tokens.available(start), throttled.failure()), (495.0, FailureKind::Throttled));
    tokens.refund(throttled, start);
    tokens.refund(throttled, start);
    assert_eq!(tokens.available(start), 500.0);

    let half = Budget::grpc(10, 0.5).unwrap();
    half.failed(None);
    let waiting = take(&half).unwrap();
    half.refund(waiting, start);
    assert_eq!(half.available(start), 9.0);

    let in_flight = Budget::in_flight(0.0, 1).unwrap();
    let waiting = take(&in_flight).unwrap();
    assert!(take(&in_flight).is_none());
    in_flight.refund(waiting, start);
    assert!(take(&in_flight).is_some());
}

#[test]
fn ratio_is_one_before_the_first_call_and_zero_where_nothing_can_ever_be_taken() {
    let now = now();
    assert_eq!(budget(0.2, 0).available_ratio(now), 1.0);
    assert_eq!(budget(0.0, 1).available_ratio(now), 1.0);
    assert_eq!(budget(0.0, 0).available_ratio(now), 0.0);
    assert_eq!(Budget::grpc(10, 0.5).unwrap().available_ratio(now), 1.0);
    let none = Budget::tokens(TokenBudgetConfig::default().with_capacity(0)).unwrap();
    assert_eq!(none.available_ratio(now), 0.0);
    let tokens = Budget::tokens(TokenBudgetConfig::default()).unwrap();
    assert!((0..5).all(|_| tokens.try_withdraw(now)));
    assert_eq!((tokens.available(now), tokens.available_ratio(now)), (430.0, 0.86));
}

#[test]
fn debug_text_says_what_is_saved() {
    let (budget, now) = (budget(0.5, 1), now());
    (0..3).for_each(|_| budget.deposit(now));
    assert_eq!(
        format!("{budget:?}"),
        "Budget(Ratio { config: BudgetConfig { ratio: 0.5, min_per_second: 1 }, saved: 1.5, .. })"
    );
}

#[test]
fn thirty_days_idle_cost_one_turn_and_leave_the_floor() {
    let (budget, start) = (budget(0.2, 10), now());
    (0..1000).for_each(|_| budget.deposit(start));
    let later = start + Duration::from_secs(30 * 24 * 3600);
    assert_eq!(budget.available(later), 10.0);
}

#[test]
fn time_that_goes_back_is_taken_as_standing_still() {
    let (budget, start) = (budget(1.0, 0), now() + Duration::from_secs(100));
    budget.deposit(start);
    assert!(budget.try_withdraw(start.checked_sub(Duration::from_secs(50)).unwrap()));
}

#[test]
fn settings_that_cannot_work_are_named() {
    let base = BudgetConfig::default();
    assert_eq!((base.ratio, base.min_per_second), (0.1, 1));
    for ratio in [f64::NAN, f64::INFINITY, -0.1, 1001.0] {
        assert_eq!(BudgetConfig { ratio, ..base }.validate().unwrap_err().field(), "ratio");
    }
    let field = BudgetConfig { min_per_second: u32::MAX, ..base }.validate().unwrap_err();
    assert_eq!(field.field(), "min_per_second");
    assert!(BudgetConfig { ratio: 1000.0, min_per_second: 1_000_000 }.validate().is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn allowed_is_the_ratio_of_the_deposits_or_the_floor(
        ratio in 0.0..2.0_f64, deposits in 0_u32..2000, min in 0_u32..200,
    ) {
        let (budget, now) = (budget(ratio, min), now());
        (0..deposits).for_each(|_| budget.deposit(now));
        let exact = ((ratio * f64::from(deposits)).floor() as i64).max(min.into());
        prop_assert!((drain(&budget, now) as i64 - exact).abs() <= 1);
    }

    #[test]
    fn budget_goes_as_the_rule_says(
        ratio in prop_oneof![Just(0.0), Just(0.25), Just(0.5), Just(1.0)], min in prop_oneof![Just(0_u32), Just(2), Just(5)],
        steps in proptest::collection::vec((0_u64..400, 0_u8..8), 0..300),
    ) {
        let (budget, start) = (budget(ratio, min), now());
        budget.available(start); // slots are counted from the first operation
        let (mut model, mut at, mut waiting) = (Model::new(ratio, min), 0_u64, Vec::new());
        for (advance, step) in steps {
            at += advance * u64::from(step % 2);
            let now = start + Duration::from_millis(at);
            model.turn(at);
            match step {
                0..4 => {
                    budget.deposit(now);
                    model.deposit();
                }
                4..7 => {
                    let granted = budget.withdraw(FailureKind::Transient, now);
                    let expected = model.withdraw();
                    prop_assert_eq!(granted.is_some(), expected.is_some(), "at {}", at);
                    waiting.extend(granted.zip(expected));
                }
                _ => if let Some((granted, whole)) = waiting.pop() {
                    budget.refund(granted, now);
                    model.refund(whole);
                }
            }
            let left = model.saved.max(model.floor);
            prop_assert!((budget.available(now) - left).abs() < 1e-6, "{} and {left}", budget.available(now));
            prop_assert_eq!(budget.available_ratio(now) == 1.0, model.taken() <= 0.0 && (ratio, min) != (0.0, 0));
        }
    }

    // Whatever the calls and their failures, and whoever leaves: one second's worth is saved, and one is paid in.
    #[test]
    fn no_second_has_more_retries_than_twice_the_share_and_the_floor(
        ratio in 0.0..0.5_f64, min in 0_u32..4, rate in 1_u64..300, well in 0_u64..3_000,
    ) {
        let (budget, start) = (budget(ratio, min), now());
        let mut granted = Vec::new();
        for call in 0..rate * 6 {
            let at = call * 1000 / rate;
            let now = start + Duration::from_millis(at);
            budget.deposit(now);
            if at >= well && budget.try_withdraw(now) {
                granted.push(at);
            }
        }
        let bound = 2.0 * ratio * (rate + 1) as f64 + 2.0 * f64::from(min) + 1.0;
        for (first, at) in granted.iter().enumerate() {
            let within = granted[first..].iter().take_while(|later| **later < at + 1000).count();
            prop_assert!(within as f64 <= bound, "{within} from {at}, {bound}");
        }
    }
}

/// The rule as it is written, for one thread.
struct Model {
    ratio: f64,
    min: f64,
    /// What was paid in and taken out, by tenths of a second.
    slots: Vec<(u64, f64, f64)>,
    saved: f64,
    floor: f64,
    at: u64,
}

impl Model {
    fn new(ratio: f64, min: u32) -> Self {
        let min = f64::from(min);
        Self { ratio, min, slots: Vec::new(), saved: 0.0, floor: min, at: 0 }
    }

    fn turn(&mut self, at: u64) {
        self.floor = (self.floor + self.min * (at - self.at) as f64 / 1000.0).min(self.min);
        self.at = at;
        self.slots.retain(|(slot, ..)| slot + 10 > at / 100);
        self.cut();
    }

    fn cut(&mut self) {
        let paid = self.slots.iter().map(|(_, paid, _)| paid).sum::<f64>();
        self.saved = self.saved.min(paid.max(1.0));
    }

    fn deposit(&mut self) {
        self.slots.push((self.at / 100, self.ratio, 0.0));
        self.saved += self.ratio;
        self.cut();
    }

    /// Which of the two gave a whole one.
    fn withdraw(&mut self) -> Option<(bool, bool)> {
        let whole = (self.saved >= 1.0, self.floor >= 1.0 - 1e-9);
        if !(whole.0 || whole.1) {
            return None;
        }
        self.saved = (self.saved - 1.0).max(0.0);
        self.floor = (self.floor - 1.0).max(0.0);
        self.slots.push((self.at / 100, 0.0, 1.0));
        Some(whole)
    }

    fn refund(&mut self, (saved, floor): (bool, bool)) {
        self.saved += f64::from(u8::from(saved));
        self.floor = (self.floor + f64::from(u8::from(floor))).min(self.min);
        self.slots.push((self.at / 100, 0.0, -1.0));
        self.cut();
    }

    fn taken(&self) -> f64 {
        self.slots.iter().map(|(.., taken)| taken).sum()
    }
}
