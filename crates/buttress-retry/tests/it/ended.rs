//! What ended a call is never lost: a refusal or a time limit after a failure brings that failure along.

use std::{fmt, io};

use buttress_core::{
    BoxError, Classify, Error, FromRejection, Name, Rejection, Verdict,
    context::{self, CallContext},
};
use buttress_kit::Backoff;
use buttress_retry::{Retry, RetryBuilder, TIMED_OUT, words};
use buttress_test::{Recording, What, poll_once};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::{LIMITED, OPEN, QUEUE_TIMEOUT, Script, TIMEOUT, ms};

const DISK: &str = "disk full on node 7";

fn retry() -> RetryBuilder {
    Retry::builder("orders").max_attempts(4).backoff(Backoff::constant(ms(100)))
}

fn open() -> Rejection {
    Rejection::new(OPEN, &Name::new("db")).with_retry_after(ms(5000))
}

fn source(error: &BoxError) -> String {
    error.source().map(ToString::to_string).unwrap_or_default()
}

/// The error of a call whose attempts end so, one after the other; the last one for ever.
async fn error_of<E>(retry: RetryBuilder, attempts: Vec<fn() -> E>) -> E
where
    E: FromRejection + 'static,
{
    let svc = service_fn(move |()| {
        let n = context::current().attempt as usize;
        let error = attempts[n.min(attempts.len()) - 1]();
        async move { Err::<(), E>(error) }
    });
    retry.build().unwrap().layer().layer(svc).oneshot(()).await.unwrap_err()
}

/// Runs a call whose caller has so long.
async fn within<F: Future>(time: u64, call: F) -> F::Output {
    let deadline = Instant::now().checked_add(ms(time)).unwrap().into_std();
    context::scope(CallContext::default().until(deadline), call).await
}

// The very first call ever opened the circuit, and the caller was told of the circuit alone.
#[tokio::test(start_paused = true)]
async fn refusal_that_follows_a_failure_has_it_as_its_source() {
    let error = error_of(retry(), vec![|| BoxError::from(DISK), || open().into()]).await;
    let why = error.rejection().unwrap();
    assert_eq!((why.code(), why.policy(), why.was_sent()), (OPEN, "db", true));
    assert_eq!(why.retry_after(), Some(ms(5000)));
    assert_eq!(source(&error), DISK);

    let error =
        error_of(retry(), vec![|| Error::Inner(io::Error::other(DISK)), || open().into_typed()]).await;
    assert_eq!(error.inner().unwrap().to_string(), DISK);
    let why = error.rejection().unwrap();
    assert_eq!((why.code(), why.was_sent()), (OPEN, true));
}

trait IntoTyped {
    fn into_typed(self) -> Error<io::Error>;
}

impl IntoTyped for Rejection {
    fn into_typed(self) -> Error<io::Error> {
        Error::from_rejection(self)
    }
}

#[tokio::test(start_paused = true)]
async fn last_failure_counts_and_refusals_between_do_not() {
    let again = retry().retry_rejections(["RATE_LIMITED"]);
    let limited = || Rejection::new(LIMITED, &Name::new("quota")).into();
    let attempts: Vec<fn() -> BoxError> = vec![|| "first".into(), || DISK.into(), limited, || open().into()];
    let error = error_of(again, attempts).await;
    assert_eq!((error.rejection().unwrap().code(), source(&error).as_str()), (OPEN, DISK));
    // Nothing but refusals: nothing was sent, and the last one is what it is.
    let again = retry().retry_rejections(["RATE_LIMITED"]);
    let error = error_of::<BoxError>(again, vec![limited, || open().into()]).await;
    assert!(error.is::<Rejection>() && !error.rejection().unwrap().was_sent());
}

/// An error of somebody who has room for both.
#[derive(Debug)]
enum Both {
    Refused(Rejection),
    Down,
    DownAndRefused(Rejection),
}

impl FromRejection for Both {
    fn from_rejection(rejection: Rejection) -> Self {
        Self::Refused(rejection)
    }

    fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Refused(why) | Self::DownAndRefused(why) => Some(why),
            Self::Down => None,
        }
    }

    fn ended_by(self, rejection: Rejection) -> Self {
        Self::DownAndRefused(rejection)
    }
}

#[tokio::test(start_paused = true)]
async fn error_type_of_ones_own_says_how_it_carries_both() {
    let error = error_of(retry(), vec![|| Both::Down, || Both::Refused(open())]).await;
    assert!(matches!(&error, Both::DownAndRefused(why) if why.was_sent() && why.code() == OPEN), "{error:?}");
    let late = error_of(retry().max_elapsed(ms(50)), vec![|| Both::Down]).await;
    assert!(matches!(&late, Both::DownAndRefused(why) if why.code() == "TIMEOUT"), "{late:?}");
}

/// A response; what is read of it holds no connection.
#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    is_read: bool,
}

#[derive(Clone)]
struct Judge;

impl<E: FromRejection> Classify<Answer, E> for Judge {
    fn classify(&self, outcome: Result<&Answer, &E>) -> Verdict {
        match outcome {
            Ok(answer) if answer.status < 500 => Verdict::Success,
            Err(error) if error.rejection().is_some_and(|why| !why.was_sent()) => Verdict::Ignore,
            _ => Verdict::transient(),
        }
    }

    fn describe(&self, outcome: Result<&Answer, &E>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match outcome {
            Ok(answer) => write!(f, "{}", answer.status),
            Err(_) => f.write_str("an error"),
        }
    }

    fn keeps(&self, answer: &Answer) -> bool {
        answer.is_read
    }
}

/// What comes out of a call whose first attempt is answered so, and whose second one is refused, or hangs.
async fn after_answer<E>(retry: &Retry, is_read: bool, then: Option<fn() -> E>) -> Result<Answer, E>
where
    E: FromRejection + 'static,
{
    let svc = service_fn(move |()| async move {
        match (context::current().attempt, then) {
            (1, _) => Ok(Answer { status: 503, is_read }),
            (_, Some(refusal)) => Err(refusal()),
            _ => std::future::pending().await,
        }
    });
    let mut svc = retry.layer().classify(Judge).layer(svc);
    let call = svc.ready().await.unwrap_or_else(|_| unreachable!()).call(());
    tokio::select! {
        biased;
        answer = call => answer,
        () = sleep(ms(60_000)) => panic!("not over"),
    }
}

#[tokio::test(start_paused = true)]
async fn failed_answer_that_was_read_comes_out_if_the_next_attempt_is_refused() {
    let retry = retry().build().unwrap();
    let answer = after_answer::<BoxError>(&retry, true, Some(|| open().into())).await;
    assert_eq!(answer.unwrap(), Answer { status: 503, is_read: true });
}

#[tokio::test(start_paused = true)]
async fn failed_answer_that_may_hold_a_connection_is_the_source_in_words() {
    let recording = Recording::new();
    let retry = retry().observe(recording.clone()).build().unwrap();
    let error = after_answer::<BoxError>(&retry, false, Some(|| open().into())).await.unwrap_err();
    let why = error.rejection().unwrap();
    assert_eq!((why.code(), why.was_sent(), source(&error).as_str()), (OPEN, true, "503"));
    assert_eq!(stops(&recording), [(words::NOT_RETRYABLE.to_owned(), "503".to_owned())]);
    // This type has no room for words: there is the event.
    let error =
        after_answer::<Error<io::Error>>(&retry, false, Some(|| open().into_typed())).await.unwrap_err();
    assert!(matches!(&error, Error::Rejected(why) if why.code() == OPEN && why.was_sent()), "{error:?}");
    assert_eq!(stops(&recording).len(), 2);
    assert_eq!(stops(&recording)[1].1, "503");
}

/// Why no further attempt was made, and what the call had failed with.
fn stops(recording: &Recording) -> Vec<(String, String)> {
    let notes = recording.notes().into_iter().filter(|note| note.what == words::STOPPED);
    let text = |note: buttress_core::Note| {
        let why = note.value.as_ref().and_then(|why| why.as_text()).unwrap_or_default().to_owned();
        (why, note.error.as_deref().unwrap_or_default().to_owned())
    };
    notes.map(text).collect()
}

