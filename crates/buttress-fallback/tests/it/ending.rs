use std::{
    error::Error,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{
    BoxError, Classify, Event, FailedTwice, FromRejection, Outcome, Verdict, Word, rejection,
};
use buttress_fallback::{
    Fallback,
    words::{FALLBACK_FAILURE, FALLBACK_SUCCESS, NOT_HANDLED},
};
use tokio::time;
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::{down, fallback, ms, rejected};

type Heard = Arc<Mutex<Vec<(Outcome, Word, Option<Duration>)>>>;

fn listening() -> (Fallback, Heard) {
    let heard = Heard::default();
    let to = heard.clone();
    let listen = move |event: &Event<'_>| {
        if let Event::Done { outcome, result, elapsed, .. } = *event {
            to.lock().unwrap().push((outcome, result, elapsed));
        }
    };
    (Fallback::builder("prices").on_event(listen).build().unwrap(), heard)
}

async fn slowly(what: &'static str) -> Result<u32, BoxError> {
    time::sleep(ms(10)).await;
    match what {
        "ok" => Ok(1),
        "panic" => panic!("in poll"),
        other => Err(other.into()),
    }
}

fn boom() -> bool {
    std::hint::black_box(true)
}

#[tokio::test(start_paused = true)]
async fn every_end_is_told_exactly_once() {
    let (fallback, heard) = listening();
    let backup = service_fn(|what: &'static str| async move {
        time::sleep(ms(5)).await;
        if what == "both" { down().await } else { Ok(2) }
    });
    let layer = fallback.layer().service(backup);
    let layer =
        layer.handle_with(|outcome: Result<_, &BoxError>| outcome.is_err_and(|e| e.to_string() != "grave"));
    let svc = layer.layer(service_fn(slowly));
    assert_eq!(svc.clone().oneshot("ok").await.unwrap(), 1);
    assert_eq!(svc.clone().oneshot("down").await.unwrap(), 2);
    svc.clone().oneshot("both").await.unwrap_err();
    svc.clone().oneshot("grave").await.unwrap_err();
    let mut in_primary = task::spawn(svc.clone().oneshot("ok"));
    assert_pending!(in_primary.poll());
    drop(in_primary);
    let mut in_answer = task::spawn(svc.clone().oneshot("down"));
    assert_pending!(in_answer.poll());
    time::advance(ms(10)).await;
    assert_pending!(in_answer.poll());
    drop(in_answer);
    let told = heard.lock().unwrap().clone();
    assert_eq!(
        told,
        [
            (Outcome::Success, "success", Some(ms(10))),
            (Outcome::Success, FALLBACK_SUCCESS, Some(ms(15))),
            (Outcome::Failure, FALLBACK_FAILURE, Some(ms(15))),
            (Outcome::Failure, NOT_HANDLED, Some(ms(10))),
            (Outcome::Cancelled, "cancelled", Some(ms(0))),
            (Outcome::Cancelled, "cancelled", Some(ms(10))),
        ]
    );
    let snapshot = fallback.snapshot();
    assert_eq!((snapshot.answered, snapshot.failed), (1, 1));
    assert_eq!((snapshot.not_handled, snapshot.cancelled, snapshot.panicked), (1, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn panic_anywhere_reaches_the_caller_and_is_told_once() {
    let (fallback, heard) = listening();
    let layer = fallback.layer().value(0);
    let svc = layer.clone().layer(service_fn(slowly));
    assert!(tokio::spawn(svc.oneshot("panic")).await.unwrap_err().is_panic());
    let mut in_call = layer.layer(service_fn(|()| {
        assert!(!boom(), "in call");
        down::<u32>()
    }));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(in_call.call(())))).is_err());
    let in_answer = fallback.layer().answer_with(|failed: Result<u32, BoxError>| {
        assert!(!boom(), "in answer");
        failed
    });
    let svc = in_answer.layer(service_fn(|()| down()));
    assert!(tokio::spawn(svc.oneshot(())).await.unwrap_err().is_panic());
    let in_rule = fallback.layer().value(0).handle_with(|_: Result<_, &BoxError>| {
        assert!(!boom(), "in rule");
        true
    });
    let svc = in_rule.layer(service_fn(|()| down()));
    assert!(tokio::spawn(svc.oneshot(())).await.unwrap_err().is_panic());
    let key = |_: &()| assert!(!boom(), "in the key");
    let mut in_key = fallback.layer().last_good(key, |_: &mut u32, _| {}).layer(service_fn(|()| down()));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(in_key.call(())))).is_err());
    let told: Vec<_> = heard.lock().unwrap().iter().map(|(outcome, ..)| *outcome).collect();
    assert_eq!(told, [Outcome::Panicked; 5]);
    let snapshot = fallback.snapshot();
    assert_eq!((snapshot.panicked, snapshot.failed, snapshot.cancelled), (5, 0, 0));
}

