//! A third party's kind, of which nothing here knows: its tables alone say what it exports.

use std::time::Duration;

use buttress_core::{
    Code, Event, KindData, Level, Metric, Note, Outcome, Row, Rows, Transition, Value, When, Word,
};
use buttress_metrics::{HandleMode, Metrics, OTHER};

use crate::{Seen, done, done_after, done_as, policy, sleep};

const AGED: Duration = Duration::from_millis(1050);

const SHUT: &Code = &Code::refused("GATE_SHUT");
const LATE: &Code = &Code::refused("GATE_LATE");
const BROKEN: &Code = &Code::timed_out("GATE_BROKEN");
const OF_NOBODY: &Code = &Code::refused("OF_NOBODY");
const STATES: &[Word] = &["shut", "open"];

const ENDED: &[Row] = &[
    ("passed", When::Done(&[Outcome::Success, Outcome::Ignored])),
    ("passed", When::DoneAs("jumped")),
    ("fell", When::DoneAs("fell")),
    ("fell", When::Done(&[Outcome::Failure, Outcome::Panicked])),
    ("refused", When::Refused),
    ("late", When::Code(&[LATE])),
];
const TOOK: &[Row] = &[("well", When::Done(&[Outcome::Success])), ("ill", When::Done(&[Outcome::Failure]))];

/// At one gate.
static GATE: KindData = KindData::new("gate").codes(&[SHUT, LATE, BROKEN]).states(STATES).metrics(&[
    Metric::new("gate_calls_total", Rows::Counters("result", ENDED), "Calls."),
    Metric::new("gate_refused_total", Rows::Counter(When::Refused), "Refusals."),
    Metric::new("gate_slow_total", Rows::Counter(When::Slow(&[Outcome::Success])), "Slow ones."),
    Metric::new("gate_would_refuse_total", Rows::Rare(When::Shadow), "Refusals in shadow mode."),
    Metric::new("gate_entered_total", Rows::Counter(When::Begin("entered")), "Entries."),
    Metric::new(
        "gate_kicked_total",
        Rows::Counters(
            "by",
            &[("horse", When::NoteOf("kicked", "horse")), ("mule", When::NoteOf("kicked", "mule"))],
        ),
        "Kicks.",
    ),
    Metric::new("gate_again_total", Rows::Counters("why", &[("rain", When::Attempt("rain"))]), "Tries."),
    Metric::new("gate_changes_total", Rows::Changes(&[("open", "shut")]), "Changes."),
    Metric::new("gate_state", Rows::OneHot, "The state."),
    Metric::new("gate_changed_timestamp_seconds", Rows::ChangedAt, "When.").seconds().stays(),
    Metric::new("gate_load_ratio", Rows::Level("load", &["open"]), "The load.").rests_at(f64::NAN),
    Metric::new("gate_weight_bytes", Rows::Level("weight", &[]), "The weight.").bytes().rests_at(7.0),
    Metric::new("gate_queue", Rows::LevelOf("queue", "side", &["left", "right"]), "Waiting."),
    Metric::new("gate_call_seconds", Rows::Elapsed("how", TOOK), "Times.").seconds().buckets(&[1.0]),
    Metric::new("gate_wait_seconds", Rows::Took("waited"), "Waits.").seconds().buckets(&[1.0]),
    Metric::new("gate_pause_seconds", Rows::Delays, "Pauses.").seconds().buckets(&[1.0]),
]);

/// At many gates by key: another static of the same name.
static GATES: KindData = KindData::new("gate").codes(&[SHUT, LATE, BROKEN]).states(STATES).metrics(&[
    Metric::new("gate_calls_total", Rows::Counters("result", ENDED), "Calls."),
    Metric::new("gate_keys", Rows::LevelOf("keys", "state", STATES), "Keys."),
]);

static DOOR: KindData = KindData::new("door").metrics(&[Metric::new(
    "door_calls_total",
    Rows::Counter(When::Done(&[Outcome::Success])),
    "Calls.",
)]);

fn seen() -> Seen {
    Seen::by_hand().and(&GATE).and(&GATES).and(&DOOR)
}

