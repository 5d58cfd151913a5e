//! What a refusal looks like from further out, and what passes.

use std::time::Duration;

use buttress_breaker::{Breaker, CALL_TIMEOUT, OPEN, State};
use buttress_core::{
    BoxError, Code, Error, FromRejection, LiftErrorsLayer, Name, OnlyErrors, Rejection, Verdict, rejection,
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn, timeout::TimeoutLayer};

use crate::support::*;

const QUEUE_FULL: &Code = &Code::refused("BULKHEAD_QUEUE_FULL");
const TIMEOUT: &Code = &Code::timed_out("TIMEOUT");

// Matchable through boxes and other layers
#[tokio::test(start_paused = true)]
async fn a_refusal_is_found_through_other_layers() {
    let breaker = Breaker::builder("payments").consecutive_failures(1).open_for(secs(5)).build().unwrap();
    let inner = service_fn(|(): ()| async { Err::<(), _>(std::io::Error::other("down")) });
    let svc = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(1)))
        .concurrency_limit(9)
        .layer(breaker.layer())
        .layer(LiftErrorsLayer::new())
        .service(inner);
    let own = svc.clone().oneshot(()).await.unwrap_err();
    assert_eq!(own.downcast_ref::<std::io::Error>().unwrap().to_string(), "down"); // unchanged
    let refused = svc.oneshot(()).await.unwrap_err();
    let why = rejection(&*refused).unwrap();
    assert_eq!((why.code(), why.code().as_str()), (OPEN, "CIRCUIT_OPEN"));
    assert_eq!((why.policy(), why.was_sent()), ("payments", false));
}

#[tokio::test(start_paused = true)]
async fn its_text_says_open_and_when_to_try_again() {
    let breaker = Breaker::builder("payments").open_for(secs(5)).build().unwrap();
    breaker.force_open();
    pass(ms(800)).await;
    assert_eq!(breaker.refused().to_string(), "circuit \"payments\" is OPEN; retry in 4.2s");
}

// Promise 1: axum runs `layer()` anew for every route and connection
#[tokio::test(start_paused = true)]
async fn a_layer_applied_again_for_every_call_opens_all_the_same() {
    let breaker = Breaker::builder("x").consecutive_failures(3).build().unwrap();
    let layer = breaker.layer();
    for n in 0..5 {
        let down = service_fn(|(): ()| async { Err::<(), BoxError>("down".into()) });
        let error = layer.clone().layer(down).oneshot(()).await.unwrap_err();
        assert_eq!(rejection(&*error).is_some(), n >= 3);
    }
}

/// A user's own error type.
#[derive(Debug)]
enum Mine {
    Refused(Rejection),
    Busy,
    Wrong,
}

impl FromRejection for Mine {
    fn from_rejection(rejection: Rejection) -> Self {
        Self::Refused(rejection)
    }

    fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Refused(why) => Some(why),
            _ => None,
        }
    }

    fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::Wrong => Some(Verdict::Ignore),
            _ => None,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_knows_better_is_asked() {
    let breaker = Breaker::builder("x").consecutive_failures(2).build().unwrap();
    for _ in 0..5 {
        breaker.call(|| async { Err::<(), _>(Mine::Wrong) }).await.unwrap_err();
    }
    breaker.is(State::Closed);
    for _ in 0..2 {
        breaker.call(|| async { Err::<(), _>(Mine::Busy) }).await.unwrap_err();
    }
    let refused = breaker.call(|| async { Err::<(), _>(Mine::Busy) }).await.unwrap_err();
    assert_eq!(refused.rejection().unwrap().code(), "CIRCUIT_OPEN");
    // An error that cannot be shown still leaves a text.
    assert_eq!(breaker.last_error().as_deref(), Some("the call failed"));
}

// A refusal further in says nothing about the service; a time-out further in does
#[tokio::test(start_paused = true)]
async fn refusals_further_in_are_ignored_and_time_outs_are_not() {
    let breaker = Breaker::builder("x").consecutive_failures(2).build().unwrap();
    let name = Name::new("inner");
    for _ in 0..5 {
        let full = Rejection::new(QUEUE_FULL, &name);
        breaker.call(|| async { Err::<(), BoxError>(full.into()) }).await.unwrap_err();
    }
    assert_eq!(breaker.snapshot().ignored, 5);
    for _ in 0..2 {
        let late = Rejection::timed_out(TIMEOUT, &name, secs(1), secs(1));
        breaker.call(|| async { Err::<(), BoxError>(late.into()) }).await.unwrap_err();
    }
    breaker.is(State::Open);
    assert_eq!(breaker.snapshot().timeouts, 2);
}

