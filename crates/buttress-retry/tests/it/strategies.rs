//! Replay of requests, types, and what the compiler must find out by itself.

use std::{
    cell::Cell,
    marker::PhantomData,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use crate::support::{OPEN, TIMEOUT, fluxus, of};
use buttress_core::{
    Applied, BoxError, ByClone, Classify, Name, Never, OnlyErrors, Rejection, Replay, Verdict, rejection,
};
use buttress_kit::Backoff;
use buttress_retry::{Retry, RetryFuture, RetryLayer, RetryService};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

fn at_once(attempts: u32) -> Retry {
    Retry::new("payments", of(attempts, fluxus())).unwrap()
}

/// A request that counts its clones.
#[derive(Debug, Default)]
struct Counted(Arc<AtomicUsize>);

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Relaxed);
        Self(self.0.clone())
    }
}

/// A service that fails, and counts its clones.
#[derive(Debug, Default)]
struct Failing(Arc<AtomicUsize>);

impl Clone for Failing {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Relaxed);
        Self(self.0.clone())
    }
}

impl<Req> Service<Req> for Failing {
    type Response = ();
    type Error = BoxError;
    type Future = std::future::Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Req) -> Self::Future {
        std::future::ready(Err("down".into()))
    }
}

#[tokio::test]
async fn request_is_not_cloned_for_the_last_attempt_nor_service_where_nothing_is_repeated() {
    for (attempts, requests, services) in [(1, 0, 0), (2, 1, 1), (3, 2, 1), (5, 4, 1)] {
        let (req, failing) = (Counted::default(), Failing::default());
        let (clones, service_clones) = (req.0.clone(), failing.0.clone());
        let mut svc = at_once(attempts).layer().layer(failing);
        svc.call(req).await.unwrap_err();
        assert_eq!((clones.load(Relaxed), service_clones.load(Relaxed)), (requests, services));
    }
    let (req, failing) = (Counted::default(), Failing::default());
    let (clones, service_clones) = (req.0.clone(), failing.0.clone());
    let mut svc = at_once(3).layer().replay(Never).layer(failing);
    svc.call(req).await.unwrap_err();
    assert_eq!((clones.load(Relaxed), service_clones.load(Relaxed)), (0, 0));
}