#[test]
fn endings_move_the_rows_they_are_listed_for() {
    let seen = seen();
    let _local = seen.0.set_local();
    let gate = policy(&GATE, "front", &Metrics::default());
    let calls = |result| seen.counter("gate_calls_total", &[("name", "front"), ("result", result)]);
    let all = || ["passed", "fell", "refused", "late"].map(calls);
    assert_eq!(all(), [0, 0, 0, 0]);
    gate.emit(done(Outcome::Success));
    gate.emit(done(Outcome::Ignored));
    gate.emit(done_as(Outcome::Success, "jumped")); // once, though two rows could be meant
    gate.emit(done_as(Outcome::Failure, "jumped"));
    assert_eq!(all(), [4, 0, 0, 0]);
    gate.emit(done(Outcome::Panicked));
    gate.emit(done_as(Outcome::Success, "fell"));
    gate.emit(done_as(Outcome::Failure, "a word of nobody's"));
    assert_eq!(all(), [4, 3, 0, 0]);
    gate.emit(done(Outcome::Cancelled)); // no row is for it
    assert_eq!(all(), [4, 3, 0, 0]);
}

#[test]
fn word_of_the_pattern_beats_the_outcome_in_its_own_metric_only() {
    let seen = seen();
    let _local = seen.0.set_local();
    let gate = policy(&GATE, "front", &Metrics::default());
    let elapsed = Some(Duration::from_secs(2));
    let end = |slow| Event::Done {
        outcome: Outcome::Success,
        result: "fell",
        elapsed,
        slow,
        attempts: 1,
        error: None,
    };
    gate.emit(end(false));
    gate.emit(end(true));
    assert_eq!(seen.counter("gate_calls_total", &[("result", "fell")]), 2);
    assert_eq!(seen.0.histogram("gate_call_seconds", &[("how", "well")]), [2.0, 2.0]);
    assert_eq!(seen.counter("gate_slow_total", &[]), 1);
}

#[test]
fn refusals_move_the_row_of_their_code_or_the_one_for_all_others() {
    let seen = seen();
    let _local = seen.0.set_local();
    let gate = policy(&GATE, "front", &Metrics::default());
    let count = || {
        let calls = |result| seen.counter("gate_calls_total", &[("result", result)]);
        (calls("refused"), calls("late"), seen.counter("gate_refused_total", &[]))
    };
    gate.refuse(SHUT, false);
    gate.refuse(LATE, false); // which the other metric does not single out
    gate.refuse(OF_NOBODY, false);
    assert_eq!(count(), (2, 1, 3));
    gate.refuse(BROKEN, false); // ends a call that was sent: `Done` tells it
    assert_eq!(count(), (2, 1, 3));
    let shadows = || seen.0.series().iter().filter(|one| one.name == "gate_would_refuse_total").count();
    assert_eq!(shadows(), 0); // begins when there is one
    gate.refuse(LATE, true);
    assert_eq!((shadows(), seen.counter("gate_would_refuse_total", &[])), (1, 1));
    assert_eq!(count(), (2, 1, 3));
}

#[test]
fn notes_and_attempts_move_what_they_are_listed_for() {
    let seen = seen();
    let _local = seen.0.set_local();
    let gate = policy(&GATE, "front", &Metrics::default());
    gate.note(Note::new("entered"));
    gate.note(Note::with("kicked", Value::Word("mule")));
    gate.note(Note::with("kicked", Value::Text("horse".into())));
    gate.note(Note::with("kicked", Value::Word("a beast of nobody's")));
    gate.note(Note::with("kicked", Value::Count(1)));
    gate.note(Note::new("kicked"));
    gate.note(Note::with("waited", Value::Time(Duration::from_millis(30))));
    gate.note(Note::with("waited", Value::Count(30)));
    gate.note(Note::new("a note of nobody's"));
    for reason in ["rain", "a reason of nobody's"] {
        gate.emit(Event::Attempt { n: 1, delay: Duration::from_secs(4), reason, error: None });
    }
    let kicked = |by| seen.counter("gate_kicked_total", &[("by", by)]);
    assert_eq!((kicked("horse"), kicked("mule")), (1, 1));
    assert_eq!((seen.counter("gate_entered_total", &[]), seen.counter("gate_again_total", &[])), (1, 1));
    assert_eq!(seen.0.histogram("gate_wait_seconds", &[]), [0.03]);
    assert_eq!(seen.0.histogram("gate_pause_seconds", &[]), [4.0, 4.0]);
}

