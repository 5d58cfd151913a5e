//! The budget of what is in flight: its limit over whole calls, and that nothing stays counted however a call ends.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use buttress_core::{Applied, BoxError, Name, Rejection, Replay, Verdict};
use buttress_kit::{Backoff, Budget};
use buttress_retry::{Retry, RetryBuilder, words};
use buttress_test::{Recording, drop_at_every_await};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::{QUEUE_FULL, Script, ms};

fn with(budget: &Budget, attempts: u32) -> RetryBuilder {
    Retry::builder("api").max_attempts(attempts).backoff(Backoff::constant(ms(100))).budget(budget.clone())
}

/// One retry per call in flight: whatever stays counted shows.
fn all() -> Budget {
    Budget::in_flight(1.0, 0).unwrap()
}

/// Whether no call and no retry is counted.
fn assert_idle(budget: &Budget, when: &str) {
    let now = Instant::now().into_std();
    assert_eq!(budget.available(now), 0.0, "a call stays counted: {when}");
    (0..3).for_each(|_| budget.deposit(now));
    assert_eq!(budget.available(now), 3.0, "a retry stays counted: {when}");
    (0..3).for_each(|_| budget.ended(None));
}

async fn down() -> Result<(), BoxError> {
    sleep(ms(10)).await;
    Err("down".into())
}

#[tokio::test(start_paused = true)]
async fn retries_at_once_are_a_share_of_the_calls_in_flight() {
    let budget = Budget::in_flight(0.2, 1).unwrap();
    let recording = Recording::new();
    let retry = with(&budget, 3).observe(recording.clone()).build().unwrap();
    let made = Arc::new(AtomicUsize::new(0));
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let (retry, made) = (retry.clone(), made.clone());
            tokio::spawn(async move {
                retry
                    .call(|| {
                        made.fetch_add(1, Relaxed);
                        down()
                    })
                    .await
            })
        })
        .collect();
    sleep(ms(50)).await;
    // The first two that failed wait for their retries, all others have ended.
    assert_eq!((made.load(Relaxed), recording.stops().len()), (10, 8));
    for call in calls {
        call.await.unwrap().unwrap_err();
    }
    // In their second attempts the two are alone, and there is one retry for both.
    assert_eq!(made.load(Relaxed), 13);
    assert_eq!(retry.snapshot().stopped.budget, 9);
    assert_eq!(retry.snapshot().stopped.max_attempts, 1);
    assert_eq!(budget.available(Instant::now().into_std()), 1.0);
}

