use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    task::Poll,
};

use buttress_core::{
    BoxError, CallContext, Error, FromRejection, ReadyInCall, ReadyInCallLayer, Rejection, context, rejection,
};
use buttress_timeout::{Configured, Refuse, TIMEOUT, Timeout, TimeoutLayer, TimeoutService};
use tokio::time::{self, Instant};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, buffer::BufferLayer, limit::GlobalConcurrencyLimitLayer,
    service_fn,
};
use tower_test::{assert_request_eq, mock};

use crate::{Flag, ms, taking, timeout};

#[tokio::test(start_paused = true)]
async fn slow_call_ends_at_its_limit_and_says_so() {
    let (flag, dropped) = Flag::new();
    let flag = std::sync::Arc::new(std::sync::Mutex::new(Some(flag)));
    let svc = timeout(30).layer().layer(service_fn(move |()| {
        let flag = flag.lock().unwrap().take();
        async move {
            let _flag = flag;
            taking(100).await
        }
    }));
    let started = Instant::now();
    let mut svc = svc;
    let mut call = Box::pin(svc.call(()));
    let late = call.as_mut().await.unwrap_err();
    assert_eq!(started.elapsed(), ms(30));
    assert!(dropped.load(SeqCst)); // gone before the caller knows
    assert!(late.to_string().contains("30ms"), "{late}");
    let why = rejection(&*late).unwrap();
    assert_eq!((why.code(), why.limit(), why.elapsed()), (TIMEOUT, Some(ms(30)), Some(ms(30))));
    assert!(why.was_sent());
}

#[tokio::test(start_paused = true)]
async fn inner_error_before_the_limit_passes_unchanged() {
    #[derive(Debug, PartialEq)]
    struct Odd(u8);
    impl std::fmt::Display for Odd {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "odd")
        }
    }
    impl std::error::Error for Odd {}
    let svc = timeout(30).layer().layer(service_fn(|()| async {
        time::sleep(ms(10)).await;
        Err::<(), _>(Error::Inner(Odd(7)))
    }));
    assert_eq!(svc.oneshot(()).await, Err(Error::Inner(Odd(7))));
}

#[tokio::test(start_paused = true)]
async fn fallback_answers_on_time_out_only() {
    static TIMEOUTS: AtomicU32 = AtomicU32::new(0);
    let timeout = Timeout::builder("api")
        .limit(ms(5_000))
        .on_timeout(|elapsed| {
            assert_eq!(elapsed, ms(5_000));
            TIMEOUTS.fetch_add(1, SeqCst);
        })
        .build()
        .unwrap();
    let svc = timeout.layer().fallback(|| "Default value").layer(service_fn(|(time, ok)| async move {
        time::sleep(ms(time)).await;
        if ok { Ok("real") } else { Err(BoxError::from("boom")) }
    }));
    assert_eq!(svc.clone().oneshot((6_000, true)).await.unwrap(), "Default value");
    assert_eq!(TIMEOUTS.load(SeqCst), 1);
    assert_eq!(svc.clone().oneshot((4_999, false)).await.unwrap_err().to_string(), "boom");
    assert_eq!(svc.oneshot((4_999, true)).await.unwrap(), "real");
    time::sleep(ms(60_000)).await;
    assert_eq!(TIMEOUTS.load(SeqCst), 1);
    assert_eq!(timeout.snapshot().timeouts, 1);
}

#[tokio::test(start_paused = true)]
async fn handler_wraps_the_time_out_in_an_error_of_its_own() {
    #[derive(Debug)]
    enum Mine {
        Late(Rejection),
    }
    impl std::fmt::Display for Mine {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "mine")
        }
    }
    impl std::error::Error for Mine {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            let Self::Late(why) = self;
            Some(why)
        }
    }
    let layer = timeout(30).layer().fallback_with(|why| Err(BoxError::from(Mine::Late(why))));
    let late = layer.layer(service_fn(|()| taking(100))).oneshot(()).await.unwrap_err();
    assert_eq!(late.to_string(), "mine");
    assert_eq!(late.source().unwrap().downcast_ref::<Rejection>().unwrap().limit(), Some(ms(30)));
}

#[tokio::test(start_paused = true)]
async fn limit_comes_from_the_request_or_the_settings() {
    let layer = timeout(30).layer().limit_by(|ask: &(u64, Option<u64>)| ask.1.map(ms));
    let svc = layer.layer(service_fn(|ask: (u64, Option<u64>)| taking(ask.0)));
    assert!(svc.clone().oneshot((20, None)).await.is_ok());
    assert!(svc.clone().oneshot((40, None)).await.is_err());
    assert!(svc.clone().oneshot((40, Some(50))).await.is_ok());
    let late = svc.clone().oneshot((20, Some(10))).await.unwrap_err();
    assert_eq!(late.rejection().unwrap().limit(), Some(ms(10)));
}