#[test]
fn levels_and_changes_move_gauges_and_words_of_nobody_move_none() {
    let seen = seen();
    let _local = seen.0.set_local();
    let gate = policy(&GATE, "front", &Metrics::default());
    let of = |name, label: &[(&str, &str)]| seen.gauge(name, label);
    let state = || STATES.iter().map(|state| of("gate_state", &[("state", state)])).collect::<Vec<_>>();
    assert_eq!(state(), [None, None]); // nobody told it
    gate.level(Level::state("ajar"));
    assert_eq!(state(), [None, None]);
    gate.level(Level::state("open"));
    gate.level(Level::new("load", 0.5));
    gate.level(Level::new("a level of nobody's", 0.5));
    gate.level(Level::of("queue", "left", 2.0));
    gate.level(Level::of("queue", "behind", 3.0));
    assert_eq!(state(), [Some(0.0), Some(1.0)]);
    assert_eq!(of("gate_load_ratio", &[]), Some(0.5));
    assert_eq!(
        (of("gate_queue", &[("side", "left")]), of("gate_queue", &[("side", "right")])),
        (Some(2.0), None)
    );

    gate.change("open", "shut");
    assert_eq!((state(), of("gate_load_ratio", &[])), (vec![Some(1.0), Some(0.0)], Some(0.5)));
    gate.change("shut", "open");
    assert_eq!(state(), [Some(0.0), Some(1.0)]);
    assert!(of("gate_load_ratio", &[]).unwrap().is_nan());
    gate.change("open", "ajar");
    assert_eq!(state(), [Some(0.0), Some(1.0)]);
    let changed = |from, to| seen.counter("gate_changes_total", &[("from", from), ("to", to)]);
    assert_eq!((changed("open", "shut"), changed("shut", "open")), (1, 1));
    assert_eq!(seen.counter("gate_changes_total", &[]), 2);
}

#[test]
fn gauges_rest_as_the_table_says_when_the_last_policy_that_has_them_goes() {
    let seen = seen();
    let _local = seen.0.set_local();
    let metrics = Metrics::default();
    let (gate, twin) = (policy(&GATE, "front", &metrics), policy(&GATE, "front", &metrics));
    let keyed = policy(&GATES, "front", &metrics);
    let door = policy(&DOOR, "front", &metrics);
    gate.change("open", "shut");
    gate.level(Level::new("load", 0.5));
    gate.level(Level::new("weight", 80.0));
    twin.level(Level::state("open"));
    keyed.level(Level::of("keys", "open", 3.0));
    drop((gate, twin));
    let state = |state| seen.gauge("gate_state", &[("state", state)]);
    // The keyed one has kind and name too, and its levels are told now; it has no state of its own.
    assert_eq!((state("shut"), state("open")), (Some(0.0), Some(0.0)));
    assert_eq!(seen.gauge("gate_keys", &[("state", "open")]), Some(3.0));
    drop(keyed);
    assert_eq!(seen.gauge("gate_keys", &[("state", "open")]), Some(0.0));
    assert_eq!(seen.gauge("gate_keys", &[("state", "shut")]), None); // a series does not begin with the end
    drop(door);

    let gate = policy(&GATE, "front", &metrics);
    gate.level(Level::state("open"));
    gate.level(Level::new("load", 0.5));
    gate.level(Level::new("weight", 80.0));
    drop(gate);
    assert_eq!((state("shut"), state("open")), (Some(0.0), Some(0.0)));
    assert!(seen.gauge("gate_load_ratio", &[]).unwrap().is_nan());
    assert_eq!(seen.gauge("gate_weight_bytes", &[]), Some(7.0));
    assert!(seen.gauge("gate_changed_timestamp_seconds", &[]).unwrap() > 1.7e9);
}

#[test]
fn statics_of_one_name_that_overflow_are_counted_by_their_own_tables() {
    let seen = seen();
    let _local = seen.0.set_local();
    let metrics = Metrics::builder().max_names(1).build().unwrap();
    let first = policy(&DOOR, "first", &metrics);
    let gates: Vec<_> = (0..3).map(|n| policy(&GATE, &format!("gate-{n}"), &metrics)).collect();
    let keyed = policy(&GATES, "keyed", &metrics);
    gates.iter().chain([&keyed]).for_each(|gate| gate.emit(done(Outcome::Success)));
    gates[2].refuse(SHUT, false);
    keyed.refuse(SHUT, false);
    first.emit(done(Outcome::Success));
    assert_eq!(seen.counter("gate_calls_total", &[("name", OTHER), ("result", "passed")]), 4);
    assert_eq!(seen.counter("gate_calls_total", &[]), 6);
    assert_eq!(seen.counter("gate_refused_total", &[("name", OTHER)]), 1); // the keyed table has none
    assert_eq!(seen.counter("door_calls_total", &[("name", "first")]), 1);
}

