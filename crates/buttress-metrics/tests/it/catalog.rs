use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_breaker::words as breaker;
use buttress_bulkhead::words as bulkhead;
use buttress_core::{Code, Event, KindData, Level, Levels, Name, Note, Outcome, Value, observe::recorder_fn};
use buttress_fallback::words as fallback;
use buttress_kit::{Emitter, Listeners};
use buttress_metrics::{MetricKind, Metrics, catalog, meter};
use buttress_retry::words as retry;

use crate::{KINDS, Policy, Seen, policy};

const OUTCOMES: [Outcome; 6] = [
    Outcome::Success,
    Outcome::Failure,
    Outcome::Panicked,
    Outcome::TimedOut,
    Outcome::Ignored,
    Outcome::Cancelled,
];
const RESULTS: [&str; 8] = [
    "a word of nobody's",
    retry::SUCCESSFUL_WITHOUT_RETRY,
    retry::SUCCESSFUL_WITH_RETRY,
    retry::FAILED_WITHOUT_RETRY,
    retry::FAILED_WITH_RETRY,
    fallback::FALLBACK_SUCCESS,
    fallback::FALLBACK_FAILURE,
    fallback::NOT_HANDLED,
];
const STATES: [&str; 7] =
    ["closed", "open", "half_open", "isolated", "disabled", "metrics_only", "a state of nobody's"];
const LIMITED: &Code = &Code::too_many("RATE_LIMITED");

/// Lets a policy tell everything it could.
fn tell_all(policy: &Policy) {
    let elapsed = Some(Duration::from_millis(5));
    for outcome in OUTCOMES {
        for result in RESULTS.into_iter().chain([outcome.as_str()]) {
            policy.emit(Event::Done { outcome, result, elapsed, slow: true, attempts: 1, error: None });
        }
    }
    for code in
        [breaker::OPEN, bulkhead::QUEUE_FULL, bulkhead::QUEUE_TIMEOUT, bulkhead::QUEUE_CLEARED, LIMITED]
    {
        for shadow in [false, true] {
            policy.refuse(code, shadow);
        }
    }
    for reason in [retry::ERROR, retry::RESPONSE, retry::TIMEOUT, "a reason of nobody's"] {
        policy.emit(Event::Attempt { n: 1, delay: Duration::from_secs(1), reason, error: None });
    }
    for (from, to) in STATES.into_iter().flat_map(|from| STATES.map(|to| (from, to))) {
        policy.change(from, to);
    }
    for what in [
        breaker::FAILURE_RATIO,
        breaker::SLOW_RATIO,
        bulkhead::IN_FLIGHT,
        bulkhead::QUEUE_DEPTH,
        bulkhead::LIMIT,
        retry::BUDGET_AVAILABLE,
        "a level of nobody's",
    ] {
        policy.level(Level::new(what, 0.5));
    }
    for state in STATES {
        policy.level(Level::state(state));
        policy.level(Level::of(breaker::KEYS, state, 1.0));
    }
    for note in [
        Note::new(bulkhead::ADMITTED),
        Note::new(bulkhead::QUEUED),
        Note::with(bulkhead::QUEUE_WAIT, Value::Time(Duration::from_millis(5))),
        Note::new(Note::RESET),
        Note::with(bulkhead::CLEARED, Value::Count(1)),
        Note::new(Note::RECONFIGURED),
        Note::new(breaker::LEASE_EXPIRED),
        Note::with(breaker::EXCEEDED, Value::Word("failure_rate")),
        Note::new(meter::STARTED),
        Note::with(fallback::STALE, Value::Time(Duration::from_secs(1))),
        Note::new(fallback::EVICTED),
    ] {
        policy.note(note);
    }
    for reason in [
        retry::MAX_ATTEMPTS,
        retry::BUDGET,
        retry::DEADLINE,
        retry::NOT_RETRYABLE,
        retry::NOT_REPLAYABLE,
        retry::NOT_READY,
        "a reason of nobody's",
    ] {
        policy.note(Note::with(retry::STOPPED, Value::Word(reason)));
    }
}

/// Has no levels, and a listener that was not told of three events.
struct Deaf;

impl Levels for Deaf {
    fn level(&self, _: u32) -> Option<Level> {
        None
    }

    fn missed(&self) -> u64 {
        3
    }
}

// One taxonomy for all patterns; what a pattern does not use moves nothing.
#[test]
fn everything_in_the_catalogue_is_emitted_and_nothing_else() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let metrics = Metrics::default();
    static HEDGE: KindData = KindData::new("hedge"); // it exports nothing
    let deaf: Arc<dyn Levels> = Arc::new(Deaf);
    for kind in KINDS.iter().copied().chain([&HEDGE]) {
        let policy = policy(kind, kind.name, &metrics);
        tell_all(&policy);
        policy.recorder.iter().for_each(|recorder| recorder.follow(&Arc::downgrade(&deaf)));
        metrics.refresh();
    }
    let catalog = catalog(KINDS);
    // One the other way: the names and label keys of the run, against those of the catalogue. (That each value
    // of a label is in the catalogue is what `Seen` holds against every test.)
    let listed: BTreeMap<_, BTreeSet<_>> = catalog
        .iter()
        .map(|def| (def.name.to_owned(), def.labels.iter().map(|label| label.key.to_owned()).collect()))
        .collect();
    assert_eq!(seen.0.names(), listed);
    // And each value in the catalogue did occur, with something counted.
    for def in &catalog {
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
fn a_policy_and_the_process_hear_the_same_events() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let metrics = Metrics::default();
    let mut listeners = Listeners::default();
    listeners.observe(metrics);
    let own = Emitter::new(&buttress_timeout::KIND, Name::new("own"), &listeners);
    let heard = Arc::new(AtomicU64::new(0));
    let counter = heard.clone();
    own.add(recorder_fn(move |event| {
        if let Event::Done { .. } = event {
            counter.fetch_add(1, Relaxed);
        }
    }));
    for _ in 0..3 {
        own.emit(crate::done(Outcome::Success));
    }
    assert_eq!(seen.counter("timeout_operations_total", &[("name", "own")]), 3);
    assert_eq!(heard.load(Relaxed), 3);
}
