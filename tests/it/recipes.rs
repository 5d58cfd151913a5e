//! Whole stacks, as the source systems describe them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress::{
    Backoff, BoxError, Breaker, Bulkhead, Chance, Fallback, Retry, ServiceBuilderExt, Timeout,
    breaker::{State, WindowConfig},
    rejection,
};
use tokio::time::{Instant, sleep};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Fails its first calls, and counts all.
fn failing_first(
    failures: u32,
) -> (impl Service<u32, Response = u32, Error = BoxError, Future: Send> + Clone + Send, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let service = service_fn(move |n: u32| {
        let call = counted.fetch_add(1, SeqCst);
        async move { if call < failures { Err::<u32, BoxError>("down".into()) } else { Ok(n) } }
    });
    (service, calls)
}

#[tokio::test(start_paused = true)]
async fn five_families_in_one_stack_each_do_their_part() {
    let (service, calls) = failing_first(u32::MAX);
    let fallback = Fallback::builder("all").build().unwrap();
    let total = Timeout::builder("all-total").limit(secs(10)).build().unwrap();
    let retry = Retry::builder("all").max_attempts(3).backoff(Backoff::constant(secs(1))).build().unwrap();
    let breaker = Breaker::builder("all").consecutive_failures(5).open_for(secs(30)).build().unwrap();
    let bulkhead = Bulkhead::builder("all").max_concurrent(4).build().unwrap();
    let attempt = Timeout::builder("all-attempt").limit(secs(2)).build().unwrap();
    let mut stack = ServiceBuilder::new()
        .fallback(fallback.layer().value(77))
        .deadline(total.layer())
        .retrying(retry.layer())
        .breaker(breaker.layer())
        .bulkhead(bulkhead.layer())
        .attempt_timeout(attempt.layer())
        .lift_errors()
        .service(service);

    let start = Instant::now();
    for expected in [3, 5, 5] {
        assert_eq!(stack.ready().await.unwrap().call(1).await.unwrap(), 77);
        // Every attempt is an outcome of its own: the fifth one opens the circuit, in the middle of a call.
        assert_eq!(calls.load(SeqCst), expected);
    }
    // The waits of the first call, and the one wait of the second: a refusal is not retried.
    assert_eq!(start.elapsed(), secs(4));
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(fallback.snapshot().answered, 3);
}

#[tokio::test(start_paused = true)]
async fn exponential_retry_inside_a_sampling_breaker_recovers_after_thirty_seconds() {
    let (service, calls) = failing_first(60);
    let retry = Retry::builder("combined")
        .max_attempts(3)
        .backoff(Backoff::exponential(Duration::from_millis(100)).with_max(Duration::from_millis(2000)))
        .build()
        .unwrap();
    // The source names no window for the samples; ten seconds and twenty calls are the defaults.
    let breaker = Breaker::builder("combined")
        .failure_rate(0.5)
        .open_for(secs(30))
        .success_threshold(1)
        .build()
        .unwrap();
    assert_eq!(breaker.config().window, WindowConfig::time(secs(10)));
    assert_eq!(retry.config().backoff.waits(&Chance::seeded(1)).nth(9), Some(secs(2))); // the longest wait
    let mut stack =
        ServiceBuilder::new().breaker(breaker.layer()).retrying(retry.layer()).lift_errors().service(service);

    for _ in 0..20 {
        stack.ready().await.unwrap().call(1).await.unwrap_err();
    }
    assert_eq!((breaker.state(), calls.load(SeqCst)), (State::Open, 60));
    let refused = stack.ready().await.unwrap().call(1).await.unwrap_err();
    assert_eq!(rejection(&*refused).unwrap().code(), "CIRCUIT_OPEN");
    sleep(secs(30)).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    assert_eq!(stack.ready().await.unwrap().call(9).await.unwrap(), 9);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn fallback_outside_of_the_breaker_sees_refusals_failures_and_time_outs() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let fallback = Fallback::builder("save").build().unwrap();
    let breaker = Breaker::builder("save").consecutive_failures(2).call_timeout(secs(2)).build().unwrap();
    let told = seen.clone();
    let skip = fallback.layer().answer_with(move |failed: Result<&'static str, BoxError>| {
        let error = failed.unwrap_err();
        told.lock().unwrap().push(rejection(&*error).map_or("FAILED", |why| why.code().as_str()));
        Ok::<_, BoxError>("skipped")
    });
    let mut save = ServiceBuilder::new().fallback(skip).breaker(breaker.layer()).lift_errors().service(
        service_fn(|hangs: bool| async move {
            if hangs {
                sleep(secs(60)).await;
            }
            Err::<&'static str, BoxError>("redis is down".into())
        }),
    );
    for hangs in [false, true, false] {
        assert_eq!(save.ready().await.unwrap().call(hangs).await.unwrap(), "skipped");
    }
    assert_eq!(*seen.lock().unwrap(), ["FAILED", "CIRCUIT_TIMEOUT", "CIRCUIT_OPEN"]);
}

#[tokio::test(start_paused = true)]
async fn paused_time_drives_every_timer_of_a_stack() {
    let real = std::time::SystemTime::now();
    let start = Instant::now();
    let breaker = Breaker::builder("time").consecutive_failures(1).open_for(secs(3_600)).build().unwrap();
    let retry = Retry::builder("time").max_attempts(2).backoff(Backoff::constant(secs(20))).build().unwrap();
    let bulkhead =
        Bulkhead::builder("time").max_concurrent(1).queue_timeout(Some(secs(600))).build().unwrap();
    let timeout = Timeout::builder("time").limit(secs(100)).build().unwrap();

    retry.call(|| async { Err::<(), BoxError>("down".into()) }).await.unwrap_err();
    assert_eq!(start.elapsed(), secs(20));
    timeout.call(std::future::pending::<Result<(), BoxError>>).await.unwrap_err();
    assert_eq!(start.elapsed(), secs(120));
    let held = bulkhead.try_acquire().unwrap();
    bulkhead.call(|| async { Ok::<_, BoxError>(()) }).await.unwrap_err();
    assert_eq!(start.elapsed(), secs(720));
    drop(held);
    breaker.force_open();
    sleep(secs(3_600)).await;
    assert_eq!(breaker.state(), State::HalfOpen);
    assert!(
        std::time::SystemTime::now().duration_since(real).unwrap() < secs(60),
        "nothing waited in real time"
    );
}
