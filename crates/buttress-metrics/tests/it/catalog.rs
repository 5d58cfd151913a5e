use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use buttress_core::{
    Emitter, Event, Name, Outcome, PolicyKind, Rejection, RejectionKind,
    observe::{AttemptReason, Cause, Level, Note, StopReason, TransitionDetail},
};
use buttress_metrics::{BUCKETS, CATALOG, MetricDef, MetricKind, Metrics};
use metrics::Unit;

use crate::{Seen, policy};

const OUTCOMES: [Outcome; 9] = [
    Outcome::Success,
    Outcome::Failure,
    Outcome::Panicked,
    Outcome::TimedOut,
    Outcome::Ignored,
    Outcome::Cancelled,
    Outcome::FallbackSuccess,
    Outcome::FallbackFailure,
    Outcome::NotHandled,
];
const STATES: [&str; 6] = ["closed", "open", "half_open", "isolated", "disabled", "metrics_only"];

/// Lets a policy tell everything it could.
fn tell_all(policy: &Emitter) {
    let elapsed = Some(Duration::from_millis(5));
    for outcome in OUTCOMES {
        for attempts in [1, 3] {
            policy.emit(Event::Done { outcome, elapsed, slow: true, attempts, error: None });
        }
    }
    for kind in [
        RejectionKind::CircuitOpen,
        RejectionKind::BulkheadQueueFull,
        RejectionKind::BulkheadQueueTimeout,
        RejectionKind::BulkheadQueueCleared,
        RejectionKind::RateLimited,
    ] {
        let why = Rejection::new(kind, policy.name());
        for shadow in [false, true] {
            policy.emit(Event::Refused { rejection: &why, shadow });
        }
    }
    for reason in [AttemptReason::Error, AttemptReason::Response, AttemptReason::Timeout] {
        policy.emit(Event::Attempt { n: 1, delay: Duration::from_secs(1), reason, error: None });
    }
    for (from, to) in STATES.into_iter().flat_map(|from| STATES.map(|to| (from, to))) {
        let (cause, detail) = (Cause::Rule, TransitionDetail::default());
        policy.emit(Event::Transition { from, to, cause, detail });
    }
    for what in [
        Level::FailureRatio,
        Level::SlowRatio,
        Level::InFlight,
        Level::QueueDepth,
        Level::Limit,
        Level::BudgetAvailable,
    ] {
        policy.emit(Event::Level { what, value: 0.5 });
    }
    for state in STATES {
        policy.emit(Event::Level { what: Level::State(state), value: 1.0 });
    }
    for state in STATES {
        policy.emit(Event::Level { what: Level::Keys(state), value: 1.0 });
    }
    for note in [
        Note::Admitted,
        Note::Queued,
        Note::QueueWait(Duration::from_millis(5)),
        Note::Reset,
        Note::QueueCleared(1),
        Note::Reconfigured,
        Note::LeaseExpired,
        Note::Exceeded("failure_rate"),
        Note::Stale(Duration::from_secs(1)),
        Note::Evicted,
    ] {
        policy.emit(Event::Note(note));
    }
    for reason in [
        StopReason::MaxAttempts,
        StopReason::Budget,
        StopReason::Deadline,
        StopReason::NotRetryable,
        StopReason::NotReplayable,
        StopReason::NotReady,
    ] {
        policy.emit(Event::Note(Note::Stopped(reason)));
    }
}

