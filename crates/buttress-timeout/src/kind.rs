use buttress_core::{KindData, Metric, Outcome, Row, Rows, When};

use crate::words;

/// What a timeout is called and what it exports.
pub static KIND: KindData = KindData::new("timeout").codes(&[words::TIMEOUT]).metrics(&[
    Metric::new("timeout_operations_total", Rows::Counters("result", ENDED), "Calls that ended, by how."),
    Metric::new("timeout_operation_duration_seconds", Rows::Elapsed("result", ENDED), "How long calls took.")
        .seconds()
        .buckets(Metric::DURATIONS),
]);

const ENDED: &[Row] = &[
    ("success", When::Done(&[Outcome::Success])),
    ("failure", When::Done(&[Outcome::Failure, Outcome::Panicked, Outcome::Ignored])),
    ("timeout", When::Done(&[Outcome::TimedOut])),
    // The deadline had passed before the call: it was not made and took no time.
    ("timeout", When::Refused),
    ("cancelled", When::Done(&[Outcome::Cancelled])),
];
