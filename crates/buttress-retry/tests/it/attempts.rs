//! How many attempts are made, with what waits, and what the caller gets.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::BoxError;
use buttress_kit::{Backoff, Jitter};
use buttress_retry::{Retry, RetryBuilder, RetryConfig};
use buttress_test::Recording;
use tokio_test::{assert_ready, task};
use tower::{Layer, Service, ServiceExt};

use crate::support::{Script, didactic, dspx, fluxus, ms, of};

/// The waits between the calls of a service that always fails.
async fn waits(config: RetryConfig) -> Vec<Duration> {
    waits_of(&Retry::builder("payments").config(config).seed(1).build().unwrap()).await
}

async fn waits_of(retry: &Retry) -> Vec<Duration> {
    let script = Script::failing();
    retry.layer().layer(script.service()).oneshot("a").await.unwrap_err();
    script.waits()
}

#[tokio::test(start_paused = true)]
async fn call_that_succeeds_is_made_once() {
    let script = Script::default();
    let retry = Retry::new("payments", RetryConfig::default()).unwrap();
    let svc = retry.layer().layer(script.service());
    assert_eq!(svc.oneshot("a").await.unwrap(), "ok");
    assert_eq!((script.calls(), retry.snapshot().retries), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn max_attempts_counts_all_calls_and_the_last_error_comes_out_unchanged() {
    let script = Script::of([Err("one".into()), Err("two".into()), Err("three".into())]);
    let retry = Retry::new("payments", RetryConfig::fixed(3, ms(500))).unwrap();
    let error: BoxError = retry.layer().layer(script.service()).oneshot("a").await.unwrap_err();
    assert_eq!(error.to_string(), "three");
    assert_eq!(script.waits(), [ms(500), ms(500)]);
}

#[tokio::test(start_paused = true)]
async fn retries_count_the_calls_after_the_first() {
    for (retries, calls) in [(0, 1), (2, 3), (3, 4)] {
        let script = Script::failing();
        let retry = Retry::builder("payments").retries(retries).backoff(Backoff::none()).build().unwrap();
        retry.layer().layer(script.service()).oneshot("a").await.unwrap_err();
        assert_eq!(script.calls(), calls);
    }
}

#[tokio::test(start_paused = true)]
async fn one_attempt_means_no_retry() {
    for config in [RetryConfig::none(), RetryConfig::fixed(1, ms(10))] {
        assert_eq!(waits(config).await, []);
    }
}

#[tokio::test(start_paused = true)]
async fn no_attempts_is_refused_and_as_many_as_can_be_counted_work() {
    let error = Retry::builder("payments").max_attempts(0).build().unwrap_err();
    assert_eq!((error.field(), error.value()), ("max_attempts", "0"));

    let calls = AtomicU32::new(0);
    let retry = Retry::builder("payments").max_attempts(u32::MAX).backoff(Backoff::none()).build().unwrap();
    let answer = retry.call(|| async {
        let n = calls.fetch_add(1, Relaxed) + 1;
        if n == 100_000 { Ok::<_, BoxError>(n) } else { Err("not yet".into()) }
    });
    assert_eq!(answer.await.unwrap(), 100_000);
    assert_eq!(Retry::builder("payments").retries(u32::MAX).build().unwrap().config().max_attempts, u32::MAX);
}

#[tokio::test(start_paused = true)]
async fn dspx_waits_100_400_1600_with_jitter_below_the_cap() {
    for seed in 0..200 {
        let config = of(4, dspx());
        let retry = Retry::builder("state").config(config).seed(seed).build().unwrap();
        let waits = waits_of(&retry).await;
        assert!((ms(100)..=ms(151)).contains(&waits[0]), "{waits:?}");
        assert!((ms(400)..=ms(451)).contains(&waits[1]), "{waits:?}");
        assert_eq!(waits[2], ms(1600));
    }
}

/// The waits as they were chosen; those between the calls are whole milliseconds.
async fn chosen(retry: RetryBuilder, calls: usize) -> Vec<Duration> {
    let recording = Recording::new();
    let retry = retry.observe(recording.clone()).build().unwrap();
    let svc = retry.layer().layer(Script::failing().service());
    for _ in 0..calls {
        svc.clone().oneshot("a").await.unwrap_err();
    }
    recording.attempts().into_iter().map(|(_, wait)| wait).collect()
}

#[tokio::test(start_paused = true)]
async fn thousand_seeds_give_distinct_waits_within_bounds() {
    let mut seen = HashSet::new();
    for seed in 0..1000 {
        let waits = chosen(Retry::builder("state").config(of(2, dspx())).seed(seed), 1).await;
        assert!((ms(100)..=ms(150)).contains(&waits[0]), "{waits:?}");
        seen.insert(waits[0]);
    }
    assert!(seen.len() > 990, "{}", seen.len());
    let again = || chosen(Retry::builder("state").max_attempts(5).seed(7), 1);
    assert_eq!(again().await, again().await);
}

// Known from other libraries: every call draws the same jitter, so that all of them retry in lock step
#[tokio::test(start_paused = true)]
async fn calls_and_clones_of_one_policy_draw_each_their_own_jitter() {
    let waits = chosen(Retry::builder("state").max_attempts(2), 10_000).await;
    let distinct: HashSet<_> = waits.iter().collect();
    assert!(distinct.len() > 9_990, "{}", distinct.len());
    let mean = waits.iter().map(Duration::as_secs_f64).sum::<f64>() / waits.len() as f64;
    assert!((0.049..0.051).contains(&mean), "{mean}");
    assert!(waits.iter().all(|wait| *wait <= ms(100)));
}

#[tokio::test(start_paused = true)]
async fn recipe_of_five_attempts_doubles_from_100_ms() {
    let retry =
        Retry::builder("state").max_attempts(5).backoff(Backoff::exponential(ms(100))).build().unwrap();
    assert_eq!(waits_of(&retry).await, [ms(100), ms(200), ms(400), ms(800)]);
}

#[tokio::test(start_paused = true)]
async fn fixed_and_linear_waits_are_exact() {
    assert_eq!(waits(RetryConfig::fixed(3, ms(1000))).await, [ms(1000), ms(1000)]);
    assert_eq!(waits(RetryConfig::linear(4, ms(500), ms(500))).await, [ms(500), ms(1000), ms(1500)]);
    let retry = |backoff| Retry::builder("s").max_attempts(4).backoff(backoff).build().unwrap();
    assert_eq!(waits_of(&retry(Backoff::constant(ms(100)))).await, [ms(100); 3]);
    assert_eq!(waits_of(&retry(Backoff::linear(ms(100)))).await, [ms(100), ms(200), ms(300)]);
    assert_eq!(waits_of(&retry(Backoff::exponential(ms(100)))).await, [ms(100), ms(200), ms(400)]);
}

#[tokio::test(start_paused = true)]
async fn exponential_begins_at_the_initial_wait() {
    let mut config = RetryConfig::exponential(5, ms(10), ms(1000));
    config.backoff.jitter = Jitter::None;
    assert_eq!(waits(config).await, [ms(10), ms(20), ms(40), ms(80)]);
}

#[tokio::test(start_paused = true)]
async fn jitter_of_blipee_adds_up_to_a_fifth_below_the_cap() {
    for seed in 0..50 {
        let config = RetryConfig::exponential(5, ms(1000), ms(5000));
        let waits = waits_of(&Retry::builder("s").config(config).seed(seed).build().unwrap()).await;
        for (wait, base) in waits.iter().zip([1000, 2000, 4000, 8000]) {
            let most = (base + base / 5).min(5000);
            assert!((ms(base.min(5000))..=ms(most + 1)).contains(wait), "{waits:?}");
        }
    }
}

// `maxAttempts` 5, `initialDelay` 1000, `maxDelay` 30000, `backoffMultiplier` 2, `jitter` true
#[tokio::test(start_paused = true)]
async fn custom_settings_wait_from_a_second_doubled_up_to_thirty_with_jitter_and_without() {
    let retry = |attempts, jitter| {
        let backoff = Backoff::exponential(ms(1000)).with_max(ms(30_000)).with_factor(2.0);
        Retry::builder("s").max_attempts(attempts).backoff(backoff.with_jitter(jitter)).seed(3)
    };
    let waits = chosen(retry(5, Jitter::Proportional(0.2)), 1).await;
    assert_eq!(waits.len(), 4);
    for (wait, base) in waits.iter().zip([1000, 2000, 4000, 8000]) {
        assert!((ms(base)..=ms(base + base / 5)).contains(wait) && *wait != ms(base), "{waits:?}");
    }
    let exact = [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000].map(ms);
    assert_eq!(chosen(retry(8, Jitter::None), 1).await, exact);
}

#[tokio::test(start_paused = true)]
async fn didactic_waits_one_two_four_seconds() {
    let mut config = didactic();
    config.backoff.jitter = Jitter::None;
    assert_eq!(waits(config).await, [ms(1000), ms(2000), ms(4000)]);
    let mut config = of(3, didactic());
    config.backoff.factor = 3.0;
    config.backoff.jitter = Jitter::None;
    assert_eq!(waits(config).await, [ms(1000), ms(3000)]);
}

#[tokio::test(start_paused = true)]
async fn didactic_cap_is_a_promise_jitter_included() {
    let waits = waits(of(200, didactic())).await;
    assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(60)));
    assert!(waits[10..].iter().all(|wait| *wait == Duration::from_secs(60)));
    // Below the cap, up to a tenth more.
    assert!(
        waits[..5].iter().zip([1000, 2000, 4000, 8000, 16_000]).all(|(wait, base)| {
            (ms(base)..=ms(base + base / 10 + 1)).contains(wait) && *wait != ms(base)
        })
    );
}

