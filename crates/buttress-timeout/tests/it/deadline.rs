use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    task::{Context, Waker},
};

use buttress_core::{BoxError, CallContext, Code, FromRejection, Name, Rejection, context};
use buttress_timeout::{TIMEOUT, Timeout};
use tokio::time::{self, Instant};
use tower::{Layer, ServiceExt, service_fn};

use crate::{ms, taking, timeout};

fn left() -> Option<std::time::Duration> {
    context::current().remaining(Instant::now().into_std())
}

#[tokio::test(start_paused = true)]
async fn inner_call_and_poll_see_the_time_left() {
    let svc = timeout(100).layer().layer(service_fn(|()| {
        assert_eq!(left(), Some(ms(100)));
        async {
            time::sleep(ms(40)).await;
            Ok::<_, BoxError>(left())
        }
    }));
    assert_eq!(svc.oneshot(()).await.unwrap(), Some(ms(60)));
    assert_eq!(left(), None);
}

#[tokio::test(start_paused = true)]
async fn earlier_deadline_from_outside_wins() {
    let started = Instant::now();
    let inner = timeout(500).layer().layer(service_fn(|()| async {
        assert_eq!(left(), Some(ms(100)));
        taking(1_000).await
    }));
    let svc = timeout(100).layer().layer(inner);
    let late = svc.oneshot(()).await.unwrap_err();
    assert_eq!(started.elapsed(), ms(100));
    assert_eq!(late.rejection().unwrap().limit(), Some(ms(100)));
}

/// A timeout of 100 ms around attempts that may take 500 ms each, and take longer.
fn total_around_attempts() -> (Timeout, Timeout) {
    let named = |name, limit| Timeout::builder(name).limit(ms(limit)).build().unwrap();
    (named("total", 100), named("attempt", 500))
}

