use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_breaker::{KIND as BREAKER, words as breaker};
use buttress_bulkhead::{KIND as BULKHEAD, words as bulkhead};
use buttress_core::{
    BoxError, Event, Kind, KindData, Name, Note, Observer, Outcome, Rejection, Transition, Value, Word,
};
use buttress_fallback::{KIND as FALLBACK, words as fallback};
use buttress_metrics::trace::Trace;
use buttress_retry::{KIND as RETRY, words as retry};
use buttress_timeout::KIND as TIMEOUT;
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
fn lines(kind: Kind, events: &[Event<'_>]) -> Vec<Line> {
    let log = Log::default();
    tracing::subscriber::with_default(log.clone(), || {
        let policy = Trace::default().attach(kind, &Name::new("payments")).unwrap();
        events.iter().for_each(|event| policy.record(event));
    });
    let lines = log.0.lock().unwrap().clone();
    for line in &lines {
        assert_eq!(line.field("policy.name"), Some("payments"));
        assert_eq!(line.field("policy.kind"), Some(kind.name));
    }
    lines
}

fn transition(from: Word, to: Word, cause: Word) -> Transition {
    Transition::new(from, to, cause)
        .with(breaker::CALLS, Value::Count(20))
        .with(breaker::FAILURE_RATIO, Value::Ratio(0.75))
        .with(breaker::OPEN_FOR, Value::Time(Duration::from_secs(5)))
        .with(breaker::REJECTED, Value::Count(42))
}

// Opened at WARN, half-open and closed at INFO, forced at WARN.
#[test]
fn transitions_are_told_with_what_was_known() {
    let changes = [
        transition("closed", "open", breaker::RULE),
        transition("open", "half_open", breaker::RULE),
        transition("half_open", "closed", breaker::RULE),
        transition("closed", "open", breaker::MANUAL),
        transition("open", "isolated", breaker::MANUAL),
        transition("isolated", "disabled", breaker::RELOAD),
    ];
    let told = lines(&BREAKER, &changes.each_ref().map(Event::Transition));
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
        &BULKHEAD,
        &[
            Event::Note(&Note::new(Note::RESET)),
            Event::Note(&Note::with(bulkhead::CLEARED, Value::Count(7))),
            Event::Note(&Note::new(Note::RECONFIGURED)),
        ],
    );
    let heads: Vec<_> = told.iter().map(Line::head).collect();
    let target = "buttress::bulkhead";
    assert_eq!(
        heads,
        [
            ("WARN", target, "policy reset"),
            ("WARN", target, "queue cleared"),
            ("INFO", target, "policy reconfigured"),
        ]
    );
    assert_eq!(told[1].field("count"), Some("7"));
    let passed = Note::with(breaker::EXCEEDED, Value::Word("failure_rate"));
    let told = lines(&BREAKER, &[Event::Note(&passed)]);
    assert_eq!(told[0].head(), ("WARN", "buttress::breaker", "threshold passed"));
    assert_eq!(told[0].field("rule"), Some("failure_rate"));
}

#[test]
fn attempts_are_told_at_debug_with_their_error() {
    let error = BoxError::from("connection reset");
    let told = lines(
        &RETRY,
        &[Event::Attempt {
            n: 2,
            delay: Duration::from_millis(150),
            reason: retry::ERROR,
            error: Some(&*error),
        }],
    );
    assert_eq!(told[0].head(), ("DEBUG", "buttress::retry", "attempt failed"));
    assert_eq!(told[0].field("attempt"), Some("2"));
    assert_eq!(told[0].field("delay_ms"), Some("150"));
    assert_eq!(told[0].field("reason"), Some("error"));
    assert!(told[0].field("error").unwrap().contains("connection reset"));
}

#[test]
fn exhausted_retries_are_told_once_a_second_with_how_many_were_not() {
    let log = Log::default();
    tracing::subscriber::with_default(log.clone(), || {
        let policies = ["payments", "search"].map(|name| {
            let policy = Trace::default().attach(&RETRY, &Name::new(name)).unwrap();
            move |why: Word| policy.record(&Event::Note(&Note::with(retry::STOPPED, Value::Word(why))))
        });
        for stopped in &policies {
            (0..100).for_each(|_| stopped(retry::MAX_ATTEMPTS));
        }
        crate::sleep(Duration::from_millis(1050));
        policies[0](retry::BUDGET);
        policies[0](retry::NOT_RETRYABLE);
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

// Nothing that may happen with every call is above DEBUG, but a fallback that failed
#[test]
fn refusals_timeouts_and_fallbacks_are_told_at_debug_and_a_failed_fallback_at_error() {
    let why = Rejection::new(breaker::OPEN, &Name::new("payments")).with_retry_after(Duration::from_secs(3));
    let done_as = |outcome, result| Event::Done {
        outcome,
        result,
        elapsed: Some(Duration::from_millis(30)),
        slow: false,
        attempts: 1,
        error: None,
    };
    let done = |outcome: Outcome| done_as(outcome, outcome.as_str());
    let refused = lines(&BREAKER, &[Event::Refused { rejection: &why, shadow: true }]);
    assert_eq!(refused[0].head(), ("DEBUG", "buttress::breaker", "refused"));
    assert_eq!(refused[0].field("code"), Some("CIRCUIT_OPEN"));
    assert_eq!(refused[0].field("retry_after_ms"), Some("3000"));
    assert_eq!(refused[0].field("shadow"), Some("true"));

    let late = lines(&TIMEOUT, &[done(Outcome::TimedOut), done(Outcome::Success)]);
    assert_eq!(late.len(), 1); // nothing is told of calls that went well
    assert_eq!(late[0].head(), ("DEBUG", "buttress::timeout", "timed out"));
    assert_eq!(late[0].field("elapsed_ms"), Some("30"));

    let answered = lines(
        &FALLBACK,
        &[
            done_as(Outcome::Success, fallback::FALLBACK_SUCCESS),
            done_as(Outcome::Failure, fallback::FALLBACK_FAILURE),
            Event::Note(&Note::with(fallback::STALE, Value::Time(Duration::from_secs(9)))),
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
    static HEDGE: KindData = KindData::new("hedge");
    let told = lines(&HEDGE, &[Event::Note(&Note::new(Note::RESET))]);
    assert_eq!(told[0].head(), (Level::WARN.as_str(), "buttress::hedge", "policy reset"));
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
