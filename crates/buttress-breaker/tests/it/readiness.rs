//! The contract of `poll_ready` and `call`.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use buttress_breaker::{Breaker, State};
use buttress_core::{BoxError, LiftErrorsLayer, rejection};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::{
    Layer, Service, ServiceExt, balance::p2c::Balance, buffer::BufferLayer, discover::ServiceList,
    limit::GlobalConcurrencyLimitLayer, load::Constant, service_fn,
};
use tower_test::{assert_request_eq, mock};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn open_is_ready_at_once_and_leaves_the_inner_service_alone() {
    let breaker = Breaker::builder("x").build().unwrap();
    let (mut svc, mut inner) = mock::spawn_layer::<&str, (), _>(breaker.layer());
    inner.allow(0);
    breaker.force_open();
    assert_ready_ok!(svc.poll_ready());
    let mut call = task::spawn(svc.call("x"));
    let refused = assert_ready_err!(call.poll());
    assert_eq!(rejection(&*refused).unwrap().code(), "CIRCUIT_OPEN");
    assert_pending!(inner.poll_request());
}

#[tokio::test(start_paused = true)]
async fn closed_passes_readiness_on_and_calls_the_readied_instance() {
    let breaker = Breaker::builder("x").build().unwrap();
    let (mut svc, mut inner) = mock::spawn_layer::<&str, &str, _>(breaker.layer());
    inner.allow(0);
    assert_pending!(svc.poll_ready());
    inner.allow(1);
    assert!(svc.is_woken());
    assert_ready_ok!(svc.poll_ready());
    let mut call = task::spawn(svc.call("x"));
    assert_pending!(call.poll());
    assert_request_eq!(inner, "x").send_response("y");
    assert_eq!(assert_ready_ok!(call.poll()), "y");
}

// A readiness error tells the caller to throw the service away: it must pass, and it is no call.
#[tokio::test(start_paused = true)]
async fn a_readiness_error_passes_unchanged_and_counts_as_no_call() {
    let breaker = Breaker::builder("x").consecutive_failures(1).build().unwrap();
    let (mut svc, mut inner) = mock::spawn_layer::<(), (), _>(breaker.layer());
    inner.send_error("broken");
    let error = assert_ready_err!(svc.poll_ready());
    assert_eq!(error.to_string(), "broken");
    breaker.is(State::Closed);
    assert_eq!(breaker.snapshot().total, 0);
}

#[tokio::test(start_paused = true)]
async fn parked_caller_is_refused_at_once_by_force_open() {
    let breaker = Breaker::builder("x").build().unwrap();
    let (mut svc, mut inner) = mock::spawn_layer::<&str, (), _>(breaker.layer());
    inner.allow(0);
    assert_pending!(svc.poll_ready());
    breaker.force_open();
    assert!(svc.is_woken());
    assert_ready_ok!(svc.poll_ready());
    let mut call = task::spawn(svc.call("x"));
    assert_ready_err!(call.poll());
}

#[tokio::test(start_paused = true)]
async fn wait_that_ends_between_poll_ready_and_call_never_calls_an_unreadied_inner() {
    let breaker = Breaker::builder("x").open_for(secs(1)).build().unwrap();
    let (mut svc, mut inner) = mock::spawn_layer::<&str, (), _>(breaker.layer());
    inner.allow(0);
    breaker.force_open();
    assert_ready_ok!(svc.poll_ready());
    pass(secs(1)).await;
    breaker.is(State::HalfOpen);
    let mut call = task::spawn(svc.call("x"));
    assert_ready_err!(call.poll());
    assert_pending!(inner.poll_request());
    // No probe was taken: the next one is free.
    breaker.ok(1);
}

// Also where it was closed by hand in between.
#[tokio::test(start_paused = true)]
async fn an_instance_that_was_not_readied_refuses_whatever_the_state_is_by_then() {
    let breaker = Breaker::builder("x").build().unwrap();
    let (mut svc, mut inner) = mock::spawn_layer::<&str, (), _>(breaker.layer());
    inner.allow(0);
    breaker.isolate();
    assert_ready_ok!(svc.poll_ready());
    breaker.reset();
    let mut call = task::spawn(svc.call("x"));
    assert_ready_err!(call.poll());
    assert_pending!(inner.poll_request());
}

