//! What a call through a closed circuit allocates: nothing.

use std::{
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use allocation_counter::measure;
use buttress::breaker::{Breaker, BreakerBuilder, OnCancel, WindowConfig};
use buttress::{Error, Kind, Recorder, TypedErrorsLayer, observe::recorder_fn};
use tower::{Layer, Service, service_fn};

type Answer = Result<u32, std::fmt::Error>;
type Hung = Result<u32, Error<std::fmt::Error>>;

/// Calls once; how often the inner service is not ready or pending is up to it.
fn call<S, E>(svc: &mut S)
where
    S: Service<u32, Response = u32, Error = E>,
{
    let mut cx = Context::from_waker(Waker::noop());
    assert!((0..3).any(|_| svc.poll_ready(&mut cx).is_ready()));
    let mut call = pin!(svc.call(1));
    for _ in 0..3 {
        if let Poll::Ready(answer) = call.as_mut().poll(&mut cx) {
            black_box(answer.is_ok());
            return;
        }
    }
    panic!("never ready");
}

fn builders() -> Vec<(&'static str, BreakerBuilder)> {
    let builder = || Breaker::builder("x");
    vec![
        ("default", builder()),
        ("consecutive", builder().consecutive_failures(5)),
        ("count", builder().failure_rate(0.5).window(WindowConfig::count(100))),
        ("slow", builder().slow_call_duration(Duration::from_secs(1)).slow_call_rate(0.5)),
        ("limit", builder().call_timeout(Duration::from_secs(1))),
        ("gated", builder().gate_readiness(true)),
    ]
}

#[test]
fn a_call_that_succeeds_allocates_nothing_ready_or_pending_once_observed_or_not() {
    // A call with a limit of its own that has to wait needs a timer. It takes the place that one before it has left.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _inside = runtime.enter();
    let observer = |_: Kind, _: &buttress::Name| -> Option<std::sync::Arc<dyn Recorder>> {
        Some(recorder_fn(|event| _ = black_box(event)))
    };
    for observed in [false, true] {
        for (name, builder) in builders() {
            let builder = if observed { builder.observe(observer) } else { builder };
            let breaker = builder.build().unwrap();
            let ready = service_fn(|n: u32| std::future::ready(Answer::Ok(n)));
            let pending_once = service_fn(|n: u32| {
                let mut polled = false;
                std::future::poll_fn(move |_| {
                    if std::mem::replace(&mut polled, true) {
                        Poll::Ready(Answer::Ok(n))
                    } else {
                        Poll::Pending
                    }
                })
            });
            let layer = breaker.layer();
            let mut ready = layer.layer(TypedErrorsLayer::new().layer(ready));
            let mut pending_once = layer.layer(TypedErrorsLayer::new().layer(pending_once));
            call(&mut ready);
            call(&mut pending_once);
            let counted = measure(|| (0..100).for_each(|_| call(&mut ready)));
            assert_eq!(counted.count_total, 0, "{name}, ready, observed: {observed}");
            let counted = measure(|| (0..100).for_each(|_| call(&mut pending_once)));
            assert_eq!(counted.count_total, 0, "{name}, pending once, observed: {observed}");
            let mut unready_once = layer.layer(TypedErrorsLayer::new().layer(UnreadyOnce(false)));
            call(&mut unready_once);
            let counted = measure(|| (0..100).for_each(|_| call(&mut unready_once)));
            assert_eq!(counted.count_total, 0, "{name}, not ready at first, observed: {observed}");
        }
    }
}

/// Not ready each other time it is asked.
#[derive(Clone)]
struct UnreadyOnce(bool);

impl Service<u32> for UnreadyOnce {
    type Response = u32;
    type Error = std::fmt::Error;
    type Future = std::future::Ready<Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::fmt::Error>> {
        self.0 = !self.0;
        if self.0 { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn call(&mut self, n: u32) -> Self::Future {
        std::future::ready(Ok(n))
    }
}

// As many as wait at a time need memory once; and what is kept is bounded, and holds no timer.
#[test]
fn timers_of_limited_calls_take_the_places_of_those_before_them() {
    let breaker = Breaker::builder("x").call_timeout(Duration::from_secs(1)).on_cancel(OnCancel::Ignore);
    let breaker = breaker.build().unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let mut crowd = |size: usize| {
        let hang = || breaker.call(std::future::pending::<Hung>);
        let mut calls: Vec<_> = (0..size).map(|_| Box::pin(hang())).collect();
        measure(|| assert!(calls.iter_mut().all(|call| call.as_mut().poll(&mut cx).is_pending()))).count_total
    };
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let first = runtime();
    let inside = first.enter();
    assert!(crowd(30) >= 30);
    assert_eq!(crowd(30), 0);
    assert!(crowd(200) >= 170);
    assert_eq!(crowd(64), 0);
    assert_eq!(crowd(65), 1);
    // Nothing of the first runtime is left in them.
    drop(inside);
    drop(first);
    let second = runtime();
    let _inside = second.enter();
    assert_eq!(crowd(64), 0);
    let limited = breaker.call(std::future::pending::<Hung>);
    let ended = second.block_on(async {
        let limit = Duration::from_secs(30);
        tokio::time::timeout(limit, limited).await.expect("ended by its own limit")
    });
    assert_eq!(ended.unwrap_err().rejection().unwrap().code(), "CIRCUIT_TIMEOUT");
}

// A thread that ends drops its list of places before a call that waits in another thread-local.
#[test]
fn a_limited_call_may_be_dropped_as_its_thread_ends() {
    type Last = std::pin::Pin<Box<dyn Future<Output = Hung>>>;
    thread_local! {
        static LAST: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) };
    }
    let breaker = Breaker::builder("x").call_timeout(Duration::from_secs(1)).build().unwrap();
    let seen = breaker.clone();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _inside = runtime.enter();
        let mut hang: Last = Box::pin(breaker.call(std::future::pending));
        LAST.set(None);
        assert!(hang.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        LAST.set(Some(hang));
    });
    thread.join().unwrap();
    assert_eq!(seen.snapshot().cancelled, 1);
}

