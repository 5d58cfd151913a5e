//! What users of go-fluxus have, through the public facade, with the names and numbers of its documentation.

use std::{
    error::Error as StdError,
    fmt,
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use crate::sources::source;
use buttress::{
    Backoff, BoxError, Breaker, BreakerConfig, Budget, CallContext, Chance, Jitter, OnlyErrors, Retry,
    RetryConfig, Timeout,
    breaker::{self, State},
    context, rejection,
};
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A stage that fails with the number of the call, until it is told to work.
#[derive(Clone, Default)]
struct Stage {
    calls: Arc<AtomicU32>,
    works: Arc<AtomicBool>,
    broken: Arc<AtomicBool>,
}

impl Stage {
    fn calls(&self) -> u32 {
        self.calls.load(SeqCst)
    }
}

impl Service<()> for Stage {
    type Response = u32;
    type Error = BoxError;
    type Future = Ready<Result<u32, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self.broken.load(SeqCst) && self.calls() > 0 {
            true => Poll::Ready(Err("broken".into())),
            false => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, (): ()) -> Self::Future {
        let n = self.calls.fetch_add(1, SeqCst) + 1;
        ready(if self.works.load(SeqCst) { Ok(n) } else { Err(format!("boom {n}").into()) })
    }
}

#[tokio::test(start_paused = true)]
async fn breaker_around_a_stage_opens_at_three_failures_and_tries_again_after_five_seconds() {
    let (stage, breaker) = (Stage::default(), Breaker::builder("stage").consecutive_failures(3));
    let breaker = breaker.open_for(secs(5)).build().unwrap();
    let protected = breaker.layer().layer(stage.clone());
    for n in 1..=3 {
        assert_eq!(breaker.state(), State::Closed);
        let error = protected.clone().oneshot(()).await.unwrap_err();
        assert_eq!(error.to_string(), format!("boom {n}"));
    }
    assert_eq!(breaker.state(), State::Open);
    for wait in [ms(0), ms(4_999)] {
        advance(wait).await;
        let refused = protected.clone().oneshot(()).await.unwrap_err();
        assert_eq!(rejection(&*refused).unwrap().code(), breaker::OPEN);
    }
    assert_eq!(stage.calls(), 3, "the stage is not called while the circuit is open");
    advance(ms(1)).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    protected.oneshot(()).await.unwrap_err();
    assert_eq!((stage.calls(), breaker.state()), (4, State::Open));
}

#[tokio::test(start_paused = true)]
async fn last_error_is_that_of_the_latest_opening_until_the_circuit_closes_or_is_reset() {
    let (stage, breaker) = (Stage::default(), Breaker::builder("stage").consecutive_failures(2));
    let breaker = breaker.open_for(secs(5)).success_threshold(1).build().unwrap();
    let protected = breaker.layer().layer(stage.clone());
    let call = async || protected.clone().oneshot(()).await.is_ok();
    let last = || breaker.last_error().as_deref().map(str::to_owned);

    assert!(!call().await && !call().await);
    assert_eq!(last().as_deref(), Some("boom 2"));
    advance(secs(5)).await;
    assert!(!call().await);
    assert_eq!(last().as_deref(), Some("boom 3"), "it opened again, for another reason");
    advance(secs(5)).await;
    stage.works.store(true, SeqCst);
    assert_eq!(last().as_deref(), Some("boom 3"), "half-open is not closed");
    assert!(call().await);
    assert_eq!((breaker.state(), last()), (State::Closed, None));

    stage.works.store(false, SeqCst);
    assert!(!call().await && !call().await);
    assert!(last().is_some());
    breaker.reset();
    let seen = breaker.snapshot();
    assert_eq!(
        (seen.state, last(), seen.failures, seen.successes, seen.total),
        (State::Closed, None, 0, 0, 0)
    );
    assert!(!call().await);
    assert_eq!(breaker.state(), State::Closed, "the count began anew");
}

// Known from the original, where one probe of which two must succeed sticks for ever
#[tokio::test(start_paused = true)]
async fn half_open_closes_whatever_the_number_of_probes_and_of_the_successes_they_need() {
    for (probes, successes) in [(1, 1), (1, 2), (3, 2), (3, 5)] {
        let breaker = Breaker::builder("stage").consecutive_failures(1).open_for(secs(5));
        let breaker = breaker.permitted_probes(probes).success_threshold(successes).build().unwrap();
        breaker.try_acquire().unwrap().failure();
        advance(secs(5)).await;
        let mut at_once: Vec<_> = (0..9).filter_map(|_| breaker.try_acquire().ok()).collect();
        assert_eq!(at_once.len() as u32, probes);
        for _ in 0..successes {
            assert_eq!(breaker.state(), State::HalfOpen);
            let probe = at_once.pop().or_else(|| breaker.try_acquire().ok());
            probe.expect("the place of a probe that has ended is free").success();
        }
        assert_eq!(breaker.state(), State::Closed);
    }
    let profile = source::<BreakerConfig>("fluxus", "breaker");
    assert_eq!((profile.permitted_probes, profile.success_threshold), (1, 1));
}

/// The waits of a policy that is left to fail.
async fn waits(backoff: Backoff) -> Vec<u128> {
    let retry = Retry::builder("stage").max_attempts(5).backoff(backoff).build().unwrap();
    let waits = Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = waits.clone();
    let layer = retry.layer().on_retry(move |_, _: Result<&u32, &BoxError>, wait| {
        told.lock().unwrap().push(wait.as_millis());
    });
    layer.layer(Stage::default()).oneshot(()).await.unwrap_err();
    let waits = waits.lock().unwrap();
    waits.clone()
}

#[tokio::test(start_paused = true)]
async fn retry_calls_three_times_and_waits_as_its_strategy_says() {
    let (stage, start) = (Stage::default(), Instant::now());
    let retry = Retry::new("stage", source::<RetryConfig>("fluxus", "retry")).unwrap();
    let error = retry.layer().layer(stage.clone()).oneshot(()).await.unwrap_err();
    assert_eq!((error.to_string().as_str(), stage.calls()), ("boom 3", 3));
    assert_eq!(start.elapsed(), ms(0), "no wait unless one is set");

    assert_eq!(waits(Backoff::constant(ms(100))).await, [100; 4]);
    assert_eq!(waits(Backoff::linear(ms(100))).await, [100, 200, 300, 400]);
    assert_eq!(waits(Backoff::exponential(ms(100))).await, [100, 200, 400, 800]);
    // `100 * (1 << attempt)` and up to half of that: `rand.Intn(base / 2)`.
    let jittered = Backoff::exponential(ms(100)).with_jitter(Jitter::Proportional(0.5));
    let chance = Chance::seeded(7);
    for _ in 0..1_000 {
        for (n, wait) in jittered.waits(&chance).take(5).enumerate() {
            let base = ms(100 << n);
            assert!((base..base.saturating_add(base / 2)).contains(&wait), "retry {n}: {wait:?}");
        }
    }
    // Where the original's shift runs over.
    assert_eq!(Backoff::exponential(ms(100)).waits(&chance).nth(64), Some(secs(30)));
}

#[derive(Clone, Debug)]
struct NetError {
    temporary: bool,
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the network fails")
    }
}