#[tokio::test(start_paused = true)]
async fn limit_that_leaves_no_room_is_a_time_out_with_the_last_failure_as_its_source() {
    assert_eq!(TIMED_OUT, TIMEOUT, "the code of a timeout, by its words");
    let recording = Recording::new();
    let limited = |retry: RetryBuilder| retry.observe(recording.clone()).build().unwrap();
    for (retry, left) in [(limited(retry()), 250), (limited(retry().max_elapsed(ms(250))), 3_600_000)] {
        let start = Instant::now();
        let n = || context::current().attempt;
        let call = retry.call(|| async move { Err::<(), BoxError>(format!("failure {}", n()).into()) });
        let error = within(left, call).await.unwrap_err();
        let why = error.rejection().unwrap();
        assert_eq!((why.code(), why.policy(), why.was_sent()), (TIMEOUT, "orders", true));
        assert_eq!((source(&error).as_str(), start.elapsed()), ("failure 3", ms(200)));
        assert_eq!(retry.snapshot().stopped.deadline, 1);
    }
    let stop = (words::DEADLINE.to_owned(), "failure 3".to_owned());
    assert_eq!(stops(&recording), [stop.clone(), stop]);
    let typed = error_of(retry().max_elapsed(ms(50)), vec![|| Error::Inner(io::Error::other(DISK))]).await;
    assert!(matches!(&typed, Error::Ended(why, error) if why.code() == TIMEOUT && error.to_string() == DISK));
}

// It is at hand, and nothing is waited for.
#[tokio::test(start_paused = true)]
async fn failed_answer_at_hand_comes_out_if_there_is_no_room_for_another_attempt() {
    let retry = retry().build().unwrap();
    let answer = within(50, after_answer::<BoxError>(&retry, false, None)).await;
    assert_eq!(answer.unwrap().status, 503);
}

#[tokio::test(start_paused = true)]
async fn wait_that_the_service_asks_for_and_nobody_waits_for_is_no_time_out() {
    let retry = retry().build().unwrap();
    let layer = retry.layer().classify_with(|_: Result<&&str, &BoxError>| Verdict::retry_after(ms(31_000)));
    let error = layer.layer(Script::failing().service()).oneshot("a").await.unwrap_err();
    assert_eq!((error.to_string().as_str(), error.rejection()), ("down", None));
    assert_eq!(retry.snapshot().stopped.deadline, 1);
}

#[tokio::test(start_paused = true)]
async fn refusal_that_there_is_no_time_to_wait_out_is_itself() {
    let again = || retry().retry_rejections(["CIRCUIT_OPEN"]);
    let error = within(4000, error_of::<BoxError>(again(), vec![|| open().into()])).await;
    assert!(error.is::<Rejection>() && !error.rejection().unwrap().was_sent());
    let error = within(4000, error_of::<BoxError>(again(), vec![|| DISK.into(), || open().into()])).await;
    assert_eq!((error.rejection().unwrap().code(), source(&error).as_str()), (OPEN, DISK));
}

// Nobody polls it but the service, when it is ready: the call has a timer of its own.
#[tokio::test(start_paused = true)]
async fn call_whose_service_is_not_ready_again_ends_at_its_deadline() {
    for own in [true, false] {
        let probe = buttress_test::Script::<(), BoxError>::new([]).then(|| buttress_test::step::err(DISK));
        let probe = probe.service::<()>().slots(1);
        let retry = if own { retry().max_elapsed(ms(300)) } else { retry() };
        let retry = retry.build().unwrap();
        let mut svc = retry.layer().layer(probe.clone());
        let start = Instant::now();
        let call = svc.ready().await.unwrap().call(());
        let mut call = Box::pin(within(if own { 3_600_000 } else { 300 }, call));
        assert!(poll_once(call.as_mut()).is_pending());
        let slot = probe.take_slot().unwrap();
        let error = call.await.unwrap_err();
        assert_eq!((error.rejection().unwrap().code(), source(&error).as_str()), (TIMEOUT, DISK));
        assert_eq!((start.elapsed(), retry.snapshot().retries), (ms(300), 0));
        assert_eq!(retry.snapshot().stopped.deadline, 1);
        drop(slot);
    }
}

