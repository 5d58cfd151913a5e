use buttress_core::{Code, KindData, Level, Line, Metric, On, Outcome, Rows, When, Word};

/// Too many calls have failed.
pub const SHUT: &Code = &Code::refused("TOY_SHUT").says("toy {} is shut");

pub(crate) const OPEN_STATE: Word = "open";
pub(crate) const SHUT_STATE: Word = "shut";
pub(crate) const RULE: Word = "rule";
pub(crate) const FAILURES: Word = "failures";

/// What a toy is called, its states, and what it exports.
pub static KIND: KindData = KindData::new("toy")
    .codes(&[SHUT])
    .states(&[OPEN_STATE, SHUT_STATE])
    .lines(&[Line::warn("toy shut", On::Change(&[SHUT_STATE], &[]))])
    .metrics(&[
        Metric::new(
            "toy_calls_total",
            Rows::Counters(
                "result",
                &[
                    ("success", When::Done(&[Outcome::Success])),
                    ("failure", When::Done(&[Outcome::Failure, Outcome::Panicked])),
                    ("cancelled", When::Done(&[Outcome::Cancelled])),
                    ("rejected", When::Refused),
                ],
            ),
            "Calls that ended, by how.",
        ),
        Metric::new("toy_state", Rows::OneHot, "1 for the state the toy is in, 0 for the other."),
        Metric::new("toy_failures", Rows::Level(FAILURES, &[]), "Failures since it was open."),
    ]);

pub(crate) fn state(shut: bool) -> Level {
    Level::state(if shut { SHUT_STATE } else { OPEN_STATE })
}
