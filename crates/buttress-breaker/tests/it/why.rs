//! What is told of an opening: the rule, what it counted, and the last failure.

use std::{
    fmt, panic,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use buttress_breaker::{
    Breaker, BreakerBuilder, OnCancel, State, WindowConfig,
    words::{BY_RULE, CALLS, COUNT, ERROR, FAILURE_RATIO},
};
use buttress_core::{BoxError, Classify, Event, Transition, Value, Verdict};

use crate::support::*;

/// A breaker, and the changes of state it tells.
fn told_by(builder: BreakerBuilder) -> (Breaker, Arc<Mutex<Vec<Transition>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let to = told.clone();
    let builder = builder.on_event(move |event| {
        if let Event::Transition(change) = event {
            to.lock().unwrap().push((*change).clone());
        }
    });
    (builder.build().unwrap(), told)
}

/// `rule count of calls: error`.
fn why(change: &Transition) -> String {
    let text = |what| change.get(what).and_then(Value::as_text).unwrap_or("-").to_owned();
    let count = |what| change.get(what).and_then(Value::as_count).map_or("-".to_owned(), |n| n.to_string());
    format!("{} {} of {}: {}", text(BY_RULE), count(COUNT), count(CALLS), text(ERROR))
}

/// Statuses from 500 on are failures; says which it was, and how often it was asked to.
#[derive(Clone, Default)]
struct Status(Arc<AtomicU32>);

impl Classify<u16, BoxError> for Status {
    fn classify(&self, outcome: Result<&u16, &BoxError>) -> Verdict {
        match outcome {
            Ok(..500) => Verdict::Success,
            _ => Verdict::transient(),
        }
    }

    fn describe(&self, outcome: Result<&u16, &BoxError>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fetch_add(1, SeqCst);
        match outcome {
            Ok(status) => write!(f, "{status}"),
            Err(error) => write!(f, "no answer: {error}"),
        }
    }
}

async fn answers(breaker: &Breaker, classify: &Status, status: u16) {
    let call = breaker.call(|| async move { Ok::<_, BoxError>(status) });
    let _refused = call.classify(classify.clone()).await;
}

// Five answers of 503 in a row: neither "0 calls" nor "the call failed".
#[tokio::test(start_paused = true)]
async fn opening_names_the_rule_the_counts_and_the_last_failure() {
    let (breaker, told) = told_by(Breaker::builder("x").consecutive_failures(5));
    let status = Status::default();
    for code in [200, 500, 502, 500, 502, 503] {
        answers(&breaker, &status, code).await;
    }
    assert_eq!(breaker.last_error().as_deref(), Some("503"));
    let told = told.lock().unwrap();
    assert_eq!(told.iter().map(why).collect::<Vec<_>>(), ["consecutive_failures 5 of 5: 503"]);
    // Of calls that went by nobody kept a share.
    assert_eq!(told[0].get(FAILURE_RATIO), None);
}

#[tokio::test(start_paused = true)]
async fn each_rule_says_what_it_counted() {
    let builder = || Breaker::builder("x").open_for(secs(5)).minimum_calls(4);
    let slow = || builder().slow_call_duration(ms(10)).slow_call_rate(0.5);
    let row = || Breaker::builder("x").consecutive_failures(3);
    for (builder, script, expected) in [
        (builder().failure_rate(0.5), "SSFF", "failure_rate 2 of 4: down"),
        (builder().failure_count(2), "SSSFF", "failure_count 2 of 5: down"),
        (slow(), "SSss", "slow_call_rate 2 of 4: the calls were too slow"),
        // The success makes enough of them.
        (builder().failure_rate(0.5), "FFFS", "failure_rate 3 of 4: too many calls failed"),
        (row(), "LLL", "abandoned 3 of 3: the calls were dropped before they ended"),
        (
            row().on_cancel(OnCancel::Failure),
            "DDD",
            "consecutive_failures 3 of 3: the calls were dropped before they ended",
        ),
        // In a row, across the window.
        (
            row().failure_rate(1.0).minimum_calls(2).window(WindowConfig::count(2)),
            "SFFS FFF",
            "failure_rate 2 of 2: down",
        ),
        (row().failure_count(9), "S FFF", "consecutive_failures 3 of 4: down"),
    ] {
        let (breaker, told) = told_by(builder);
        for step in script.chars() {
            let Ok(permit) = breaker.try_acquire() else { break };
            match step {
                'S' => permit.success(),
                'F' => permit.failure_with(&*BoxError::from("down")),
                'D' => drop(permit),
                's' => {
                    pass(ms(20)).await;
                    permit.success();
                }
                'L' => {
                    pass(secs(1)).await;
                    drop(permit);
                }
                _ => permit.record(Verdict::Ignore),
            }
        }
        let told = told.lock().unwrap();
        assert_eq!(told.iter().map(why).collect::<Vec<_>>(), [expected], "{script}");
    }
}

#[tokio::test(start_paused = true)]
async fn opening_again_says_which_probes_were_the_reason() {
    let builder = Breaker::builder("x").consecutive_failures(1).open_for(secs(1)).half_open_timeout(secs(1));
    let (breaker, told) = told_by(builder);
    let fail = |text: &'static str| breaker.try_acquire().unwrap().failure_with(&*BoxError::from(text));
    fail("first");
    pass(secs(1)).await;
    fail("probe");
    pass(secs(1)).await;
    breaker.ok(1);
    pass(secs(1)).await;
    breaker.is(State::Open); // half-open for a second, and not a word since
    breaker.snapshot();
    breaker.force_open();
    let told = told.lock().unwrap();
    let opened: Vec<_> = told.iter().filter(|change| change.to == "open").map(why).collect();
    assert_eq!(
        opened,
        [
            "consecutive_failures 1 of 1: first",
            "probes_failed 1 of 1: probe",
            "half_open_timeout - of 1: probe",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_put_into_words_unless_the_circuit_opens() {
    let (breaker, status) = (three().build().unwrap(), Status::default());
    for code in [500, 500, 200, 500, 500, 200] {
        answers(&breaker, &status, code).await;
    }
    assert_eq!(status.0.load(SeqCst), 0);
    for _ in 0..10 {
        answers(&breaker, &status, 500).await;
    }
    assert_eq!(status.0.load(SeqCst), 1);
}

fn three() -> BreakerBuilder {
    Breaker::builder("x").consecutive_failures(3)
}

// A closure has no words, so the error has.
#[tokio::test(start_paused = true)]
async fn error_says_what_it_displays_whatever_judges_it() {
    let down = || async { Err::<u16, BoxError>("down".into()) };
    let by_closure = |outcome: Result<&u16, &BoxError>| match outcome {
        Ok(_) => Verdict::Success,
        Err(_) => Verdict::transient(),
    };
    let breaker = Breaker::builder("x").consecutive_failures(1).build().unwrap();
    breaker.call(down).await.unwrap_err();
    assert_eq!(breaker.last_error().as_deref(), Some("down"));
    breaker.reset();
    breaker.call(down).classify_with(by_closure).await.unwrap_err();
    assert_eq!(breaker.last_error().as_deref(), Some("down"));
    breaker.reset();
    breaker.call(down).classify(Status::default()).await.unwrap_err();
    assert_eq!(breaker.last_error().as_deref(), Some("no answer: down"));
}

/// Runs this to say what a failure was.
#[derive(Clone)]
struct Says<F>(F);

impl<F: Fn() -> String> Classify<(), BoxError> for Says<F> {
    fn classify(&self, _outcome: Result<&(), &BoxError>) -> Verdict {
        Verdict::transient()
    }

    fn describe(&self, _outcome: Result<&(), &BoxError>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0())
    }
}

// No lock is held while the words are found, and all is told in its order nonetheless.
#[tokio::test(start_paused = true)]
async fn what_happens_while_the_words_are_found_is_told_after_the_opening() {
    let (breaker, told) = told_by(Breaker::builder("x").consecutive_failures(1));
    let own = breaker.clone();
    let says = Says(move || {
        assert_eq!(own.snapshot().last_error, None);
        own.force_close();
        // Another one opens it meanwhile, and knows its own words at once.
        own.try_acquire().unwrap().failure_with(&*BoxError::from("inner"));
        std::thread::scope(|scope| {
            scope.spawn(|| own.isolate());
        });
        "outer".to_owned()
    });
    breaker.call(|| async { Ok::<_, BoxError>(()) }).classify(says).await.unwrap();
    breaker.is(State::Isolated);
    // The later word is of a time that is over.
    assert_eq!(breaker.last_error().as_deref(), Some("inner"));
    let told = told.lock().unwrap();
    let told: Vec<_> =
        told.iter().map(|change| (change.to, why(change).split_once(": ").unwrap().1.to_owned())).collect();
    let expected = [("open", "outer"), ("closed", "-"), ("open", "inner"), ("isolated", "-")];
    assert_eq!(told, expected.map(|(to, text)| (to, text.to_owned())));
}

// A classifier that never comes back must not keep everything else untold, nor fill the memory.
#[tokio::test(start_paused = true)]
async fn many_changes_do_not_wait_for_words_that_do_not_come() {
    let (breaker, told) = told_by(Breaker::builder("x").consecutive_failures(1));
    let (own, seen) = (breaker.clone(), told.clone());
    let says = Says(move || {
        for _ in 0..50 {
            own.force_close();
            own.force_open();
        }
        assert!(seen.lock().unwrap().len() > 60);
        "late".to_owned()
    });
    breaker.call(|| async { Ok::<_, BoxError>(()) }).classify(says).await.unwrap();
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 101);
    assert_eq!((told[0].to, told[0].get(ERROR), told[1].to), ("open", None, "closed"));
}

#[tokio::test(start_paused = true)]
async fn words_that_cannot_be_found_or_do_not_end_are_no_harm() {
    let breaker = Breaker::builder("x").consecutive_failures(1).build().unwrap();
    let call = || breaker.call(|| async { Ok::<_, BoxError>(()) });
    call().classify(Says(|| panic::panic_any(7))).await.unwrap();
    assert_eq!(breaker.last_error().as_deref(), Some("an error that cannot be shown"));
    breaker.reset();
    call().classify(Says(|| "ä".repeat(1 << 20))).await.unwrap();
    let text = breaker.last_error().unwrap();
    assert_eq!((text.len(), text.ends_with("ä…")), (1_027, true));
}