#[tokio::test(start_paused = true)]
async fn backoff_closure_gets_the_retry_from_zero_and_is_cut_to_the_cap() {
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = asked.clone();
    let retry = Retry::builder("stage").max_attempts(40).backoff_with(move |n| {
        heard.lock().unwrap().push(n);
        ms(1_u64.checked_shl(n).unwrap_or(u64::MAX))
    });
    let waits = waits_of(&retry.build().unwrap()).await;
    assert_eq!(*asked.lock().unwrap(), (0..39).collect::<Vec<_>>());
    assert_eq!(waits[..4], [ms(1), ms(2), ms(4), ms(8)]);
    assert_eq!(waits[38], Duration::from_secs(30));
}

#[test]
fn no_wait_registers_no_timer() {
    // Without a runtime, a timer would panic.
    let retry = Retry::new("stage", fluxus()).unwrap();
    let script = Script::failing();
    let mut svc = retry.layer().layer(script.service());
    let mut call = task::spawn(svc.call("a"));
    assert_ready!(call.poll()).unwrap_err();
    assert_eq!(script.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn call_that_never_waits_lets_other_tasks_run() {
    let retry = Retry::new("stage", of(100_000, fluxus())).unwrap();
    let other = tokio::spawn(async {});
    tokio::select! {
        biased;
        _ = retry.call(|| async { Err::<(), BoxError>("down".into()) }) => panic!("the other task had to wait"),
        ran = other => ran.unwrap(),
    }
    assert!(retry.snapshot().retries < 1000);
}

#[tokio::test(start_paused = true)]
async fn attempts_stop_at_success_at_a_fatal_error_and_at_four() {
    let retryable = || Err("retryable".into());
    let fatal = || Err("fatal".into());
    let cases: [(Vec<Result<_, BoxError>>, usize); 7] = [
        (vec![Ok("ok")], 1),
        (vec![retryable(), Ok("ok")], 2),
        (vec![retryable(), retryable(), Ok("ok")], 3),
        (vec![fatal()], 1),
        (vec![retryable(), fatal()], 2),
        (vec![retryable(), retryable(), fatal()], 3),
        (vec![retryable(), retryable(), retryable(), retryable()], 4),
    ];
    let retry = Retry::new("rpc", RetryConfig::fixed(4, ms(1))).unwrap();
    for (answers, calls) in cases {
        let last = answers.last().unwrap().as_ref().map_err(ToString::to_string).copied();
        let script = Script::of(answers);
        let only = buttress_core::OnlyErrors::codes(["retryable"]);
        let answer = retry.layer().classify(only).layer(script.service()).oneshot("a").await;
        assert_eq!((script.calls(), answer.map_err(|error| error.to_string())), (calls, last));
    }
}

#[tokio::test(start_paused = true)]
async fn closure_is_retried_as_a_service_is() {
    let script = Script::of([Err("one".into()), Err("two".into())]);
    let retry = Retry::new("payments", RetryConfig::fixed(3, ms(10))).unwrap();
    assert_eq!(retry.call(|| async { script.answer() }).await.unwrap(), "ok");
    assert_eq!(script.waits(), [ms(10), ms(10)]);

    let script = Script::failing();
    let layer = retry.layer().classify(buttress_core::OnlyErrors::codes(["never"]));
    layer.call(|| async { script.answer() }).await.unwrap_err();
    assert_eq!(script.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn waits_of_thousands_of_attempts_end_at_the_cap() {
    let config = of(1100, RetryConfig::exponential(3, ms(1), ms(30_000)));
    let waits = waits(config).await;
    for n in [40, 63, 64, 65, 1024, 1025] {
        assert_eq!(waits[n], ms(30_000));
    }
}