#[tokio::test(start_paused = true)]
async fn limits_of_a_request_at_their_extremes_work() {
    use std::time::Duration;
    let layer = timeout(30).layer().limit_by(|limit: &Duration| Some(*limit));
    let svc = layer.layer(service_fn(|_| taking(10)));
    assert!(svc.clone().oneshot(Duration::MAX).await.is_ok());
    assert!(svc.clone().oneshot(Duration::from_secs(u64::MAX / 4)).await.is_ok());
    assert!(svc.clone().oneshot(Duration::from_secs(600 * 365 * 86_400)).await.is_ok());
    assert!(svc.clone().oneshot(Duration::ZERO).await.is_err());
    assert!(svc.oneshot(Duration::from_nanos(1)).await.is_err());
    let ready = layer_of_zero().layer(service_fn(|()| async { Ok::<_, BoxError>(1) }));
    assert_eq!(ready.oneshot(()).await.unwrap(), 1);
}

fn layer_of_zero() -> TimeoutLayer<impl buttress_timeout::LimitOf<()> + Clone> {
    timeout(30).layer().limit_by(|_: &()| Some(std::time::Duration::ZERO))
}

#[tokio::test(start_paused = true)]
async fn readiness_is_the_inner_services_own() {
    let (mut svc, mut inner) = mock::spawn_layer::<&str, &str, _>(timeout(30).layer());
    inner.allow(0);
    assert_pending!(svc.poll_ready());
    time::advance(ms(100)).await;
    assert_pending!(svc.poll_ready()); // no limit on readiness
    inner.allow(1);
    assert!(svc.is_woken());
    assert_ready_ok!(svc.poll_ready());
    let mut call = task::spawn(svc.call("a"));
    assert_request_eq!(inner, "a").send_response("b");
    assert_eq!(assert_ready_ok!(call.poll()), "b");
    inner.send_error("gone");
    assert_eq!(assert_ready_err!(svc.poll_ready()).to_string(), "gone");
}