#[tokio::test(start_paused = true)]
async fn readiness_is_used_up_by_a_call_and_not_cloned() {
    let calls = Arc::new(AtomicU32::new(0));
    let seen = calls.clone();
    let breaker = Breaker::builder("x").build().unwrap();
    let mut svc = breaker.layer().layer(service_fn(move |(): ()| {
        seen.fetch_add(1, SeqCst);
        async { Ok::<_, BoxError>(()) }
    }));
    svc.ready().await.unwrap();
    let mut clone = svc.clone();
    clone.call(()).await.unwrap_err();
    svc.call(()).await.unwrap();
    svc.call(()).await.unwrap_err();
    assert_eq!(calls.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn refusal_on_a_kept_instance_gives_its_inner_slot_back() {
    let breaker = Breaker::builder("x").build().unwrap();
    let one = GlobalConcurrencyLimitLayer::new(1);
    let echo = service_fn(|n: u32| async move { Ok::<_, BoxError>(n) });
    let mut svc = breaker.layer().layer(one.layer(echo));
    let other = one.layer(echo);
    svc.ready().await.unwrap(); // holds the only slot
    breaker.force_open();
    svc.call(1).await.unwrap_err();
    assert_eq!(other.oneshot(2).await.unwrap(), 2); // would wait for ever
}

#[tokio::test(start_paused = true)]
async fn gated_readiness_waits_and_is_woken_by_hand_and_by_time() {
    let breaker = Breaker::builder("x").open_for(secs(1)).gate_readiness(true).build().unwrap();
    let (mut svc, mut inner) = mock::spawn_layer::<&str, (), _>(breaker.layer());
    inner.allow(1);
    breaker.force_open();
    assert_pending!(svc.poll_ready());
    breaker.force_close();
    assert!(svc.is_woken());
    assert_ready_ok!(svc.poll_ready());
    breaker.force_open();
    assert_pending!(svc.poll_ready());
    pass(secs(1)).await;
    assert!(svc.is_woken());
    assert_ready_ok!(svc.poll_ready());
    breaker.isolate();
    assert_pending!(svc.poll_ready());
    let mut other = breaker.config();
    other.gate_readiness = false;
    breaker.reconfigure(other).unwrap();
    assert!(svc.is_woken());
    assert_ready_ok!(svc.poll_ready());
}

// Nobody may be left behind: each of many waiters is woken by one change.
#[tokio::test(start_paused = true)]
async fn every_gated_waiter_is_woken_and_none_is_kept_after_it_left() {
    let breaker = Breaker::builder("x").gate_readiness(true).build().unwrap();
    let svc = breaker.layer().layer(service_fn(|(): ()| async { Ok::<_, BoxError>(()) }));
    breaker.isolate();
    let mut waiting: Vec<_> = (0..100).map(|_| task::spawn(svc.clone())).collect();
    for waiter in &mut waiting {
        assert!(waiter.enter(|cx, mut svc| svc.poll_ready(cx)).is_pending());
    }
    waiting.truncate(50);
    breaker.force_close();
    for waiter in &mut waiting {
        assert!(waiter.is_woken());
        assert!(waiter.enter(|cx, mut svc| svc.poll_ready(cx)).is_ready());
    }
}

// Over a service that hands out reservations: none is lost, wherever the future is dropped.
#[tokio::test(start_paused = true)]
async fn over_a_concurrency_limit_dropped_anywhere_no_slot_and_no_probe_is_lost() {
    let breaker = Breaker::builder("x").consecutive_failures(1).open_for(secs(1)).build().unwrap();
    let one = GlobalConcurrencyLimitLayer::new(1);
    let inner = service_fn(|steps: u32| async move {
        for _ in 0..steps {
            tokio::task::yield_now().await;
        }
        Ok::<_, BoxError>(())
    });
    let svc = breaker.layer().layer(one.layer(inner));
    for half_open in [false, true] {
        for polls in 0..6 {
            if half_open {
                breaker.force_open();
                breaker.force_half_open().unwrap();
            }
            let mut call = task::spawn(svc.clone().oneshot(3));
            for _ in 0..polls {
                if call.poll().is_ready() {
                    break;
                }
            }
            drop(call);
            assert_eq!(breaker.snapshot().probes_in_flight, 0);
            breaker.reset();
            svc.clone().oneshot(0).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn over_a_buffer_refusals_give_its_places_back() {
    let breaker = Breaker::builder("x").open_for(secs(1)).success_threshold(1).build().unwrap();
    let svc = breaker.layer().layer(
        tower::ServiceBuilder::new()
            .layer(BufferLayer::new(1))
            .service(service_fn(|n: u32| async move { Ok::<_, BoxError>(n) })),
    );
    let mut kept = svc.clone();
    for n in 0..20 {
        kept.ready().await.unwrap();
        breaker.force_open();
        kept.call(n).await.unwrap_err();
        pass(secs(1)).await;
        assert_eq!(kept.ready().await.unwrap().call(n).await.unwrap(), n);
        breaker.is(State::Closed);
    }
}

// Where a fast refusal looks like the least loaded endpoint.
#[tokio::test(start_paused = true)]
async fn under_p2c_a_gated_open_endpoint_gets_next_to_nothing() {
    let endpoint = |name: &'static str| {
        let breaker = Breaker::builder(name).open_for(secs(3_600)).gate_readiness(true).build().unwrap();
        let calls = Arc::new(AtomicU32::new(0));
        let seen = calls.clone();
        let svc = breaker.layer().layer(LiftErrorsLayer::new().layer(service_fn(move |(): ()| {
            seen.fetch_add(1, SeqCst);
            async { Ok::<_, std::io::Error>(()) }
        })));
        (breaker, calls, Constant::new(svc, 1_u32))
    };
    let (bad, bad_calls, first) = endpoint("bad");
    let (_good, good_calls, second) = endpoint("good");
    bad.force_open();
    let mut balance: Balance<_, ()> = Balance::new(ServiceList::new::<()>([first, second]));
    for _ in 0..300 {
        balance.ready().await.unwrap().call(()).await.unwrap();
    }
    assert!(bad_calls.load(SeqCst) <= 3, "{bad_calls:?}");
    assert!(good_calls.load(SeqCst) >= 297);
    assert_eq!(bad.snapshot().rejected, 0);
}

// An inner service that panics in `poll_ready` leaves the breaker usable.
#[tokio::test(start_paused = true)]
async fn dropping_a_waiting_future_frees_its_place() {
    let breaker = Breaker::builder("x").build().unwrap();
    let one = GlobalConcurrencyLimitLayer::new(1);
    let hang = service_fn(|(): ()| pending::<Result<(), BoxError>>());
    let svc = breaker.layer().layer(one.layer(hang));
    let mut first = task::spawn(svc.clone().oneshot(()));
    assert_pending!(first.poll());
    for _ in 0..1_000 {
        let mut second = task::spawn(svc.clone().oneshot(()));
        assert_pending!(second.poll());
    }
    let mut third = task::spawn(svc.clone().oneshot(()));
    assert_pending!(third.poll());
    drop(first);
    assert!(third.is_woken());
    assert_pending!(third.poll());
}

// It stood in the inner service's line when the circuit opened. Were it to stay there, the next place would go
// to an instance that nobody polls, and the next probe would wait for it for ever.
#[tokio::test(start_paused = true)]
async fn refusal_on_a_kept_instance_leaves_the_line_of_its_inner_service() {
    for gated in [false, true] {
        let breaker = Breaker::builder("x").gate_readiness(gated).build().unwrap();
        let one = GlobalConcurrencyLimitLayer::new(1);
        let hang = service_fn(|(): ()| pending::<Result<(), BoxError>>());
        let other = one.layer(hang);
        let first = other.clone().ready().await.unwrap().call(());
        let mut kept = task::spawn(breaker.layer().layer(one.layer(hang)));
        assert_pending!(kept.enter(|cx, mut svc| svc.poll_ready(cx)));
        breaker.force_open();
        assert!(kept.is_woken());
        let asked = kept.enter(|cx, mut svc| svc.poll_ready(cx));
        assert_eq!(asked.is_pending(), gated);
        if !gated {
            kept.enter(|_, mut svc| svc.call(())).await.unwrap_err();
        }
        drop(first);
        let ready = tokio::time::timeout(ms(10), other.clone().ready_oneshot()).await;
        assert!(ready.is_ok(), "gated: {gated}");
    }
}

// An open circuit answers at once, and nobody else may come by to tell that time has opened it.
#[tokio::test(start_paused = true)]
async fn whoever_waits_for_the_inner_service_is_woken_as_the_time_of_half_open_is_over() {
    for gated in [false, true] {
        let builder =
            Breaker::builder("x").open_for(secs(1)).half_open_timeout(secs(3)).gate_readiness(gated);
        let breaker = builder.build().unwrap();
        let one = GlobalConcurrencyLimitLayer::new(1);
        let hang = service_fn(|(): ()| pending::<Result<(), BoxError>>());
        let other = one.layer(hang);
        let first = other.clone().ready().await.unwrap().call(());
        breaker.force_open();
        breaker.force_half_open().unwrap();
        let mut lone = task::spawn(breaker.layer().layer(one.layer(hang)));
        assert_pending!(lone.enter(|cx, mut svc| svc.poll_ready(cx)));
        pass(ms(2_999)).await;
        assert!(!lone.is_woken());
        pass(ms(2)).await;
        assert!(lone.is_woken(), "gated: {gated}");
        let asked = lone.enter(|cx, mut svc| svc.poll_ready(cx));
        assert_eq!(asked.is_pending(), gated);
        if !gated {
            let refused = lone.enter(|_, mut svc| svc.call(())).await.unwrap_err();
            assert_eq!(rejection(&*refused).unwrap().retry_after(), Some(ms(999)));
        }
        // Nor does it stand in the line of a service that it will not call.
        drop(first);
        assert_ready_ok!(task::spawn(other.clone().ready_oneshot()).poll());
    }
}

// Once: there is nothing more to wait for than the inner service, however long it takes.
#[tokio::test(start_paused = true)]
async fn whoever_waits_for_the_inner_service_in_a_circuit_that_time_has_closed_goes_on_waiting() {
    let builder = Breaker::builder("x").half_open_timeout(secs(3)).half_open_timeout_closes(true);
    let breaker = builder.initial_state(State::HalfOpen).build().unwrap();
    let (mut svc, mut inner) = mock::spawn_layer::<&str, (), _>(breaker.layer());
    inner.allow(0);
    assert_pending!(svc.poll_ready());
    pass(ms(3_001)).await;
    assert!(svc.is_woken());
    assert_pending!(svc.poll_ready());
    breaker.is(State::Closed);
    assert!(svc.is_woken()); // as everybody is by a transition
    assert_pending!(svc.poll_ready());
    pass(secs(60)).await;
    assert!(!svc.is_woken());
    inner.allow(1);
    assert_ready_ok!(svc.poll_ready());
}

// Behind the gate it waits for the circuit, and holds nothing of the inner service meanwhile.
#[tokio::test(start_paused = true)]
async fn gated_readiness_holds_no_inner_slot_while_the_circuit_refuses() {
    let breaker = Breaker::builder("x").gate_readiness(true).build().unwrap();
    let one = GlobalConcurrencyLimitLayer::new(1);
    let echo = service_fn(|n: u32| async move { Ok::<_, BoxError>(n) });
    let mut kept = task::spawn(breaker.layer().layer(one.layer(echo)));
    assert_ready_ok!(kept.enter(|cx, mut svc| svc.poll_ready(cx)));
    breaker.force_open();
    assert_pending!(kept.enter(|cx, mut svc| svc.poll_ready(cx)));
    assert_eq!(one.layer(echo).oneshot(2).await.unwrap(), 2);
    breaker.force_close();
    assert_ready_ok!(kept.enter(|cx, mut svc| svc.poll_ready(cx)));
    assert_eq!(kept.enter(|_, mut svc| svc.call(3)).await.unwrap(), 3);
}

// The waker that is replaced may be the last hold on a task that has a parked service of its own.
#[test]
fn a_waker_that_takes_a_parked_service_with_it_may_be_replaced() {
    struct Last(#[expect(dead_code, reason = "held to be dropped")] std::sync::Mutex<Option<Box<dyn Send>>>);
    impl std::task::Wake for Last {
        fn wake(self: Arc<Self>) {}
    }
    let (done, watchdog) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let breaker = Breaker::builder("x").gate_readiness(true).build().unwrap();
        breaker.isolate();
        let svc = breaker.layer().layer(service_fn(|(): ()| async { Ok::<_, BoxError>(()) }));
        let mut parked = svc.clone();
        let noop = std::task::Waker::noop();
        assert_pending!(parked.poll_ready(&mut std::task::Context::from_waker(noop)));
        let mut moved = svc;
        let last: std::task::Waker = Arc::new(Last(std::sync::Mutex::new(Some(Box::new(parked))))).into();
        assert_pending!(moved.poll_ready(&mut std::task::Context::from_waker(&last)));
        drop(last);
        assert_pending!(moved.poll_ready(&mut std::task::Context::from_waker(noop)));
        done.send(()).unwrap();
    });
    watchdog.recv_timeout(std::time::Duration::from_secs(5)).expect("a deadlock");
}
