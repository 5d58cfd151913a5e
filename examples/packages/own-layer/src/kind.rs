use buttress_core::{Code, KindData, Line, Metric, On, Outcome, Rows, Source, When, Word};

/// Too many calls are under way.
pub const FULL: &Code = &Code::too_many("TURNSTILE_FULL").says("too many calls are under way in {}");

/// The level that says how many calls are under way.
pub(crate) const IN_FLIGHT: Word = "in_flight";

/// What a turnstile is called, and what it exports.
pub static KIND: KindData = KindData::new("turnstile").codes(&[FULL]).lines(LINES).metrics(&[
    CALLS,
    WOULD_REJECT,
    Metric::new("turnstile_in_flight", Rows::Level(IN_FLIGHT, &[]), "Calls under way now."),
]);

/// The same for a turnstile by key, which has no one level.
pub static KEYED: KindData =
    KindData::new("turnstile").codes(&[FULL]).lines(LINES).metrics(&[CALLS, WOULD_REJECT]);

const LINES: &[Line] = &[Line::warn("turnstile full", On::Refused)
    .fields(&[("shadow", Source::Shadow), ("suppressed", Source::Suppressed)])
    .once_a_second()];

const CALLS: Metric = Metric::new(
    "turnstile_calls_total",
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
);

const WOULD_REJECT: Metric = Metric::new(
    "turnstile_would_reject_total",
    Rows::Rare(When::Shadow),
    "Calls that a turnstile in shadow mode let through and would have refused.",
);
