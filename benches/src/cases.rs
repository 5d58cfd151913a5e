//! What is measured.

use std::rc::Rc;

use tokio::runtime::Runtime;

use crate::{
    ours::{self, Rule},
    peers,
    services::{Drive, Echo, Later, drive},
};

/// One row.
pub(crate) struct Case {
    /// The name on the command line.
    pub(crate) id: &'static str,
    /// What it does; rows of the same group stand together.
    pub(crate) group: &'static str,
    /// Whose it is.
    pub(crate) who: &'static str,
    /// The budget beyond the bare service, in ns; ours only.
    pub(crate) ceiling: Option<f64>,
    /// Whether the bare service beside it is pending once.
    pub(crate) pending: bool,
    /// Makes it.
    pub(crate) make: fn(&Rc<Runtime>) -> Drive,
}

const fn case(
    group: &'static str,
    who: &'static str,
    id: &'static str,
    ceiling: Option<f64>,
    make: fn(&Rc<Runtime>) -> Drive,
) -> Case {
    Case { id, group, who, ceiling, pending: false, make }
}

const fn pending(
    group: &'static str,
    who: &'static str,
    id: &'static str,
    make: fn(&Rc<Runtime>) -> Drive,
) -> Case {
    Case { pending: true, ..case(group, who, id, None, make) }
}

