use std::time::Duration;

use buttress_core::{
    Emitter, Event, Name, Outcome, PolicyKind, Rejection,
    observe::{AttemptReason, Cause, Level, Note, StopReason, TransitionDetail},
};
use buttress_test::{Recording, What};

fn tell_everything(emitter: &Emitter) {
    let rejection = Rejection::new("CIRCUIT_OPEN", emitter.name());
    let detail = TransitionDetail::default();
    let error = std::io::Error::other("boom");
    let (second, reason) = (Duration::from_secs(1), AttemptReason::Error);
    for event in [
        Event::Attempt { n: 1, delay: second, reason, error: Some(&error) },
        Event::Note(Note::Stopped(StopReason::Budget)),
        Event::Done { outcome: Outcome::Failure, elapsed: None, slow: false, attempts: 2, error: None },
        Event::Transition { from: "closed", to: "open", cause: Cause::Rule, detail },
        Event::Level { what: Level::FailureRatio, value: 0.5 },
        Event::Refused { rejection: &rejection, shadow: false },
        Event::Refused { rejection: &rejection, shadow: true },
    ] {
        emitter.emit(event);
    }
}

// SX-03
#[test]
fn every_sort_of_event_is_kept_and_found() {
    let recording = Recording::new();
    let pay = Emitter::new(PolicyKind::Breaker, Name::new("pay"));
    let ship = Emitter::new(PolicyKind::Retry, Name::new("ship"));
    pay.observe(&recording);
    ship.observe(&recording);
    tell_everything(&pay);
    ship.emit(Event::Note(Note::Reset));

    let told = recording.policy("pay");
    assert_eq!(told.attempts(), [(1, Duration::from_secs(1))]);
    assert_eq!(told.stops(), [StopReason::Budget]);
    assert_eq!(told.outcomes(), [Outcome::Failure]);
    assert_eq!((told.transitions(), told.causes()), (vec![("closed", "open")], vec![Cause::Rule]));
    assert_eq!(told.levels(Level::FailureRatio), [0.5]);
    assert_eq!(told.refusals()[0].code(), "CIRCUIT_OPEN");
    assert_eq!((told.refusals().len(), told.shadow_refusals().len()), (1, 1));
    let boom = |what: &What| matches!(what, What::Attempt { error: Some(text), .. } if text == "boom");
    assert_eq!(told.count(boom), 1);

    assert_eq!(recording.events().len(), 8);
    assert_eq!(recording.kind(PolicyKind::Retry).notes(), [Note::Reset]);
    assert_eq!(recording.take().len(), 8);
    assert!(recording.events().is_empty());
}

#[test]
fn time_is_asked_for_only_when_wanted() {
    let plain = Emitter::new(PolicyKind::Breaker, Name::new("plain"));
    plain.observe(&Recording::new());
    assert!(!plain.is_timed());
    let timed = Emitter::new(PolicyKind::Breaker, Name::new("timed"));
    timed.observe(&Recording::new().timed());
    assert!(timed.is_timed());
}
