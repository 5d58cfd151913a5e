//! One generic stack in every host: axum, reqwest (client and connector), hyper-util, tonic (channel and server),
//! redis both ways, and between tower's own layers.
//!
//! Run it to see the stack over axum and reqwest; its tests run it in all the others, each against the real thing.
//!
//! - `hosts`: the stack, and a function per host that takes it.
//! - `grpc`: which gRPC answers are failures, and a refusal as a `Status`.
//! - `redis_stack`: redis as a service, and a stack as a redis connection; `redial`: a connection that comes back.
#![cfg_attr(not(test), allow(dead_code, reason = "the tests run the other hosts"))]

mod grpc;
mod hosts;
mod redial;
mod redis_stack;
#[cfg(test)]
mod tests;

use std::{error::Error, time::Duration};

use ::axum::{Router, http::StatusCode, routing::get};
use tower::{Service, ServiceExt};

use crate::hosts::{Policies, axum, reqwest_connector};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    run().await
}

async fn run() -> Result<(), Box<dyn Error + Send + Sync>> {
    let server = Policies::new("server")?;
    let routes = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/broken", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }));
    let app = axum(&server, routes);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { ::axum::serve(listener, app).await });

    let mut client = hosts::reqwest(&Policies::new("client")?);
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
    assert!(server.breaker.is_open(), "three failures open it");

    // The stack of a host whose errors are no BoxError at all: the connector of a client to a port nobody is at.
    let connector = Policies::new("connector")?;
    let lonely = reqwest_connector(&connector)?;
    for n in 1..=4 {
        let error =
            lonely.get("http://127.0.0.1:9/").timeout(Duration::from_secs(2)).send().await.unwrap_err();
        let refused = buttress::rejection(&error).map(buttress::Rejection::code);
        println!("connect, {n}: refused by {refused:?}");
    }
    assert!(connector.breaker.is_open(), "three failed connects open it");
    Ok(())
}