// A wait is not less than an attempt: were it not counted, all would be granted while none is under way.
#[tokio::test(start_paused = true)]
async fn retry_that_waits_is_in_flight() {
    let budget = Budget::in_flight(0.0, 1).unwrap();
    let retry = with(&budget, 2).build().unwrap();
    let waiting = tokio::spawn(retry.call(down));
    sleep(ms(50)).await;
    retry.call(down).await.unwrap_err();
    assert_eq!(retry.snapshot().stopped.budget, 1);
    waiting.await.unwrap().unwrap_err();
    retry.call(down).await.unwrap_err();
    assert_eq!((retry.snapshot().retries, retry.snapshot().stopped.budget), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn call_gives_back_its_own_place_once() {
    let budget = Budget::in_flight(0.0, 3).unwrap();
    let slow = with(&budget, 2).backoff(Backoff::constant(ms(60_000))).build().unwrap();
    let waiting = tokio::spawn(slow.call(down));
    sleep(ms(50)).await;
    let left = || budget.available(Instant::now().into_std());
    assert_eq!(left(), 2.0);
    for attempts in [2, 3] {
        let retry = with(&budget, attempts).build().unwrap();
        retry.call(down).await.unwrap_err();
        assert_eq!((retry.snapshot().retries, left()), (u64::from(attempts) - 1, 2.0));
        let script = Script::of([Err("one".into())]);
        retry.layer().layer(script.service()).oneshot("a").await.unwrap();
        assert_eq!(left(), 2.0);
    }
    waiting.await.unwrap().unwrap_err();
    assert_eq!(left(), 3.0);
}

#[tokio::test(start_paused = true)]
async fn nothing_stays_counted_however_a_call_ends() {
    let budget = all();
    let retry = with(&budget, 3).build().unwrap();
    let answers: [&[Result<&str, &str>]; 5] = [
        &[Ok("at once")],
        &[Err("one"), Ok("two")],
        &[Err("one"), Err("two"), Ok("three")],
        &[Err("one"), Err("two"), Err("three")],
        &[Err("one"), Err("permanent")],
    ];
    for answers in answers {
        let script = Script::of(answers.iter().map(|answer| answer.map_err(BoxError::from)));
        let layer = retry.layer().classify_with(|outcome: Result<&&str, &BoxError>| match outcome {
            Ok(_) => Verdict::Success,
            Err(error) if error.to_string() == "permanent" => Verdict::permanent(),
            Err(_) => Verdict::transient(),
        });
        let _ended = layer.layer(script.service()).oneshot("a").await;
        assert_idle(&budget, &format!("{answers:?}"));
    }

    let late = with(&budget, 3).max_elapsed(ms(150)).build().unwrap();
    late.call(down).await.unwrap_err();
    assert_eq!(late.snapshot().stopped.deadline, 1);
    assert_idle(&budget, "stopped by its deadline at a retry");

    let once = retry.layer().replay(buttress_core::Never);
    once.layer(Script::failing().service()).oneshot("a").await.unwrap_err();
    assert_idle(&budget, "not replayable");

    let probe = buttress_test::Script::<(), BoxError>::new([]).then(|| buttress_test::step::err("down"));
    let probe = probe.service::<()>();
    let mut svc = retry.layer().layer(probe.clone());
    let call = svc.ready().await.unwrap().call(());
    probe.fail_readiness("broken".into());
    call.await.unwrap_err();
    assert_eq!(retry.snapshot().stopped.not_ready, 1);
    assert_idle(&budget, "not ready for its retry");
}

#[tokio::test(start_paused = true)]
async fn nothing_stays_counted_of_a_call_dropped_at_any_await() {
    let budget = all();
    let none = Budget::in_flight(0.0, 0).unwrap();
    for (budget, pause) in [(&budget, false), (&none, true)] {
        let retry = with(budget, 3).pause_without_budget(pause).build().unwrap();
        let svc = retry.layer().layer(service_fn(|()| down()));
        let check = |polls| match pause {
            false => assert_idle(budget, &format!("dropped after {polls} polls")),
            true => assert_eq!(budget.available(Instant::now().into_std()), 0.0),
        };
        let polls = drop_at_every_await(|| svc.clone().oneshot(()), check).await;
        assert!(polls >= 2, "{polls}");
    }
    drop(with(&budget, 3).build().unwrap().call(down));
    assert_idle(&budget, "never polled");
}

#[derive(Clone)]
struct Perishes;

impl Replay<&'static str> for Perishes {
    fn save(&self, req: &&'static str) -> Option<&'static str> {
        Some(req)
    }

    fn can_resend(&self, _saved: &&'static str, _applied: Applied) -> bool {
        panic!("in the replay")
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_stays_counted_of_a_call_that_panics() {
    let budget = all();
    for panicking in 0..3_usize {
        for in_call in [true, false] {
            let retry = with(&budget, 4).build().unwrap();
            let calls = Arc::new(AtomicUsize::new(0));
            let svc = retry.layer().layer(service_fn(move |()| {
                let n = calls.fetch_add(1, Relaxed);
                assert!(!(n == panicking && in_call), "in call");
                async move {
                    assert!(n != panicking, "in poll");
                    Err::<(), BoxError>("down".into())
                }
            }));
            assert!(tokio::spawn(svc.oneshot(())).await.unwrap_err().is_panic());
            assert_idle(&budget, &format!("panic at attempt {panicking}, in call {in_call}"));
        }
    }
    for strategy in 0..5 {
        let retry = with(&budget, 3);
        let retry = if strategy == 0 { retry.backoff_with(|_| panic!("in the curve")) } else { retry };
        let layer = retry.build().unwrap().layer();
        let svc = Script::failing().service();
        let call = match strategy {
            0 => tokio::spawn(layer.layer(svc).oneshot("a")),
            1 => tokio::spawn(
                layer
                    .classify_with(|_: Result<&&str, &BoxError>| -> Verdict { panic!("in the classifier") })
                    .layer(svc)
                    .oneshot("a"),
            ),
            2 => tokio::spawn(
                layer
                    .on_retry(|_, _: Result<&&str, &BoxError>, _| panic!("in the listener"))
                    .layer(svc)
                    .oneshot("a"),
            ),
            3 => tokio::spawn(
                layer
                    .throttled_when(|_: Result<&&str, &BoxError>| panic!("in the question"))
                    .layer(svc)
                    .oneshot("a"),
            ),
            _ => tokio::spawn(layer.replay(Perishes).layer(svc).oneshot("a")),
        };
        assert!(call.await.unwrap_err().is_panic());
        assert_idle(&budget, &format!("panic of strategy {strategy}"));
    }
    let unsaved = with(&budget, 2).build().unwrap().layer().replay_with(|_: &&str| panic!("in save"));
    let svc = unsaved.layer(Script::failing().service());
    assert!(tokio::spawn(svc.oneshot("a")).await.unwrap_err().is_panic());
    assert_idle(&budget, "panic while the request is saved");
}

// The retry that failed was given back before the panic, and must not be given back by it again.
#[tokio::test(start_paused = true)]
async fn nothing_is_given_back_twice_by_a_panic_after_a_retry() {
    let budget = all();
    let retry = with(&budget, 3).backoff_with(|n| if n == 0 { ms(0) } else { panic!("in the curve") });
    let svc = retry.build().unwrap().layer().layer(Script::failing().service());
    assert!(tokio::spawn(svc.oneshot("a")).await.unwrap_err().is_panic());
    assert_idle(&budget, "panic after a retry");
}

#[tokio::test(start_paused = true)]
async fn retry_of_what_was_never_sent_takes_no_place() {
    let budget = Budget::in_flight(0.0, 0).unwrap();
    let retry = with(&budget, 3).retry_rejections(["BULKHEAD_QUEUE_FULL"]).build().unwrap();
    let script = Script::failing_with(|| Rejection::new(QUEUE_FULL, &Name::new("inner")).into());
    retry.layer().layer(script.service()).oneshot("a").await.unwrap_err();
    assert_eq!(script.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn level_is_the_share_of_the_places_that_are_free() {
    let recording = Recording::new();
    let budget = Budget::in_flight(0.0, 2).unwrap();
    let retry = with(&budget, 2).observe(recording.clone()).build().unwrap();
    let calls: Vec<_> = (0..3).map(|_| tokio::spawn(retry.call(down))).collect();
    for call in calls {
        call.await.unwrap().unwrap_err();
    }
    assert_eq!(recording.levels(words::BUDGET_AVAILABLE), [1.0, 0.5, 0.0, 0.0]);
    assert_eq!(retry.snapshot().budget_available_ratio, Some(1.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn limit_holds_and_nothing_stays_counted_under_many_threads() {
    let budget = Budget::in_flight(0.0, 3).unwrap();
    let retry = with(&budget, 3).backoff(Backoff::none()).build().unwrap();
    let (retrying, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (retry, retrying, most) = (retry.clone(), retrying.clone(), most.clone());
            tokio::spawn(async move {
                for _ in 0..300 {
                    let attempt = || {
                        let (retrying, most) = (retrying.clone(), most.clone());
                        async move {
                            if buttress_core::context::current().attempt > 1 {
                                most.fetch_max(retrying.fetch_add(1, Relaxed) + 1, Relaxed);
                                tokio::task::yield_now().await;
                                retrying.fetch_sub(1, Relaxed);
                            }
                            Err::<(), BoxError>("down".into())
                        }
                    };
                    retry.call(attempt).await.unwrap_err();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!((1..=3).contains(&most.load(Relaxed)), "{} at once", most.load(Relaxed));
    assert_eq!(budget.available(std::time::Instant::from(Instant::now())), 3.0);
    assert_eq!(budget.available_ratio(std::time::Instant::from(Instant::now())), 1.0);
}
