use std::time::Duration;

use buttress_core::{
    Code, Event, KindData, Level, Name, Note, Observer, Outcome, Recorder, Rejection, Transition, Value,
};
use buttress_test::{Recording, What};

const OPEN: &Code = &Code::refused("CIRCUIT_OPEN");

static BREAKER: KindData = KindData::new("breaker");
static RETRY: KindData = KindData::new("retry");

fn tell_everything(recorder: &dyn Recorder, name: &Name) {
    let rejection = Rejection::new(OPEN, name);
    let error = std::io::Error::other("boom");
    for event in [
        Event::Attempt { n: 1, delay: Duration::from_secs(1), reason: "error", error: Some(&error) },
        Event::Note(&Note::with("stopped", Value::Word("budget"))),
        Event::Done {
            outcome: Outcome::Failure,
            result: "exhausted",
            elapsed: None,
            slow: false,
            attempts: 2,
            error: None,
        },
        Event::Transition(&Transition::new("closed", "open", "rule")),
        Event::Level(Level::new("failure_ratio", 0.5)),
        Event::Refused { rejection: &rejection, shadow: false },
        Event::Refused { rejection: &rejection, shadow: true },
    ] {
        recorder.record(&event);
    }
}

#[test]
fn every_sort_of_event_is_kept_and_found() {
    let recording = Recording::new();
    let pay = Name::new("pay");
    tell_everything(&*recording.attach(&BREAKER, &pay).unwrap(), &pay);
    let ship = recording.attach(&RETRY, &Name::new("ship")).unwrap();
    ship.record(&Event::Note(&Note::new(Note::RESET)));

    let told = recording.policy("pay");
    assert_eq!(told.attempts(), [(1, Duration::from_secs(1))]);
    assert_eq!(told.stops(), ["budget"]);
    assert_eq!((told.outcomes(), told.results()), (vec![Outcome::Failure], vec!["exhausted"]));
    assert_eq!((told.transitions(), told.causes()), (vec![("closed", "open")], vec!["rule"]));
    assert_eq!(told.levels("failure_ratio"), [0.5]);
    assert_eq!(told.refusals()[0].code(), "CIRCUIT_OPEN");
    assert_eq!((told.refusals().len(), told.shadow_refusals().len()), (1, 1));
    let boom = |what: &What| matches!(what, What::Attempt { error: Some(text), .. } if text == "boom");
    assert_eq!(told.count(boom), 1);

    assert_eq!(recording.events().len(), 8);
    assert_eq!(recording.kind(&RETRY).notes(), [Note::new(Note::RESET)]);
    assert_eq!(recording.noted("stopped"), [Some(Value::Word("budget"))]);
    assert_eq!(recording.take().len(), 8);
    assert!(recording.events().is_empty());
}

#[test]
fn time_is_asked_for_only_when_wanted() {
    let timed = |recording: Recording| recording.attach(&BREAKER, &Name::new("p")).unwrap().timed();
    assert!(!timed(Recording::new()));
    assert!(timed(Recording::new().timed()));
}
