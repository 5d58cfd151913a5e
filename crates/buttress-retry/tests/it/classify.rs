//! Which outcomes are retried, and what is made of the last one.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use buttress_core::{BoxError, Error, FromRejection, Name, OnlyErrors, Rejection, Verdict, rejection};
use buttress_kit::Backoff;
use buttress_retry::{EXHAUSTED, Retry, only};
use tower::{Layer, ServiceExt, service_fn};

use crate::support::{CIRCUIT_TIMEOUT, OPEN, QUEUE_FULL, QUEUE_TIMEOUT, Script, TIMEOUT, fluxus, ms, of};

fn at_once(attempts: u32) -> Retry {
    Retry::new("payments", of(attempts, fluxus())).unwrap()
}

/// How many calls are made of a service that always fails so, and the error that comes out.
async fn failing(retry: &Retry, error: impl Fn() -> BoxError + Send + 'static) -> (usize, BoxError) {
    let script = Script::failing_with(error);
    let last = retry.layer().layer(script.service()).oneshot("a").await.unwrap_err();
    (script.calls(), last)
}

#[tokio::test]
async fn every_error_is_retried_by_default() {
    assert_eq!(failing(&at_once(3), || "odd".into()).await.0, 3);
    assert_eq!(failing(&at_once(3), || io::Error::from(io::ErrorKind::TimedOut).into()).await.0, 3);
}

#[tokio::test]
async fn error_that_stays_as_it_is_ends_the_call_at_once_and_unchanged() {
    let retry = at_once(3);
    let (calls, error) = failing(&retry, || io::Error::new(io::ErrorKind::NotFound, "no such").into()).await;
    assert_eq!((calls, error.to_string().as_str()), (1, "no such"));
    assert!(error.is::<io::Error>());
    assert_eq!(retry.snapshot().stopped.not_retryable, 1);
}

#[tokio::test]
async fn lists_of_codes_and_types_and_predicates_say_what_is_retried() {
    let calls = |only: OnlyErrors, error: fn() -> BoxError| async move {
        let script = Script::failing_with(error);
        let layer = at_once(3).layer().classify(only);
        layer.layer(script.service()).oneshot("a").await.unwrap_err();
        script.calls()
    };
    let codes = || OnlyErrors::codes(["TIMEOUT", "NETWORK_ERROR", "503"]);
    assert_eq!(calls(codes(), || "upstream said 503".into()).await, 3);
    assert_eq!(calls(codes(), || "upstream said 404".into()).await, 1);
    assert_eq!(calls(codes(), || Rejection::new(TIMEOUT, &Name::new("api")).into()).await, 3);
    let busy = || OnlyErrors::when(|e| e.to_string().contains("temporarily unavailable"));
    assert_eq!(calls(busy(), || "temporarily unavailable".into()).await, 3);
    assert_eq!(calls(busy(), || "gone".into()).await, 1);
    assert_eq!(calls(OnlyErrors::of_type::<io::Error>(), || io::Error::other("x").into()).await, 3);
    assert_eq!(calls(OnlyErrors::of_type::<io::Error>(), || fmt::Error.into()).await, 1);

    // `error.code === 'RATE_LIMIT' || error.message.includes('temporarily unavailable')`
    let either = || {
        let limited = OnlyErrors::codes(["RATE_LIMIT"]).code_of(|error: &Coded| Some(error.0));
        limited.or_when(|e| e.to_string().contains("temporarily unavailable"))
    };
    assert_eq!(calls(either(), || Coded("RATE_LIMIT", "slow down").into()).await, 3);
    assert_eq!(calls(either(), || Coded("OTHER", "temporarily unavailable").into()).await, 3);
    assert_eq!(calls(either(), || Coded("OTHER", "gone").into()).await, 1);

    let script = Script::of([Err("transient".into()), Err("permanent".into())]);
    let layer = at_once(3).layer().classify(OnlyErrors::codes(["transient"]));
    let error = layer.layer(script.service()).oneshot("a").await.unwrap_err();
    assert_eq!((script.calls(), error.to_string().as_str()), (2, "permanent"));
}

