//! What is measured.

use tokio::runtime::Runtime;

use crate::{
    ours::{self, Rule},
    peers,
    services::{Echo, Later, Subject, subject},
};

/// Sets a policy up around an inner service.
pub(crate) type Make = fn(&Runtime) -> Subject;

/// One row.
pub(crate) struct Case {
    /// The name on the command line.
    pub(crate) id: &'static str,
    /// What it does; rows of the same group stand together.
    pub(crate) group: &'static str,
    /// Whose it is.
    pub(crate) who: &'static str,
    /// The budget beyond the bare service that is ready, in ns; ours only.
    pub(crate) ceiling: Option<f64>,
    /// Around a service that is ready at the first poll.
    pub(crate) ready: Make,
    /// Around one that is pending once.
    pub(crate) pending: Result<Make, NotMeasured>,
}

/// Why there is no number.
pub(crate) type NotMeasured = &'static str;

/// A row of the table.
pub(crate) enum Row {
    Case(Case),
    /// Those who have nothing like it.
    Without {
        group: &'static str,
        who: &'static str,
        why: NotMeasured,
    },
}

impl Case {
    const fn ceiling(self, nanos: f64) -> Self {
        Self { ceiling: Some(nanos), ..self }
    }

    /// A row of calls that do not reach the inner service.
    const fn refused(group: &'static str, who: &'static str, id: &'static str, make: Make) -> Self {
        Self { id, group, who, ceiling: None, ready: make, pending: Err("not called") }
    }
}

/// A [`Case`] around both inner services.
macro_rules! case {
    ($group:expr, $who:expr, $id:expr, |$runtime:pat_param, $inner:ident| $make:expr) => {
        Case {
            id: $id,
            group: $group,
            who: $who,
            ceiling: None,
            ready: |$runtime| {
                let $inner = Echo;
                $make
            },
            pending: Ok(|$runtime| {
                let $inner = Later;
                $make
            }),
        }
    };
}

const OURS: &str = "buttress";
const TOWER: &str = "tower 0.5";
const RESILIENCE: &str = "tower-resilience 0.13";
const SEATBELT: &str = "seatbelt 0.11";
const RECLOSER: &str = "recloser 1.4";

/// All rows, in the order of the table; the first one is the bare service.
pub(crate) fn rows() -> Vec<Row> {
    let groups = [bare(), breakers(), retries(), bulkheads(), timeouts(), fallbacks(), stacks()];
    groups.into_iter().flatten().collect()
}

fn bare() -> Vec<Row> {
    vec![
        case!("bare service", "-", "bare", |_, inner| subject(inner)).into(),
        case!("bare service, typed errors", OURS, "typed", |_, inner| ours::typed(inner)).into(),
        case!("bare service, lifted errors", OURS, "lifted", |_, inner| ours::lifted(inner)).into(),
    ]
}

fn breakers() -> Vec<Row> {
    const CONSECUTIVE: &str = "breaker, consecutive";
    const COUNT: &str = "breaker, count window of 100";
    const TIME: &str = "breaker, time window of 10 s";
    const SLOW: &str = "breaker, count window, slow-call rule";
    const OPEN: &str = "breaker, open: refusal";
    vec![
        case!(CONSECUTIVE, OURS, "breaker-consecutive", |_, inner| ours::breaker(Rule::Consecutive, inner))
            .ceiling(5.0)
            .into(),
        case!(CONSECUTIVE, RESILIENCE, "resilience-consecutive", |_, inner| {
            peers::resilience_breaker(Rule::Consecutive, inner)
        })
        .into(),
        Row::Without { group: CONSECUTIVE, who: "seatbelt, recloser", why: "no such rule" },
        case!(COUNT, OURS, "breaker-count", |_, inner| ours::breaker(Rule::Count, inner))
            .ceiling(10.0)
            .into(),
        case!(COUNT, RESILIENCE, "resilience-count", |_, inner| {
            peers::resilience_breaker(Rule::Count, inner)
        })
        .into(),
        case!(COUNT, RECLOSER, "recloser", |_, inner| peers::recloser(inner)).into(),
        Row::Without { group: COUNT, who: "seatbelt", why: "no such rule" },
        case!(TIME, OURS, "breaker-time", |_, inner| ours::breaker(Rule::Time, inner)).ceiling(35.0).into(),
        case!(TIME, RESILIENCE, "resilience-time", |_, inner| peers::resilience_breaker(Rule::Time, inner))
            .into(),
        case!(TIME, SEATBELT, "seatbelt-breaker", |rt, inner| peers::seatbelt_breaker(rt, inner)).into(),
        Row::Without { group: TIME, who: "recloser", why: "no such rule" },
        case!(SLOW, OURS, "breaker-slow", |_, inner| ours::breaker(Rule::SlowCalls, inner))
            .ceiling(60.0)
            .into(),
        case!(SLOW, RESILIENCE, "resilience-slow", |_, inner| {
            peers::resilience_breaker(Rule::SlowCalls, inner)
        })
        .into(),
        Row::Without { group: SLOW, who: "seatbelt, recloser", why: "no such rule" },
        Case::refused(OPEN, OURS, "breaker-open", |_| ours::breaker_open(Echo)).ceiling(30.0).into(),
        Case::refused(OPEN, RESILIENCE, "resilience-open", |rt| peers::resilience_breaker_open(rt, Echo))
            .into(),
        Case::refused(OPEN, SEATBELT, "seatbelt-open", peers::seatbelt_breaker_open).into(),
        Case::refused(OPEN, RECLOSER, "recloser-open", peers::recloser_open).into(),
        Row::Without { group: "breaker", who: "tower", why: "no such layer" },
    ]
}

