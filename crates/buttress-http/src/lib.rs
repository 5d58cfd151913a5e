//! buttress for the `http` crate's types: what a response says about the service, which requests may be sent
//! twice, and rejections as responses.
//!
//! - [`HttpClassify`]: 5xx, 408 and 429 are failures, with their `Retry-After`, 501 and 505 without a
//!   further try; every other response is a success. For other response types, such as reqwest's, use
//!   [`verdict_of`]. A gRPC error is a 200 with a `grpc-status`, so a success to both: the package `hosts` in the
//!   repository's examples has the closure that reads it.
//! - [`HttpReplay`], [`may_repeat`]: idempotent methods, and requests with an `Idempotency-Key`;
//!   [`ReplayBodyLayer`] for bodies that are streams.
//! - [`RespondLayer`]: answers 503, 429 or 504, with `Retry-After`, instead of failing, so that axum's
//!   `Router::layer` takes the stack. Errors that are no rejections become a bare 500. What is around it knows such an
//!   answer from the server's own failures ([`Refused`]).
//! - [`ByAuthority`]: the key of a request for policies by key, such as a breaker with a circuit for each host.
//! - [`connector`]: a stack around a connector, for hyper-util's client.
//!
//! ```
//! # tokio_test::block_on(async {
//! use buttress_core::{BoxError, Code, Name, Rejection};
//! use buttress_http::RespondLayer;
//! use http::{Request, Response, StatusCode};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! const OPEN: &Code = &Code::refused("CIRCUIT_OPEN");
//!
//! let refusing = service_fn(|_: Request<String>| async {
//!     Err::<Response<String>, BoxError>(Rejection::new(OPEN, &Name::new("db")).into())
//! });
//! let answer = RespondLayer::new().layer(refusing).oneshot(Request::new(String::new())).await.unwrap();
//! assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
//! assert_eq!(answer.headers()["retry-after"], "1");
//! assert_eq!(answer.body(), "CIRCUIT_OPEN");
//! # });
//! ```
//!
//! A retry, as every other policy, is done with a call once there are status and headers: a *response's* body that breaks
//! off later is not retried. What has to be retried with its body is read inside of the attempt:
//! `retry.call(|| async { let answer = send().await?; .. answer.into_body().collect().await?.to_bytes() .. })`.
//!
//! An upload of unknown length, retried; the last attempt sends what the first one has read, and the rest:
//!
//! ```
//! # tokio_test::block_on(async {
//! # use buttress_core::{BoxError, context};
//! # use buttress_retry::{Retry, RetryConfig};
//! # use bytes::Bytes;
//! # use http::{Request, Response};
//! # use http_body_util::{BodyExt, channel::Channel};
//! # use tower::{ServiceBuilder, ServiceExt};
//! use buttress_http::{HttpReplay, ReplayBody, ReplayBodyLayer};
//!
//! # let retry = Retry::new("storage", RetryConfig::fixed(3, std::time::Duration::ZERO))?;
//! # let (mut writer, upload) = Channel::<Bytes>::new(2);
//! # writer.send_data("one, ".into()).await?;
//! # writer.send_data("two".into()).await?;
//! # drop(writer);
//! let stack = ServiceBuilder::new()
//!     .layer(ReplayBodyLayer::default()) // keeps up to 64 KiB of each body
//!     .layer(retry.layer().replay(HttpReplay))
//!     .service_fn(|req: Request<ReplayBody<Channel<Bytes>>>| async {
//!         let mut body = req.into_body();
//!         if context::current().attempt == 1 {
//!             body.frame().await; // and no further
//!             return Err(BoxError::from("connection reset"));
//!         }
//!         Ok(Response::new(body.collect().await?.to_bytes()))
//!     });
//! let answer = stack.oneshot(Request::put("/file").body(upload)?).await?;
//! assert_eq!(answer.body(), "one, two");
//! # Ok::<_, BoxError>(()) }).unwrap();
//! ```
#![cfg_attr(docsrs, feature(doc_cfg))]

mod authority;
mod body;
mod classify;
mod connector;
mod replay;
mod respond;
mod retry_after;

pub use crate::{
    authority::ByAuthority,
    body::ReplayBody,
    classify::{HttpClassify, verdict, verdict_of},
    connector::{Connecting, Connector, connector},
    replay::{HttpReplay, ReplayBodyLayer, ReplayBodyService, may_repeat},
    respond::{Refused, RespondFuture, RespondLayer, RespondService},
    retry_after::retry_after,
};
