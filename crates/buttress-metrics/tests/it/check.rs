use buttress_core::{Code, Kind, KindData, Line, Metric, On, Outcome, Rows, Source, When};
use buttress_metrics::check;

const SHUT: &Code = &Code::refused("GATE_SHUT");
const THEIRS: &Code = &Code::refused("THEIRS");

fn counter(name: &'static str, rows: Rows) -> Metric {
    Metric::new(name, rows, "Something.")
}

/// A kind with this metric alone.
fn with(metric: Metric) -> Kind {
    let metrics = Box::leak(Box::new([metric]));
    Box::leak(Box::new(KindData::new("gate").codes(&[SHUT]).states(&["shut", "open"]).metrics(metrics)))
}

#[track_caller]
fn is_faulty(metric: Metric, faults: &[&str]) {
    let name = metric.name;
    let expected: Vec<_> = faults.iter().map(|fault| format!("gate: metric {name}: {fault}")).collect();
    assert_eq!(check(&[with(metric)]), Err(expected.join("\n")));
}

#[test]
fn sound_tables_have_no_faults() {
    let rows = Rows::Counters(
        "result",
        &[
            ("success", When::Done(&[Outcome::Success])),
            ("failure", When::Done(&[Outcome::Failure])),
            ("failure", When::DoneAs("worse")),
            ("shut", When::Code(&[SHUT])),
            ("refused", When::Refused),
        ],
    );
    assert_eq!(check(&[with(counter("gate_calls_total", rows))]), Ok(()));
    assert_eq!(check(&[]), Ok(()));
}

#[test]
fn names_and_helps_are_checked() {
    let rows = Rows::Counter(When::Refused);
    is_faulty(Metric::new("gate_total", rows, ""), &["it has no help"]);
    is_faulty(counter("gate", rows), &["its name must end in _total"]);
    is_faulty(counter("gate_total", Rows::OneHot), &["only a counter ends in _total"]);
    is_faulty(counter("gate_time_total", rows).seconds(), &["its name must end in its unit"]);
    assert_eq!(check(&[with(counter("gate_time_seconds_total", rows).seconds())]), Ok(()));
    let name = "its name must have letters, digits, `_` and `:` only, and no digit first";
    is_faulty(counter("gate-shut_total", rows), &[name]);
    is_faulty(counter("1_total", rows), &[name]);
    is_faulty(counter("buttress_build_info", Rows::ChangedAt), &["its name is that of buttress-metrics"]);
}

#[test]
fn histograms_have_buckets_and_a_unit_and_nothing_else_has_buckets() {
    let buckets = "buckets belong to a histogram, and a histogram has some";
    is_faulty(counter("gate_wait_seconds", Rows::Delays).seconds(), &[buckets]);
    is_faulty(counter("gate_total", Rows::Counter(When::Refused)).buckets(&[1.0]), &[buckets]);
    let waits = || counter("gate_wait_seconds", Rows::Took("waited"));
    is_faulty(waits().buckets(&[1.0]), &["a histogram has a unit"]);
    is_faulty(waits().seconds().buckets(&[1.0, 1.0]), &["its buckets must ascend"]);
    assert_eq!(check(&[with(waits().seconds().buckets(Metric::WAITS))]), Ok(()));
    let rows = Rows::Elapsed("result", &[("kicked", When::Note("kicked"))]);
    let kicks = counter("gate_call_seconds", rows).seconds().buckets(Metric::DURATIONS);
    is_faulty(kicks, &["only calls take time"]);
}

#[test]
fn labels_states_and_codes_are_the_kinds_own() {
    let rows: &[_] = &[("success", When::Done(&[Outcome::Success]))];
    let label = "its label's key must be a word, and not `name`";
    is_faulty(counter("gate_total", Rows::Counters("name", rows)), &[label]);
    is_faulty(counter("gate_total", Rows::Counters("the result", rows)), &[label]);
    is_faulty(counter("gate_total", Rows::Counters("result", &[])), &["its label has no values"]);
    is_faulty(counter("gate_keys", Rows::LevelOf("keys", "side", &[])), &["its label has no values"]);
    is_faulty(
        counter("gate_total", Rows::Changes(&[("shut", "ajar")])),
        &["\"ajar\" is no state of the kind"],
    );
    is_faulty(counter("gate_load", Rows::Level("load", &["ajar"])), &["\"ajar\" is no state of the kind"]);
    let codes = When::Code(&[SHUT, THEIRS]);
    is_faulty(counter("gate_total", Rows::Counter(codes)), &["THEIRS is no code of the kind"]);
    static STATELESS: KindData =
        KindData::new("gate").metrics(&[Metric::new("gate_state", Rows::OneHot, "It.")]);
    assert_eq!(check(&[&STATELESS]), Err("gate: metric gate_state: its label has no values".into()));
}

