//! What the refusal of a later attempt says of the call: "not sent" is certain, whatever the error type.

use std::{error::Error as StdError, fmt, io};

use buttress_core::{BoxError, Error, FromRejection, Name, Rejection, Verdict, rejection};
use buttress_kit::Backoff;
use buttress_retry::Retry;
use tower::{Layer, ServiceExt, service_fn};

use crate::support::{LIMITED, OPEN};

fn refused() -> Rejection {
    Rejection::new(OPEN, &Name::new("inner"))
}

fn unsent() -> Rejection {
    Rejection::new(LIMITED, &Name::new("inner"))
}

/// Fails the first attempt by `first`, and refuses the second one as `refusal`: the error of the call.
async fn error_of<E>(first: fn() -> E, refusal: fn() -> E) -> E
where
    E: FromRejection + 'static,
{
    let retry = Retry::builder("outer").backoff(Backoff::none()).retry_rejections(["RATE_LIMITED"]);
    let svc = service_fn(move |()| async move {
        let later = buttress_core::context::current().attempt > 1;
        Err::<(), E>(if later { refusal() } else { first() })
    });
    retry.build().unwrap().layer().layer(svc).oneshot(()).await.unwrap_err()
}

/// A client's error around what a layer below it refused, such as that of a connector.
#[derive(Debug)]
struct Client<E>(E);

impl<E> fmt::Display for Client<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client could not connect")
    }
}

impl<E: StdError + 'static> StdError for Client<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

#[tokio::test]
async fn refusal_inside_of_another_error_says_sent_and_the_failure_before_is_its_source() {
    let down = || -> BoxError { "down".into() };
    let refusals: [fn() -> BoxError; 4] = [
        || refused().into(),
        || Client(refused()).into(),
        || io::Error::other(Client(refused())).into(),
        || Error::<io::Error>::Rejected(refused()).into(),
    ];
    for refusal in refusals {
        let error = error_of(down, refusal).await;
        let why = error.rejection().unwrap();
        assert_eq!((why.code(), why.policy(), why.was_sent()), (OPEN, "inner", true), "{error:?}");
        assert!(rejection(&*error).unwrap().was_sent());
        // Of a call that was never sent the error is the one that came.
        assert!(!error_of(|| unsent().into(), refusal).await.rejection().unwrap().was_sent());
    }
    let error = error_of(down, || Client(refused()).into()).await;
    assert_eq!(error.source().unwrap().to_string(), "down");
    let error = error_of::<BoxError>(|| unsent().into(), || Client(refused()).into()).await;
    assert!(error.is::<Client<Rejection>>());
}

#[tokio::test]
async fn typed_refusal_says_sent() {
    type Typed = Error<io::Error>;
    let down = || Typed::Inner(io::Error::other("down"));
    assert!(error_of(down, || Typed::Rejected(refused())).await.rejection().unwrap().was_sent());
    let error = error_of(down, || Typed::Ended(refused(), io::Error::other("down"))).await;
    assert!(error.rejection().unwrap().was_sent() && error.inner().is_some());
}

/// An error of somebody who implements no more than must be.
#[derive(Debug)]
enum Own {
    Refused(Rejection),
    Down,
}

impl FromRejection for Own {
    fn from_rejection(rejection: Rejection) -> Self {
        Self::Refused(rejection)
    }

    fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Refused(why) => Some(why),
            Self::Down => None,
        }
    }
}

#[tokio::test]
async fn error_type_that_has_no_room_for_both_is_the_failure() {
    assert!(matches!(error_of(|| Own::Down, || Own::Refused(refused())).await, Own::Down));
    assert!(matches!(error_of(|| Own::Down, || Own::Down).await, Own::Down));
    let refused = error_of(|| Own::Refused(unsent()), || Own::Refused(refused())).await;
    assert!(
        matches!(&refused, Own::Refused(why) if !why.was_sent() && why.code() == "CIRCUIT_OPEN"),
        "{refused:?}"
    );
}

// An answer is no error that could come out: the refusal is made anew, and says that something was sent.
#[tokio::test]
async fn refusal_after_a_failed_answer_says_sent_in_an_error_type_without_words() {
    let retry = Retry::builder("outer").backoff(Backoff::none()).build().unwrap();
    let layer = retry.layer().classify_with(|_: Result<&u16, &Own>| Verdict::transient());
    let error = layer.call(|| async {
        if buttress_core::context::current().attempt > 1 { Err(Own::Refused(refused())) } else { Ok(503) }
    });
    let error = error.await.unwrap_err();
    assert!(
        matches!(&error, Own::Refused(why) if why.was_sent() && why.code() == "CIRCUIT_OPEN"),
        "{error:?}"
    );
}
