use buttress_core::Outcome;
use buttress_fallback::{KIND, words};
use buttress_metrics::Metrics;

use crate::{Seen, done, done_as, policy};

#[test]
fn every_call_is_counted_by_who_answered() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let fallback = policy(&KIND, "payments", &Metrics::default());
    for event in [
        done(Outcome::Success),
        done(Outcome::Success),
        done_as(Outcome::Success, words::FALLBACK_SUCCESS),
        done_as(Outcome::Failure, words::FALLBACK_FAILURE),
        done_as(Outcome::Failure, words::NOT_HANDLED),
        done(Outcome::Panicked),
        done(Outcome::Cancelled),
    ] {
        fallback.emit(event);
    }
    let calls = |result| seen.counter("fallback_calls_total", &[("name", "payments"), ("result", result)]);
    assert_eq!((calls("primary"), calls("fallback_success"), calls("fallback_failure")), (2, 1, 1));
    assert_eq!((calls("not_handled"), calls("cancelled")), (2, 1));
}
