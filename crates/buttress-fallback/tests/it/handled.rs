use buttress_core::{BoxError, OnlyErrors, Verdict};
use tower::{Layer, ServiceExt, service_fn};

use crate::{fallback, rejected};

#[tokio::test]
async fn open_circuit_time_out_and_full_bulkhead_are_answered_without_an_error() {
    let fallback = fallback();
    let svc = fallback
        .layer()
        .value("skipped")
        .layer(service_fn(|code: &'static str| async move { Err::<&str, _>(rejected(code)) }));
    for code in
        ["CIRCUIT_OPEN", "TIMEOUT", "BULKHEAD_QUEUE_FULL", "RATE_LIMITED", "RETRIES_EXHAUSTED", "MINE"]
    {
        assert_eq!(svc.clone().oneshot(code).await.unwrap(), "skipped", "{code}");
    }
    assert_eq!((fallback.snapshot().answered, fallback.snapshot().not_handled), (6, 0));
}

#[tokio::test]
async fn what_is_not_handled_passes_unchanged() {
    let fallback = fallback();
    let layer = fallback.layer().value(0).handle_with(|outcome: Result<&u32, &BoxError>| match outcome {
        Ok(n) => *n == 7,
        Err(error) => error.to_string() == "mild",
    });
    let svc =
        layer.layer(service_fn(|ask: Result<u32, &'static str>| async move { ask.map_err(BoxError::from) }));
    assert_eq!(svc.clone().oneshot(Ok(5)).await.unwrap(), 5);
    assert_eq!(svc.clone().oneshot(Ok(7)).await.unwrap(), 0);
    assert_eq!(svc.clone().oneshot(Err("mild")).await.unwrap(), 0);
    assert_eq!(svc.oneshot(Err("grave")).await.unwrap_err().to_string(), "grave");
    let snapshot = fallback.snapshot();
    assert_eq!((snapshot.answered, snapshot.failed, snapshot.not_handled), (2, 0, 1));
}

#[tokio::test]
async fn verdict_ignore_passes_but_a_rejection_never_does() {
    let fallback = fallback();
    let layer = fallback.layer().value(0).classify_with(|outcome: Result<&u32, &BoxError>| match outcome {
        Ok(_) => Verdict::Success,
        Err(_) => Verdict::Ignore,
    });
    let svc = layer.layer(service_fn(|refused: bool| async move {
        Err::<u32, _>(if refused { rejected("CIRCUIT_OPEN") } else { "not my fault".into() })
    }));
    assert_eq!(svc.clone().oneshot(true).await.unwrap(), 0);
    assert_eq!(svc.oneshot(false).await.unwrap_err().to_string(), "not my fault");
    assert_eq!(fallback.snapshot().not_handled, 1);
}

#[tokio::test]
async fn classifier_of_the_other_patterns_serves_here_too() {
    let layer = fallback().layer().value(0).classify(OnlyErrors::codes(["503"]));
    let svc = layer.layer(service_fn(|code: &'static str| async move { Err::<u32, BoxError>(code.into()) }));
    // Transient or permanent: a failure is answered for.
    assert_eq!(svc.clone().oneshot("503").await.unwrap(), 0);
    assert_eq!(svc.oneshot("404").await.unwrap(), 0);
}
