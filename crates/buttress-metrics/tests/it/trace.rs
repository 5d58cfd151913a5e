use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_breaker::{KIND as BREAKER, words as breaker};
use buttress_bulkhead::{KIND as BULKHEAD, words as bulkhead};
use buttress_core::{
    BoxError, Event, Kind, KindData, Name, Note, Observer, On, Outcome, Rejection, Source, Transition, Value,
    Word,
};
use buttress_fallback::{KIND as FALLBACK, words as fallback};
use buttress_metrics::{Metrics, trace::Trace};
use buttress_retry::{KIND as RETRY, words as retry};
use buttress_timeout::KIND as TIMEOUT;
use tower::{Layer, Service, ServiceExt, service_fn};
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

/// How many lines there are of each level and message.
fn counts(log: &Log) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for line in log.0.lock().unwrap().iter() {
        let (level, _, message) = line.head();
        *counts.entry((level.to_owned(), message.to_owned())).or_default() += 1;
    }
    counts
}

async fn down() -> Result<u32, BoxError> {
    Err("down".into())
}

#[tokio::test(start_paused = true)]
async fn outage_behind_a_fallback_without_an_answer_is_an_error_a_second_and_not_one_a_call() {
    let log = Log::default();
    let _default = tracing::subscriber::set_default(log.clone());
    let fallback = buttress_fallback::Fallback::builder("prices").observe(Trace::default()).build().unwrap();
    let layer = fallback.layer().last_good(|n: &u32| *n, |_: &mut u32, _| {});
    let mut prices = layer.layer(service_fn(|_: u32| down()));
    let mut fail = async || prices.ready().await.unwrap().call(1).await.unwrap_err();
    for _ in 0..10_000 {
        fail().await;
    }
    crate::sleep(Duration::from_millis(1050));
    fail().await;
    let told = log.0.lock().unwrap().clone();
    let held_back = |line: &Line| line.field("suppressed").map_or(0, |count| count.parse().unwrap());
    assert!(told.len() < 20, "{} lines", told.len());
    assert!(told.iter().all(|line| line.head() == ("ERROR", "buttress::fallback", "fallback failed")));
    assert_eq!((told[0].field("suppressed"), told[0].field("error")), (None, Some("down")));
    // All but what was told since the last line.
    assert_eq!(told.iter().map(held_back).sum::<usize>() + told.len(), 10_001);
}

#[tokio::test(start_paused = true)]
async fn circuit_that_opens_a_thousand_times_a_second_writes_a_line_a_second_for_each_change() {
    let log = Log::default();
    let _default = tracing::subscriber::set_default(log.clone());
    let builder = buttress_breaker::Breaker::builder("flaps").consecutive_failures(1).success_threshold(1);
    let breaker = builder.open_for(Duration::from_millis(1)).observe(Trace::default()).build().unwrap();
    for _ in 0..1_000 {
        breaker.call(down).await.unwrap_err();
        tokio::time::advance(Duration::from_millis(2)).await;
        breaker.call(|| async { Ok::<_, BoxError>(1) }).await.unwrap();
        breaker.force_open();
        breaker.reset();
    }
    let counts = counts(&log);
    let messages: Vec<_> = counts.keys().map(|(_, message)| message.as_str()).collect();
    let all = ["circuit closed", "circuit half-open", "circuit forced", "circuit opened", "policy reset"];
    assert_eq!(messages, all);
    // There are two changes by hand. A slow machine takes some seconds for them all.
    assert!(counts.values().all(|count| *count < 40), "{counts:?}");
}

