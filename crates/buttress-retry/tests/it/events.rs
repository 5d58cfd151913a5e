//! What observers hear, and what is counted.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
};

use buttress_core::{BoxError, Event, Name, Note, Outcome, Rejection, Verdict};
use buttress_kit::{Backoff, Budget};
use buttress_retry::{Retry, RetryConfig, words};
use buttress_test::{Recording, What, drop_at_every_await, poll_once};
use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::{Script, TIMEOUT, ms, of};

fn recorded(attempts: u32, wait: u64) -> (Retry, Recording) {
    let recording = Recording::new();
    let retry = Retry::builder("payments").max_attempts(attempts).backoff(Backoff::constant(ms(wait)));
    (retry.observe(recording.clone()).build().unwrap(), recording)
}

#[tokio::test(start_paused = true)]
async fn every_failed_attempt_that_is_followed_by_another_is_told_with_number_error_and_wait() {
    let (retry, recording) = recorded(3, 10);
    let script = Script::of([Err("one".into()), Err("two".into())]);
    retry.layer().layer(script.service()).oneshot("a").await.unwrap();
    let attempt = |n, text: &str| What::Attempt {
        n,
        delay: ms(10),
        reason: words::ERROR,
        error: Some(text.to_owned()),
    };
    let events: Vec<_> = recording.take().into_iter().map(|event| event.what).collect();
    let done = What::Done {
        outcome: Outcome::Success,
        result: words::SUCCESSFUL_WITH_RETRY,
        elapsed: None,
        slow: false,
        attempts: 3,
        error: None,
    };
    assert_eq!(events, [attempt(1, "one"), attempt(2, "two"), done]);
}

