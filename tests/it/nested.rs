//! A stack inside of another one: the refusals of the inner one are not the failures of the server that it is part of,
//! unless the server says so.

use std::{convert::Infallible, future::ready, io};

use axum::{
    Router,
    body::Body,
    http::{Request, Response, StatusCode},
    response::IntoResponse,
    routing::get,
};
use buttress::{
    BoxError, Breaker, BreakerLayer, Fallback, HttpClassify, LiftErrorsLayer, RespondLayer,
    ServiceBuilderExt, breaker::State,
};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

/// A circuit that three failures in a row open.
fn breaker(name: &str) -> Breaker {
    Breaker::builder(name).consecutive_failures(3).build().unwrap()
}

/// The circuit of a dependency that is dead.
fn open() -> BreakerLayer {
    let breaker = breaker("dependency");
    breaker.force_open();
    breaker.layer()
}

/// More calls than the circuit of the server needs to open.
async fn calls<S: Service<u32> + Clone>(service: S) {
    for n in 0..10 {
        let _ = service.clone().oneshot(n).await;
    }
}

#[tokio::test]
async fn refusals_of_a_nested_stack_are_no_failures_of_the_server_unless_they_are_stripped() {
    let nested = ServiceBuilder::new()
        .breaker(open())
        .lift_errors()
        .service(service_fn(|n: u32| ready(Ok::<_, io::Error>(n))));

    let server = breaker("server");
    calls(ServiceBuilder::new().breaker(server.layer()).lift_errors().service(nested.clone())).await;
    assert_eq!(server.state(), State::Closed);

    let strip = LiftErrorsLayer::new().strip();
    calls(ServiceBuilder::new().breaker(server.layer()).layer(strip).service(nested)).await;
    assert_eq!(server.state(), State::Open);
}

#[tokio::test]
async fn refusals_of_a_typed_stack_are_no_failures_of_a_typed_stack_around_it() {
    let nested = ServiceBuilder::new()
        .breaker(open())
        .typed_errors()
        .service(service_fn(|n: u32| ready(Ok::<_, io::Error>(n))));
    let server = breaker("server");
    let around = ServiceBuilder::new().breaker(server.layer()).typed_errors().service(nested);
    let refused = around.clone().oneshot(1).await.unwrap_err();
    assert_eq!(refused.rejection().unwrap().policy(), "dependency");
    calls(around).await;
    assert_eq!(server.state(), State::Closed);

    // Its failures are.
    let failing = service_fn(|_: u32| ready(Err::<u32, _>(buttress::Error::Inner(io::Error::other("down")))));
    calls(ServiceBuilder::new().breaker(server.layer()).typed_errors().service(failing)).await;
    assert_eq!(server.state(), State::Open);
}

#[tokio::test]
async fn refusals_that_a_nested_stack_answers_with_are_no_failures_unless_they_are_stripped() {
    let nested = |respond: RespondLayer| {
        ServiceBuilder::new()
            .layer(respond)
            .breaker(open())
            .lift_errors()
            .service(service_fn(|_: u32| ready(Ok::<_, io::Error>(Response::new(String::new())))))
    };
    let server = breaker("server");
    let around = || ServiceBuilder::new().breaker(server.layer().classify(HttpClassify)).lift_errors();
    calls(around().service(nested(RespondLayer::new()))).await;
    assert_eq!(server.state(), State::Closed);
    calls(around().service(nested(RespondLayer::new().strip()))).await;
    assert_eq!(server.state(), State::Open);
}

#[tokio::test]
async fn fallback_answers_for_a_refusal_that_a_nested_stack_answers_with() {
    let nested = ServiceBuilder::new()
        .respond()
        .breaker(open())
        .lift_errors()
        .service(service_fn(|_: u32| ready(Ok::<_, io::Error>(Response::new(String::new())))));
    let fallback = Fallback::builder("stored").build().unwrap();
    let stored = |failed: Result<Response<String>, BoxError>| {
        assert_eq!(failed.unwrap().status(), 503);
        Ok(Response::new("stored".to_owned()))
    };
    let layer = fallback.layer().answer_with(stored).classify(HttpClassify);
    let answer = ServiceBuilder::new().layer(layer).lift_errors().service(nested).oneshot(1).await.unwrap();
    assert_eq!(answer.body(), "stored");
}

/// A router with a client whose dependency is dead, behind a breaker of the server's own.
fn app<M>(server: &Breaker, orders: impl axum::handler::Handler<M, ()>) -> Router
where
    M: 'static,
{
    let dependency = ServiceBuilder::new().respond().breaker(open()).lift_errors();
    let around = ServiceBuilder::new().respond().breaker(server.layer().classify(HttpClassify)).lift_errors();
    Router::new()
        .route("/refused", get(|| async { "never" }))
        .layer(dependency)
        .route("/orders", get(orders))
        .route("/local", get(|| async { "well" }))
        .layer(around)
}

async fn status(app: &Router, path: &str) -> StatusCode {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let answer: Result<_, Infallible> = app.clone().oneshot(request).await;
    answer.unwrap().status()
}

#[tokio::test]
async fn dead_dependency_of_one_route_does_not_take_the_router_down() {
    let server = breaker("server");
    // A handler that calls its client, and answers for what refused it.
    let app = app(&server, || async {
        let client = ServiceBuilder::new().breaker(open()).lift_errors();
        let answer = client.service(service_fn(|()| ready(Ok::<_, io::Error>("orders")))).oneshot(()).await;
        answer.map_err(|error| -> Response<Body> { RespondLayer::new().response_to(&error) })
    });
    for path in ["/refused", "/orders"] {
        for _ in 0..24 {
            assert_eq!(status(&app, path).await, 503, "{path}");
        }
        assert_eq!(status(&app, "/local").await, 200, "after {path}");
    }
    assert_eq!(server.state(), State::Closed);
}

#[tokio::test]
async fn handler_that_fails_by_itself_is_counted_by_the_breaker_of_the_server() {
    let server = breaker("server");
    let app = app(&server, || async { StatusCode::INTERNAL_SERVER_ERROR.into_response() });
    for _ in 0..3 {
        assert_eq!(status(&app, "/orders").await, 500);
    }
    assert_eq!(server.state(), State::Open);
}