#[test]
fn a_refusal_with_a_typed_error_allocates_nothing() {
    let breaker = Breaker::builder("x").open_for(Duration::from_secs(3_600)).build().unwrap();
    let svc = TypedErrorsLayer::new().layer(service_fn(|n: u32| std::future::ready(Answer::Ok(n))));
    let mut svc = breaker.layer().layer(svc);
    breaker.force_open();
    call::<_, Error<std::fmt::Error>>(&mut svc);
    let counted = measure(|| (0..100).for_each(|_| call(&mut svc)));
    assert_eq!(counted.count_total, 0);
    assert_eq!(breaker.snapshot().rejected, 101);
}

#[test]
fn a_key_takes_two_hundred_bytes_besides_itself_and_a_lookup_allocates_nothing() {
    let keyed: buttress::breaker::KeyedBreaker<u64> =
        Breaker::keyed("x").consecutive_failures(5).max_keys(20_000).build().unwrap();
    let grown = measure(|| (0..10_000).for_each(|key| keyed.try_acquire(&key).unwrap().success()));
    let each = grown.bytes_current / 10_000 - size_of::<u64>() as i64;
    println!("{each} bytes a key");
    assert!(each <= 200, "{each}");
    let again = measure(|| (0..10_000).for_each(|key| keyed.try_acquire(&key).unwrap().success()));
    assert_eq!(again.count_total, 0);

    let by_name: buttress::breaker::KeyedBreaker<String> = Breaker::keyed("x").build().unwrap();
    by_name.try_acquire("tenant").unwrap().success();
    let borrowed = measure(|| by_name.try_acquire("tenant").unwrap().success());
    assert_eq!(borrowed.count_total, 0);
}