#[test]
fn no_two_rows_of_a_metric_are_for_one_event() {
    let two = |one, other| {
        counter("gate_total", Rows::Counters("result", Box::leak(Box::new([("a", one), ("b", other)]))))
    };
    let success = When::Done(&[Outcome::Success]);
    let both = When::Done(&[Outcome::Failure, Outcome::Success]);
    is_faulty(two(success, both), &["two rows are for the outcome success"]);
    is_faulty(two(success, When::Slow(&[Outcome::Success])), &["two rows are for the outcome success"]);
    is_faulty(two(When::DoneAs("x"), When::DoneAs("x")), &["two rows are for the result x"]);
    is_faulty(two(When::Refused, When::Refused), &["two rows are for refusals"]);
    is_faulty(two(When::Code(&[SHUT]), When::Code(&[SHUT])), &["two rows are for the code GATE_SHUT"]);
    is_faulty(two(When::Shadow, When::Shadow), &["two rows are for shadow mode"]);
    is_faulty(two(When::Note("n"), When::Begin("n")), &["two rows are for note n"]);
    is_faulty(two(When::Note("n"), When::NoteOf("n", "x")), &["two rows are for note n"]);
    is_faulty(two(When::NoteOf("n", "x"), When::NoteOf("n", "x")), &["two rows are for note n of x"]);
    is_faulty(two(When::Attempt("rain"), When::Attempt("rain")), &["two rows are for attempts for rain"]);
    assert_eq!(check(&[with(two(When::NoteOf("n", "x"), When::NoteOf("n", "y")))]), Ok(()));
}

#[test]
fn names_are_one_kinds_and_mean_one_thing() {
    const CALLS: Metric = Metric::new("calls_total", Rows::Counter(When::Refused), "Calls.");
    static GATE: KindData = KindData::new("gate").metrics(&[CALLS]);
    static GATES: KindData = KindData::new("gate").metrics(&[CALLS]);
    static DOOR: KindData = KindData::new("door").metrics(&[CALLS]);
    static OTHER: KindData =
        KindData::new("gate").metrics(&[Metric::new("calls_total", Rows::Counter(When::Shadow), "Others.")]);
    assert_eq!(check(&[&GATE, &GATES]), Ok(()));
    let faults = check(&[&GATE, &DOOR]).unwrap_err();
    assert_eq!(
        faults,
        "gate: metric calls_total: door has it too\ndoor: metric calls_total: gate has it too"
    );
    static TWICE: KindData = KindData::new("gate").metrics(&[CALLS, CALLS]);
    let faults = check(&[&TWICE]).unwrap_err();
    assert_eq!(faults.lines().next(), Some("gate: metric calls_total: the kind has it twice"));
    let faults = check(&[&GATE, &OTHER]).unwrap_err();
    assert_eq!(faults.lines().next(), Some("gate: metric calls_total: the kind has it in two ways"));
}

#[test]
fn lines_say_something_in_fields_of_different_names() {
    static GATE: KindData = KindData::new("gate").lines(&[
        Line::warn("", On::Refused),
        Line::info("gate moved", On::Change(&["ajar"], &[])),
        Line::info("gate shut", On::Note("shut")).fields(&[
            ("value", Source::Value),
            ("value", Source::Suppressed),
            ("policy.name", Source::Value),
            ("", Source::Value),
        ]),
    ]);
    let faults = check(&[&GATE]).unwrap_err();
    assert_eq!(
        faults.lines().collect::<Vec<_>>(),
        [
            "gate: line \"\": it says nothing",
            "gate: line \"gate moved\": \"ajar\" is no state of the kind",
            "gate: line \"gate shut\": field \"value\" is there twice, or has no name",
            "gate: line \"gate shut\": field \"policy.name\" is there twice, or has no name",
            "gate: line \"gate shut\": field \"\" is there twice, or has no name",
        ]
    );
}
