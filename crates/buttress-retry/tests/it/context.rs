//! What an attempt sees of itself, and the time that is left for it.

use std::time::Duration;

use buttress_core::{
    BoxError, Name, Never, Rejection,
    context::{self, CallContext},
};
use buttress_kit::Backoff;
use buttress_retry::{Retry, RetryConfig};
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt, service_fn};

use crate::support::{Script, TIMEOUT, fluxus, ms};

#[tokio::test(start_paused = true)]
async fn attempt_sees_its_number_in_call_and_in_every_poll() {
    let script = Script::failing();
    let retry = Retry::new("api", RetryConfig::fixed(4, ms(1))).unwrap();
    retry.layer().layer(script.service()).oneshot("a").await.unwrap_err();
    assert_eq!(script.attempts(), [1, 2, 3, 4]);
    assert_eq!(context::current().attempt, 0);

    let seen = retry.call(|| async {
        let first = context::current().attempt;
        sleep(ms(5)).await;
        assert_eq!(context::current().attempt, first);
        if first == 3 { Ok::<_, BoxError>(first) } else { Err("again".into()) }
    });
    assert_eq!(seen.await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn deadline_and_priority_from_outside_stay_in_force_inside() {
    let deadline = Instant::now().checked_add(Duration::from_secs(9)).unwrap().into_std();
    let outside = CallContext::default().until(deadline).priority(7);
    let retry = Retry::new("api", RetryConfig::fixed(2, ms(1))).unwrap();
    let call = retry.call(|| async { Ok::<_, BoxError>(context::current()) });
    assert_eq!(context::scope(outside, call).await.unwrap(), outside.attempt(1));
}

#[tokio::test(start_paused = true)]
async fn no_attempt_starts_that_the_deadline_leaves_no_time_for() {
    let deadline = Instant::now().checked_add(ms(1000)).unwrap().into_std();
    let retry = Retry::new("api", RetryConfig::fixed(9, ms(400))).unwrap();
    let start = Instant::now();
    let call = retry.call(|| async {
        sleep(ms(300)).await;
        Err::<(), BoxError>(format!("failed at {:?}", start.elapsed()).into())
    });
    let error = context::scope(CallContext::default().until(deadline), call).await.unwrap_err();
    // 300 tried, 400 waited, 300 tried; the next would begin at 1400.
    assert_eq!((start.elapsed(), error.source().unwrap().to_string().as_str()), (ms(1000), "failed at 1s"));
    let snapshot = retry.snapshot();
    assert_eq!((snapshot.retries, snapshot.stopped.deadline), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn max_elapsed_ends_the_call_and_is_the_deadline_of_its_attempts() {
    let retry = Retry::builder("api")
        .max_attempts(u32::MAX)
        .backoff(Backoff::constant(ms(100)))
        .max_elapsed(ms(1000))
        .build()
        .unwrap();
    let start = Instant::now();
    let call = retry.call(|| async {
        assert_eq!(
            context::current().remaining(Instant::now().into_std()),
            Some(ms(1000).saturating_sub(start.elapsed()))
        );
        Err::<(), BoxError>("down".into())
    });
    call.await.unwrap_err();
    assert_eq!(start.elapsed(), ms(900));
    assert_eq!(retry.snapshot().retries, 9);

    // Also the first: an attempt time-out inside can fit itself to it.
    let left = retry.call(|| async { Ok::<_, BoxError>(context::current().deadline.is_some()) });
    assert!(left.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn earlier_deadline_of_the_two_counts() {
    let retry = Retry::builder("api")
        .max_attempts(u32::MAX)
        .backoff(Backoff::constant(ms(100)))
        .max_elapsed(ms(5000))
        .build()
        .unwrap();
    let start = Instant::now();
    let deadline = start.checked_add(ms(250)).unwrap().into_std();
    let script = Script::failing();
    let call = retry.layer().layer(script.service()).oneshot("a");
    context::scope(CallContext::default().until(deadline), call).await.unwrap_err();
    assert_eq!(start.elapsed(), ms(200));
}

#[tokio::test(start_paused = true)]
async fn layer_outside_that_scopes_only_its_polls_is_heard() {
    let retry = Retry::new("api", RetryConfig::fixed(9, ms(400))).unwrap();
    let script = Script::failing_with(|| Rejection::new(TIMEOUT, &Name::new("attempt")).into());
    let svc = retry.layer().layer(script.service());
    let call = async move { svc.oneshot("a").await };
    let deadline = Instant::now().checked_add(ms(1000)).unwrap().into_std();
    context::scope(CallContext::default().until(deadline), call).await.unwrap_err();
    assert_eq!(script.calls(), 3);
}

#[tokio::test]
async fn single_attempt_leaves_the_number_of_a_retry_outside_alone() {
    let outer = Retry::new("outer", fluxus()).unwrap();
    let inner = Retry::new("inner", RetryConfig::none()).unwrap();
    let svc = inner.layer().replay(Never).layer(service_fn(|n: u32| async move {
        if context::current().attempt == n { Ok::<_, BoxError>(n) } else { Err("other".into()) }
    }));
    assert_eq!(outer.layer().layer(svc).oneshot(3).await.unwrap(), 3);
}