#[tokio::test]
async fn lists_of_the_presets_match_their_codes_and_nothing_else() {
    let transient = |only: &OnlyErrors, error: BoxError| {
        buttress_core::Classify::<(), _>::classify(only, Err(&error)).is_transient()
    };
    for code in ["RATE_LIMIT", "TOO_MANY_REQUESTS", "429"] {
        assert!(transient(&only::rate_limits(), code.into()));
        assert!(!transient(&only::network(), code.into()));
    }
    for code in ["NETWORK_ERROR", "TIMEOUT", "ECONNREFUSED", "ENOTFOUND"] {
        assert!(transient(&only::network(), code.into()));
        assert!(!transient(&only::rate_limits(), code.into()));
    }
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotFound, PermissionDenied, TimedOut};
    for kind in [ConnectionRefused, ConnectionReset, TimedOut] {
        assert!(transient(&only::network(), io::Error::from(kind).into()), "{kind}");
    }
    for kind in [NotFound, PermissionDenied] {
        assert!(!transient(&only::network(), io::Error::from(kind).into()), "{kind}");
    }
}

// What Rust's libraries say where the source had `TIMEOUT` and `ENOTFOUND`
#[tokio::test(start_paused = true)]
async fn preset_for_networks_knows_time_outs_and_names_that_are_not_resolved_by_what_rust_calls_them() {
    let transient = |error: BoxError| {
        buttress_core::Classify::<(), _>::classify(&only::network(), Err(&error)).is_transient()
    };
    let elapsed = tokio::time::timeout(ms(1), std::future::pending::<()>()).await.unwrap_err();
    assert!(transient(elapsed.into()));
    assert!(transient(tower::timeout::error::Elapsed::new().into()));
    for code in [TIMEOUT, CIRCUIT_TIMEOUT] {
        assert!(transient(Rejection::timed_out(code, &Name::new("p"), ms(1), ms(1)).into()), "{code}");
    }
    // As `tokio::net::lookup_host` has it, and as it stands in the chain of a client.
    let unknown = "failed to lookup address information: Name or service not known";
    assert!(transient(io::Error::other(unknown).into()));
    assert!(transient(Wrapped(io::Error::other(unknown).into()).into()));
    assert!(!transient(Rejection::new(QUEUE_TIMEOUT, &Name::new("p")).into()));
    assert!(!transient(Wrapped(io::Error::other("no such account").into()).into()));
}

#[tokio::test]
async fn response_may_count_as_failure_and_the_last_one_is_returned() {
    for (status, expected) in [(503, 2), (404, 0), (200, 0)] {
        let retry = at_once(3);
        let layer = retry.layer().classify_with(|outcome: Result<&u16, &BoxError>| match outcome {
            Ok(503) => Verdict::transient(),
            Ok(_) => Verdict::Success,
            Err(_) => Verdict::permanent(),
        });
        let svc = layer.layer(service_fn(move |()| async move { Ok::<u16, BoxError>(status) }));
        assert_eq!(svc.oneshot(()).await.unwrap(), status);
        assert_eq!(retry.snapshot().retries, expected);
    }
}

#[tokio::test]
async fn refusal_by_a_policy_inside_is_not_retried_unless_listed() {
    let open = || BoxError::from(Rejection::new(OPEN, &Name::new("inner")));
    let retry = at_once(3);
    let (calls, error) = failing(&retry, open).await;
    assert_eq!((calls, rejection(&*error).unwrap().code()), (1, OPEN));
    assert_eq!(retry.snapshot().stopped.not_retryable, 1);

    let listed = Retry::builder("payments")
        .backoff(Backoff::none())
        .retry_rejections(["CIRCUIT_OPEN"])
        .build()
        .unwrap();
    assert_eq!(failing(&listed, open).await.0, 3);
    // A code is listed by its constant as well as by its text.
    let by_constant = Retry::builder("payments").backoff(Backoff::none()).retry_rejections([OPEN]).build();
    assert_eq!(failing(&by_constant.unwrap(), open).await.0, 3);
    let full = || BoxError::from(Rejection::new(QUEUE_FULL, &Name::new("inner")));
    assert_eq!(failing(&listed, full).await.0, 1);
}

#[tokio::test]
async fn no_classifier_makes_a_refusal_retryable() {
    let script = Script::failing_with(|| Rejection::new(OPEN, &Name::new("inner")).into());
    let layer = at_once(3).layer().classify_with(|outcome: Result<&&str, &BoxError>| match outcome {
        Ok(_) => Verdict::Success,
        Err(_) => Verdict::transient(),
    });
    layer.layer(script.service()).oneshot("a").await.unwrap_err();
    assert_eq!(script.calls(), 1);
}

