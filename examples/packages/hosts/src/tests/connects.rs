//! The stack around a connector, over real sockets.

use std::time::Duration;

use axum::{Router, routing::get};
use buttress::rejection;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tokio::time::timeout;

use super::{ShutPort, open_wait_of};
use crate::hosts::{Policies, hyper_util};

#[tokio::test]
async fn hyper_utils_fourth_connect_to_a_shut_port_is_not_tried_and_a_probe_finds_it_open() {
    let policies = Policies::new("hyper-util").unwrap();
    let client = hyper_util(&policies);
    let port = ShutPort::new().unwrap();
    let url: http::Uri = format!("http://{}/", port.address).parse().unwrap();
    let get_it = || http::Request::get(url.clone()).body(Full::<Bytes>::default()).unwrap();

    for _ in 1..=3 {
        let error = client.request(get_it()).await.unwrap_err();
        assert!(error.is_connect() && rejection(&error).is_none(), "{error:?}");
    }
    // From here on a connect would succeed, if one were tried, and wait for an answer.
    let listener = port.open().unwrap();
    let fourth = timeout(Duration::from_millis(200), client.request(get_it())).await;
    let error = fourth.expect("answered at once").unwrap_err();
    assert_eq!(rejection(&error).expect("refused by the stack").code(), "CIRCUIT_OPEN");
    let tried = timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(tried.is_err(), "a fourth connect was tried: {tried:?}");

    let app = Router::new().route("/", get(|| async { "hello" }));
    tokio::spawn(async move { axum::serve(listener, app).await });
    open_wait_of(&policies.breaker).await;
    let answer = client.request(get_it()).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello");
    assert!(!policies.breaker.is_open());
}
