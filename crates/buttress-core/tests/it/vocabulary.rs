//! The words of events: what they carry, and how it is read.

use std::{collections::HashSet, sync::Arc, time::Duration};

use buttress_core::{
    Class, Code, Event, Kind, KindData, Level, Name, Note, Outcome, OwnedEvent, Rejection, Transition, Value,
};

use crate::gate::SHUT;

#[test]
fn value_is_read_only_as_what_it_is() {
    let second = Duration::from_secs(1);
    let read = |value: &Value| {
        (value.as_count(), value.as_ratio(), value.as_time(), value.as_text().map(str::to_owned))
    };
    assert_eq!(read(&Value::Count(7)), (Some(7), None, None, None));
    assert_eq!(read(&Value::Ratio(0.5)), (None, Some(0.5), None, None));
    assert_eq!(read(&Value::Time(second)), (None, None, Some(second), None));
    assert_eq!(read(&Value::Word("rule")), (None, None, None, Some("rule".into())));
    assert_eq!(read(&Value::Text(Arc::from("boom"))), (None, None, None, Some("boom".into())));
}

#[test]
fn level_is_of_one_quantity_or_of_one_of_several() {
    let depth = Level::new("depth", 3.0);
    assert_eq!((depth.what, depth.of, depth.value), ("depth", None, 3.0));
    let keys = Level::of("keys", "open", 2.0);
    assert_eq!((keys.what, keys.of, keys.value), ("keys", Some("open"), 2.0));
    assert_eq!(Level::state("shut"), Level::of(Level::STATE, "shut", 1.0));
    // None is not 0, and it is not equal to itself.
    assert_ne!(Level::new("ratio", f64::NAN), Level::new("ratio", f64::NAN));
}

#[test]
fn note_has_a_value_if_there_is_more_to_say() {
    let reset = Note::new(Note::RESET);
    assert_eq!((reset.what, &reset.value), ("reset", &None));
    let stopped = Note::with("stopped", Value::Word("budget"));
    assert_eq!((stopped.what, stopped.value), ("stopped", Some(Value::Word("budget"))));
}

#[test]
fn transition_tells_what_was_known() {
    let bare = Transition::new("closed", "open", "rule");
    assert_eq!((bare.from, bare.to, bare.cause, bare.get("failures")), ("closed", "open", "rule", None));
    let told = bare.clone().with("failures", Value::Count(5)).with("last_error", Value::Text("boom".into()));
    assert_eq!(told.get("failures"), Some(&Value::Count(5)));
    assert_eq!(told.get("last_error").and_then(Value::as_text), Some("boom"));
    assert_ne!(told, bare);
}

#[test]
fn kinds_are_the_same_if_their_names_are() {
    static PLAIN: KindData = KindData::new("gate").codes(&[SHUT]).states(&["shut", "open"]);
    static KEYED: KindData = KindData::new("gate");
    static DOOR: KindData = KindData::new("door").codes(&[SHUT]);
    let (plain, keyed, door): (Kind, Kind, Kind) = (&PLAIN, &KEYED, &DOOR);
    assert_eq!(plain, keyed);
    assert_ne!(plain, door);
    assert_eq!(HashSet::from([plain, keyed, door]).len(), 2);
    assert_eq!(format!("{plain:?}"), "Kind(\"gate\")");
}

#[test]
fn code_says_what_hosts_and_policies_make_of_it() {
    let says = |code: &Code| (code.class(), code.is_sent(), code.is_slow(), code.is_permanent());
    assert_eq!(says(&Code::refused("A")), (Class::Refused, false, false, true));
    assert_eq!(says(&Code::refused("A").sent()), (Class::Refused, true, false, true));
    assert_eq!(says(&Code::refused("A").slow()), (Class::Refused, false, true, true));
    assert_eq!(says(&Code::too_many("A")), (Class::TooMany, false, false, false));
    assert_eq!(says(&Code::timed_out("A")), (Class::TimedOut, true, true, false));
}

#[test]
fn code_compares_with_text_as_it_stands_in_a_settings_file() {
    let listed = ["CIRCUIT_OPEN", "GATE_SHUT"];
    assert!(listed.iter().any(|text| *SHUT == *text));
    assert_eq!((SHUT.to_string(), format!("{SHUT:>10}|")), ("GATE_SHUT".into(), " GATE_SHUT|".into()));
    // The same text with another meaning is another code.
    assert_ne!(*SHUT, Code::too_many("GATE_SHUT"));
}

#[test]
fn owned_event_is_a_copy_and_there_is_none_of_what_every_call_tells() {
    let rejection = Rejection::new(SHUT, &Name::new("pay"));
    let (note, change) = (Note::new(Note::RESET), Transition::new("open", "shut", "manual"));
    let refused = OwnedEvent::Refused { rejection: rejection.clone(), shadow: true };
    for (event, owned) in [
        (Event::Refused { rejection: &rejection, shadow: true }, refused),
        (Event::Transition(&change), OwnedEvent::Transition(change.clone())),
        (Event::Note(&note), OwnedEvent::Note(note.clone())),
    ] {
        assert_eq!(OwnedEvent::of(&event), Some(owned.clone()));
        assert_eq!(OwnedEvent::of(&owned.as_event()), Some(owned));
    }
    let outcome = Outcome::Success;
    let done = Event::Done {
        outcome,
        result: outcome.as_str(),
        elapsed: None,
        slow: false,
        attempts: 1,
        error: None,
    };
    let attempt = Event::Attempt { n: 1, delay: Duration::ZERO, reason: "error", error: None };
    for event in [done, attempt, Event::Level(Level::state("shut"))] {
        assert_eq!(OwnedEvent::of(&event), None);
    }
}
