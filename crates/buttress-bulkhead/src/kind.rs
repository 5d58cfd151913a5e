use buttress_core::{Code, KindData, Line, Metric, On, Outcome, Rows, Source, When};

use crate::words;

/// What a bulkhead is called and what it exports.
pub static KIND: KindData = KindData::new("bulkhead").codes(CODES).lines(LINES).metrics(&[
    Metric::new(
        "bulkhead_executions_total",
        Rows::Counters("state", &[
            ("active", When::Begin(words::ADMITTED)),
            ("queued", When::Note(words::QUEUED)),
            ("rejected", When::Refused),
        ]),
        "Entries of calls into a state: active when let in, queued when made to wait, rejected when refused. A call may enter two.",
    ),
    Metric::new(
        "bulkhead_calls_total",
        Rows::Counters("result", &[
            ("completed", When::Done(&[Outcome::Success, Outcome::Ignored])),
            ("failed", When::Done(&[Outcome::Failure, Outcome::Panicked, Outcome::TimedOut])),
            ("rejected", When::Refused),
            ("queue_timeout", When::Code(&[words::QUEUE_TIMEOUT])),
            ("cancelled", When::Done(&[Outcome::Cancelled])),
        ]),
        "Calls that ended, each counted once.",
    ),
    Metric::new(
        "bulkhead_would_reject_total",
        Rows::Rare(When::Shadow),
        "Calls that a bulkhead in shadow mode let through and would have refused.",
    ),
    Metric::new("bulkhead_in_flight", Rows::Level(words::IN_FLIGHT, &[]), "Calls that are being made."),
    Metric::new("bulkhead_queue_depth", Rows::Level(words::QUEUE_DEPTH, &[]), "Calls that wait for a place."),
    Metric::new("bulkhead_limit", Rows::Level(words::LIMIT, &[]), "The most calls that may be made at once."),
    Metric::new(
        "bulkhead_queue_wait_seconds",
        Rows::Took(words::QUEUE_WAIT),
        "How long queued calls waited, let in or not.",
    )
    .seconds()
    .buckets(Metric::WAITS),
]);

const CODES: &[&Code] = &[words::QUEUE_FULL, words::QUEUE_TIMEOUT, words::QUEUE_CLEARED, words::CLOSED];

const LINES: &[Line] =
    &[Line::warn("queue cleared", On::Note(words::CLEARED)).fields(&[("count", Source::Value)])];
