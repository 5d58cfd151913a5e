//! The public API of `buttress-http`, behaviour by behaviour.

mod replay;
mod retried;

use std::{
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{BoxError, Code, FromRejection, LiftErrorsLayer, Name, Rejection};
use buttress_http::{RespondLayer, RespondService};
use http::{Request, Response, StatusCode};
use tower::{Layer, Service, ServiceExt, service_fn};

const OPEN: &Code = &Code::refused("CIRCUIT_OPEN");
const QUEUE_FULL: &Code = &Code::refused("BULKHEAD_QUEUE_FULL");

async fn answer_to(rejection: Rejection) -> Response<String> {
    answer_with(RespondLayer::new(), rejection.into()).await
}

async fn answer_with(layer: RespondLayer, error: BoxError) -> Response<String> {
    let mut error = Some(error);
    let failing = service_fn(move |_: Request<String>| {
        let error = error.take().unwrap();
        async move { Err::<Response<String>, _>(error) }
    });
    layer.layer(failing).oneshot(Request::new(String::new())).await.unwrap()
}

/// What each of these is answered with.
static CODES: [(Code, u16); 8] = [
    (*OPEN, 503),
    (*QUEUE_FULL, 503),
    (Code::refused("BULKHEAD_QUEUE_TIMEOUT").slow(), 503),
    (Code::refused("RETRIES_EXHAUSTED").sent(), 503),
    (Code::too_many("RATE_LIMITED").slow(), 429),
    (Code::timed_out("TIMEOUT"), 504),
    (Code::timed_out("CIRCUIT_TIMEOUT"), 504),
    (Code::refused("GATE_SHUT"), 503),
];

#[tokio::test]
async fn each_class_of_codes_has_its_status() {
    let name = Name::new("p");
    for (code, status) in &CODES {
        let answer = answer_to(Rejection::new(code, &name)).await;
        assert_eq!((answer.status().as_u16(), answer.body().as_str()), (*status, code.as_str()));
        assert_eq!(answer.headers()["retry-after"], "1", "{code}");
    }
}

#[tokio::test]
async fn retry_after_is_rounded_up_and_never_zero() {
    let name = Name::new("p");
    for (wait, header) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2"), (59_999, "60")] {
        let rejection = Rejection::new(OPEN, &name).with_retry_after(Duration::from_millis(wait));
        assert_eq!(answer_to(rejection).await.headers()["retry-after"], header);
    }
    let none = RespondLayer::new().retry_after(None);
    let answer = answer_with(none, Rejection::new(QUEUE_FULL, &name).into()).await;
    assert!(!answer.headers().contains_key("retry-after"));
}

#[tokio::test]
async fn other_errors_are_500_and_their_text_stays_inside() {
    let answer = answer_with(RespondLayer::new(), "password is hunter2".into()).await;
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!answer.headers().contains_key("retry-after"));
    assert_eq!(answer.body(), "INTERNAL");
}

/// Fails when asked for readiness.
#[derive(Clone)]
struct Broken;

impl Service<Request<String>> for Broken {
    type Response = Response<String>;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Response<String>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Err(BoxError::from_rejection(Rejection::new(OPEN, &Name::new("p")))))
    }

    fn call(&mut self, _: Request<String>) -> Self::Future {
        panic!("called without readiness")
    }
}

#[tokio::test]
async fn service_that_fails_to_get_ready_is_answered_for() {
    let answer = RespondLayer::new().layer(Broken).oneshot(Request::new(String::new())).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[test]
fn service_is_clone_send_sync_unpin_and_debug() {
    fn holds<T: Clone + Send + Sync + Unpin + std::fmt::Debug>(_: &T) {}
    holds(&RespondLayer::new());
    let service: RespondService<_> = RespondLayer::new().layer(LiftErrorsLayer::new().layer(()));
    holds(&service);
}