/// All rows, in the order of the table.
pub(crate) fn all() -> Vec<Case> {
    const OURS: &str = "buttress";
    const TOWER: &str = "tower";
    const RESILIENCE: &str = "tower-resilience 0.13";
    const SEATBELT: &str = "seatbelt 0.11";
    vec![
        case("bare service", "-", "bare", None, |rt| drive(rt, Echo)),
        case("bare service, typed errors", OURS, "typed", None, ours::typed),
        case("bare service, lifted errors", OURS, "lifted", None, ours::lifted),
        case("breaker, consecutive", OURS, "breaker-consecutive", Some(5.0), |rt| {
            ours::breaker(rt, Rule::Consecutive, Echo)
        }),
        case("breaker, count window of 100", OURS, "breaker-count", Some(10.0), |rt| {
            ours::breaker(rt, Rule::Count, Echo)
        }),
        case("breaker, count window of 100", RESILIENCE, "resilience-count", None, |rt| {
            peers::resilience_breaker_count(rt, Echo)
        }),
        case("breaker, count window of 100", "recloser 1.4", "recloser", None, peers::recloser),
        case("breaker, time window of 10 s", OURS, "breaker-time", Some(35.0), |rt| {
            ours::breaker(rt, Rule::Time, Echo)
        }),
        case(
            "breaker, time window of 10 s",
            RESILIENCE,
            "resilience-time",
            None,
            peers::resilience_breaker_time,
        ),
        case("breaker, time window of 10 s", SEATBELT, "seatbelt-breaker", None, |rt| {
            peers::seatbelt_breaker(rt, Echo)
        }),
        case("breaker, slow-call rule", OURS, "breaker-slow", Some(60.0), |rt| {
            ours::breaker(rt, Rule::SlowCalls, Echo)
        }),
        case("breaker, open: refusal", OURS, "breaker-open", Some(30.0), ours::breaker_open),
        case("retry, first attempt succeeds", OURS, "retry", None, |rt| ours::retry(rt, false, Echo)),
        case("retry, first attempt succeeds", "buttress, with a budget", "retry-budget", None, |rt| {
            ours::retry(rt, true, Echo)
        }),
        case("retry, first attempt succeeds", TOWER, "tower-retry", None, |rt| peers::tower_retry(rt, Echo)),
        case("retry, first attempt succeeds", RESILIENCE, "resilience-retry", None, |rt| {
            peers::resilience_retry(rt, Echo)
        }),
        case("retry, first attempt succeeds", SEATBELT, "seatbelt-retry", None, |rt| {
            peers::seatbelt_retry(rt, Echo)
        }),
        case("bulkhead, uncontended", OURS, "bulkhead", None, |rt| ours::bulkhead(rt, Echo)),
        case("bulkhead, uncontended", TOWER, "tower-limit", None, |rt| peers::tower_limit(rt, Echo)),
        case("bulkhead, uncontended", RESILIENCE, "resilience-bulkhead", None, |rt| {
            peers::resilience_bulkhead(rt, Echo)
        }),
        case("timeout, inner ready", OURS, "timeout", Some(32.0), |rt| ours::timeout(rt, Echo)),
        case("timeout, inner ready", TOWER, "tower-timeout", None, |rt| peers::tower_timeout(rt, Echo)),
        case("timeout, inner ready", RESILIENCE, "resilience-timeout", None, |rt| {
            peers::resilience_timeout(rt, Echo)
        }),
        case("timeout, inner ready", SEATBELT, "seatbelt-timeout", None, |rt| {
            peers::seatbelt_timeout(rt, Echo)
        }),
        pending("timeout, inner pending once", OURS, "timeout-later", |rt| ours::timeout(rt, Later)),
        pending("timeout, inner pending once", TOWER, "tower-timeout-later", |rt| {
            peers::tower_timeout(rt, Later)
        }),
        pending("timeout, inner pending once", RESILIENCE, "resilience-timeout-later", |rt| {
            peers::resilience_timeout(rt, Later)
        }),
        pending("timeout, inner pending once", SEATBELT, "seatbelt-timeout-later", |rt| {
            peers::seatbelt_timeout(rt, Later)
        }),
        case("fallback, a value", OURS, "fallback", None, |rt| ours::fallback(rt, Echo)),
        case("breaker, retry, bulkhead, timeout", OURS, "four", None, |rt| ours::four(rt, Echo)),
        case(
            "breaker, retry, bulkhead, timeout",
            RESILIENCE,
            "resilience-stack",
            None,
            peers::resilience_stack,
        ),
        case("breaker, retry, timeout", OURS, "three", None, ours::three),
        case("breaker, retry, timeout", SEATBELT, "seatbelt-stack", None, peers::seatbelt_stack),
        case("six layers", OURS, "six", Some(150.0), |rt| ours::six(rt, Echo)),
        pending("breaker, count window, inner pending once", OURS, "breaker-later", |rt| {
            ours::breaker(rt, Rule::Count, Later)
        }),
        pending("breaker, count window, inner pending once", RESILIENCE, "resilience-count-later", |rt| {
            peers::resilience_breaker_count(rt, Later)
        }),
        pending("breaker, time window, inner pending once", SEATBELT, "seatbelt-breaker-later", |rt| {
            peers::seatbelt_breaker(rt, Later)
        }),
        pending("retry, inner pending once", OURS, "retry-later", |rt| ours::retry(rt, false, Later)),
        pending("retry, inner pending once", TOWER, "tower-retry-later", |rt| peers::tower_retry(rt, Later)),
        pending("retry, inner pending once", RESILIENCE, "resilience-retry-later", |rt| {
            peers::resilience_retry(rt, Later)
        }),
        pending("retry, inner pending once", SEATBELT, "seatbelt-retry-later", |rt| {
            peers::seatbelt_retry(rt, Later)
        }),
        pending("bulkhead, inner pending once", OURS, "bulkhead-later", |rt| ours::bulkhead(rt, Later)),
        pending("bulkhead, inner pending once", TOWER, "tower-limit-later", |rt| {
            peers::tower_limit(rt, Later)
        }),
        pending("bulkhead, inner pending once", RESILIENCE, "resilience-bulkhead-later", |rt| {
            peers::resilience_bulkhead(rt, Later)
        }),
        pending("fallback, inner pending once", OURS, "fallback-later", |rt| ours::fallback(rt, Later)),
        pending("six layers, inner pending once", OURS, "six-later", |rt| ours::six(rt, Later)),
    ]
}

/// One policy for two threads: its group, whose, and a drive for each thread.
pub(crate) type Shared = (&'static str, &'static str, Box<dyn Fn(&Rc<Runtime>) -> Drive + Sync>);

/// The rows of the two threads' table.
pub(crate) fn shared() -> Vec<Shared> {
    vec![
        ("breaker, consecutive", "buttress", Box::new(ours::breaker_shared(Rule::Consecutive))),
        ("breaker, count window of 100", "buttress", Box::new(ours::breaker_shared(Rule::Count))),
        (
            "breaker, count window of 100",
            "tower-resilience 0.13",
            Box::new(peers::resilience_breaker_shared()),
        ),
        ("breaker, time window of 10 s", "buttress", Box::new(ours::breaker_shared(Rule::Time))),
        ("bulkhead", "buttress", Box::new(ours::bulkhead_shared())),
        ("bulkhead", "tower", Box::new(peers::tower_limit_shared())),
    ]
}
