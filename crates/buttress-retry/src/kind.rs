use buttress_core::{KindData, Line, Metric, On, Outcome, Rows, Source, When};

use crate::words;

/// What a retry is called and what it exports.
pub static KIND: KindData = KindData::new("retry").codes(&[words::EXHAUSTED, words::TIMED_OUT]).lines(LINES).metrics(&[
    Metric::new(
        "retry_calls_total",
        Rows::Counters("result", &[
            (words::SUCCESSFUL_WITHOUT_RETRY, When::DoneAs(words::SUCCESSFUL_WITHOUT_RETRY)),
            (words::SUCCESSFUL_WITH_RETRY, When::DoneAs(words::SUCCESSFUL_WITH_RETRY)),
            (words::FAILED_WITHOUT_RETRY, When::DoneAs(words::FAILED_WITHOUT_RETRY)),
            (words::FAILED_WITH_RETRY, When::DoneAs(words::FAILED_WITH_RETRY)),
            ("cancelled", When::Done(&[Outcome::Cancelled])),
        ]),
        "Calls that ended, each counted once however many attempts it took.",
    ),
    Metric::new(
        "retry_attempts_total",
        Rows::Counters("reason", &[
            (words::ERROR, When::Attempt(words::ERROR)),
            (words::RESPONSE, When::Attempt(words::RESPONSE)),
            (words::TIMEOUT, When::Attempt(words::TIMEOUT)),
        ]),
        "Attempts after the first, by what called for them. Amplification is (calls + attempts) / calls.",
    ),
    Metric::new(
        "retry_stopped_total",
        Rows::Counters("reason", &[
            (words::MAX_ATTEMPTS, When::NoteOf(words::STOPPED, words::MAX_ATTEMPTS)),
            (words::BUDGET, When::NoteOf(words::STOPPED, words::BUDGET)),
            (words::DEADLINE, When::NoteOf(words::STOPPED, words::DEADLINE)),
            (words::NOT_RETRYABLE, When::NoteOf(words::STOPPED, words::NOT_RETRYABLE)),
            (words::NOT_REPLAYABLE, When::NoteOf(words::STOPPED, words::NOT_REPLAYABLE)),
            (words::NOT_READY, When::NoteOf(words::STOPPED, words::NOT_READY)),
        ]),
        "Attempts that were wanted or possible and were not made, by why not.",
    ),
    Metric::new(
        "retry_backoff_seconds",
        Rows::Delays,
        "Waits before the next attempt, as chosen. A Retry-After that was honoured is in them.",
    )
    .seconds()
    .buckets(Metric::WAITS),
    Metric::new(
        "retry_budget_available_ratio",
        Rows::Level(words::BUDGET_AVAILABLE, &[]),
        "Share of the retry budget that is left, 0 to 1. A budget that several policies share is told by each.",
    )
    .rests_at(f64::NAN),
]);

const LINES: &[Line] = &[
    Line::debug("attempt failed", On::Attempt).fields(&[
        ("attempt", Source::Attempt),
        ("delay_ms", Source::Delay),
        ("reason", Source::Reason),
        ("error", Source::Error),
    ]),
    // In an outage every call ends so.
    Line::warn(
        "retries exhausted",
        On::NoteOf(words::STOPPED, &[words::MAX_ATTEMPTS, words::BUDGET, words::DEADLINE]),
    )
    .fields(&[("reason", Source::Value), ("error", Source::Error), ("suppressed", Source::Suppressed)]),
    Line::debug("not retried", On::Note(words::STOPPED))
        .fields(&[("reason", Source::Value), ("error", Source::Error)]),
];
