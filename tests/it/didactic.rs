//! What users of didactic-engine have, through the public facade, with the names and numbers of its documentation.

use std::{
    fmt, io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use crate::sources::source;
use buttress::{
    Backoff, BoxError, Breaker, BreakerConfig, Jitter, OnlyErrors, Retry, RetryConfig, Timeout,
    breaker::State,
};
use tokio::time::advance;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[tokio::test(start_paused = true)]
async fn retry_of_the_example_waits_from_half_a_second_up_to_thirty_and_tells_each() {
    let mut config = source::<RetryConfig>("didactic", "retry");
    assert_eq!(config.max_attempts, 4, "max_retries 3 are the calls after the first");
    assert_eq!((config.backoff.base, config.backoff.max, config.backoff.factor), (secs(1), secs(60), 2.0));
    assert_eq!(config.backoff.jitter, Jitter::Proportional(0.1));
    (config.backoff.base, config.backoff.max) = (ms(500), secs(30));
    (config.backoff.jitter, config.max_attempts) = (Jitter::None, 10);

    let told = Arc::new(Mutex::new(Vec::new()));
    let to = told.clone();
    let calls = AtomicU32::new(0);
    let tool = service_fn(|()| {
        let n = calls.fetch_add(1, SeqCst) + 1;
        async move { Err::<(), BoxError>(format!("failure {n}").into()) }
    });
    let retry = Retry::new("tool", config).unwrap().layer().on_retry(
        move |attempt, failed: Result<&(), &BoxError>, wait| {
            to.lock().unwrap().push((attempt, failed.unwrap_err().to_string(), wait));
        },
    );
    retry.layer(tool).oneshot(()).await.unwrap_err();
    let waits = [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000];
    let wanted: Vec<_> = (1..).zip(waits).map(|(n, wait)| (n, format!("failure {n}"), ms(wait))).collect();
    assert_eq!(*told.lock().unwrap(), wanted);
}

#[test]
fn jitter_is_a_share_from_none_to_all_of_the_wait() {
    let with = |share| {
        let mut config = source::<RetryConfig>("didactic", "retry");
        config.backoff.jitter = Jitter::Proportional(share);
        Retry::new("tool", config)
    };
    for share in [0.0, 0.1, 1.0] {
        with(share).unwrap();
    }
    for share in [-0.1, 1.000_001, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let refused = with(share).unwrap_err();
        assert_eq!((refused.field(), refused.value()), ("backoff.jitter", format!("{share:?}").as_str()));
    }
}

// `retryable_exceptions=(IOError, TimeoutError)`
#[tokio::test(start_paused = true)]
async fn only_io_errors_and_time_outs_are_retried() {
    async fn tool(kind: u8) -> Result<(), BoxError> {
        match kind {
            0 => Err(io::Error::other("the disk is busy").into()),
            1 => std::future::pending().await,
            2 => Err(tower::timeout::error::Elapsed::new().into()),
            _ => Err(fmt::Error.into()),
        }
    }
    let only = OnlyErrors::of_type::<io::Error>()
        .or_type::<tower::timeout::error::Elapsed>()
        .or_when(|error| buttress::rejection(error).is_some_and(|ours| ours.is_timeout()));
    let retry = Retry::builder("tool").retries(3).backoff(Backoff::none()).build().unwrap();
    let limit = Timeout::builder("tool").limit(secs(1)).build().unwrap();
    for (kind, wanted) in [(0, 4), (1, 4), (2, 4), (3, 1)] {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = calls.clone();
        let stack = ServiceBuilder::new().layer(retry.layer().classify(only.clone())).layer(limit.layer());
        let stack = stack.service(service_fn(move |()| {
            counted.fetch_add(1, SeqCst);
            tool(kind)
        }));
        stack.oneshot(()).await.unwrap_err();
        assert_eq!(calls.load(SeqCst), wanted, "kind {kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn breaker_opens_at_five_for_a_minute_and_closes_after_two_successes() {
    let breaker = Breaker::new("api", source::<BreakerConfig>("didactic", "breaker")).unwrap();
    for _ in 0..5 {
        assert_eq!(breaker.state(), State::Closed);
        breaker.try_acquire().unwrap().failure();
    }
    assert_eq!(breaker.try_acquire().unwrap_err().to_string(), "circuit \"api\" is OPEN; retry in 60s");
    advance(ms(59_999)).await;
    assert_eq!(breaker.state(), State::Open);
    advance(ms(1)).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    breaker.try_acquire().unwrap().failure();
    assert_eq!(breaker.try_acquire().unwrap_err().retry_after(), Some(secs(60)), "the minute begins anew");
    advance(secs(60)).await;
    breaker.try_acquire().unwrap().success();
    assert_eq!(breaker.state(), State::HalfOpen);
    breaker.try_acquire().unwrap().success();
    assert_eq!(breaker.state(), State::Closed);
}