#[tokio::test(start_paused = true)]
async fn wait_for_readiness_is_bounded_with_an_owning_layer_inside() {
    let one = GlobalConcurrencyLimitLayer::new(1);
    let stack =
        ServiceBuilder::new().layer(timeout(1_000).layer()).layer(ReadyInCallLayer).layer(one.clone());
    let mut svc = stack.service(service_fn(|()| taking(10_000)));
    let holder = one.layer(service_fn(|()| taking(10_000)));
    let held = tokio::spawn(holder.oneshot(()));
    tokio::task::yield_now().await;
    let started = Instant::now();
    let late = svc.ready().await.unwrap().call(()).await.unwrap_err();
    assert_eq!(started.elapsed(), ms(1_000));
    assert_eq!(late.rejection().unwrap().code(), "TIMEOUT");
    held.await.unwrap().unwrap();
    // The abandoned wait holds no slot.
    let quick = one.layer(service_fn(|()| taking(1)));
    quick.oneshot(()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn owning_layer_inside_passes_a_broken_service_on() {
    let (mut svc, mut inner) = mock::spawn_layer::<(), (), _>(ReadyInCallLayer);
    inner.send_error("gone");
    assert_ready_ok!(svc.poll_ready());
    let mut call = task::spawn(svc.call(()));
    assert_eq!(assert_ready_err!(call.poll()).to_string(), "gone");
}

#[tokio::test(start_paused = true)]
async fn refusal_gives_the_reserved_slot_back() {
    let one = GlobalConcurrencyLimitLayer::new(1);
    let mut svc = timeout(1_000).layer().layer(one.layer(service_fn(|()| taking(1))));
    let other = one.layer(service_fn(|()| taking(1)));
    svc.ready().await.unwrap(); // holds the only slot
    let passed = CallContext::default().until(Instant::now().into_std());
    let late = context::scope(passed, async { svc.call(()).await }).await.unwrap_err();
    assert!(!late.rejection().unwrap().was_sent());
    time::timeout(ms(10), other.oneshot(())).await.expect("the slot is free").unwrap();
}

#[tokio::test(start_paused = true)]
async fn slot_comes_back_at_the_limit_and_when_dropped() {
    let one = GlobalConcurrencyLimitLayer::new(1);
    let mut svc = timeout(30).layer().layer(one.layer(service_fn(|()| taking(100))));
    svc.ready().await.unwrap().call(()).await.unwrap_err();
    let mut call = task::spawn(svc.ready().await.unwrap().call(()));
    assert_pending!(call.poll());
    assert_pending!(task::spawn(svc.ready()).poll());
    drop(call);
    assert_ready!(task::spawn(svc.ready()).poll()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn works_over_a_buffer() {
    let stack = ServiceBuilder::new().layer(timeout(30).layer()).layer(BufferLayer::new(4));
    let svc = stack.service(service_fn(taking));
    assert_eq!(svc.clone().oneshot(10).await.unwrap(), 10);
    assert!(svc.clone().oneshot(40).await.unwrap_err().rejection().is_some());
    assert_eq!(svc.oneshot(29).await.unwrap(), 29);
}

#[tokio::test]
async fn work_that_cannot_be_cancelled_keeps_what_was_moved_into_it() {
    let slots = std::sync::Arc::new(tokio::sync::Semaphore::new(1));
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let permit = slots.clone().try_acquire_owned().unwrap();
    let call = timeout(20).call(|| async move {
        let work = move || {
            let _permit = permit;
            let _ = wait.recv();
        };
        Ok::<_, BoxError>(tokio::task::spawn_blocking(work).await?)
    });
    let started = Instant::now();
    assert!(call.await.unwrap_err().rejection().is_some());
    assert!(started.elapsed() < ms(5_000));
    assert_eq!(slots.available_permits(), 0);
    go.send(()).unwrap();
    let _again = slots.acquire().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn waker_of_the_last_poll_is_the_one_that_is_woken() {
    let mut call = task::spawn(Box::pin(timeout(30).call(|| taking(100))));
    assert_pending!(call.poll());
    let moved = call.into_inner();
    let mut elsewhere = task::spawn(moved);
    assert_pending!(elsewhere.poll());
    time::advance(ms(30)).await;
    assert!(elsewhere.is_woken());
    assert_ready_err!(elsewhere.poll());
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "polled after it resolved")]
async fn polling_a_finished_call_panics() {
    let mut call = Box::pin(timeout(30).call(|| async { Ok::<_, BoxError>(()) }));
    call.as_mut().await.unwrap();
    let _ = call.as_mut().await;
}

#[test]
fn call_that_is_ready_at_once_needs_no_runtime() {
    let mut call = task::spawn(timeout(30).call(|| async { Ok::<_, BoxError>(1) }));
    assert_eq!(assert_ready_ok!(call.poll()), 1);
}

#[tokio::test(start_paused = true)]
async fn layers_share_state_however_often_they_are_applied() {
    let timeout = timeout(30);
    let layer = timeout.layer();
    for _ in 0..3 {
        let _ = layer.layer(service_fn(|()| taking(100))).oneshot(()).await;
    }
    assert_eq!(timeout.snapshot().timeouts, 3);
    assert_eq!(layer.handle().snapshot().timeouts, 3);
}

#[test]
fn layers_infer_with_nothing_annotated() {
    let t = timeout(30);
    let _svc = ServiceBuilder::new()
        .layer(t.layer())
        .layer(t.layer().fallback(|| 7))
        .layer(t.layer().fallback_with(|why| Err(BoxError::from(why))))
        .layer(t.layer().limit_by(|_: &u32| None))
        .layer(t.layer())
        .layer(ReadyInCallLayer)
        .layer(t.layer())
        .layer(t.layer().fallback(|| 8))
        .layer(t.layer())
        .layer(t.layer())
        .service(service_fn(|n: u32| async move { Ok::<_, BoxError>(n) }));
    drop(_svc.oneshot(1));
}

#[test]
fn types_are_what_connection_builders_need() {
    fn all<T: Clone + Send + Sync + Unpin + std::fmt::Debug + 'static>() {}
    // The request type is `Rc`: nothing may depend on it.
    #[derive(Clone, Debug)]
    struct Inner;
    impl Service<std::rc::Rc<()>> for Inner {
        type Response = ();
        type Error = BoxError;
        type Future = std::future::Ready<Result<(), BoxError>>;
        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, _: std::rc::Rc<()>) -> Self::Future {
            std::future::ready(Ok(()))
        }
    }
    fn service<S: Service<std::rc::Rc<()>>>() {}
    all::<Timeout>();
    all::<buttress_kit::Registry>();
    all::<TimeoutLayer>();
    all::<TimeoutService<Inner>>();
    all::<ReadyInCall<Inner>>();
    service::<TimeoutService<Inner, Configured, Refuse>>();
    fn future<T: Send + std::fmt::Debug>(_: &T) {}
    future(&timeout(30).call(|| async { Ok::<_, BoxError>(()) }));
}

#[tokio::test(start_paused = true)]
async fn panic_in_call_reaches_the_caller_and_is_counted() {
    let timeout = timeout(30);
    let mut svc = timeout.layer().layer(service_fn(|()| {
        assert!(std::hint::black_box(false), "in call");
        taking(1)
    }));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(svc.call(())))).is_err());
    let snapshot = timeout.snapshot();
    assert_eq!((snapshot.failures, snapshot.cancelled), (1, 0));
    assert_eq!(context::current(), CallContext::default());
}