#[test]
fn kind_that_comes_right_after_another_is_described_at_once() {
    let seen = seen();
    let _local = seen.0.set_local();
    let metrics = Metrics::builder().prefix("acme_").build().unwrap();
    let _door = policy(&DOOR, "front", &metrics);
    assert!(!seen.0.descriptions().contains_key("acme_gate_calls_total"));
    let _gate = policy(&GATE, "front", &metrics);
    let described = seen.0.descriptions();
    assert_eq!(described["acme_gate_calls_total"].text, "Calls.");
    assert_eq!(described["acme_gate_weight_bytes"].unit, Some(metrics::Unit::Bytes));
    assert_eq!(described["acme_gate_pause_seconds"].unit, Some(metrics::Unit::Seconds));
    let _keyed = policy(&GATES, "front", &metrics);
    assert!(seen.0.descriptions().contains_key("acme_gate_keys"));
}

#[test]
fn short_call_that_a_note_began_does_not_look_at_the_clock_again() {
    let seen = seen();
    let _local = seen.0.set_local();
    let gate = policy(&GATE, "front", &Metrics::default());
    let passed = || seen.counter("gate_calls_total", &[("result", "passed")]);
    assert!(seen.0.evict("gate_calls_total", &[]) > 0);
    sleep(AGED);
    gate.emit(done_after(Outcome::Success, Some(Duration::from_millis(1)))); // its beginning was not told
    assert_eq!(passed(), 0);
    gate.note(Note::new("entered"));
    gate.emit(done_after(Outcome::Success, Some(Duration::from_millis(1))));
    assert_eq!(passed(), 1);
    assert!(seen.0.evict("gate_calls_total", &[]) > 0);
    sleep(AGED);
    gate.emit(done_after(Outcome::Success, Some(Duration::from_secs(1)))); // a long one looks
    assert_eq!(passed(), 1);
}

#[test]
fn handles_per_call_are_made_for_each_move_and_begin_nothing_at_zero() {
    let (first, second) = (seen(), seen());
    let metrics = Metrics::builder().handle_mode(HandleMode::PerCall).build().unwrap();
    let gate = first.0.with_local(|| {
        let gate = policy(&GATE, "front", &metrics);
        gate.emit(done(Outcome::Success));
        gate
    });
    assert!(
        first.0.series().iter().all(|one| one.name == "gate_calls_total" || one.name.contains("build_info"))
    );
    assert_eq!(first.0.series().iter().filter(|one| one.name == "gate_calls_total").count(), 1);
    second.0.with_local(|| {
        gate.emit(done(Outcome::Success));
        gate.level(Level::state("open"));
        gate.emit(Event::Transition(&Transition::new("open", "shut", "wind")));
        gate.note(Note::with("waited", Value::Time(Duration::from_secs(1))));
    });
    let passed = |seen: &Seen| seen.counter("gate_calls_total", &[("result", "passed")]);
    assert_eq!((passed(&first), passed(&second)), (1, 1));
    assert_eq!(second.counter("gate_changes_total", &[("from", "open"), ("to", "shut")]), 1);
    assert_eq!(second.gauge("gate_state", &[("state", "shut")]), Some(1.0));
    assert_eq!(second.0.histogram("gate_wait_seconds", &[]), [1.0]);
}

#[test]
fn times_are_asked_for_only_by_kinds_that_have_a_histogram_of_calls() {
    let metrics = Metrics::default();
    let of = |kind| policy(kind, "front", &metrics);
    assert!(of(&GATE).is_timed());
    assert!(!of(&GATES).is_timed() && !of(&DOOR).is_timed());
    let metrics = Metrics::builder().histograms(false).build().unwrap();
    assert!(!policy(&GATE, "front", &metrics).is_timed());
    let recorder = policy(&GATE, "front", &metrics).recorder.unwrap();
    assert!(recorder.passive()); // misses nothing that other listeners raise
}

#[test]
fn table_is_sound() {
    assert_eq!(buttress_metrics::check(&[&GATE, &GATES, &DOOR]), Ok(()));
}

#[cfg(feature = "tracing")]
mod lines {
    use std::{
        fmt, io,
        sync::{Arc, Mutex},
    };

    use buttress_core::{KindData, Line, Name, Note, Observer, On, Outcome, Rejection, Source};
    use buttress_metrics::trace::Trace;
    use tracing::{Metadata, Subscriber, callsite::Identifier, span};
    use tracing_subscriber::EnvFilter;

