//! Budgets: a share of the calls, tokens with prices, gRPC's half rule; and what they do to amplification.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use buttress_core::{BoxError, Level, Name, Outcome, Rejection, Value, Verdict};
use buttress_kit::{Backoff, Budget, Jitter, TokenBudgetConfig};
use buttress_retry::{Retry, RetryBuilder, RetryConfig, words};
use buttress_test::{Recording, What};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::{LIMITED, QUEUE_FULL, Script, TIMEOUT, aws, ms, of};

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn with(budget: &Budget, attempts: u32) -> RetryBuilder {
    Retry::builder("api").max_attempts(attempts).backoff(Backoff::none()).budget(budget.clone())
}

#[tokio::test(start_paused = true)]
async fn budget_keeps_retries_at_its_share_of_the_calls() {
    let budget = Budget::new(0.25, 0).unwrap();
    let retry = with(&budget, 9).build().unwrap();
    let script = Script::failing();
    let svc = retry.layer().layer(script.service());
    for _ in 0..1000 {
        svc.clone().oneshot("a").await.unwrap_err();
    }
    assert_eq!(retry.snapshot().retries, 250);
    assert_eq!(script.calls(), 1250);
}

#[tokio::test(start_paused = true)]
async fn retry_refused_by_the_budget_returns_the_original_error_at_once_and_is_told() {
    let recording = Recording::new();
    let budget = Budget::new(0.0, 0).unwrap();
    let retry = with(&budget, 3).backoff(Backoff::constant(ms(500))).observe(recording.clone());
    let retry = retry.report_exhaustion(true).build().unwrap();
    let script = Script::failing_with(|| std::io::Error::other("original").into());
    let start = Instant::now();
    let error: BoxError = retry.layer().layer(script.service()).oneshot("a").await.unwrap_err();
    assert!(error.is::<std::io::Error>());
    assert_eq!((start.elapsed(), script.calls()), (ms(0), 1));
    assert_eq!(recording.stops(), [words::BUDGET]);
    assert_eq!(recording.levels(words::BUDGET_AVAILABLE).last(), Some(&0.0));
    assert_eq!(retry.snapshot().stopped.budget, 1);
}