fn retries() -> Vec<Row> {
    const PLAIN: &str = "retry, first attempt succeeds";
    const BUDGET: &str = "retry with a budget, the same";
    vec![
        case!(PLAIN, OURS, "retry", |_, inner| ours::retry(false, inner)).into(),
        case!(PLAIN, TOWER, "tower-retry", |_, inner| peers::tower_retry(inner)).into(),
        case!(PLAIN, RESILIENCE, "resilience-retry", |_, inner| peers::resilience_retry(false, inner)).into(),
        case!(PLAIN, SEATBELT, "seatbelt-retry", |rt, inner| peers::seatbelt_retry(rt, inner)).into(),
        case!(BUDGET, OURS, "retry-budget", |_, inner| ours::retry(true, inner)).into(),
        case!(BUDGET, TOWER, "tower-retry-budget", |_, inner| peers::tower_retry_budget(inner)).into(),
        case!(BUDGET, RESILIENCE, "resilience-retry-budget", |_, inner| {
            peers::resilience_retry(true, inner)
        })
        .into(),
        Row::Without { group: BUDGET, who: "seatbelt", why: "no budget" },
    ]
}

fn bulkheads() -> Vec<Row> {
    const GROUP: &str = "bulkhead, uncontended";
    vec![
        case!(GROUP, OURS, "bulkhead", |_, inner| ours::bulkhead(inner)).into(),
        case!(GROUP, TOWER, "tower-limit", |_, inner| peers::tower_limit(inner)).into(),
        case!(GROUP, RESILIENCE, "resilience-bulkhead", |_, inner| peers::resilience_bulkhead(inner)).into(),
        Row::Without { group: GROUP, who: "seatbelt", why: "no such layer" },
    ]
}

fn timeouts() -> Vec<Row> {
    const GROUP: &str = "timeout";
    vec![
        case!(GROUP, OURS, "timeout", |_, inner| ours::timeout(inner)).ceiling(32.0).into(),
        case!(GROUP, TOWER, "tower-timeout", |_, inner| peers::tower_timeout(inner)).into(),
        case!(GROUP, RESILIENCE, "resilience-timeout", |_, inner| peers::resilience_timeout(inner)).into(),
        case!(GROUP, SEATBELT, "seatbelt-timeout", |rt, inner| peers::seatbelt_timeout(rt, inner)).into(),
    ]
}

fn fallbacks() -> Vec<Row> {
    const GROUP: &str = "fallback, a value, not needed";
    vec![
        case!(GROUP, OURS, "fallback", |_, inner| ours::fallback(inner)).into(),
        case!(GROUP, RESILIENCE, "resilience-fallback", |_, inner| peers::resilience_fallback(inner)).into(),
        case!(GROUP, SEATBELT, "seatbelt-fallback", |rt, inner| peers::seatbelt_fallback(rt, inner)).into(),
        Row::Without { group: GROUP, who: "tower", why: "no such layer" },
    ]
}

fn stacks() -> Vec<Row> {
    const FOUR: &str = "breaker, retry, bulkhead, timeout";
    const THREE: &str = "breaker (10 s), retry, timeout";
    const SIX: &str = "six layers";
    vec![
        case!(FOUR, OURS, "four", |_, inner| ours::four(inner)).into(),
        case!(FOUR, RESILIENCE, "resilience-stack", |_, inner| peers::resilience_stack(inner)).into(),
        Row::Without { group: FOUR, who: "tower, seatbelt", why: "not all four" },
        case!(THREE, OURS, "three", |_, inner| ours::three(inner)).into(),
        case!(THREE, SEATBELT, "seatbelt-stack", |rt, inner| peers::seatbelt_stack(rt, inner)).into(),
        case!(SIX, OURS, "six", |_, inner| ours::six(inner)).ceiling(150.0).into(),
        Row::Without { group: "all but the breaker", who: "recloser", why: "no such layer" },
        Row::Without { group: "rate limiter", who: "buttress, governor", why: "not there yet" },
    ]
}

impl From<Case> for Row {
    fn from(case: Case) -> Self {
        Self::Case(case)
    }
}

/// The set-up with this name: `ID`, or `ID-later` around a service that is pending once.
pub(crate) fn named(name: &str) -> Option<Make> {
    rows().into_iter().find_map(|row| match row {
        Row::Case(case) if case.id == name => Some(case.ready),
        Row::Case(case) if name.strip_suffix("-later") == Some(case.id) => case.pending.ok(),
        _ => None,
    })
}