    use super::*;

    const LINES: &[Line] = &[
        Line::warn("gate shut", On::Change(&["shut"], &["wind", "hand"])).fields(&[
            ("gate.from", Source::From),
            ("cause", Source::Cause),
            ("gate.angle", Source::Detail("angle")),
            ("gate.open_ms", Source::Detail("open_for")),
            ("gate.share", Source::Detail("share")),
            ("gate.by", Source::Detail("by")),
        ]),
        Line::info("gate moved", On::Change(&[], &[])).fields(&[("gate.to", Source::To)]),
        Line::error("gate fell", On::DoneAs("fell")).fields(&[
            ("took_ms", Source::Elapsed),
            ("error", Source::Error),
            ("cause", Source::Cause), // which an ending has not
        ]),
        Line::trace("gate passed", On::Done(&[Outcome::Success])),
        Line::warn("gate kicked", On::NoteOf("kicked", &["horse", "mule"]))
            .fields(&[("by", Source::Value), ("suppressed", Source::Suppressed)])
            .once_a_second(),
        Line::warn("gate creaks", On::Note("creaks")).once_a_second(),
        Line::debug("something kicked", On::Note("kicked")).fields(&[("times", Source::Value)]),
        Line::info("gate is as new", On::Note(Note::RESET)), // in place of the common one
    ];
    static GATE: KindData = KindData::new("gate").states(STATES).lines(LINES);
    static GATES: KindData = KindData::new("gate").states(STATES).lines(LINES);

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of `events` under a filter.
    fn page(filter: &str, events: &[Event<'_>]) -> Vec<String> {
        let page = Page::default();
        let to = page.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || to.clone())
            .with_ansi(false)
            .without_time()
            .with_env_filter(EnvFilter::new(filter))
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let gate = Trace::default().attach(&GATE, &Name::new("front")).unwrap();
            assert!(gate.passive());
            events.iter().for_each(|event| gate.record(event));
        });
        let page = page.0.lock().unwrap();
        String::from_utf8_lossy(&page).lines().map(|line| line.trim().to_owned()).collect()
    }

    fn change(cause: Word) -> Transition {
        Transition::new("open", "shut", cause)
            .with("angle", Value::Count(0))
            .with("open_for", Value::Time(Duration::from_millis(2500)))
            .with("share", Value::Ratio(0.5))
            .with("by", Value::Text("a goat".into()))
    }

    #[test]
    fn kind_has_a_target_of_its_own_that_filters_know() {
        let (wind, rust) = (change("wind"), change("rust"));
        let events = [Event::Transition(&wind), Event::Transition(&rust)];
        let shut = "WARN buttress::gate: gate shut policy.name=\"front\" policy.kind=\"gate\" gate.from=\"open\" \
                    cause=\"wind\" gate.angle=0 gate.open_ms=2500 gate.share=0.5 gate.by=\"a goat\"";
        let moved =
            "INFO buttress::gate: gate moved policy.name=\"front\" policy.kind=\"gate\" gate.to=\"shut\"";
        assert_eq!(page("off,buttress::gate=warn", &events), [shut]);
        assert_eq!(page("off,buttress::gate=info", &events), [shut, moved]);
        assert_eq!(page("info,buttress::gate=off", &events), [""; 0]);
        assert_eq!(page("off,buttress::gat=info", &events), [shut, moved]); // a target is a prefix
    }

    #[test]
    fn first_line_that_is_for_an_event_is_written_and_fields_without_a_value_are_left_out() {
        let error = buttress_core::BoxError::from("a hinge");
        let fell = Event::Done {
            outcome: Outcome::Failure,
            result: "fell",
            elapsed: None,
            slow: false,
            attempts: 1,
            error: Some(&*error),
        };
        let name = Name::new("front");
        let refused = Rejection::new(SHUT, &name);
        let told = page(
            "off,buttress::gate=trace",
            &[
                fell,
                done(Outcome::Success),
                done(Outcome::Ignored), // no line is for it
                done(Outcome::TimedOut),
                Event::Refused { rejection: &refused, shadow: true },
                Event::Note(&Note::new(Note::RESET)),
                Event::Note(&Note::new(Note::RECONFIGURED)),
                Event::Note(&Note::with("kicked", Value::Count(3))),
                Event::Level(Level::state("open")),
            ],
        );
        let policy = "policy.name=\"front\" policy.kind=\"gate\"";
        assert_eq!(
            told,
            [
                format!("ERROR buttress::gate: gate fell {policy} error=a hinge"),
                format!("TRACE buttress::gate: gate passed {policy}"),
                format!("DEBUG buttress::gate: timed out {policy}"),
                format!("DEBUG buttress::gate: refused {policy} code=\"GATE_SHUT\" shadow=true"),
                format!("INFO buttress::gate: gate is as new {policy}"),
                format!("INFO buttress::gate: policy reconfigured {policy}"),
                format!("DEBUG buttress::gate: something kicked {policy} times=3"),
            ]
        );
    }

    #[test]
    fn each_line_of_a_policy_has_a_second_of_its_own_for_each_reason() {
        let kicked = |by| Note::with("kicked", Value::Word(by));
        let (horse, mule, creaks) = (kicked("horse"), kicked("mule"), Note::new("creaks"));
        let events = [&horse, &mule, &creaks, &creaks, &horse, &mule].map(Event::Note);
        let told = page("off,buttress::gate=debug", &events);
        let policy = "policy.name=\"front\" policy.kind=\"gate\"";
        assert_eq!(
            told,
            [
                format!("WARN buttress::gate: gate kicked {policy} by=\"horse\" suppressed=0"),
                format!("WARN buttress::gate: gate kicked {policy} by=\"mule\" suppressed=0"),
                format!("WARN buttress::gate: gate creaks {policy}"),
            ]
        );
    }

    /// Remembers the call sites of lines.
    #[derive(Clone, Default)]
    struct Sites(Arc<Mutex<Vec<Identifier>>>);

    impl Subscriber for Sites {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "buttress::gate"
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            panic!("no span is opened")
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, event: &tracing::Event<'_>) {
            self.0.lock().unwrap().push(event.metadata().callsite());
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    #[test]
    fn line_of_a_kind_has_one_call_site_however_many_policies_and_statics_there_are() {
        let sites = Sites::default();
        tracing::subscriber::with_default(sites.clone(), || {
            for kind in [&GATE, &GATE, &GATES] {
                let gate = Trace::default().attach(kind, &Name::new("front")).unwrap();
                gate.record(&Event::Note(&Note::new("creaks")));
                gate.record(&Event::Note(&Note::new(Note::RESET)));
            }
        });
        let sites = sites.0.lock().unwrap();
        assert_eq!(sites.len(), 6);
        assert!(sites.chunks(2).all(|two| two == &sites[..2]) && sites[0] != sites[1]);
    }

    #[test]
    fn fields_that_are_too_many_are_left_out() {
        const MANY: &[(&str, Source)] = &[
            ("a", Source::From),
            ("b", Source::From),
            ("c", Source::From),
            ("d", Source::From),
            ("e", Source::From),
            ("f", Source::From),
            ("g", Source::From),
            ("h", Source::From),
            ("i", Source::From),
            ("j", Source::From),
            ("k", Source::From),
            ("l", Source::From),
            ("m", Source::From),
        ];
        static WIDE: KindData =
            KindData::new("wide").lines(&[Line::warn("wide", On::Change(&[], &[])).fields(MANY)]);
        struct Last(Arc<Mutex<Vec<&'static str>>>);
        impl tracing::field::Visit for Last {
            fn record_debug(&mut self, field: &tracing::field::Field, _: &dyn fmt::Debug) {
                self.0.lock().unwrap().push(field.name());
            }
        }
        #[derive(Clone, Default)]
        struct Names(Arc<Mutex<Vec<&'static str>>>);
        impl<S: Subscriber> tracing_subscriber::Layer<S> for Names {
            fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
                event.record(&mut Last(self.0.clone()));
            }
        }
        use tracing_subscriber::layer::SubscriberExt;
        let names = Names::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(names.clone()), || {
            let wide = Trace::default().attach(&WIDE, &Name::new("front")).unwrap();
            wide.record(&Event::Transition(&change("wind")));
        });
        let names = names.0.lock().unwrap();
        assert_eq!(
            *names,
            [
                "message",
                "policy.name",
                "policy.kind",
                "a",
                "b",
                "c",
                "d",
                "e",
                "f",
                "g",
                "h",
                "i",
                "j",
                "k",
                "l"
            ]
        );
        assert!(buttress_metrics::check(&[&WIDE]).unwrap_err().contains("more than 12 fields"));
    }
}