/// Ready at once; its drop panics.
struct Bomb;

impl Future for Bomb {
    type Output = Result<u32, BoxError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(1))
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!boom(), "in drop");
    }
}

#[test]
fn panic_in_the_drop_of_the_primary_is_told_once_though_it_had_answered() {
    let (fallback, heard) = listening();
    let mut call = task::spawn(fallback.call(|| Bomb, |failed| failed));
    assert!(catch_unwind(AssertUnwindSafe(|| call.poll().is_ready())).is_err());
    assert_eq!(heard.lock().unwrap()[0].0, Outcome::Panicked);
    drop(call);
    assert_eq!((heard.lock().unwrap().len(), fallback.snapshot().panicked), (1, 1));
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "polled after it resolved")]
async fn polling_a_finished_call_panics() {
    let (fallback, _) = listening();
    let mut call = Box::pin(fallback.call(down::<u32>, |_| Ok(1)));
    call.as_mut().await.unwrap();
    let _ = call.as_mut().await;
}

// Known from two regions: the write timed out in the first one, the second one refused it, and "not sent" came out.
#[tokio::test(start_paused = true)]
async fn refusal_by_the_second_service_does_not_say_that_nothing_was_sent() {
    let second = service_fn(|_: u32| async { Err::<u32, _>(rejected("CIRCUIT_OPEN")) });
    for (sent, first) in [(true, "TIMEOUT"), (true, "other"), (false, "BULKHEAD_QUEUE_FULL")] {
        let primary = service_fn(move |_: u32| async move {
            Err::<u32, BoxError>(if first == "other" { "down".into() } else { rejected(first) })
        });
        let error = fallback().layer().service(second).layer(primary).oneshot(1).await.unwrap_err();
        let why = error.rejection().unwrap();
        assert_eq!((why.code().as_str(), why.was_sent()), ("CIRCUIT_OPEN", sent), "after {first}");
    }
}

/// The errors of a chain, outermost first.
fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
    std::iter::successors(Some(error), |&error| error.source()).map(ToString::to_string).collect()
}

/// A fallback, and the chains of the errors of which its ends were told.
fn hearing_errors() -> (Fallback, Arc<Mutex<Vec<Vec<String>>>>) {
    let heard = Arc::<Mutex<Vec<_>>>::default();
    let to = heard.clone();
    let listen = move |event: &Event<'_>| {
        if let Event::Done { error, .. } = *event {
            to.lock().unwrap().push(error.map(chain).unwrap_or_default());
        }
    };
    (Fallback::builder("prices").on_event(listen).build().unwrap(), heard)
}

#[tokio::test]
async fn failure_of_the_second_service_brings_that_of_the_first_along() {
    let (fallback, heard) = hearing_errors();
    let far = service_fn(|_: u32| async { Err::<u32, BoxError>(io::Error::other("disk full").into()) });
    let svc = fallback.layer().service(far).layer(service_fn(|_| down()));
    let error = svc.oneshot(1).await.unwrap_err();
    assert_eq!(chain(&*error), ["disk full", "down"]);
    assert!(error.downcast_ref::<FailedTwice>().unwrap().last().is::<io::Error>());
    assert_eq!(*heard.lock().unwrap(), [["disk full", "down"]]);
}