#[tokio::test(start_paused = true)]
async fn end_of_a_call_says_why_no_further_attempt_was_made() {
    let (retry, recording) = recorded(2, 10);
    retry.layer().layer(Script::failing().service()).oneshot("a").await.unwrap_err();
    assert_eq!(recording.stops(), [words::MAX_ATTEMPTS]);
    assert_eq!(recording.outcomes(), [Outcome::Failure]);
    let snapshot = retry.snapshot();
    assert_eq!(snapshot.retries, 1);
    assert_eq!(snapshot.stopped.max_attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn reason_of_an_attempt_tells_errors_responses_and_time_outs_apart() {
    let (retry, recording) = recorded(2, 0);
    let time_out = || Rejection::timed_out(TIMEOUT, &Name::new("attempt"), ms(1), ms(2)).into();
    retry.layer().layer(Script::failing_with(time_out).service()).oneshot("a").await.unwrap_err();
    let layer = retry.layer().classify_with(|_: Result<&&str, &BoxError>| Verdict::transient());
    layer.layer(Script::default().service()).oneshot("a").await.unwrap();
    let reasons: Vec<_> = recording
        .events()
        .into_iter()
        .filter_map(|event| match event.what {
            What::Attempt { reason, .. } => Some(reason),
            _ => None,
        })
        .collect();
    assert_eq!(reasons, [words::TIMEOUT, words::RESPONSE]);
}

// Dropped before its first poll, in an attempt, in a wait: told as cancelled, exactly once
#[tokio::test(start_paused = true)]
async fn call_dropped_at_any_await_is_cancelled_and_told_once() {
    let (retry, recording) = recorded(3, 50);
    let calls = Arc::new(AtomicUsize::new(0));
    let made = calls.clone();
    let svc = retry.layer().layer(service_fn(move |()| {
        made.fetch_add(1, Relaxed);
        async {
            sleep(ms(5)).await;
            Err::<(), BoxError>("down".into())
        }
    }));
    let polls = drop_at_every_await(
        || {
            let mut svc = svc.clone();
            async move { svc.ready().await.unwrap().call(()).await }
        },
        |polls| {
            let outcomes = recording.outcomes();
            // Dropped before its first poll, this one has not even been called.
            assert_eq!(outcomes.len(), polls, "{outcomes:?}");
        },
    )
    .await;
    assert_eq!(polls, 6);
    let (last, dropped) =
        recording.outcomes().split_last().map(|(last, rest)| (*last, rest.to_vec())).unwrap();
    assert_eq!((last, dropped), (Outcome::Failure, vec![Outcome::Cancelled; 5]));
    let before = calls.load(Relaxed);
    sleep(ms(1000)).await;
    assert_eq!(calls.load(Relaxed), before, "no attempt after the drop");
}

#[tokio::test(start_paused = true)]
async fn call_never_polled_makes_only_what_call_itself_made() {
    let (retry, recording) = recorded(3, 50);
    let script = Script::default();
    drop(retry.call(|| async { script.answer() }));
    assert_eq!(script.calls(), 0);
    assert_eq!(recording.outcomes(), [Outcome::Cancelled]);
}

#[tokio::test(start_paused = true)]
async fn panic_in_call_and_in_poll_of_any_attempt_is_told_as_panicked() {
    for panicking in 0..3_usize {
        for in_call in [true, false] {
            let (retry, recording) = recorded(4, 1);
            let calls = Arc::new(AtomicUsize::new(0));
            let svc = retry.layer().layer(service_fn(move |()| {
                let n = calls.fetch_add(1, Relaxed);
                assert!(!(n == panicking && in_call), "in call");
                async move {
                    assert!(n != panicking, "in poll");
                    Err::<(), BoxError>("down".into())
                }
            }));
            let panicked = tokio::spawn(svc.oneshot(())).await.unwrap_err().is_panic();
            assert!(panicked);
            assert_eq!(recording.outcomes(), [Outcome::Panicked], "attempt {panicking}, in call {in_call}");
            assert_eq!(recording.attempts().len(), panicking);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn call_polled_again_after_its_end_panics_and_tells_nothing_more() {
    for fails in [false, true] {
        let (retry, recording) = recorded(1, 0);
        let mut call =
            Box::pin(retry.call(|| async move { if fails { Err("down".into()) } else { Ok(()) } }));
        let ended: Poll<Result<(), BoxError>> = poll_once(call.as_mut());
        assert!(ended.is_ready());
        let again = catch_unwind(AssertUnwindSafe(|| poll_once(call.as_mut())));
        assert!(again.is_err());
        drop(call);
        assert_eq!(recording.outcomes(), [if fails { Outcome::Failure } else { Outcome::Success }]);
    }
}

#[tokio::test(start_paused = true)]
async fn elapsed_is_told_to_those_who_want_it() {
    let recording = Recording::new().timed();
    let retry = Retry::builder("payments").backoff(Backoff::constant(ms(70))).observe(recording.clone());
    let retry = retry.build().unwrap();
    retry.layer().layer(Script::of([Err("one".into())]).service()).oneshot("a").await.unwrap();
    let done = What::Done {
        outcome: Outcome::Success,
        result: words::SUCCESSFUL_WITH_RETRY,
        elapsed: Some(ms(70)),
        slow: false,
        attempts: 2,
        error: None,
    };
    assert_eq!(recording.events().last().unwrap().what, done);
}

#[tokio::test(start_paused = true)]
async fn listener_may_use_the_handle_and_change_it() {
    let handle = Arc::new(Mutex::new(None::<Retry>));
    let inside = handle.clone();
    let retry = Retry::builder("payments")
        .backoff(Backoff::none())
        .on_event(move |event| {
            if let Event::Attempt { .. } = event {
                let retry = inside.lock().unwrap().clone().unwrap();
                assert!(retry.snapshot().retries < 2);
                retry.reconfigure(of(9, retry.config())).unwrap();
            }
        })
        .build()
        .unwrap();
    *handle.lock().unwrap() = Some(retry.clone());
    retry.call(|| async { Err::<(), BoxError>("down".into()) }).await.unwrap_err();
    // The call under way keeps its number of attempts.
    assert_eq!(retry.snapshot().retries, 2);
    assert_eq!(retry.config().max_attempts, 9);
}

#[tokio::test(start_paused = true)]
async fn late_recorder_learns_what_is_left_of_the_budget() {
    let recording = Recording::new();
    let retry = Retry::builder("payments").budget(Budget::new(0.2, 3).unwrap()).observe(recording.clone());
    let retry = retry.build().unwrap();
    assert_eq!(recording.levels(words::BUDGET_AVAILABLE), [1.0]);
    let snapshot = retry.snapshot();
    assert_eq!((snapshot.budget_available, snapshot.budget_available_ratio), (Some(3.0), Some(1.0)));
}

// The level must not stay at zero when an outage is over: then nobody retries, and the budget fills unseen.
#[tokio::test(start_paused = true)]
async fn level_of_the_budget_recovers_after_an_outage() {
    let recording = Recording::new();
    let retry = Retry::builder("payments").backoff(Backoff::none()).observe(recording.clone());
    let retry = retry.budget(Budget::new(0.5, 0).unwrap()).build().unwrap();
    let level = || recording.levels(words::BUDGET_AVAILABLE).last().copied().unwrap();
    for _ in 0..20 {
        retry.call(|| async { Err::<(), BoxError>("down".into()) }).await.unwrap_err();
    }
    assert!(level() < 0.1, "{}", level());
    let told = recording.levels(words::BUDGET_AVAILABLE).len();
    for _ in 0..100 {
        sleep(ms(10)).await;
        retry.call(|| async { Ok::<(), BoxError>(()) }).await.unwrap();
    }
    // Ten retries were made, a second ago now, and a hundred calls have paid for fifty since; the last few are told later.
    assert!((0.75..=1.0).contains(&level()), "{}", level());
    // Not told at every call.
    assert!((1..10).contains(&(recording.levels(words::BUDGET_AVAILABLE).len() - told)));
}

#[tokio::test(start_paused = true)]
async fn result_of_a_call_says_whether_it_was_retried() {
    let (retry, recording) = recorded(2, 10);
    let down = || Err("down".into());
    for answers in [vec![Ok("ok")], vec![down(), Ok("ok")], vec![down(), down()]] {
        let _ = retry.layer().layer(Script::of(answers).service()).oneshot("a").await;
    }
    let never = retry.layer().replay(buttress_core::Never);
    never.layer(Script::failing().service()).oneshot("a").await.unwrap_err();
    drop(retry.call(|| async { Ok::<(), BoxError>(()) }));
    let results = [
        words::SUCCESSFUL_WITHOUT_RETRY,
        words::SUCCESSFUL_WITH_RETRY,
        words::FAILED_WITH_RETRY,
        words::FAILED_WITHOUT_RETRY,
        Outcome::Cancelled.as_str(),
    ];
    assert_eq!(recording.results(), results);
}

#[tokio::test]
async fn new_settings_are_told() {
    let (retry, recording) = recorded(3, 0);
    retry.reconfigure(RetryConfig::none()).unwrap();
    assert_eq!(recording.notes(), [Note::new(Note::RECONFIGURED)]);
}
