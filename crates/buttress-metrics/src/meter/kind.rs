use buttress_core::{KindData, Line, Metric, On, Outcome, Row, Rows, Source, When, Word};

/// Note: a call began.
pub const STARTED: Word = "started";

/// What a meter is called and what it exports.
pub static KIND: KindData = KindData::new("meter").lines(LINES).metrics(&[
    Metric::new("meter_calls_started_total", Rows::Counter(When::Begin(STARTED)), "Calls that began."),
    Metric::new(
        "meter_calls_total",
        Rows::Counters("result", ENDED),
        "Calls that ended, by how. Those that began and did not end are under way.",
    ),
    Metric::new("meter_call_duration_seconds", Rows::Elapsed("result", ENDED), "How long calls took.")
        .seconds()
        .buckets(Metric::DURATIONS),
]);

const FAILED: &[Outcome] = &[Outcome::Failure, Outcome::Panicked, Outcome::TimedOut];

const ENDED: &[Row] = &[
    ("completed", When::Done(&[Outcome::Success, Outcome::Ignored])),
    ("failed", When::Done(FAILED)),
    ("cancelled", When::Done(&[Outcome::Cancelled])),
];

const LINES: &[Line] =
    &[Line::debug("call failed", On::Done(FAILED)).fields(&[("elapsed_ms", Source::Elapsed)])];
