//! buttress for the `http` crate's types: what a response says about the service, which requests may be sent
//! twice, and rejections as responses.
//!
//! - [`HttpClassify`]: 5xx, 408 and 429 are failures, with their `Retry-After`, 501 and 505 without a
//!   further try; every other response is a success. For other response types, such as reqwest's, use
//!   [`verdict_of`].
//! - [`HttpReplay`], [`may_repeat`]: idempotent methods, and requests with an `Idempotency-Key`;
//!   [`ReplayBodyLayer`] for bodies that are streams.
//! - [`RespondLayer`]: answers 503, 429 or 504, with `Retry-After`, instead of failing, so that axum's
//!   `Router::layer` takes the stack. Errors that are no rejections become a bare 500.
//! - [`connector`]: a stack around a connector, for hyper-util's client.
//!
//! ```
//! # tokio_test::block_on(async {
//! use buttress_core::{BoxError, Name, Rejection};
//! use buttress_http::RespondLayer;
//! use http::{Request, Response, StatusCode};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! let refusing = service_fn(|_: Request<String>| async {
//!     Err::<Response<String>, BoxError>(Rejection::new("CIRCUIT_OPEN", &Name::new("db")).into())
//! });
//! let answer = RespondLayer::new().layer(refusing).oneshot(Request::new(String::new())).await.unwrap();
//! assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
//! assert_eq!(answer.headers()["retry-after"], "1");
//! assert_eq!(answer.body(), "CIRCUIT_OPEN");
//! # });
//! ```
#![cfg_attr(docsrs, feature(doc_cfg))]

mod body;
mod classify;
mod connector;
mod replay;
mod respond;
mod retry_after;

pub use crate::{
    body::ReplayBody,
    classify::{HttpClassify, verdict, verdict_of},
    connector::{Connecting, Connector, connector},
    replay::{HttpReplay, ReplayBodyLayer, ReplayBodyService, may_repeat},
    respond::{RespondFuture, RespondLayer, RespondService},
    retry_after::retry_after,
};
