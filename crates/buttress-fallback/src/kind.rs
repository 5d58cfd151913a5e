use buttress_core::{KindData, Line, Metric, On, Outcome, Rows, Source, When};

use crate::words;

/// What a fallback is called and what it exports.
pub static KIND: KindData = KindData::new("fallback").lines(LINES).metrics(&[Metric::new(
    "fallback_calls_total",
    Rows::Counters(
        "result",
        &[
            ("primary", When::Done(&[Outcome::Success])),
            (words::FALLBACK_SUCCESS, When::DoneAs(words::FALLBACK_SUCCESS)),
            (words::FALLBACK_FAILURE, When::DoneAs(words::FALLBACK_FAILURE)),
            (words::NOT_HANDLED, When::Done(UNHANDLED)),
            ("cancelled", When::Done(&[Outcome::Cancelled])),
        ],
    ),
    "Calls that ended, by who answered.",
)]);

/// Endings without an answer of the fallback's; a panic leaves no time for one.
const UNHANDLED: &[Outcome] = &[Outcome::Failure, Outcome::Panicked, Outcome::TimedOut, Outcome::Ignored];

const ELAPSED: &[(&str, Source)] = &[("elapsed_ms", Source::Elapsed)];

const LINES: &[Line] = &[
    Line::debug("fallback answered", On::DoneAs(words::FALLBACK_SUCCESS)).fields(ELAPSED),
    Line::error("fallback failed", On::DoneAs(words::FALLBACK_FAILURE))
        .fields(&[("error", Source::Error), ("elapsed_ms", Source::Elapsed)]),
    Line::debug("stale answer given", On::Note(words::STALE)).fields(&[("age_ms", Source::Value)]),
];
