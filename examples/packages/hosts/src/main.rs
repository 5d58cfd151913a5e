//! One generic stack in every host: axum, reqwest (client and connector), hyper-util, tonic (channel and server),
//! redis both ways, and between tower's own layers.
//!
//! That it compiles is the point; run it to see it work over axum and reqwest.

#[allow(dead_code, reason = "that each of them compiles is what is shown")]
mod hosts;
mod redis;

use std::{error::Error, time::Duration};

use axum::{Router, http::StatusCode, routing::get};
use buttress::{HttpClassify, ServiceBuilderExt};
use tower::{Service, ServiceBuilder, ServiceExt};

use crate::hosts::{Policies, stack};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    run().await
}

async fn run() -> Result<(), Box<dyn Error + Send + Sync>> {
    let server = Policies::new("server")?;
    // A breaker of its own, which judges responses: the one in the stack only sees errors, of which axum has none.
    let judge = Policies::new("server-responses")?.breaker;
    let layer = ServiceBuilder::new().respond().breaker(judge.layer().classify(HttpClassify));
    let app = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/broken", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }))
        .layer(layer.layer(stack(&server)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, app).await });

    let policies = Policies::new("client")?;
    let mut client = ServiceBuilder::new().layer(stack(&policies)).service(reqwest::Client::new());
    let request = |path: &str| {
        reqwest::Request::new(reqwest::Method::GET, format!("{url}{path}").parse().expect("a URL"))
    };
    let answer = client.ready().await?.call(request("/")).await?;
    println!("GET /: {} {:?}", answer.status(), answer.text().await?);
    for n in 1..=4 {
        let answer = client.ready().await?.call(request("/broken")).await?;
        let wait = answer.headers().get("retry-after").map(|wait| wait.to_str().unwrap_or("?").to_owned());
        println!("GET /broken, {n}: {} retry-after {wait:?}", answer.status());
    }
    assert!(judge.is_open(), "three failures open it");

    // The stack of a host whose errors are no BoxError at all: the connector of a client to a port nobody is at.
    let connector = Policies::new("connector")?;
    let lonely = reqwest::Client::builder().connector_layer(stack(&connector)).build()?;
    for n in 1..=4 {
        let error =
            lonely.get("http://127.0.0.1:9/").timeout(Duration::from_secs(2)).send().await.unwrap_err();
        let refused = buttress::rejection(&error).map(buttress::Rejection::code);
        println!("connect, {n}: refused by {refused:?}");
    }
    assert!(connector.breaker.is_open(), "three failed connects open it");
    Ok(())
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn one_stack_runs_over_axum_reqwest_and_its_connector() {
        super::run().await.unwrap();
    }
}