#[tokio::test(start_paused = true)]
async fn time_that_is_up_is_that_of_the_outer_time_out_though_the_inner_one_notices_first() {
    let (total, attempt) = total_around_attempts();
    let svc = total.layer().layer(attempt.layer().layer(service_fn(|()| taking(1_000))));
    let late = svc.clone().oneshot(()).await.unwrap_err();
    assert_eq!(late.rejection().unwrap().policy(), "total");
    assert_eq!(late.rejection().unwrap().limit(), Some(ms(100)));
    assert_eq!((total.snapshot().timeouts, total.snapshot().failures), (1, 0));
    // The limit of an attempt that is reached before stays the attempt's.
    attempt.reconfigure(buttress_timeout::TimeoutConfig::of(ms(99))).unwrap();
    let late = svc.oneshot(()).await.unwrap_err();
    assert_eq!(late.rejection().unwrap().policy(), "attempt");
    assert_eq!((total.snapshot().timeouts, total.snapshot().failures), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn outer_time_out_answers_though_an_inner_one_notices_first() {
    let (total, attempt) = total_around_attempts();
    let inner = attempt.layer().layer(service_fn(|()| taking(1_000)));
    let svc = total.layer().fallback(|| 7).layer(inner);
    assert_eq!(svc.oneshot(()).await.unwrap(), 7);
}

const QUEUE_TIMEOUT: &Code = &Code::refused("BULKHEAD_QUEUE_TIMEOUT").slow();

// A line of which the caller's deadline is the end: known from a bulkhead inside, whose refusal came instead of the
// fallback.
#[tokio::test(start_paused = true)]
async fn outer_time_out_answers_for_a_wait_in_line_that_its_deadline_ended() {
    let name = Name::new("line");
    let waiting = service_fn(move |wait: Option<u64>| {
        let name = name.clone();
        async move {
            let own = wait.map(|wait| Instant::now().checked_add(ms(wait)).unwrap());
            time::sleep_until(own.unwrap_or(Instant::from_std(context::deadline().unwrap()))).await;
            Err::<u64, _>(BoxError::from(Rejection::new(QUEUE_TIMEOUT, &name)))
        }
    });
    let timeout = timeout(100);
    let svc = timeout.layer().layer(waiting.clone());
    let late = svc.clone().oneshot(None).await.unwrap_err();
    let why = late.rejection().unwrap();
    assert_eq!((why.code(), why.policy(), why.limit()), (TIMEOUT, "api", Some(ms(100))));
    assert!(!why.was_sent(), "it only waited");
    assert_eq!(timeout.layer().fallback(|| 7).layer(waiting).oneshot(None).await.unwrap(), 7);
    assert_eq!((timeout.snapshot().timeouts, timeout.snapshot().failures), (2, 0));
    // A line that loses patience before is heard.
    let late = svc.oneshot(Some(99)).await.unwrap_err();
    assert_eq!(late.rejection().unwrap().policy(), "line");
    assert_eq!((timeout.snapshot().timeouts, timeout.snapshot().failures), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn deadline_that_only_the_context_knows_ends_the_call() {
    let started = Instant::now();
    let until = started.checked_add(ms(70)).unwrap();
    let outer = CallContext::default().until(until.into_std()).attempt(3);
    let timeout = timeout(500);
    let late = context::scope(outer, async {
        timeout
            .call(|| async {
                assert_eq!(context::current().attempt, 3);
                taking(1_000).await
            })
            .await
    });
    assert_eq!(late.await.unwrap_err().rejection().unwrap().limit(), Some(ms(70)));
    // Also where the call is polled outside of the scope it was made in, or made outside of that it is polled in.
    let until = Instant::now().checked_add(ms(70)).unwrap();
    let outer = context::enter(CallContext::default().until(until.into_std()));
    let made = timeout.call(|| taking(1_000));
    drop(outer);
    tokio::spawn(made).await.unwrap().unwrap_err();
    assert_eq!(started.elapsed(), ms(140));
    let until = Instant::now().checked_add(ms(70)).unwrap();
    let made = timeout.call(|| taking(1_000));
    let outer = CallContext::default().until(until.into_std());
    context::scope(outer, made).await.unwrap_err();
    assert_eq!(started.elapsed(), ms(210));
    // Also where it was polled before, and has its timer.
    let mut made = Box::pin(timeout.call(|| taking(1_000)));
    assert!(made.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let until = Instant::now().checked_add(ms(70)).unwrap();
    let outer = CallContext::default().until(until.into_std());
    context::scope(outer, made).await.unwrap_err();
    assert_eq!(started.elapsed(), ms(280));
}

#[tokio::test(start_paused = true)]
async fn later_deadline_from_outside_changes_nothing() {
    let until = Instant::now().checked_add(ms(900)).unwrap();
    let outer = CallContext::default().until(until.into_std());
    let late = context::scope(outer, async { timeout(50).call(|| taking(1_000)).await }).await.unwrap_err();
    assert_eq!(late.rejection().unwrap().limit(), Some(ms(50)));
}

#[tokio::test(start_paused = true)]
async fn call_whose_deadline_has_passed_is_refused_and_not_sent() {
    static CALLED: AtomicBool = AtomicBool::new(false);
    let timeout = timeout(500);
    let mut events = timeout.events();
    let svc = timeout.layer().layer(service_fn(|()| async {
        CALLED.store(true, SeqCst);
        Ok::<_, BoxError>(())
    }));
    let passed = CallContext::default().until(Instant::now().into_std());
    let late = context::scope(passed, async { svc.oneshot(()).await }).await.unwrap_err();
    let why = late.rejection().unwrap();
    assert_eq!((why.code(), why.was_sent()), (TIMEOUT, false));
    assert!(!CALLED.load(SeqCst));
    let snapshot = timeout.snapshot();
    assert_eq!((snapshot.refused, snapshot.timeouts, snapshot.cancelled), (1, 0, 0));
    assert!(events.try_next().is_some());
}

#[tokio::test(start_paused = true)]
async fn without_propagation_the_context_is_neither_set_nor_obeyed() {
    let timeout = Timeout::builder("api").limit(ms(100)).propagate(false).build().unwrap();
    let seen = timeout.call(|| async { Ok::<_, BoxError>(left()) }).await.unwrap();
    assert_eq!(seen, None);
    let until = Instant::now().checked_add(ms(10)).unwrap();
    let outer = CallContext::default().until(until.into_std());
    assert_eq!(context::scope(outer, timeout.call(|| taking(50))).await.unwrap(), 50);
}
