//! Retries for Tower services: backoff, jitter, `Retry-After`, budgets, replay of the request.

mod config;
mod decide;
mod future;
mod layer;
pub mod only;
mod policy;
mod retry;
mod service;

pub use crate::{
    config::{RetryAfter, RetryConfig},
    future::RetryFuture,
    layer::{MapLast, OnRetry, RetryLayer, ThrottledWhen},
    retry::{Repeat, Retry, RetryBuilder, RetrySnapshot},
    service::RetryService,
};