// SX-03: one taxonomy for all patterns; what a pattern does not use moves nothing.
#[test]
fn everything_in_the_catalogue_is_emitted_and_nothing_else() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let metrics = Metrics::default();
    for kind in [
        PolicyKind::Breaker,
        PolicyKind::Retry,
        PolicyKind::Timeout,
        PolicyKind::Bulkhead,
        PolicyKind::RateLimit,
        PolicyKind::Fallback,
        PolicyKind::Hedge,
        PolicyKind::Coalesce,
        PolicyKind::DeadLetters,
        PolicyKind::Chaos,
    ] {
        tell_all(&policy(kind, kind.as_str(), &metrics));
    }
    // One the other way: the names and label keys of the run, against those of the catalogue. (That each value
    // of a label is in the catalogue is what `Seen` holds against every test.)
    let listed: BTreeMap<_, BTreeSet<_>> = CATALOG
        .iter()
        .map(|def| (def.name.to_owned(), def.labels.iter().map(|label| label.key.to_owned()).collect()))
        .collect();
    assert_eq!(seen.0.names(), listed);
    // And each value in the catalogue did occur, with something counted.
    for def in CATALOG {
        for (label, value) in def.labels.iter().flat_map(|label| label.values.iter().map(move |v| (label, v)))
        {
            let labels = [(label.key, *value)];
            let occurred = match def.kind {
                MetricKind::Counter => seen.counter(def.name, &labels) > 0,
                MetricKind::Histogram => !seen.0.histogram(def.name, &labels).is_empty(),
                _ => seen.gauge(def.name, &labels).is_some(),
            };
            assert!(occurred, "{}{{{}={value:?}}}", def.name, label.key);
        }
    }
}

#[test]
fn names_follow_the_conventions_of_prometheus() {
    for def in CATALOG {
        let MetricDef { name, kind, unit, labels, help, .. } = *def;
        assert_eq!(kind == MetricKind::Counter, name.ends_with("_total"), "{name}");
        assert_eq!(unit == Some(Unit::Seconds), name.ends_with("_seconds"), "{name}");
        assert!(kind != MetricKind::Histogram || unit.is_some(), "{name}");
        assert!(help.ends_with('.'), "{name}");
        assert!(name == "buttress_build_info" || labels[0].key == "name", "{name}");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
    }
    let names: BTreeSet<_> = CATALOG.iter().map(|def| def.name).collect();
    assert_eq!(names.len(), CATALOG.len());
}

#[test]
fn every_histogram_has_buckets_in_ascending_order() {
    let histograms = CATALOG.iter().filter(|def| def.kind == MetricKind::Histogram);
    let named: BTreeSet<_> = BUCKETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(named, histograms.map(|def| def.name).collect());
    for (name, bounds) in BUCKETS {
        assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "{name}");
    }
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn table() -> String {
    let mut table = String::from("| metric | kind | labels | what it tells |\n|---|---|---|---|\n");
    for def in CATALOG {
        let labels = def.labels.iter().map(|label| {
            let values: Vec<_> = label.values.iter().copied().map(code).collect();
            if values.is_empty() {
                code(label.key)
            } else {
                format!("`{}` = {}", label.key, values.join(" "))
            }
        });
        let labels = labels.collect::<Vec<_>>().join("; ");
        table += &format!("| `{}` | {} | {labels} | {} |\n", def.name, def.kind.as_str(), def.help);
    }
    table
}

/// Run with `BUTTRESS_UPDATE=1` to write the table anew.
#[test]
fn table_of_the_guide_is_the_catalogue() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- catalogue -->\n", "<!-- end of catalogue -->");
    let from = page.find(begin).unwrap() + begin.len();
    let to = page.find(end).unwrap();
    if std::env::var_os("BUTTRESS_UPDATE").is_some() {
        std::fs::write(&path, [&page[..from], &table(), &page[to..]].concat()).unwrap();
        return;
    }
    assert_eq!(&page[from..to], table(), "run this test with BUTTRESS_UPDATE=1");
    // What the page says in words about buckets and the overflow name.
    assert!(page.contains(buttress_metrics::OTHER));
    let bounds: Vec<_> = buttress_metrics::DURATION_BUCKETS.iter().map(f64::to_string).collect();
    assert!(page.contains(&bounds.join(", ")));
}

#[test]
fn a_policy_and_the_process_hear_the_same_events() {
    // SX-03: subscribable for one policy and for all, in the same words.
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let metrics = Metrics::default();
    let own = Emitter::new(PolicyKind::Timeout, Name::new("own"));
    own.observe(&metrics);
    let heard = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = heard.clone();
    own.add(buttress_core::observe::recorder_fn(move |event| {
        if let Event::Done { .. } = event {
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }));
    for _ in 0..3 {
        own.emit(crate::done(Outcome::Success));
    }
    assert_eq!(seen.counter("timeout_operations_total", &[("name", "own")]), 3);
    assert_eq!(heard.load(std::sync::atomic::Ordering::Relaxed), 3);
}
