use buttress_core::{Outcome, PolicyKind};
use buttress_metrics::Metrics;

use crate::{Seen, done, policy};

#[test]
fn every_call_is_counted_by_who_answered() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let fallback = policy(PolicyKind::Fallback, "payments", &Metrics::default());
    for outcome in [
        Outcome::Success,
        Outcome::Success,
        Outcome::FallbackSuccess,
        Outcome::FallbackFailure,
        Outcome::NotHandled,
        Outcome::Panicked,
        Outcome::Cancelled,
    ] {
        fallback.emit(done(outcome));
    }
    let calls = |result| seen.counter("fallback_calls_total", &[("name", "payments"), ("result", result)]);
    assert_eq!((calls("primary"), calls("fallback_success"), calls("fallback_failure")), (2, 1, 1));
    assert_eq!((calls("not_handled"), calls("cancelled")), (2, 1));
}