// Only what is listed counts, responses too.
#[tokio::test(start_paused = true)]
async fn a_classifier_says_what_a_failure_is() {
    let breaker = Breaker::builder("x").consecutive_failures(1).build().unwrap();
    let status = service_fn(|code: u16| async move { Ok::<_, BoxError>(code) });
    let mut svc = breaker
        .layer()
        .classify_with(|answer: Result<&u16, &BoxError>| match answer {
            Ok(500..) | Err(_) => Verdict::transient(),
            Ok(404) => Verdict::Ignore,
            Ok(_) => Verdict::Success,
        })
        .layer(status);
    for code in [200, 404, 503] {
        assert_eq!(svc.ready().await.unwrap().call(code).await.unwrap(), code);
    }
    breaker.is(State::Open);
    assert_eq!(breaker.last_error().as_deref(), Some("the call failed"));
    // As a value; and on `call`.
    breaker.reset();
    let listed = breaker.layer().classify(OnlyErrors::codes(["503"]));
    let down = service_fn(|(): ()| async { Err::<(), BoxError>("got 404".into()) });
    listed.layer(down).oneshot(()).await.unwrap_err();
    breaker.is(State::Open); // not worth a new try, and a failure all the same
    breaker.reset();
    let call = breaker.call(|| async { Err::<(), BoxError>("mine".into()) });
    call.classify_with(|_: Result<&(), &BoxError>| Verdict::Success).await.unwrap_err();
    breaker.is(State::Closed);
}

// A function, a method, a block
#[tokio::test(start_paused = true)]
async fn anything_can_be_put_under_a_breaker() {
    async fn fetch(id: u32) -> Result<u32, BoxError> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        if id == 0 { Err("no such id".into()) } else { Ok(id) }
    }
    let breaker = Breaker::builder("x").consecutive_failures(1).build().unwrap();
    assert_eq!(breaker.call(|| fetch(7)).await.unwrap(), 7);
    let permit = breaker.try_acquire().unwrap();
    match fetch(0).await {
        Ok(_) => permit.success(),
        Err(why) => permit.failure_with(&*why),
    }
    assert_eq!(breaker.last_error().as_deref(), Some("no such id"));
    let refused: Result<u32, Error<std::io::Error>> = breaker.call(|| async { Ok(7) }).await;
    assert!(refused.unwrap_err().rejection().is_some());
}

// The inner future is dropped when the breaker's own limit passes, and one that has finished wins over it.
#[tokio::test(start_paused = true)]
async fn a_call_that_has_finished_wins_over_a_limit_that_has_passed() {
    let breaker = Breaker::builder("x").call_timeout(secs(1)).build().unwrap();
    let (tell, told) = tokio::sync::oneshot::channel::<u32>();
    let mut call = tokio_test::task::spawn(breaker.call(|| async { told.await.map_err(BoxError::from) }));
    assert!(call.poll().is_pending());
    pass(secs(2)).await; // the whole process stood still
    tell.send(7).unwrap();
    assert_eq!(tokio_test::assert_ready_ok!(call.poll()), 7);
    assert_eq!(breaker.snapshot().timeouts, 0);
}

// A save that is skipped while the circuit is open is no error to the caller
#[tokio::test(start_paused = true)]
async fn a_layer_further_out_tells_refusals_failures_and_time_outs_apart() {
    let builder = Breaker::builder("state-save").consecutive_failures(2).call_timeout(secs(2));
    let breaker = builder.open_for(secs(30)).build().unwrap();
    let save = service_fn(|time: Duration| async move {
        tokio::time::sleep(time).await;
        if time.is_zero() { Err::<&str, BoxError>("disk full".into()) } else { Ok("saved") }
    });
    let skipping = breaker.layer().layer(save).map_result(|saved: Result<&'static str, BoxError>| {
        let Err(why) = saved else { return Ok::<_, BoxError>("saved") };
        Ok(match rejection(&*why).map(Rejection::code) {
            Some(OPEN) => "skipped: open",
            Some(CALL_TIMEOUT) => "skipped: too slow",
            _ => "skipped: failed",
        })
    });
    let mut answers = Vec::new();
    for time in [secs(1), secs(0), secs(9), secs(1)] {
        answers.push(skipping.clone().oneshot(time).await.unwrap());
    }
    assert_eq!(answers, ["saved", "skipped: failed", "skipped: too slow", "skipped: open"]);
}

// Timers take the places of those before them, and each ends its own call.
#[tokio::test(start_paused = true)]
async fn each_of_many_limited_calls_ends_at_its_own_limit() {
    let breaker = Breaker::builder("x").call_timeout(secs(5)).consecutive_failures(1_000).build().unwrap();
    for size in (0..50).map(|n| n % 7) {
        let began = tokio::time::Instant::now();
        let hung: Vec<_> = (0..size)
            .map(|_| {
                let breaker = breaker.clone();
                tokio::spawn(async move { breaker.call(std::future::pending::<Result<(), BoxError>>).await })
            })
            .collect();
        let quick = breaker.call(|| async {
            tokio::time::sleep(secs(1)).await;
            Ok::<_, BoxError>(())
        });
        quick.await.unwrap();
        for call in hung {
            call.await.unwrap().unwrap_err();
            assert_eq!(began.elapsed(), secs(5));
        }
    }
}

// The limit it began with is the one that ends a call.
#[tokio::test(start_paused = true)]
async fn new_settings_change_no_limit_of_a_call_under_way() {
    let breaker = Breaker::builder("x").call_timeout(secs(5)).build().unwrap();
    let mut call = tokio_test::task::spawn(breaker.call(std::future::pending::<Result<(), BoxError>>));
    assert!(call.poll().is_pending());
    let mut unlimited = breaker.config();
    unlimited.call_timeout = None;
    breaker.reconfigure(unlimited).unwrap();
    pass(secs(5)).await;
    assert!(call.is_woken());
    tokio_test::assert_ready_err!(call.poll());
    assert_eq!(breaker.snapshot().timeouts, 1);
}