// A thousand hosts that go down at once, as one network does.
#[tokio::test(start_paused = true)]
async fn key_that_opens_is_told_by_name_if_keys_are_shown_and_the_others_are_counted() {
    for shown in [false, true] {
        let log = Log::default();
        let _default = tracing::subscriber::set_default(log.clone());
        let builder =
            buttress_breaker::Breaker::keyed("hosts").consecutive_failures(2).observe(Trace::default());
        let hosts: buttress_breaker::KeyedBreaker<String> = builder.build().unwrap();
        let hosts = if shown { hosts.show_keys() } else { hosts };
        for n in 0..1_000 {
            for _ in 0..2 {
                hosts.call(&*format!("host-{n}"), down).await.unwrap_err();
            }
        }
        hosts.call("host-0", down).await.unwrap_err();
        crate::sleep(Duration::from_millis(1050));
        for _ in 0..2 {
            hosts.call("late", down).await.unwrap_err();
        }
        let told = log.0.lock().unwrap().clone();
        let (refused, opened): (Vec<_>, Vec<_>) = told.iter().partition(|line| line.head().2 == "refused");
        assert!(opened.len() < 10, "{} lines", opened.len());
        let (first, last) = (opened[0], *opened.last().unwrap());
        for line in &opened {
            assert_eq!(line.head(), ("WARN", "buttress::breaker", "circuit opened"));
            assert_eq!((line.field("count"), line.field("error")), (Some("2"), Some("down")));
        }
        let keys = [first, last, refused[0]].map(|line| line.field("policy.key"));
        assert_eq!(keys, if shown { ["host-0", "late", "host-0"].map(Some) } else { [None; 3] });
        let held_back = |line: &&Line| line.field("suppressed").map_or(0, |count| count.parse().unwrap());
        assert_eq!(opened.iter().map(held_back).sum::<usize>() + opened.len(), 1_001);
    }
}

#[test]
fn every_line_that_is_seen_by_default_has_bounds_whatever_its_kind_says() {
    const LINES: &[buttress_core::Line] = &[
        buttress_core::Line::error("jammed", On::Refused).fields(&[("code", Source::Code)]),
        buttress_core::Line::info("passed", On::Done(&[Outcome::Success])),
        buttress_core::Line::debug("went", On::Done(&[Outcome::Failure])),
        buttress_core::Line::debug("left", On::Done(&[Outcome::Cancelled])).once_a_second(),
    ];
    static TURNSTILE: KindData = KindData::new("turnstile").lines(LINES);
    let name = Name::new("payments");
    let (full, open) = (Rejection::new(bulkhead::QUEUE_FULL, &name), Rejection::new(breaker::OPEN, &name));
    let refused = |rejection, shadow| Event::Refused { rejection, shadow };
    let of = [
        refused(&full, false),
        refused(&full, true),
        refused(&open, false),
        crate::done(Outcome::Success),
        crate::done(Outcome::Failure),
        crate::done(Outcome::Cancelled),
    ];
    let log = Log::default();
    tracing::subscriber::with_default(log.clone(), || {
        let policy = Trace::default().attach(&TURNSTILE, &name).unwrap();
        (0..50).for_each(|_| of.iter().for_each(|event| policy.record(event)));
    });
    let counts: Vec<_> = counts(&log).into_iter().map(|((_, message), count)| (message, count)).collect();
    let told =
        [("left", 1), ("went", 50), ("jammed", 3), ("passed", 1)].map(|(line, n)| (line.to_owned(), n));
    assert_eq!(counts, told);
}

#[test]
fn second_live_policy_of_a_kind_and_name_is_told_once() {
    fn seconds(log: &Log) -> Vec<String> {
        let told = log.0.lock().unwrap().clone();
        assert!(told.iter().all(|line| (line.head().0, line.head().1) == ("WARN", "buttress::breaker")));
        told.iter().map(|line| line.head().2.to_owned()).collect()
    }
    let (log, trace, metrics) = (Log::default(), Trace::default(), Metrics::default());
    let _default = tracing::subscriber::set_default(log.clone());
    // No other test has these names.
    let breaker = |name: &'static str, observer: &dyn Observer| observer.attach(&BREAKER, &Name::new(name));
    let first = breaker("orders-twice", &trace);
    drop(first);
    let _second = breaker("orders-twice", &trace);
    assert_eq!(seconds(&log), [""; 0]); // one at a time
    let _bulkhead = trace.attach(&BULKHEAD, &Name::new("orders-twice"));
    let _third = breaker("orders-twice", &trace);
    let _fourth = breaker("orders-twice", &trace);
    assert_eq!(seconds(&log), ["a second live breaker named `orders-twice`"]);
    // Whoever finds it, and finds it again.
    let _metrics = (0..3).map(|_| breaker("orders-twice", &metrics)).collect::<Vec<_>>();
    assert_eq!(seconds(&log).len(), 1);
    let _prices = (0..3).map(|_| breaker("prices-twice", &metrics)).collect::<Vec<_>>();
    assert_eq!(seconds(&log)[1..], ["a second live breaker named `prices-twice`"]);
}