impl StdError for NetError {}

#[derive(Debug)]
struct Wrapped(NetError);

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the stage fails")
    }
}

impl StdError for Wrapped {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

// `errors.As(err, &netErr) && netErr.Temporary()`
#[tokio::test(start_paused = true)]
async fn only_temporary_network_errors_are_retried_however_they_are_wrapped() {
    let retry = Retry::new("stage", source::<RetryConfig>("fluxus", "retry")).unwrap();
    let temporary =
        OnlyErrors::when(|error| error.downcast_ref::<NetError>().is_some_and(|error| error.temporary));
    let net = |temporary| NetError { temporary };
    let attempts = async |fail: fn(NetError) -> BoxError, error: NetError| {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = calls.clone();
        let stage = service_fn(move |()| {
            counted.fetch_add(1, SeqCst);
            ready(Err::<(), BoxError>(fail(error.clone())))
        });
        retry.layer().classify(temporary.clone()).layer(stage).oneshot(()).await.unwrap_err();
        calls.load(SeqCst)
    };
    assert_eq!(attempts(|error| error.into(), net(true)).await, 3);
    assert_eq!(attempts(|error| Wrapped(error).into(), net(true)).await, 3);
    assert_eq!(attempts(|error| Wrapped(error).into(), net(false)).await, 1);
    assert_eq!(attempts(|_| "another error".into(), net(true)).await, 1);
}

#[tokio::test(start_paused = true)]
async fn error_handler_makes_the_error_whatever_ended_the_retries() {
    let handled = async |retry: Retry, stage: Stage| {
        // What a time limit ended has the last error as its source.
        let layer = retry.layer().map_err(|last: BoxError| -> BoxError {
            format!("all failed: {}", last.source().unwrap_or(&*last)).into()
        });
        layer.layer(stage).oneshot(()).await.unwrap_err().to_string()
    };
    let builder = || Retry::builder("stage").backoff(Backoff::constant(ms(100)));
    assert_eq!(handled(builder().build().unwrap(), Stage::default()).await, "all failed: boom 3");
    let no_time = builder().max_elapsed(ms(50)).build().unwrap();
    assert_eq!(handled(no_time, Stage::default()).await, "all failed: boom 1");
    let no_budget = builder().budget(Budget::new(0.0, 0).unwrap()).build().unwrap();
    assert_eq!(handled(no_budget, Stage::default()).await, "all failed: boom 1");
    let stage = Stage::default();
    stage.broken.store(true, SeqCst);
    assert_eq!(handled(builder().build().unwrap(), stage).await, "all failed: broken");
}

#[tokio::test(start_paused = true)]
async fn timeout_of_five_seconds_says_so_and_leaves_earlier_errors_and_deadlines_alone() {
    let timeout = Timeout::builder("stage").limit(secs(5)).build().unwrap();
    let stage = service_fn(|time: Duration| async move {
        sleep(time).await;
        if time == secs(1) { Err::<u32, BoxError>(NetError { temporary: true }.into()) } else { Ok(7) }
    });
    let timed = timeout.layer().layer(stage);
    let start = Instant::now();
    let late = timed.clone().oneshot(secs(6)).await.unwrap_err();
    assert_eq!(start.elapsed(), secs(5));
    assert!(rejection(&*late).unwrap().is_timeout(), "the deadline was exceeded");
    assert_eq!(late.to_string(), "\"stage\" timed out: limit 5s");
    assert_eq!(timed.clone().oneshot(ms(4_999)).await.unwrap(), 7);
    assert!(timed.clone().oneshot(secs(1)).await.unwrap_err().is::<NetError>());

    let start = Instant::now();
    let sooner = CallContext::default().until(start.checked_add(secs(2)).unwrap().into_std());
    context::scope(sooner, timed.clone().oneshot(secs(6))).await.unwrap_err();
    assert_eq!(start.elapsed(), secs(2));
    assert!(tokio::time::timeout(secs(2), timed.oneshot(secs(6))).await.is_err());
    assert_eq!(start.elapsed(), secs(4));
}
