//! How errors and rejections travel through a stack.

use std::{
    error::Error as StdError,
    fmt, io,
    task::{Context, Poll},
};

use buttress_core::{
    BoxError, Classify, Code, Error, FailedTwice, FromRejection, LiftErrorsLayer, Name, Rejection, Standard,
    TypedErrorsLayer, Verdict, rejection,
};
use tower::{BoxError as TowersBoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::gate::{GateLayer, SHUT};

const OPEN: &Code = &Code::refused("CIRCUIT_OPEN").says("circuit {} is OPEN");
const EXHAUSTED: &Code = &Code::refused("RETRIES_EXHAUSTED").says("retries of {} are exhausted").sent();

/// Fails, in `poll_ready` or in `call`.
#[derive(Clone)]
struct Fails {
    ready: bool,
}

impl Service<u32> for Fails {
    type Response = u32;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<u32>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(if self.ready { Ok(()) } else { Err(io::Error::other("not ready")) })
    }

    fn call(&mut self, req: u32) -> Self::Future {
        std::future::ready(if req == 0 { Err(io::Error::from(io::ErrorKind::NotFound)) } else { Ok(req) })
    }
}

#[tokio::test]
async fn lifted_errors_are_boxed_once_from_call_and_from_poll_ready() {
    let lifted = LiftErrorsLayer::new();
    let mut service = lifted.layer(Fails { ready: true });
    assert_eq!(service.ready().await.unwrap().call(7).await.unwrap(), 7);
    let error = service.ready().await.unwrap().call(0).await.unwrap_err();
    assert_eq!(error.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::NotFound);

    let mut service = lifted.layer(Fails { ready: false });
    let error = service.ready().await.err().unwrap();
    assert_eq!(error.downcast_ref::<io::Error>().unwrap().to_string(), "not ready");
}

#[tokio::test]
async fn what_is_boxed_already_stays_the_same_box() {
    #[derive(Debug)]
    struct Marked;
    impl fmt::Display for Marked {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("marked")
        }
    }
    impl StdError for Marked {}

    let inner = service_fn(|(): ()| async { Err::<(), TowersBoxError>(Box::new(Marked)) });
    let twice = ServiceBuilder::new().layer(LiftErrorsLayer::new()).layer(LiftErrorsLayer::new());
    let error = twice.service(inner).oneshot(()).await.unwrap_err();
    assert!(error.is::<Marked>() && error.source().is_none());
}

#[tokio::test]
async fn typed_errors_keep_the_type_from_call_and_from_poll_ready() {
    let typed = TypedErrorsLayer::new();
    let error = typed.layer(Fails { ready: true }).oneshot(0).await.unwrap_err();
    assert!(matches!(&error, Error::Inner(inner) if inner.kind() == io::ErrorKind::NotFound));
    assert!(error.rejection().is_none());
    let mut service = typed.layer(Fails { ready: false });
    let error = service.ready().await.err().unwrap();
    assert_eq!(error.into_inner().unwrap().to_string(), "not ready");
}

// One error type, however many layers.
#[tokio::test]
async fn error_types_stay_flat_at_any_depth() {
    fn ten<S>(inner: S) -> impl Service<u32, Response = u32, Error = S::Error>
    where
        S: Service<u32, Response = u32, Error: FromRejection + 'static, Future: 'static>,
    {
        let open = || GateLayer::open("open");
        ServiceBuilder::new()
            .layer((open(), open(), open(), open(), open()))
            .layer((open(), open(), open(), GateLayer::shut("nine"), open()))
            .service(inner)
    }
    let typed: Result<u32, Error<io::Error>> =
        ten(TypedErrorsLayer::new().layer(Fails { ready: true })).oneshot(1).await;
    assert_eq!(typed.unwrap_err().rejection().unwrap().policy(), "nine");
    let boxed: Result<u32, BoxError> =
        ten(LiftErrorsLayer::new().layer(Fails { ready: true })).oneshot(1).await;
    let boxed = boxed.unwrap_err();
    assert!(boxed.is::<Rejection>() && boxed.source().is_none());
}