#[tokio::test(start_paused = true)]
async fn budget_is_shared_by_the_policies_it_was_given_to() {
    let budget = Budget::new(0.0, 10).unwrap(); // ten retries in a second
    let (one, two) = (with(&budget, 8).build().unwrap(), with(&budget, 8).build().unwrap());
    one.call(|| async { Err::<(), BoxError>("down".into()) }).await.unwrap_err();
    two.call(|| async { Err::<(), BoxError>("down".into()) }).await.unwrap_err();
    assert_eq!((one.snapshot().retries, two.snapshot().retries), (7, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn budget_and_counts_are_exact_under_many_threads() {
    let budget = Budget::new(0.5, 0).unwrap();
    let retry = with(&budget, 4).build().unwrap();
    let made = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (retry, made) = (retry.clone(), made.clone());
            tokio::spawn(async move {
                for _ in 0..500 {
                    let attempt = || {
                        made.fetch_add(1, Relaxed);
                        async { Err::<(), BoxError>("down".into()) }
                    };
                    retry.call(attempt).await.unwrap_err();
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let snapshot = retry.snapshot();
    // The last call may stop at its number of attempts and leave a few.
    assert!((1995..=2000).contains(&snapshot.retries), "{}", snapshot.retries);
    assert_eq!(snapshot.retries + 4000, made.load(Relaxed) as u64);
    assert_eq!(snapshot.stopped.budget + snapshot.stopped.max_attempts, 4000);
}

#[tokio::test(start_paused = true)]
async fn call_dropped_while_it_waits_gives_its_retry_back_and_makes_no_attempt() {
    let budgets = [
        (Budget::new(0.0, 10).unwrap(), 10.0, 9.0),
        (Budget::new(1.0, 0).unwrap(), 1.0, 0.0),
        (Budget::tokens(TokenBudgetConfig::default()).unwrap(), 500.0, 486.0),
    ];
    for (budget, full, taken) in budgets {
        let recording = Recording::new();
        let retry = with(&budget, 3).backoff(Backoff::constant(ms(10_000))).observe(recording.clone());
        let retry = retry.build().unwrap();
        let script = Script::failing();
        let mut svc = retry.layer().layer(script.service());
        let mut call = Box::pin(svc.ready().await.unwrap().call("a"));
        assert!(buttress_test::poll_once(call.as_mut()).is_pending());
        assert_eq!(budget.available(now()), taken);
        drop(call);
        assert_eq!(budget.available(now()), full);
        assert_eq!(recording.levels(words::BUDGET_AVAILABLE).last(), Some(&1.0));
        tokio::time::sleep(ms(9_000)).await;
        assert_eq!(script.calls(), 1);
    }
}

// Somebody who types ahead leaves a hundred times: the retries of those who stay are not spent on it.
#[tokio::test(start_paused = true)]
async fn callers_who_leave_while_they_wait_leave_the_budget_to_those_who_stay() {
    let budget = Budget::new(0.1, 0).unwrap();
    let retry = with(&budget, 2).backoff(Backoff::constant(ms(100))).build().unwrap();
    (0..9).for_each(|_| budget.deposit(now()));
    for _ in 0..100 {
        let mut call = Box::pin(retry.call(|| async { Err::<(), BoxError>("down".into()) }));
        assert!(buttress_test::poll_once(call.as_mut()).is_pending());
    }
    assert_eq!(retry.snapshot().stopped.budget, 0);
}

// In its second attempt it has spent it.
#[tokio::test(start_paused = true)]
async fn call_dropped_in_a_later_attempt_has_spent_its_retry() {
    let budget = Budget::new(0.0, 10).unwrap();
    let retry = with(&budget, 3).build().unwrap();
    let mut call = Box::pin(retry.call(|| async {
        if buttress_core::context::current().attempt > 1 {
            std::future::pending::<()>().await;
        }
        Err::<(), BoxError>("down".into())
    }));
    assert!(buttress_test::poll_once(call.as_mut()).is_pending());
    drop(call);
    assert_eq!(budget.available(now()), 9.0);
}

#[tokio::test(start_paused = true)]
async fn other_reasons_to_stop_cost_the_budget_nothing() {
    let budget = Budget::new(0.0, 10).unwrap();
    let stops = [with(&budget, 1), with(&budget, 3).backoff(Backoff::constant(ms(500))).max_elapsed(ms(100))];
    for retry in stops {
        let script = Script::failing();
        retry.build().unwrap().layer().layer(script.service()).oneshot("a").await.unwrap_err();
        assert_eq!(script.calls(), 1);
    }
    let never = with(&budget, 3).build().unwrap();
    never
        .layer()
        .replay(buttress_core::Never)
        .layer(Script::failing().service())
        .oneshot("a")
        .await
        .unwrap_err();
    assert_eq!(budget.available(now()), 10.0);
}

#[tokio::test(start_paused = true)]
async fn retry_of_a_call_that_was_never_sent_is_free() {
    let budget = Budget::new(0.0, 0).unwrap();
    let retry = with(&budget, 3).retry_rejections(["BULKHEAD_QUEUE_FULL"]).build().unwrap();
    let script = Script::failing_with(|| Rejection::new(QUEUE_FULL, &Name::new("inner")).into());
    retry.layer().layer(script.service()).oneshot("a").await.unwrap_err();
    assert_eq!(script.calls(), 3);
}

/// What the SDK's tests see of one call: the status codes of the attempts, the tokens after each retry and at the
/// end, the waits.
async fn tokens_of(
    config: RetryConfig,
    tokens: u32,
    statuses: &'static [u16],
) -> (Vec<u32>, u32, Vec<u128>, u16) {
    let budget = Budget::tokens(TokenBudgetConfig::default()).unwrap();
    // The bucket holds 500 at most; it may begin with less.
    let budget = if tokens == 500 {
        budget
    } else {
        Budget::tokens(TokenBudgetConfig::default().with_capacity(tokens)).unwrap()
    };
    let recording = Recording::new();
    let mut config = config;
    config.backoff.jitter = Jitter::None; // as if chance always gave the whole wait
    if let Some(slower) = &mut config.throttle_backoff {
        slower.jitter = Jitter::None;
    }
    let retry = Retry::builder("api").config(config).budget(budget.clone()).observe(recording.clone());
    let layer = retry.build().unwrap().layer();
    let layer = layer
        .classify_with(|outcome: Result<&u16, &BoxError>| match outcome {
            Ok(200) => Verdict::Success,
            _ => Verdict::transient(),
        })
        .throttled_when(|outcome: Result<&u16, &BoxError>| outcome.is_ok_and(|status| *status == 400));
    let next = Arc::new(AtomicUsize::new(0));
    let made = next.clone();
    let svc = service_fn(move |()| {
        let status = statuses[next.fetch_add(1, Relaxed)];
        async move { Ok::<_, BoxError>(status) }
    });
    let status = layer.layer(svc).oneshot(()).await.unwrap();
    assert_eq!(made.load(Relaxed), statuses.len());
    let (mut after, mut level) = (Vec::new(), 0);
    for event in recording.events() {
        match event.what {
            What::Level(Level { value, .. }) => level = (value * f64::from(tokens)).round() as u32,
            What::Attempt { .. } => after.push(level),
            What::Note(note)
                if (note.what, &note.value) == (words::STOPPED, &Some(Value::Word(words::BUDGET))) =>
            {
                after.push(level)
            }
            _ => {}
        }
    }
    let waits = recording.attempts().iter().map(|(_, wait)| wait.as_millis()).collect();
    (after, budget.available(now()) as u32, waits, status)
}

#[tokio::test(start_paused = true)]
async fn tokens_and_waits_are_those_of_the_aws_sdks() {
    let standard = aws;
    let (after, left, waits, status) = tokens_of(standard(), 500, &[500, 500, 200]).await;
    assert_eq!((after, left, waits, status), (vec![486, 472], 486, vec![50, 100], 200));
    let (after, left, waits, status) = tokens_of(standard(), 500, &[502, 502, 502]).await;
    assert_eq!((after, left, waits, status), (vec![486, 472], 472, vec![50, 100], 502));
    let (after, left, waits, status) = tokens_of(standard(), 14, &[500, 500]).await;
    assert_eq!((after, left, waits, status), (vec![0, 0], 0, vec![50], 500));

    let mut capped = of(5, standard());
    capped.backoff.max = ms(200);
    let (after, left, waits, _) = tokens_of(capped, 500, &[500; 5]).await;
    assert_eq!((after, left, waits), (vec![486, 472, 458, 444], 444, vec![50, 100, 200, 200]));

    let (after, left, ..) = tokens_of(of(5, standard()), 20, &[500, 502]).await;
    assert_eq!((after, left), (vec![6, 6], 6));
    let (after, left, waits, status) = tokens_of(standard(), 500, &[400, 200]).await;
    assert_eq!((after, left, waits, status), (vec![495], 500, vec![1000], 200));

    let mut dynamo = of(4, standard());
    dynamo.backoff.base = ms(25);
    let (after, left, waits, _) = tokens_of(dynamo, 500, &[500; 4]).await;
    assert_eq!((after, left, waits), (vec![486, 472, 458], 458, vec![25, 50, 100]));
}

// Of the SDKs' tests, over several calls: tokens come back with successes, the price of the last retry at once.
#[tokio::test(start_paused = true)]
async fn tokens_come_back_call_by_call() {
    let budget = Budget::tokens(TokenBudgetConfig::default().with_capacity(30)).unwrap();
    let retry = Retry::builder("api").config(of(5, aws())).budget(budget.clone()).build().unwrap();
    type Answers = &'static [Result<&'static str, &'static str>];
    let calls: [(Answers, usize, f64); 5] = [
        (&[Err("500"), Err("502"), Ok("ok")], 3, 16.0),
        (&[Err("500"), Ok("ok")], 2, 16.0),
        (&[Ok("ok")], 1, 17.0),
        (&[Err("500"), Err("500")], 2, 3.0), // no token for a third attempt
        (&[Ok("ok")], 1, 4.0),
    ];
    for (answers, attempts, left) in calls {
        let script = Script::of(answers.iter().map(|answer| answer.map_err(BoxError::from)));
        let answer = retry.layer().layer(script.service()).oneshot("a").await;
        assert_eq!((answer.is_ok(), script.calls()), (answers.last().unwrap().is_ok(), attempts));
        assert_eq!(budget.available(now()), left);
    }
}

#[tokio::test(start_paused = true)]
async fn call_without_budget_may_wait_out_its_backoff_before_it_fails() {
    let recording = Recording::new();
    let none = Budget::tokens(TokenBudgetConfig::default().with_capacity(0)).unwrap();
    let retry = with(&none, 3)
        .backoff(Backoff::constant(ms(50)))
        .throttle_backoff(Backoff::constant(ms(1000)))
        .pause_without_budget(true)
        .observe(recording.clone())
        .build()
        .unwrap();
    let script = Script::failing();
    let layer = retry.layer().throttled_when(|outcome: Result<&&str, &BoxError>| outcome.is_err());
    let start = Instant::now();
    let mut svc = layer.layer(script.service());
    svc.ready().await.unwrap().call("a").await.unwrap_err();
    assert_eq!((start.elapsed(), script.calls()), (ms(50), 1));
    assert_eq!((recording.stops(), recording.outcomes()), (vec![words::BUDGET], vec![Outcome::Failure]));

    let mut call = Box::pin(svc.ready().await.unwrap().call("a"));
    assert!(buttress_test::poll_once(call.as_mut()).is_pending());
    drop(call);
    assert_eq!(recording.outcomes(), [Outcome::Failure, Outcome::Cancelled]);
}

// The backoff it waits out is that of ordinary failures, which may be longer than the one that fitted.
#[tokio::test(start_paused = true)]
async fn pause_without_budget_ends_at_the_deadline() {
    let none = Budget::tokens(TokenBudgetConfig::default().with_capacity(0)).unwrap();
    let retry = with(&none, 3)
        .backoff(Backoff::constant(ms(5000)))
        .throttle_backoff(Backoff::constant(ms(10)))
        .max_elapsed(ms(1000))
        .pause_without_budget(true)
        .build()
        .unwrap();
    let layer = retry.layer().throttled_when(|outcome: Result<&&str, &BoxError>| outcome.is_err());
    let start = Instant::now();
    layer.layer(Script::failing().service()).oneshot("a").await.unwrap_err();
    assert_eq!(start.elapsed(), ms(1000));
    assert_eq!(retry.snapshot().stopped.budget, 1);
}

// gRPC's "do not retry" push-back takes a token as any failure does: here a hint that nobody would obey.
#[tokio::test(start_paused = true)]
async fn half_rule_takes_a_token_also_for_a_push_back_that_ends_the_call() {
    let budget = Budget::grpc(10, 0.5).unwrap();
    let retry = with(&budget, 4).retry_after(buttress_retry::RetryAfter::Replace).build().unwrap();
    let script = Script::failing();
    let layer = retry
        .layer()
        .classify_with(|_: Result<&&str, &BoxError>| Verdict::retry_after(std::time::Duration::MAX));
    layer.layer(script.service()).oneshot("a").await.unwrap_err();
    assert_eq!((script.calls(), budget.available(now())), (1, 9.0));
}

#[tokio::test(start_paused = true)]
async fn time_out_and_rate_limit_have_their_own_price() {
    let config = TokenBudgetConfig::default().with_capacity(100).with_prices(1, 10, 30);
    let name = Name::new("inner");
    let cases: [(BoxError, f64); 3] = [
        ("down".into(), 99.0),
        (Rejection::new(TIMEOUT, &name).into(), 70.0),
        (Rejection::new(LIMITED, &name).with_sent(true).into(), 90.0),
    ];
    for (error, left) in cases {
        let budget = Budget::tokens(config).unwrap();
        let retry = with(&budget, 2).build().unwrap();
        let script = Script::of([Err(error), Err("permanent, to keep the price".into())]);
        retry.layer().layer(script.service()).oneshot("a").await.unwrap_err();
        assert_eq!(budget.available(now()), left);
    }
}

#[tokio::test(start_paused = true)]
async fn half_rule_stops_and_resumes_as_in_grpc() {
    let budget = Budget::grpc(10, 0.5).unwrap();
    let retry = with(&budget, 4).build().unwrap();
    let good = [0, 3, 6, 10, 11, 12, 13, 14, 16, 18];
    let next = Arc::new(AtomicUsize::new(0));
    let attempts = next.clone();
    let svc = service_fn(move |()| {
        let n = next.fetch_add(1, Relaxed);
        async move { if good.contains(&n) { Ok::<_, BoxError>(()) } else { Err("unavailable".into()) } }
    });
    let svc = retry.layer().layer(svc);
    let expected = [
        (true, 0),
        (true, 3),
        (true, 6),
        (false, 8),
        (false, 9),
        (true, 10),
        (true, 11),
        (true, 12),
        (true, 13),
        (true, 14),
        (true, 16),
        (false, 17),
    ];
    for (ok, last) in expected {
        assert_eq!(svc.clone().oneshot(()).await.is_ok(), ok, "ends at attempt {last}");
        assert_eq!(attempts.load(Relaxed) - 1, last);
    }
}

/// Five layers of retries over a service that is down: attempts at the bottom per request at the top.
async fn amplification(budget: Option<f64>, requests: usize) -> f64 {
    let bottom = Arc::new(AtomicUsize::new(0));
    let count = bottom.clone();
    let layer = || {
        let retry = Retry::builder("api").max_attempts(3).backoff(Backoff::none());
        let retry = match budget {
            Some(ratio) => retry.budget(Budget::new(ratio, 0).unwrap()),
            None => retry,
        };
        retry.build().unwrap().layer()
    };
    let svc = service_fn(move |()| {
        count.fetch_add(1, Relaxed);
        std::future::ready(Err::<(), BoxError>("down".into()))
    });
    let mut svc = layer().layer(layer().layer(layer().layer(layer().layer(layer().layer(svc)))));
    for request in 0..requests {
        svc.ready().await.unwrap().call(()).await.unwrap_err();
        if request % 1000 == 999 {
            tokio::time::advance(ms(100)).await;
        }
    }
    bottom.load(Relaxed) as f64 / requests as f64
}

#[tokio::test(start_paused = true)]
async fn five_layers_multiply_by_243_without_and_by_little_with_a_budget() {
    assert_eq!(amplification(None, 200).await, 243.0);
    for ratio in [0.1_f64, 0.2] {
        let bound = (1.0 + ratio).powi(5) * 1.01;
        let measured = amplification(Some(ratio), 20_000).await;
        assert!(measured <= bound, "ratio {ratio}: {measured} > {bound}");
        assert!(measured >= bound * 0.95, "ratio {ratio}: the budget is used, {measured}");
    }
}

/// A service with a capacity per 100 ms, offered less than that in good times; for a second it is down. The calls
/// of the last second that were answered, and the most attempts in a second.
async fn outage(budget: Option<Budget>) -> (f64, usize) {
    const OFFERED: usize = 80;
    const CAPACITY: usize = 100;
    let retry = Retry::builder("api").max_attempts(4).backoff(Backoff::constant(ms(100)));
    let retry = match budget {
        Some(budget) => retry.budget(budget),
        None => retry,
    };
    let retry = retry.build().unwrap();
    let start = Instant::now();
    let load = Arc::new(std::sync::Mutex::new(vec![0_usize; 200]));
    let seen = load.clone();
    // Work that was begun is done, wanted or not: beyond its capacity nobody is answered.
    let svc = service_fn(move |()| {
        let slot = usize::try_from(start.elapsed().as_millis() / 100).unwrap();
        let mut load = seen.lock().unwrap();
        load[slot] += 1;
        let well =
            !(10..20).contains(&slot) && load[slot] <= CAPACITY && load[slot.saturating_sub(1)] <= CAPACITY;
        drop(load);
        std::future::ready(if well { Ok::<(), BoxError>(()) } else { Err("down".into()) })
    });
    let svc = retry.layer().layer(svc);
    let answered = Arc::new(AtomicUsize::new(0));
    for tick in 0..100 {
        for _ in 0..OFFERED {
            let (mut svc, answered) = (svc.clone(), answered.clone());
            tokio::spawn(async move {
                if svc.ready().await.unwrap().call(()).await.is_ok() && tick >= 80 {
                    answered.fetch_add(1, Relaxed);
                }
            });
        }
        tokio::time::sleep(ms(100)).await;
    }
    tokio::time::sleep(ms(1000)).await;
    let peak = *load.lock().unwrap().iter().max().unwrap();
    (answered.load(Relaxed) as f64 / (20 * OFFERED) as f64, peak)
}

// In small: an outage that retries keep alive
#[tokio::test(start_paused = true)]
async fn outage_ends_with_a_budget_and_goes_on_for_ever_without() {
    let (answered, peak) = outage(None).await;
    assert!(answered < 0.2 && peak >= 300, "without: {answered} answered, {peak} at once");
    let (answered, peak) = outage(Some(Budget::new(0.1, 1).unwrap())).await;
    assert!(answered > 0.95 && peak < 200, "with: {answered} answered, {peak} at once");
}
