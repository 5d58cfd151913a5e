use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_core::{
    BoxError, Emitter, Event, Name, Outcome, PolicyKind, Rejection, RejectionKind,
    observe::{AttemptReason, Cause, Note, StopReason, TransitionDetail},
};
use buttress_metrics::trace::Trace;
use tracing::{
    Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// One log line.
#[derive(Clone, Debug, Default)]
struct Line {
    level: String,
    target: String,
    fields: BTreeMap<String, String>,
}

impl Line {
    fn head(&self) -> (&str, &str, &str) {
        (&self.level, &self.target, &self.fields["message"])
    }

    fn field(&self, key: &str) -> Option<&str> {
        self.fields.get(key).map(String::as_str)
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name().to_owned(), value.to_owned());
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Line>>>);

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("buttress")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        panic!("no span is opened around calls");
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let meta = event.metadata();
        let mut line = Line {
            level: meta.level().to_string(),
            target: meta.target().to_owned(),
            fields: BTreeMap::new(),
        };
        event.record(&mut line);
        self.0.lock().unwrap().push(line);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// The lines of `events`, told by one policy.
fn lines(kind: PolicyKind, events: &[Event<'_>]) -> Vec<Line> {
    let log = Log::default();
    tracing::subscriber::with_default(log.clone(), || {
        let policy = Emitter::new(kind, Name::new("payments"));
        policy.observe(&Trace::default());
        events.iter().for_each(|event| policy.emit(*event));
    });
    let lines = log.0.lock().unwrap().clone();
    for line in &lines {
        assert_eq!(line.field("policy.name"), Some("payments"));
        assert_eq!(line.field("policy.kind"), Some(kind.as_str()));
    }
    lines
}

fn detail() -> TransitionDetail {
    let mut detail = TransitionDetail::default();
    detail.calls = 20;
    detail.failure_ratio = Some(0.75);
    detail.open_for = Some(Duration::from_secs(5));
    detail.rejected = 42;
    detail
}

fn transition(from: &'static str, to: &'static str, cause: Cause) -> Event<'static> {
    Event::Transition { from, to, cause, detail: detail() }
}

// ux §1.5: opened WARN, half-open and closed INFO, forced WARN
#[test]
fn transitions_are_told_with_what_was_known() {
    let told = lines(
        PolicyKind::Breaker,
        &[
            transition("closed", "open", Cause::Rule),
            transition("open", "half_open", Cause::Rule),
            transition("half_open", "closed", Cause::Rule),
            transition("closed", "open", Cause::Manual),
            transition("open", "isolated", Cause::Manual),
            transition("isolated", "disabled", Cause::Reload),
        ],
    );
    let heads: Vec<_> = told.iter().map(Line::head).collect();
    let target = "buttress::breaker";
    assert_eq!(
        heads,
        [
            ("WARN", target, "circuit opened"),
            ("INFO", target, "circuit half-open"),
            ("INFO", target, "circuit closed"),
            ("WARN", target, "circuit forced"),
            ("WARN", target, "circuit forced"),
            ("WARN", target, "circuit forced"),
        ]
    );
    let opened = &told[0];
    assert_eq!((opened.field("breaker.from"), opened.field("breaker.to")), (Some("closed"), Some("open")));
    assert_eq!(opened.field("breaker.failure_ratio"), Some("0.75"));
    assert_eq!(opened.field("breaker.slow_ratio"), None); // there is no such rule
    assert_eq!(opened.field("breaker.calls"), Some("20"));
    assert_eq!(opened.field("breaker.open_for_ms"), Some("5000"));
    assert_eq!(opened.field("cause"), Some("auto"));
    let closed = &told[2];
    assert_eq!(closed.field("breaker.rejected_while_open"), Some("42"));
    assert_eq!(closed.field("breaker.open_for_ms"), Some("5000"));
    assert_eq!(told[3].field("cause"), Some("manual"));
    assert_eq!(told[5].field("cause"), Some("reload"));
}

#[test]
fn what_operators_do_is_told_at_warn_and_new_settings_at_info() {
    let told = lines(
        PolicyKind::Bulkhead,
        &[
            Event::Note(Note::Reset),
            Event::Note(Note::QueueCleared(7)),
            Event::Note(Note::Exceeded("failure_rate")),
            Event::Note(Note::Reconfigured),
        ],
    );
    let heads: Vec<_> = told.iter().map(Line::head).collect();
    let target = "buttress::bulkhead";
    assert_eq!(
        heads,
        [
            ("WARN", target, "policy reset"),
            ("WARN", target, "queue cleared"),
            ("WARN", target, "threshold passed"),
            ("INFO", target, "policy reconfigured"),
        ]
    );
    assert_eq!(told[1].field("count"), Some("7"));
    assert_eq!(told[2].field("rule"), Some("failure_rate"));
}

#[test]
fn attempts_are_told_at_debug_with_their_error() {
    let error = BoxError::from("connection reset");
    let told = lines(
        PolicyKind::Retry,
        &[Event::Attempt {
            n: 2,
            delay: Duration::from_millis(150),
            reason: AttemptReason::Error,
            error: Some(&*error),
        }],
    );
    assert_eq!(told[0].head(), ("DEBUG", "buttress::retry", "attempt failed"));
    assert_eq!(told[0].field("attempt"), Some("2"));
    assert_eq!(told[0].field("delay_ms"), Some("150"));
    assert_eq!(told[0].field("reason"), Some("error"));
    assert!(told[0].field("error").unwrap().contains("connection reset"));
}

// ux §1.5: rate-limited to one a second and policy, with `suppressed`
#[test]
fn exhausted_retries_are_told_once_a_second_with_how_many_were_not() {
    let log = Log::default();
    tracing::subscriber::with_default(log.clone(), || {
        let policies = ["payments", "search"].map(|name| {
            let policy = Emitter::new(PolicyKind::Retry, Name::new(name));
            policy.observe(&Trace::default());
            policy
        });
        let exhausted = Event::Note(Note::Stopped(StopReason::MaxAttempts));
        for policy in &policies {
            (0..100).for_each(|_| policy.emit(exhausted));
        }
        crate::sleep(Duration::from_millis(1050));
        policies[0].emit(Event::Note(Note::Stopped(StopReason::Budget)));
        policies[0].emit(Event::Note(Note::Stopped(StopReason::NotRetryable)));
    });
    let told = log.0.lock().unwrap().clone();
    let shown: Vec<_> = told
        .iter()
        .map(|line| (line.head().0, line.head().2, line.field("policy.name"), line.field("suppressed")))
        .collect();
    assert_eq!(
        shown,
        [
            ("WARN", "retries exhausted", Some("payments"), Some("0")),
            ("WARN", "retries exhausted", Some("search"), Some("0")),
            ("WARN", "retries exhausted", Some("payments"), Some("99")),
            ("DEBUG", "not retried", Some("payments"), None),
        ]
    );
    assert_eq!(told[2].field("reason"), Some("budget"));
}

// ux §1.5: nothing that may happen with every call is above DEBUG, but a fallback that failed
#[test]
fn refusals_timeouts_and_fallbacks_are_told_at_debug_and_a_failed_fallback_at_error() {
    let why = Rejection::new(RejectionKind::CircuitOpen, &Name::new("payments"))
        .with_retry_after(Duration::from_secs(3));
    let done = |outcome| Event::Done {
        outcome,
        elapsed: Some(Duration::from_millis(30)),
        slow: false,
        attempts: 1,
        error: None,
    };
    let refused = lines(PolicyKind::Breaker, &[Event::Refused { rejection: &why, shadow: true }]);
    assert_eq!(refused[0].head(), ("DEBUG", "buttress::breaker", "refused"));
    assert_eq!(refused[0].field("code"), Some("CIRCUIT_OPEN"));
    assert_eq!(refused[0].field("retry_after_ms"), Some("3000"));
    assert_eq!(refused[0].field("shadow"), Some("true"));

    let late = lines(PolicyKind::Timeout, &[done(Outcome::TimedOut), done(Outcome::Success)]);
    assert_eq!(late.len(), 1); // nothing is told of calls that went well
    assert_eq!(late[0].head(), ("DEBUG", "buttress::timeout", "timed out"));
    assert_eq!(late[0].field("elapsed_ms"), Some("30"));

    let answered = lines(
        PolicyKind::Fallback,
        &[
            done(Outcome::FallbackSuccess),
            done(Outcome::FallbackFailure),
            Event::Note(Note::Stale(Duration::from_secs(9))),
        ],
    );
    let heads: Vec<_> = answered.iter().map(Line::head).collect();
    let target = "buttress::fallback";
    assert_eq!(
        heads,
        [
            ("DEBUG", target, "fallback answered"),
            ("ERROR", target, "fallback failed"),
            ("DEBUG", target, "stale answer given"),
        ]
    );
    assert_eq!(answered[2].field("age_ms"), Some("9000"));
}

#[test]
fn patterns_to_come_have_a_target_too() {
    let told = lines(PolicyKind::Hedge, &[Event::Note(Note::Reset)]);
    assert_eq!(told[0].head(), (Level::WARN.as_str(), "buttress", "policy reset"));
}

#[tokio::test(start_paused = true)]
async fn real_breaker_tells_its_outage_in_four_lines() {
    let log = Log::default();
    let _default = tracing::subscriber::set_default(log.clone());
    let breaker = buttress_breaker::Breaker::builder("payments")
        .failure_rate(0.5)
        .minimum_calls(4)
        .open_for(Duration::from_secs(5))
        .success_threshold(1)
        .observe(Trace::default())
        .build()
        .unwrap();
    for _ in 0..4 {
        breaker.call(|| async { Err::<(), BoxError>("down".into()) }).await.unwrap_err();
    }
    breaker.call(|| async { Ok::<_, BoxError>(()) }).await.unwrap_err();
    tokio::time::advance(Duration::from_secs(7)).await;
    breaker.call(|| async { Ok::<_, BoxError>(()) }).await.unwrap();

    let told = log.0.lock().unwrap().clone();
    let heads: Vec<_> = told.iter().map(Line::head).collect();
    let target = "buttress::breaker";
    assert_eq!(
        heads,
        [
            ("WARN", target, "circuit opened"),
            ("DEBUG", target, "refused"),
            ("INFO", target, "circuit half-open"),
            ("INFO", target, "circuit closed"),
        ]
    );
    assert_eq!(told[0].field("breaker.failure_ratio"), Some("1.0"));
    assert_eq!(told[0].field("breaker.calls"), Some("4"));
    assert_eq!(told[0].field("breaker.open_for_ms"), Some("5000"));
    assert_eq!(told[1].field("code"), Some("CIRCUIT_OPEN"));
    assert_eq!(told[2].field("breaker.rejected_while_open"), Some("1"));
    assert_eq!(told[3].field("breaker.rejected_while_open"), Some("1"));
    assert_eq!(told[3].field("breaker.open_for_ms"), Some("7000")); // how long it was
}