#[tokio::test]
async fn nested_stacks_refusal_is_seen_unless_it_is_stripped() {
    let nested = || {
        ServiceBuilder::new()
            .layer(GateLayer::shut("nested"))
            .layer(TypedErrorsLayer::new())
            .service(Fails { ready: true })
    };
    let seen = LiftErrorsLayer::new().layer(nested()).oneshot(1).await.unwrap_err();
    assert_eq!(rejection(&*seen).unwrap().policy(), "nested");
    assert_eq!(Standard.classify(Err::<&(), _>(&seen)), Verdict::Ignore);

    let stripped = LiftErrorsLayer::new().strip().layer(nested()).oneshot(1).await.unwrap_err();
    assert!(rejection(&*stripped).is_none());
    assert_eq!(stripped.to_string(), seen.to_string());
    assert_eq!(Standard.classify(Err::<&(), _>(&stripped)), Verdict::transient());
}

#[tokio::test]
async fn stripping_leaves_other_errors_and_takes_refusals_of_readiness() {
    let strip = LiftErrorsLayer::new().strip();
    let error = strip.layer(Fails { ready: true }).oneshot(0).await.unwrap_err();
    assert!(error.is::<io::Error>());

    struct RefusesReadiness;
    impl Service<()> for RefusesReadiness {
        type Response = ();
        type Error = BoxError;
        type Future = std::future::Pending<Result<(), BoxError>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Err(Rejection::new(SHUT, &Name::new("odd")).into()))
        }
        fn call(&mut self, (): ()) -> Self::Future {
            std::future::pending()
        }
    }
    let error = strip.layer(RefusesReadiness).oneshot(()).await.unwrap_err();
    assert!(rejection(&*error).is_none());
}

/// An error that wraps another one.
#[derive(Debug)]
struct Wrapped(BoxError);

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("wrapped")
    }
}

impl StdError for Wrapped {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0)
    }
}

fn wrapped(times: usize, innermost: BoxError) -> BoxError {
    (0..times).fold(innermost, |error, _| Box::new(Wrapped(error)))
}

#[test]
fn rejection_is_found_deep_in_the_chain() {
    let refused = || Rejection::new(OPEN, &Name::new("pay"));
    for depth in [0, 1, 10, 60] {
        let error = wrapped(depth, Box::new(refused()));
        assert_eq!(rejection(&*error), Some(&refused()), "{depth}");
        assert_eq!(error.rejection().unwrap().code(), "CIRCUIT_OPEN");
    }
    // Through a typed error, boxed and wrapped again.
    let typed: BoxError = Box::new(Error::<io::Error>::Rejected(refused()));
    assert_eq!(rejection(&*wrapped(3, typed)), Some(&refused()));
    // In an I/O error, as a connector's refusal comes out of an HTTP client.
    let io = || io::Error::other(io::Error::new(io::ErrorKind::ConnectionRefused, refused()));
    assert_eq!(rejection(&*wrapped(3, io().into())), Some(&refused()));
    assert_eq!(Error::Inner(io()).rejection(), Some(&refused()));
    assert!(rejection(&*wrapped(3, "no refusal".into())).is_none());
}

#[test]
fn outermost_of_two_rejections_counts() {
    let name = Name::new("pay");
    let last: BoxError = Box::new(Rejection::new(OPEN, &name));
    let exhausted = last.ended_by(Rejection::new(EXHAUSTED, &name).with_attempts(3));
    assert_eq!(exhausted.rejection().unwrap().code(), EXHAUSTED);
    let source = exhausted.source().unwrap();
    assert_eq!(rejection(source).unwrap().code(), OPEN);
}

#[test]
fn chain_that_never_ends_is_given_up() {
    #[derive(Debug)]
    struct Ouroboros;
    impl fmt::Display for Ouroboros {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("it is its own source")
        }
    }
    impl StdError for Ouroboros {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(self)
        }
    }
    assert!(rejection(&Ouroboros).is_none());
    let boxed: BoxError = Box::new(Ouroboros);
    assert_eq!(Standard.classify(Err::<&(), _>(&boxed)), Verdict::transient());
}

/// An enum of a user's own.
#[derive(Debug)]
enum Mine {
    NoSuchAccount,
    Refused(Rejection),
}

impl fmt::Display for Mine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchAccount => f.write_str("no such account"),
            Self::Refused(_) => f.write_str("the call was refused"),
        }
    }
}

impl StdError for Mine {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::NoSuchAccount => None,
            Self::Refused(rejection) => Some(rejection),
        }
    }
}

impl FromRejection for Mine {
    fn from_rejection(rejection: Rejection) -> Self {
        Self::Refused(rejection)
    }

    fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::NoSuchAccount => None,
            Self::Refused(rejection) => Some(rejection),
        }
    }

    fn verdict(&self) -> Option<Verdict> {
        matches!(self, Self::NoSuchAccount).then(Verdict::permanent)
    }

    fn as_error(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self)
    }
}

#[tokio::test]
async fn enum_of_ones_own_carries_rejections_and_verdicts() {
    let inner = service_fn(|(): ()| async { Err::<(), Mine>(Mine::NoSuchAccount) });
    let error = GateLayer::open("pay").layer(inner).oneshot(()).await.unwrap_err();
    assert!(matches!(error, Mine::NoSuchAccount));
    assert_eq!(Standard.classify(Err::<&(), _>(&error)), Verdict::permanent());

    let error = GateLayer::shut("pay").layer(inner).oneshot(()).await.unwrap_err();
    assert_eq!(FromRejection::rejection(&error).unwrap().policy(), "pay");
    assert_eq!(Standard.classify(Err::<&(), _>(&error)), Verdict::Ignore);
    // What ended the call has no place in it, so it stays as it is.
    let name = Name::new("pay");
    assert!(matches!(Mine::NoSuchAccount.ended_by(Rejection::new(EXHAUSTED, &name)), Mine::NoSuchAccount));
    // Lifted, its source leads to the rejection.
    let boxed: BoxError = Box::new(error);
    assert_eq!(rejection(&*boxed).unwrap().code(), "GATE_SHUT");
}

#[test]
fn error_display_shows_its_own_level_only() {
    let name = Name::new("pay");
    let boom = || io::Error::other("boom");
    let refused: Error<io::Error> = Error::Rejected(Rejection::new(OPEN, &name));
    assert_eq!(refused.to_string(), "circuit \"pay\" is OPEN");
    assert_eq!(Error::Inner(boom()).to_string(), "boom");
    let exhausted = Error::Inner(boom()).ended_by(Rejection::new(EXHAUSTED, &name).with_attempts(3));
    assert_eq!(exhausted.to_string(), "retries of \"pay\" are exhausted after 3 attempts");
    assert_eq!(exhausted.source().unwrap().to_string(), "boom");
}

#[test]
fn boxed_error_that_is_ended_keeps_the_failure_as_its_source() {
    let name = Name::new("pay");
    let failure: BoxError = Box::new(io::Error::other("boom"));
    let ended = failure.ended_by(Rejection::new(OPEN, &name).with_sent(true));
    assert_eq!(ended.to_string(), "circuit \"pay\" is OPEN");
    assert!(ended.rejection().unwrap().was_sent());
    assert!(ended.source().unwrap().is::<io::Error>());
    // What was tried already is tried by the stack outside again, and that one is ended too: over the same failure.
    let twice = ended.ended_by(Rejection::new(EXHAUSTED, &name));
    assert_eq!(twice.rejection().unwrap().code(), EXHAUSTED);
    assert!(twice.source().unwrap().is::<io::Error>());
}

#[test]
fn failure_that_five_policies_end_one_after_the_other_is_still_its_direct_source() {
    let ended = (1..=5).fold(BoxError::from("boom"), |error, attempts| {
        error.ended_by(Rejection::new(EXHAUSTED, &Name::new("pay")).with_attempts(attempts))
    });
    assert_eq!(ended.rejection().unwrap().attempts(), Some(5));
    let failure = ended.source().unwrap();
    assert_eq!((failure.to_string().as_str(), failure.source().is_none()), ("boom", true));
}

