use buttress_core::{Code, KindData, Line, Metric, On, Outcome, Row, Rows, Source, When, Word};

use crate::{State, words};

/// What a breaker is called, its states, and what it exports.
pub static KIND: KindData = KindData::new("breaker").codes(CODES).states(STATES).lines(LINES).metrics(&[
    CHANGES,
    CALLS,
    SLOW_CALLS,
    WOULD_REJECT,
    Metric::new(
        "circuit_breaker_state",
        Rows::OneHot,
        "1 for the state the breaker was in when it was last called or refreshed, 0 for the others.",
    ),
    Metric::new(
        "circuit_breaker_failure_ratio",
        Rows::Level(words::FAILURE_RATIO, BEGINS_ANEW),
        "Share of failures in the window, 0 to 1. NaN below the minimum number of calls.",
    )
    .rests_at(f64::NAN),
    Metric::new(
        "circuit_breaker_slow_ratio",
        Rows::Level(words::SLOW_RATIO, BEGINS_ANEW),
        "Share of slow calls in the window, 0 to 1. NaN below the minimum number of calls.",
    )
    .rests_at(f64::NAN),
    Metric::new(
        "circuit_breaker_last_transition_timestamp_seconds",
        Rows::ChangedAt,
        "When the state changed last, in seconds since 1970.",
    )
    .seconds()
    .stays(),
    DURATION,
]);

/// The same for a breaker by key. It is in many states at a time, so it counts its keys by state, and has no ratio and
/// no state of its own.
pub static KEYED: KindData = KindData::new("breaker").codes(CODES).states(STATES).lines(LINES).metrics(&[
    CHANGES,
    CALLS,
    SLOW_CALLS,
    WOULD_REJECT,
    Metric::new(
        "circuit_breaker_keys",
        Rows::LevelOf(words::KEYS, "state", STATES),
        "How many keys of a keyed breaker were in this state when it was last called or refreshed. There is never a series for one key.",
    ),
    DURATION,
]);

const CLOSED: Word = State::Closed.as_str();
const OPEN: Word = State::Open.as_str();
const HALF_OPEN: Word = State::HalfOpen.as_str();

const CODES: &[&Code] = &[words::OPEN, words::CALL_TIMEOUT];
const STATES: &[Word] = &[
    CLOSED,
    OPEN,
    HALF_OPEN,
    State::Isolated.as_str(),
    State::Disabled.as_str(),
    State::MetricsOnly.as_str(),
];
/// In these the window is a new one: the ratio that opened the circuit is of the past.
const BEGINS_ANEW: &[Word] = &[CLOSED, HALF_OPEN];

const CHANGES: Metric = Metric::new(
    "circuit_breaker_state_changes_total",
    // Those that the rules make.
    Rows::Changes(&[(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, OPEN), (HALF_OPEN, CLOSED)]),
    "Changes of state, those by hand included.",
);

const FAILED: &[Outcome] = &[Outcome::Failure, Outcome::Panicked, Outcome::TimedOut];

const CALLS: Metric = Metric::new(
    "circuit_breaker_calls_total",
    Rows::Counters(
        "result",
        &[
            ("success", When::Done(&[Outcome::Success])),
            ("failure", When::Done(FAILED)),
            ("ignored", When::Done(&[Outcome::Ignored])),
            ("rejected", When::Refused),
            ("cancelled", When::Done(&[Outcome::Cancelled])),
        ],
    ),
    "Calls that ended, by how. A refused call is rejected; a time-out or a panic is a failure.",
);

const SLOW_CALLS: Metric = Metric::new(
    "circuit_breaker_slow_calls_total",
    Rows::Counters(
        "result",
        &[
            ("success", When::Slow(&[Outcome::Success])),
            ("failure", When::Slow(FAILED)),
            ("ignored", When::Slow(&[Outcome::Ignored])),
            ("cancelled", When::Slow(&[Outcome::Cancelled])),
        ],
    ),
    "Calls that took longer than the threshold for slow calls. They are in the calls too.",
);

const WOULD_REJECT: Metric = Metric::new(
    "circuit_breaker_would_reject_total",
    Rows::Rare(When::Shadow),
    "Calls that a breaker in shadow mode let through and would have refused.",
);

const ENDED: &[Row] = &[
    ("success", When::Done(&[Outcome::Success])),
    ("failure", When::Done(FAILED)),
    ("ignored", When::Done(&[Outcome::Ignored])),
    ("cancelled", When::Done(&[Outcome::Cancelled])),
];

const DURATION: Metric = Metric::new(
    "circuit_breaker_call_duration_seconds",
    Rows::Elapsed("result", ENDED),
    "How long calls took, refused ones left out.",
)
.seconds()
.buckets(Metric::DURATIONS);

/// The breaker's own doing. All else is by hand, or into a state that lasts until somebody ends it.
const BY_ITSELF: &[Word] = &[words::RULE, words::HEALTH];

/// As `circuit::trip` calls them: each has its line a second.
const RULES: &[Word] = &["consecutive", "failure_rate", "failure_count", "slow_rate"];

const FROM: (&str, Source) = ("breaker.from", Source::From);
const TO: (&str, Source) = ("breaker.to", Source::To);
const OPEN_FOR: (&str, Source) = ("breaker.open_for_ms", Source::Detail(words::OPEN_FOR));
const REJECTED: (&str, Source) = ("breaker.rejected_while_open", Source::Detail(words::REJECTED));
const CAUSE: (&str, Source) = ("cause", Source::Cause);
const KEY: (&str, Source) = ("policy.key", Source::Key);

const LINES: &[Line] = &[
    Line::warn("circuit opened", On::Change(&[OPEN], BY_ITSELF)).fields(&[
        FROM,
        TO,
        ("rule", Source::Detail(words::BY_RULE)),
        ("count", Source::Detail(words::COUNT)),
        ("breaker.failure_ratio", Source::Detail(words::FAILURE_RATIO)),
        ("breaker.slow_ratio", Source::Detail(words::SLOW_RATIO)),
        ("breaker.calls", Source::Detail(words::CALLS)),
        OPEN_FOR,
        CAUSE,
        ("error", Source::Detail(words::ERROR)),
        KEY,
    ]),
    Line::info("circuit half-open", On::Change(&[HALF_OPEN], BY_ITSELF))
        .fields(&[FROM, TO, REJECTED, CAUSE, KEY]),
    Line::info("circuit closed", On::Change(&[CLOSED], BY_ITSELF))
        .fields(&[FROM, TO, OPEN_FOR, REJECTED, CAUSE, KEY]),
    Line::warn("circuit forced", On::Change(&[], &[])).fields(&[FROM, TO, OPEN_FOR, REJECTED, CAUSE, KEY]),
    Line::warn("threshold passed", On::NoteOf(words::EXCEEDED, RULES)).fields(&[("rule", Source::Value)]),
    Line::debug("probe lost", On::Note(words::LEASE_EXPIRED)),
];