// Whoever outside has the deadline polls the call a last time and drops it.
#[tokio::test(start_paused = true)]
async fn call_that_is_polled_after_its_deadline_ends_with_the_failure_it_had() {
    let recording = Recording::new();
    let retry = retry().observe(recording.clone()).build().unwrap();
    let error = within(300, async {
        let mut call = Box::pin(after_answer::<BoxError>(&retry, false, None));
        assert!(poll_once(call.as_mut()).is_pending());
        sleep(ms(299)).await;
        assert!(poll_once(call.as_mut()).is_pending());
        sleep(ms(1)).await;
        call.await.unwrap_err()
    });
    let error = error.await;
    assert_eq!((error.rejection().unwrap().code(), source(&error).as_str()), (TIMEOUT, "503"));
    assert_eq!(recording.results(), [words::FAILED_WITH_RETRY]);

    // In its first attempt it has nothing to say: it goes on, and is dropped.
    within(50, async {
        let mut call = Box::pin(retry.call(std::future::pending::<Result<(), BoxError>>));
        sleep(ms(60)).await;
        assert!(poll_once(call.as_mut()).is_pending());
    })
    .await;
}

// A time-out inside obeys the deadline outside, and so does a line: what they say of it is no failure of the service.
#[tokio::test(start_paused = true)]
async fn attempt_that_the_deadline_itself_ended_leaves_the_failure_before_it() {
    for code in [TIMEOUT, QUEUE_TIMEOUT] {
        let retry = retry().max_attempts(2).build().unwrap();
        let call = retry.call(|| async move {
            if context::current().attempt == 1 {
                return Err::<(), BoxError>(DISK.into());
            }
            sleep(ms(200)).await;
            Err(Rejection::new(code, &Name::new("attempt")).into())
        });
        let error = within(300, call).await.unwrap_err();
        let why = error.rejection().unwrap();
        assert_eq!((why.code(), why.policy(), source(&error).as_str()), (TIMEOUT, "orders", DISK));
    }
}

#[tokio::test(start_paused = true)]
async fn every_stop_says_what_the_call_failed_with() {
    let recording = Recording::new();
    let retry = retry().max_attempts(2).observe(recording.clone()).build().unwrap();
    retry.call(|| async { Err::<(), BoxError>(DISK.into()) }).await.unwrap_err();
    // A closure has no words for an error, and that has its own.
    let layer = retry.layer().classify_with(|_: Result<&u16, &BoxError>| Verdict::transient());
    layer.call(|| async { Err::<u16, BoxError>(DISK.into()) }).await.unwrap_err();
    layer.call(|| async { Ok::<u16, BoxError>(503) }).await.unwrap();
    let judged = retry.layer().classify(Judge);
    judged.call(|| async { Ok::<_, BoxError>(Answer { status: 502, is_read: false }) }).await.unwrap();
    let texts = [DISK, DISK, "the call failed", "502"];
    let expected = texts.map(|text| (words::MAX_ATTEMPTS.to_owned(), text.to_owned()));
    assert_eq!(stops(&recording), expected);
    // So do the attempts that were followed by another one.
    let attempts = recording.events().into_iter().filter_map(|event| match event.what {
        What::Attempt { error, .. } => error,
        _ => None,
    });
    assert_eq!(attempts.collect::<Vec<_>>(), texts);
}

#[tokio::test(start_paused = true)]
async fn pause_without_a_budget_says_what_the_call_failed_with() {
    let recording = Recording::new();
    let retry = retry().budget(buttress_kit::Budget::new(0.0, 0).unwrap()).pause_without_budget(true);
    let retry = retry.observe(recording.clone()).build().unwrap();
    let error = retry.call(|| async { Err::<(), BoxError>(DISK.into()) }).await.unwrap_err();
    assert_eq!(error.to_string(), DISK);
    assert_eq!(stops(&recording), [(words::BUDGET.to_owned(), DISK.to_owned())]);
}