/// No `Clone`, no `Debug`, neither `Send` nor `Sync` nor `Unpin`.
struct Odd(#[allow(dead_code)] Rc<Cell<u8>>, std::marker::PhantomPinned);

fn odd() -> Odd {
    Odd(Rc::default(), std::marker::PhantomPinned)
}

// What cannot be repeated is not
#[tokio::test]
async fn request_that_cannot_be_cloned_is_sent_once() {
    let retry = at_once(3);
    let mut svc = retry.layer().replay(Never).layer(Failing::default());
    svc.call(odd()).await.unwrap_err();
    let snapshot = retry.snapshot();
    assert_eq!((snapshot.retries, snapshot.stopped.not_replayable), (0, 1));
}

#[tokio::test]
async fn closure_says_which_requests_may_be_sent_again() {
    let retry = at_once(3);
    let layer = retry.layer().replay_with(|path: &&'static str| path.starts_with("GET").then_some(*path));
    let svc = layer.layer(Failing::default());
    svc.clone().oneshot("GET /").await.unwrap_err();
    assert_eq!(retry.snapshot().retries, 2);
    svc.oneshot("POST /").await.unwrap_err();
    assert_eq!(retry.snapshot().retries, 2);
    assert_eq!(retry.snapshot().stopped.not_replayable, 1);
}

/// Replays twice, then no more.
struct Twice(Arc<AtomicUsize>);

impl Replay<u32> for Twice {
    fn save(&self, req: &u32) -> Option<u32> {
        (self.0.fetch_add(1, Relaxed) < 2).then_some(*req)
    }
}

/// Saves every request, and may find at the end of the attempt that it cannot be sent.
#[derive(Clone)]
struct Perishable {
    keeps: bool,
    asked: Arc<AtomicUsize>,
}

impl Replay<u32> for Perishable {
    fn save(&self, req: &u32) -> Option<u32> {
        Some(*req)
    }

    fn can_resend(&self, saved: &u32, _applied: Applied) -> bool {
        assert_eq!(*saved, 7);
        self.asked.fetch_add(1, Relaxed);
        self.keeps
    }
}

// Asked once for each attempt that could be followed: a saved request may change while the attempt is under way.
#[tokio::test]
async fn saved_request_that_cannot_be_sent_any_more_ends_the_call() {
    for (keeps, attempts, retries, times) in [(false, 3, 0, 1), (true, 3, 2, 2), (true, 1, 0, 0)] {
        let (retry, asked) = (at_once(attempts), Arc::new(AtomicUsize::new(0)));
        let layer = retry.layer().replay(Perishable { keeps, asked: asked.clone() });
        layer.layer(Failing::default()).oneshot(7).await.unwrap_err();
        assert_eq!((retry.snapshot().retries, asked.load(Relaxed)), (retries, times));
        let stopped = retry.snapshot().stopped.not_replayable;
        assert_eq!(stopped, u64::from(!keeps));
    }
    let (retry, asked) = (at_once(3), Arc::new(AtomicUsize::new(0)));
    let layer = retry.layer().replay(Perishable { keeps: true, asked: asked.clone() });
    let layer = layer.classify_with(|_: Result<&(), &BoxError>| Verdict::permanent());
    layer.layer(Failing::default()).oneshot(7).await.unwrap_err();
    assert_eq!(asked.load(Relaxed), 0, "nobody wants another attempt");
}

/// Of failures it knows that nothing happened, and of time-outs that nobody knows.
#[derive(Clone)]
struct Knows(Arc<AtomicUsize>);

impl Classify<(), BoxError> for Knows {
    fn classify(&self, outcome: Result<&(), &BoxError>) -> Verdict {
        if outcome.is_ok() { Verdict::Success } else { Verdict::transient() }
    }

    fn applied(&self, outcome: Result<&(), &BoxError>) -> Applied {
        self.0.fetch_add(1, Relaxed);
        match outcome.err().and_then(|error| rejection(&**error)) {
            Some(_) => Applied::Unknown,
            None => Applied::No,
        }
    }
}

/// Sends again what cannot have taken effect.
#[derive(Clone)]
struct Once;

impl Replay<u32> for Once {
    fn save(&self, req: &u32) -> Option<u32> {
        Some(*req)
    }

    fn can_resend(&self, _saved: &u32, applied: Applied) -> bool {
        applied == Applied::No
    }
}

#[tokio::test]
async fn replay_is_told_whether_the_attempt_can_have_taken_effect() {
    let name = Name::new("inner");
    type Fails = fn(&Name) -> BoxError;
    let failures: [(Fails, u64, usize); 3] = [
        (|_| "down".into(), 2, 2),
        (|name| Rejection::new(TIMEOUT, name).into(), 0, 1),
        // Known without the classifier: it was not sent.
        (|name| Rejection::new(OPEN, name).into(), 2, 0),
    ];
    for (failure, retries, asked) in failures {
        let (retry, counted) = (
            Retry::builder("p").config(of(3, fluxus())).retry_rejections([OPEN]).build().unwrap(),
            Arc::new(AtomicUsize::new(0)),
        );
        let name = name.clone();
        let svc = service_fn(move |_: u32| std::future::ready(Err::<(), BoxError>(failure(&name))));
        // What the setters add on top leaves the answer alone.
        let layer = retry.layer().classify(Knows(counted.clone())).map_err(|error: BoxError| error);
        layer.replay(Once).layer(svc.clone()).oneshot(7).await.unwrap_err();
        assert_eq!((retry.snapshot().retries, counted.load(Relaxed)), (retries, asked));
    }
    // By default nobody knows.
    let retry = at_once(3);
    retry.layer().replay(Once).layer(Failing::default()).oneshot(7).await.unwrap_err();
    assert_eq!((retry.snapshot().retries, retry.snapshot().stopped.not_replayable), (0, 1));
}

#[tokio::test]
async fn request_that_can_be_repeated_so_often_is_repeated_so_often() {
    let retry = at_once(9);
    let svc = retry.layer().replay(Twice(Arc::default())).layer(Failing::default());
    svc.oneshot(1).await.unwrap_err();
    let snapshot = retry.snapshot();
    assert_eq!((snapshot.retries, snapshot.stopped.not_replayable), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn on_retry_hears_the_attempt_from_one_the_outcome_and_the_wait() {
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = heard.clone();
    let calls = Arc::new(AtomicUsize::new(0));
    let svc = service_fn(move |()| {
        let n = calls.fetch_add(1, Relaxed);
        async move { if n < 2 { Err::<(), BoxError>(format!("failure {n}").into()) } else { Ok(()) } }
    });
    let retry =
        Retry::builder("p").retries(2).backoff(Backoff::linear(crate::support::ms(10))).build().unwrap();
    let layer = retry.layer().on_retry(move |attempt, outcome: Result<&(), &BoxError>, delay| {
        log.lock().unwrap().push((attempt, outcome.unwrap_err().to_string(), delay.as_millis()));
    });
    layer.layer(svc).oneshot(()).await.unwrap();
    assert_eq!(*heard.lock().unwrap(), [(1, "failure 0".into(), 10), (2, "failure 1".into(), 20)]);
}

#[tokio::test]
async fn strategies_stack_in_any_order() {
    let told = Arc::new(AtomicUsize::new(0));
    let count = told.clone();
    let layer = at_once(3)
        .layer()
        .classify(OnlyErrors::codes(["down"]))
        .on_retry(move |_, _: Result<&(), &BoxError>, _| {
            count.fetch_add(1, Relaxed);
        })
        .throttled_when(|outcome: Result<&(), &BoxError>| outcome.is_err())
        .map_err(|error: BoxError| -> BoxError { format!("mapped: {error}").into() })
        .replay_with(|req: &u32| Some(*req));
    let error = layer.layer(Failing::default()).oneshot(1).await.unwrap_err();
    assert_eq!((error.to_string().as_str(), told.load(Relaxed)), ("mapped: down", 2));
}

#[tokio::test]
async fn ten_layers_infer_with_nothing_annotated() {
    let (retry, only) = (at_once(2), OnlyErrors::codes(["down"]));
    let svc = ServiceBuilder::new()
        .layer(retry.layer())
        .layer(retry.layer().replay(ByClone))
        .layer(retry.layer().classify(only.clone()))
        .layer(retry.layer().classify_with(|r: Result<&(), &_>| match r {
            Ok(_) => Verdict::Success,
            Err(_) => Verdict::transient(),
        }))
        .layer(retry.layer().on_retry(|_, _: Result<&(), &_>, _| {}))
        .layer(retry.layer().replay_with(|n| Some(*n)))
        .layer(retry.layer().map_err(|error| error))
        .layer(retry.layer().throttled_when(|_: Result<&(), &_>| false))
        .layer(retry.layer().classify(only).replay(Never))
        .layer(retry.layer())
        .service(Failing::default());
    svc.oneshot(1_u32).await.unwrap_err();
}

fn is_plain<T: Clone + Send + Sync + Unpin + std::fmt::Debug>(_: &T) {}

#[test]
fn handles_layers_and_services_are_plain_whatever_the_request_is() {
    #[derive(Clone)]
    struct Opaque;
    impl<Req> Replay<Req> for Opaque {
        fn save(&self, _: &Req) -> Option<Req> {
            None
        }
    }
    let retry = at_once(2);
    is_plain(&retry);
    is_plain(&retry.layer());
    is_plain(&retry.layer().replay(Opaque).classify_with(|_: Result<&(), &BoxError>| Verdict::Ignore));
    is_plain(&retry.layer().replay(Opaque).layer(Failing::default()));
    is_plain(&retry.config());
    is_plain(&retry.snapshot());

    let mut svc: RetryService<_, _, Opaque> = retry.layer().replay(Opaque).layer(Failing::default());
    let future = svc.call(odd());
    assert!(format!("{future:?}").contains("calling"));
    fn is_send<T: Send>(_: &T) {}
    is_send(&svc.call(1));
    let _: PhantomData<RetryFuture<Failing, u32, buttress_core::Standard, ByClone>> = PhantomData;
    let _: RetryLayer = retry.layer();
}
