//! What every Tower user may rely on.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use buttress_bulkhead::{
    Acquire, Bulkhead, BulkheadConfig, BulkheadFuture, BulkheadLayer, BulkheadService, Drain, Permit,
};
use buttress_core::{BoxError, Error, Standard, Verdict, rejection};
use tokio::time::{advance, sleep};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task::spawn};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, buffer::BufferLayer, limit::GlobalConcurrencyLimitLayer,
    service_fn,
};
use tower_test::{assert_request_eq, mock};

use crate::support::{builder, bulkhead, call, levels, ms};

#[test]
fn everything_can_be_sent_shared_cloned_and_shown_whatever_the_request_is() {
    struct NotClone(#[allow(dead_code)] *mut ());
    fn is<T: Clone + Send + Sync + Unpin + std::fmt::Debug>() {}
    is::<Bulkhead>();
    is::<BulkheadConfig>();
    is::<BulkheadLayer>();
    is::<BulkheadService<tower::util::BoxCloneSyncService<u32, NotClone, BoxError>>>();
    fn shown<T: Clone + Send + Sync + Unpin + std::fmt::Debug>(_: &T) {}
    let by_closure = bulkhead(1, 1).layer().classify_with(|_: Result<&(), &BoxError>| Verdict::Success);
    shown(&by_closure);
    shown(&by_closure.layer(())); // whatever the service is
    fn moves<T: Send + Sync + Unpin + std::fmt::Debug>() {}
    moves::<Permit>();
    moves::<Acquire>();
    moves::<Drain>();
    fn future<T: Send>(_: &T) {}
    let svc = bulkhead(1, 1).layer().layer(service_fn(|_: Vec<u8>| async { Ok::<_, BoxError>(()) }));
    future(&svc.oneshot(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn readied_clone_that_is_never_called_starves_nobody() {
    let bulkhead = bulkhead(1, 1);
    let svc = bulkhead.layer().layer(service_fn(|n: u32| async move { Ok::<_, BoxError>(n) }));
    let mut idle = svc.clone();
    idle.ready().await.unwrap();
    advance(ms(3_600_000)).await;
    assert_eq!(levels(&bulkhead), (0, 0));
    assert_eq!(svc.oneshot(2).await.unwrap(), 2);
    assert_eq!(idle.call(1).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn slot_is_free_when_the_call_is_done_not_when_its_future_is_dropped() {
    let bulkhead = bulkhead(1, 0);
    let (end, mut finished) = call(&bulkhead);
    assert_pending!(finished.poll());
    end.send(Ok(1)).unwrap();
    assert_ready_ok!(finished.poll());
    advance(ms(10_000)).await;
    assert_eq!(bulkhead.snapshot().available, 1);
    drop(finished);
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.available, snapshot.completed, snapshot.cancelled), (1, 1, 0));
}

/// A call that keeps what it has until it is dropped, and then says whether its slot was free already.
struct Work {
    bulkhead: Bulkhead,
    was_free: Arc<AtomicBool>,
    ends: bool,
}

impl Drop for Work {
    fn drop(&mut self) {
        self.was_free.store(self.bulkhead.snapshot().active == 0, SeqCst);
    }
}

impl Future for Work {
    type Output = Result<(), BoxError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        if self.ends { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

#[tokio::test(start_paused = true)]
async fn inner_call_is_gone_before_its_slot_is_free() {
    let bulkhead = bulkhead(1, 0);
    for ends in [true, false] {
        let was_free = Arc::new(AtomicBool::new(true));
        let work = Work { bulkhead: bulkhead.clone(), was_free: was_free.clone(), ends };
        let mut call = spawn(bulkhead.call(|| work));
        assert_eq!(call.poll().is_ready(), ends);
        drop(call);
        assert!(!was_free.load(SeqCst));
        assert_eq!(bulkhead.snapshot().active, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn panic_inside_call_or_poll_gives_the_slot_back_and_counts_as_failure() {
    let bulkhead = bulkhead(1, 1);
    let svc = bulkhead.layer().layer(service_fn(|in_call: bool| {
        assert!(!in_call, "inside `call`");
        async move { panic!("inside `poll`") as Result<(), BoxError> }
    }));
    for in_call in [true, false] {
        let mut broken = spawn(svc.clone().oneshot(in_call));
        catch_unwind(AssertUnwindSafe(|| broken.poll().is_ready())).unwrap_err();
        // At once, although whoever caught the panic keeps the future.
        assert_eq!(bulkhead.snapshot().available, 1);
        drop(broken);
    }
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.available, snapshot.failed, snapshot.cancelled), (1, 2, 0));
}

#[derive(Clone)]
struct Unready;

impl Service<()> for Unready {
    type Response = ();
    type Error = BoxError;
    type Future = std::future::Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Err("worn out".into()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        panic!("called without readiness");
    }
}

#[tokio::test]
async fn service_that_fails_to_be_ready_fails_the_call_not_the_bulkhead() {
    let bulkhead = bulkhead(1, 0);
    let mut svc = bulkhead.layer().layer(Unready);
    svc.ready().await.unwrap();
    assert_eq!(svc.call(()).await.unwrap_err().to_string(), "worn out");
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.available, snapshot.failed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn future_dropped_at_any_await_gives_everything_back() {
    let bulkhead = bulkhead(1, 1);
    let inner_limit = GlobalConcurrencyLimitLayer::new(1);
    let svc = bulkhead.layer().layer(inner_limit.layer(service_fn(|n: u32| async move {
        sleep(ms(10)).await;
        sleep(ms(10)).await;
        Ok::<_, BoxError>(n)
    })));
    // Polled 0 times to as often as it takes, then dropped: while it waits in the queue, while it waits for the
    // inner service, and at each await of the inner call.
    for polls in 0..8 {
        let held = bulkhead.try_acquire().unwrap();
        let mut reserved = inner_limit.layer(service_fn(|_: u32| async { Ok::<_, BoxError>(()) }));
        reserved.ready().await.unwrap();
        let (mut held, mut reserved) = (Some(held), Some(reserved));
        let mut call = spawn(svc.clone().oneshot(1));
        for poll in 0..polls {
            match poll {
                0 => {}
                2 => held = None,
                4 => reserved = None,
                _ => advance(ms(10)).await,
            }
            if call.poll().is_ready() {
                break;
            }
        }
        drop((call, held.take(), reserved.take()));
        assert_eq!(levels(&bulkhead), (0, 0), "after {polls} polls");
        assert_eq!(svc.clone().oneshot(polls).await.unwrap(), polls);
    }
}

// An owning layer: what the inner service reserves is not held while the call waits.
#[tokio::test(start_paused = true)]
async fn nothing_of_the_inner_service_is_held_while_a_call_waits() {
    let bulkhead = bulkhead(1, 1);
    let one = GlobalConcurrencyLimitLayer::new(1);
    let echo = service_fn(|n: u32| async move { Ok::<_, BoxError>(n) });
    let mut svc = bulkhead.layer().layer(one.layer(echo));
    let _permit = bulkhead.try_acquire().unwrap();
    svc.ready().await.unwrap();
    let mut waiting = spawn(svc.call(1));
    assert_pending!(waiting.poll());
    assert_eq!(one.layer(echo).oneshot(2).await.unwrap(), 2); // would wait for ever
}

#[tokio::test(start_paused = true)]
async fn inner_service_is_called_only_when_it_is_ready() {
    let bulkhead = bulkhead(2, 0);
    let (mut svc, mut inner) = mock::spawn_layer::<&str, &str, _>(bulkhead.layer());
    inner.allow(0);
    let mut call = spawn(svc.call("a"));
    assert_pending!(call.poll());
    assert_pending!(inner.poll_request());
    assert_eq!(levels(&bulkhead), (1, 0));
    inner.allow(1);
    assert!(call.is_woken());
    assert_pending!(call.poll());
    assert_request_eq!(inner, "a").send_response("b");
    assert_eq!(assert_ready_ok!(call.poll()), "b");
}

#[tokio::test]
async fn works_over_a_concurrency_limit_and_a_buffer() {
    let bulkhead = bulkhead(3, 100);
    let (running, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let svc = ServiceBuilder::new()
        .layer(bulkhead.layer())
        .layer(BufferLayer::new(2))
        .concurrency_limit(2)
        .service(service_fn({
            let (running, most) = (running.clone(), most.clone());
            move |n: u32| {
                let (running, most) = (running.clone(), most.clone());
                async move {
                    most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                    tokio::task::yield_now().await;
                    running.fetch_sub(1, SeqCst);
                    Ok::<_, BoxError>(n)
                }
            }
        }));
    let tasks: Vec<_> = (0..50).map(|n| tokio::spawn(svc.clone().oneshot(n))).collect();
    for (n, task) in (0..).zip(tasks) {
        assert_eq!(task.await.unwrap().unwrap(), n);
    }
    assert_eq!(most.load(SeqCst), 2);
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.completed, snapshot.peak, snapshot.active), (50, 3, 0));
}

// Promise 1: axum makes the service anew for every connection.
#[tokio::test(start_paused = true)]
async fn services_made_by_one_layer_share_its_slots() {
    let bulkhead = bulkhead(1, 0);
    let layer = bulkhead.layer();
    let svc = || layer.layer(service_fn(|(): ()| std::future::pending::<Result<(), BoxError>>()));
    let mut first = spawn(svc().oneshot(()));
    assert_pending!(first.poll());
    let refused = assert_ready_err!(spawn(svc().oneshot(())).poll());
    assert_eq!(rejection(&*refused).unwrap().code(), "BULKHEAD_QUEUE_FULL");
}

#[tokio::test]
async fn errors_keep_their_type() {
    let bulkhead = bulkhead(1, 0);
    let svc =
        bulkhead.layer().layer(service_fn(|(): ()| async { Err::<(), _>(Error::Inner(std::fmt::Error)) }));
    assert_eq!(svc.clone().oneshot(()).await, Err(Error::Inner(std::fmt::Error)));
    let _permit = bulkhead.try_acquire().unwrap();
    let refused: Error<std::fmt::Error> = svc.oneshot(()).await.unwrap_err();
    assert_eq!(refused.rejection().unwrap().code(), "BULKHEAD_QUEUE_FULL");
}

#[tokio::test]
async fn classifier_says_what_counts_as_failed() {
    let bulkhead = bulkhead(1, 0);
    let layer = bulkhead.layer().classify_with(|outcome: Result<&u16, &BoxError>| match outcome {
        Ok(status) if *status >= 500 => Verdict::transient(),
        Ok(_) => Verdict::Success,
        Err(_) => Verdict::Ignore,
    });
    let svc = layer.layer(service_fn(|status: u16| async move {
        if status == 0 { Err(BoxError::from("no connection")) } else { Ok(status) }
    }));
    for status in [200, 503, 404] {
        svc.clone().oneshot(status).await.unwrap();
    }
    svc.oneshot(0).await.unwrap_err();
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.completed, snapshot.failed), (3, 1));
}

#[tokio::test]
async fn classifier_that_panics_costs_no_slot() {
    let bulkhead = bulkhead(1, 0);
    let layer = bulkhead.layer().classify_with(|_: Result<&(), &BoxError>| -> Verdict { panic!("odd") });
    let svc = layer.layer(service_fn(|(): ()| async { Ok::<_, BoxError>(()) }));
    tokio::spawn(svc.oneshot(())).await.unwrap_err();
    assert_eq!(bulkhead.snapshot().available, 1);
}

#[tokio::test]
async fn ten_layers_infer_with_nothing_annotated() {
    let wide = builder(5, 5).build().unwrap();
    let layer = || wide.layer().classify(Standard);
    let one = bulkhead(50, 0);
    let svc = ServiceBuilder::new()
        .layer(one.layer())
        .layer(one.layer().classify_with(|_: Result<&u32, &BoxError>| Verdict::Success))
        .layer(one.layer())
        .layer(one.layer())
        .layer(one.layer())
        .layer(one.layer())
        .layer(one.layer())
        .layer(one.layer())
        .layer(one.layer())
        .layer(layer())
        .service(service_fn(|n: u32| async move { Ok::<_, BoxError>(n + 1) }));
    assert_eq!(svc.oneshot(1).await.unwrap(), 2);
    assert_eq!(one.snapshot().peak, 9);
}

// The future of `.call` and that of the service are one type.
#[tokio::test]
async fn call_and_service_share_one_future_type() {
    fn is_one<S: Service<R>, R, C>(_: &BulkheadFuture<S, R, C>) {}
    let bulkhead = bulkhead(2, 0);
    let by_call = bulkhead.call(|| async { Ok::<_, BoxError>(1) });
    let by_service = bulkhead.layer().layer(service_fn(|n: u32| async move { Ok::<_, BoxError>(n) })).call(1);
    is_one(&by_call);
    is_one(&by_service);
    assert_eq!(by_call.await.unwrap(), by_service.await.unwrap() as i32);
}

#[test]
fn futures_are_small() {
    // The request, the service, three words for the way through the bulkhead, and the phase.
    let svc = bulkhead(1, 1).layer().layer(service_fn(|n: u64| std::future::ready(Ok::<_, BoxError>(n))));
    assert!(size_of_val(&{ svc }.call(1)) <= 72);
}

/// A waker that is the last owner of somebody else's place in the queue.
struct LastOwner(#[allow(dead_code)] Mutex<Acquire>);

impl Wake for LastOwner {
    fn wake(self: Arc<Self>) {}
}

// A waker may be the last owner of a task, and the task may wait in the same queue: dropping it under the lock would
// stop everything.
#[tokio::test(start_paused = true)]
async fn waker_that_drops_another_waiter_does_not_stop_the_queue() {
    // No timeout, or the timer would own the waker, too.
    let bulkhead = builder(1, 10).queue_timeout(None).build().unwrap();
    let permit = bulkhead.try_acquire().unwrap();
    let owner = || {
        let mut other = bulkhead.acquire();
        let waiting = Pin::new(&mut other).poll(&mut Context::from_waker(Waker::noop()));
        assert!(waiting.is_pending());
        Waker::from(Arc::new(LastOwner(Mutex::new(other))))
    };
    let poll = |waiter: &mut Acquire, waker: &Waker| {
        Pin::new(waiter).poll(&mut Context::from_waker(waker)).is_pending()
    };
    // Replaced by another waker.
    let mut first = bulkhead.acquire();
    assert!(poll(&mut first, &owner()));
    assert_eq!(levels(&bulkhead), (1, 2));
    assert!(poll(&mut first, Waker::noop()));
    assert_eq!(levels(&bulkhead), (1, 1));
    // Dropped with the waiter.
    let mut second = bulkhead.acquire();
    assert!(poll(&mut second, &owner()));
    drop(second);
    assert_eq!(levels(&bulkhead), (1, 1));
    // Called, cleared, and of a drain.
    assert!(poll(&mut first, &owner()));
    drop(permit);
    drop(first);
    assert_eq!(levels(&bulkhead), (0, 0));
    let permit = bulkhead.try_acquire().unwrap();
    let mut third = bulkhead.acquire();
    assert!(poll(&mut third, &owner()));
    let mut drain = bulkhead.drain();
    let waiting = Pin::new(&mut drain).poll(&mut Context::from_waker(&owner()));
    assert!(waiting.is_pending());
    drop(drain);
    bulkhead.clear_queue();
    drop((third, permit));
    assert_eq!(levels(&bulkhead), (0, 0));
}
