//! Between tower's own layers, on a real axum server.

use axum::{Router, http::StatusCode, routing::get};
use tower::{Service, ServiceExt};

use crate::hosts::{Policies, axum_between_towers_layers, reqwest};

#[tokio::test]
async fn between_towers_layers_it_opens_on_failing_answers() {
    let server = Policies::new("between").unwrap();
    let broken = get(|| async { StatusCode::INTERNAL_SERVER_ERROR });
    let app = axum_between_towers_layers(&server, Router::new().route("/", broken));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: ::reqwest::Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });

    let mut client = reqwest(&Policies::new("client").unwrap());
    let mut statuses = Vec::new();
    for _ in 1..=4 {
        let request = ::reqwest::Request::new(::reqwest::Method::GET, url.clone());
        statuses.push(client.ready().await.unwrap().call(request).await.unwrap().status().as_u16());
    }
    assert_eq!(statuses, [500, 500, 500, 503]);
}