/// The errors of a chain, outermost first.
fn chain(error: &BoxError) -> Vec<String> {
    let sources = std::iter::successors(Some::<&(dyn StdError + 'static)>(&**error), |&error| error.source());
    sources.map(ToString::to_string).collect()
}

#[test]
fn error_after_another_one_tells_both_and_stands_for_the_later() {
    let refused = || Rejection::new(OPEN, &Name::new("near"));
    let far = io::Error::other(Wrapped("disk full".into()));
    let both = BoxError::from(far).after(refused().into());
    // A report of the whole chain has all of it; the first refusal is none of the call's.
    assert_eq!(chain(&both), ["wrapped: disk full", "circuit \"near\" is OPEN"]);
    assert!(both.rejection().is_none());
    let twice = both.downcast_ref::<FailedTwice>().unwrap();
    assert!(twice.last().is::<io::Error>() && twice.first().is::<Rejection>());
    // It is judged by what the later one is.
    let missing = BoxError::from(io::Error::from(io::ErrorKind::NotFound)).after("down".into());
    assert_eq!(Standard.classify(Err::<&(), _>(&missing)), Verdict::permanent());
    // A text stands for an answer that was held for a failure.
    let both = BoxError::from("disk full").after(BoxError::from_text("503".into()).unwrap());
    assert_eq!(chain(&both), ["disk full", "503"]);
}

#[test]
fn refusal_after_a_failure_carries_it_in_every_type_that_has_room() {
    let refused = || Rejection::new(OPEN, &Name::new("far"));
    let boom = || io::Error::other("boom");
    let boxed = BoxError::from(refused()).after(boom().into());
    assert_eq!(boxed.rejection(), Some(&refused()));
    assert_eq!(chain(&boxed), ["circuit \"far\" is OPEN", "boom"]);
    // Inside of another error it is that one that stays, and the refusal is found in it.
    let wrapped = BoxError::from(Wrapped(refused().into())).after("boom".into());
    assert_eq!(wrapped.rejection(), Some(&refused()));
    assert_eq!(chain(&wrapped), ["wrapped: circuit \"far\" is OPEN", "boom"]);

    let typed = Error::Rejected(refused()).after(Error::Inner(boom()));
    assert!(matches!(&typed, Error::Ended(why, error) if *why == refused() && error.to_string() == "boom"));
    let typed = Error::Inner(boom()).after(Error::Rejected(refused()));
    assert!(matches!(&typed, Error::Inner(error) if error.to_string() == "boom"));
    assert!(Error::<io::Error>::from_text("503".into()).is_none());
    let mine = Mine::NoSuchAccount.after(Mine::Refused(refused()));
    assert!(matches!(mine, Mine::NoSuchAccount) && Mine::from_text("503".into()).is_none());
}

#[test]
fn typed_error_that_is_ended_stays_flat_and_keeps_the_failure() {
    let name = Name::new("pay");
    let refused = || Rejection::new(OPEN, &name);
    let ended = Error::Inner(io::Error::other("boom")).ended_by(refused());
    assert!(matches!(&ended, Error::Ended(why, inner) if why.code() == OPEN && inner.to_string() == "boom"));
    // The last word counts, over the same failure.
    let twice = ended.ended_by(Rejection::new(EXHAUSTED, &name));
    assert!(
        matches!(&twice, Error::Ended(why, inner) if why.code() == EXHAUSTED && inner.to_string() == "boom")
    );
    assert_eq!(twice.into_inner().unwrap().to_string(), "boom");
    // Without a failure there is nothing that could be ended.
    let rejected = Error::<io::Error>::Rejected(refused()).ended_by(Rejection::new(EXHAUSTED, &name));
    assert!(matches!(rejected, Error::Rejected(why) if why == refused()));
}

#[test]
fn refusal_after_something_was_sent_says_so_in_every_type() {
    let refused = || Rejection::new(OPEN, &Name::new("pay"));
    let sent = |error: &dyn Fn() -> BoxError| error().sent_before().rejection().map(Rejection::was_sent);
    assert_eq!(sent(&|| refused().into()), Some(true));
    assert_eq!(sent(&|| wrapped(3, refused().into())), Some(true));
    assert_eq!(sent(&|| "boom".into()), None);
    // What held the refusal is still there.
    let io = BoxError::from(io::Error::other(refused())).sent_before();
    assert!(io.source().unwrap().is::<io::Error>());

    let typed = |error: Error<io::Error>| error.sent_before().rejection().map(Rejection::was_sent);
    assert_eq!(typed(Error::Rejected(refused())), Some(true));
    assert_eq!(typed(Error::Ended(refused(), io::Error::other("boom"))), Some(true));
    assert_eq!(typed(Error::Inner(io::Error::other("boom"))), None);
    // A stack inside refused it: what held that refusal is still there.
    let inner = Error::Inner(io::Error::other(refused())).sent_before();
    assert!(inner.rejection().unwrap().was_sent() && inner.inner().is_some());

    assert!(matches!(Mine::Refused(refused()).sent_before(), Mine::Refused(why) if why.was_sent()));
    assert!(matches!(Mine::NoSuchAccount.sent_before(), Mine::NoSuchAccount));
}