#[tokio::test]
async fn refusal_of_the_first_service_is_none_of_the_whole_and_one_of_the_second_is() {
    let refuses = |code| service_fn(move |_: u32| async move { Err::<u32, _>(rejected(code)) });
    let fails = service_fn(|_: u32| down::<u32>());
    let layer = fallback().layer();
    let failed = layer.clone().service(fails).layer(refuses("CIRCUIT_OPEN")).oneshot(1).await.unwrap_err();
    assert!(failed.rejection().is_none());
    assert_eq!(chain(&*failed)[0], "down");
    assert!(rejection(failed.source().unwrap()).is_some());

    let refused = layer.service(refuses("CIRCUIT_OPEN")).layer(fails).oneshot(1).await.unwrap_err();
    assert_eq!(refused.rejection().unwrap().code(), "CIRCUIT_OPEN");
    assert_eq!(refused.source().unwrap().to_string(), "down");
}

#[tokio::test]
async fn answer_that_is_held_for_a_failure_is_described_beside_the_second_one() {
    #[derive(Clone)]
    struct ByStatus;

    impl Classify<u16, BoxError> for ByStatus {
        fn classify(&self, outcome: Result<&u16, &BoxError>) -> Verdict {
            if outcome.is_ok_and(|status| *status < 500) { Verdict::Success } else { Verdict::transient() }
        }

        fn describe(&self, outcome: Result<&u16, &BoxError>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "status {}", outcome.unwrap())
        }
    }

    let (fallback, heard) = hearing_errors();
    let layer = fallback.layer().service(service_fn(|_| down())).classify(ByStatus);
    let error = layer.layer(service_fn(|_: u32| async { Ok(503) })).oneshot(1).await.unwrap_err();
    assert_eq!(chain(&*error), ["down", "status 503"]);
    assert_eq!(*heard.lock().unwrap(), [["down", "status 503"]]);
}

#[tokio::test]
async fn error_type_without_room_for_two_keeps_the_later_one_and_events_tell_both() {
    let (fallback, heard) = hearing_errors();
    let cause = || io::Error::other(io::Error::other("no route"));
    let near = service_fn(move |_: u32| async move { Err::<u32, _>(buttress_core::Error::Inner(cause())) });
    let far =
        service_fn(|_: u32| async { Err::<u32, _>(buttress_core::Error::Inner(io::Error::other("down"))) });
    let error = fallback.layer().service(far).layer(near).oneshot(1).await.unwrap_err();
    assert_eq!(error.into_inner().unwrap().to_string(), "down");
    assert_eq!(*heard.lock().unwrap(), [["down", "no route"]]);
}

#[tokio::test]
async fn end_of_a_call_is_told_with_the_error_that_the_caller_gets() {
    let (fallback, heard) = hearing_errors();
    let own = fallback.layer().answer_with(|_: Result<(), _>| Err(BoxError::from("nothing stored")));
    own.layer(service_fn(|()| down())).oneshot(()).await.unwrap_err();
    let none = fallback.layer().last_good(|&()| (), |&mut (), _| {});
    none.layer(service_fn(|()| down())).oneshot(()).await.unwrap_err();
    let grave = fallback.layer().value(()).handle_with(|_: Result<_, &BoxError>| false);
    grave.layer(service_fn(|()| down())).oneshot(()).await.unwrap_err();
    let told = fallback.layer().value(());
    told.layer(service_fn(|()| down())).oneshot(()).await.unwrap();
    assert_eq!(*heard.lock().unwrap(), [vec!["nothing stored"], vec!["down"], vec!["down"], vec![]]);
}