#[tokio::test]
async fn time_out_of_a_policy_inside_is_a_failure_and_exhausted_retries_are_a_permanent_one() {
    let timed_out = || BoxError::from(Rejection::timed_out(TIMEOUT, &Name::new("api"), ms(1), ms(1)));
    assert_eq!(failing(&at_once(3), timed_out).await.0, 3);
    let exhausted = || BoxError::from(Rejection::new(EXHAUSTED, &Name::new("inner")));
    assert_eq!(failing(&at_once(3), exhausted).await.0, 1);
}

#[tokio::test]
async fn outcome_that_says_nothing_is_returned_as_it_is() {
    let script = Script::failing();
    let retry = at_once(3);
    let layer = retry.layer().classify_with(|_: Result<&&str, &BoxError>| Verdict::Ignore);
    layer.layer(script.service()).oneshot("a").await.unwrap_err();
    assert_eq!(script.calls(), 1);
    assert_eq!(retry.snapshot().stopped.not_retryable, 0);
}

#[tokio::test]
async fn classifier_runs_once_per_attempt() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let script = Script::failing();
    let layer = at_once(4).layer().classify_with(move |outcome: Result<&&str, &BoxError>| {
        count.fetch_add(1, Relaxed);
        if outcome.is_ok() { Verdict::Success } else { Verdict::transient() }
    });
    layer.layer(script.service()).oneshot("a").await.unwrap_err();
    assert_eq!((asked.load(Relaxed), script.calls()), (4, 4));
}

#[tokio::test]
async fn exhaustion_is_reported_where_it_was_asked_for() {
    let retry = Retry::builder("payments")
        .retries(3)
        .backoff(Backoff::none())
        .report_exhaustion(true)
        .build()
        .unwrap();
    let (_, error) = failing(&retry, || "boom".into()).await;
    let told = rejection(&*error).unwrap();
    assert_eq!((told.code(), told.policy(), told.attempts()), (EXHAUSTED, "payments", Some(4)));
    assert_eq!(error.source().unwrap().to_string(), "boom");
    assert_eq!(error.to_string(), "retries of \"payments\" are exhausted after 4 attempts");

    // Given up, and not exhausted.
    let (_, error) = failing(&retry, || io::Error::from(io::ErrorKind::NotFound).into()).await;
    assert!(error.is::<io::Error>());

    let typed = retry.call(|| async { Err::<(), _>(Error::Inner(io::Error::other("boom"))) });
    let error = typed.await.unwrap_err();
    assert_eq!(error.rejection().unwrap().attempts(), Some(4));
    assert_eq!(error.inner().unwrap().to_string(), "boom");
}

/// An error whose code is not in its text.
#[derive(Debug)]
struct Coded(&'static str, &'static str);

impl fmt::Display for Coded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }
}

impl std::error::Error for Coded {}

#[derive(Debug)]
struct Wrapped(BoxError);

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("payments failed")
    }
}

impl std::error::Error for Wrapped {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}

#[tokio::test]
async fn last_error_may_be_mapped_whatever_ended_the_call() {
    let map = |error: BoxError| -> BoxError { Box::new(Wrapped(error)) };
    let errors: [fn() -> BoxError; 2] =
        [|| "down".into(), || io::Error::from(io::ErrorKind::NotFound).into()];
    for (error, calls) in errors.into_iter().zip([2, 1]) {
        let script = Script::failing_with(error);
        let svc = at_once(2).layer().map_err(map).layer(script.service());
        let last = svc.oneshot("a").await.unwrap_err();
        assert!(last.is::<Wrapped>());
        assert_eq!(last.source().unwrap().to_string(), error().to_string());
        assert_eq!(script.calls(), calls);
    }
    assert_eq!(
        at_once(2).layer().map_err(map).layer(Script::default().service()).oneshot("a").await.unwrap(),
        "ok"
    );
}

#[derive(Debug, PartialEq)]
enum Mine {
    Refused(Rejection),
    Down,
}

impl FromRejection for Mine {
    fn from_rejection(rejection: Rejection) -> Self {
        Self::Refused(rejection)
    }

    fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Refused(rejection) => Some(rejection),
            Self::Down => None,
        }
    }
}

#[tokio::test]
async fn error_type_of_ones_own_passes_through() {
    let retry = at_once(3);
    assert_eq!(retry.call(|| async { Err::<(), _>(Mine::Down) }).await, Err(Mine::Down));
    assert_eq!(retry.snapshot().retries, 2);
}
