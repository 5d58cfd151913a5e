//! The stack, and a function per host that takes it.

use std::time::Duration;

use axum::Router;
use buttress::{
    BoxError, Breaker, BreakerLayer, Bulkhead, BulkheadLayer, ConfigError, LiftErrorsLayer, Never, Retry, RetryLayer,
    ServiceBuilderExt, Standard, Timeout, TimeoutLayer,
};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{
    Layer, Service, ServiceBuilder,
    layer::util::{Identity, Stack},
    limit::GlobalConcurrencyLimitLayer,
};

use crate::redis::{Call, Layered, RedisService};

/// The handles of one stack.
#[derive(Clone, Debug)]
pub struct Policies {
    /// Its breaker.
    pub breaker: Breaker,
    bulkhead: Bulkhead,
    retry: Retry,
    timeout: Timeout,
}

impl Policies {
    /// Policies that all have this name.
    pub fn new(name: &str) -> Result<Self, ConfigError> {
        Ok(Self {
            breaker: Breaker::builder(name).consecutive_failures(3).open_for(Duration::from_secs(30)).build()?,
            bulkhead: Bulkhead::builder(name).max_concurrent(64).build()?,
            retry: Retry::builder(name).max_attempts(3).build()?,
            timeout: Timeout::builder(name).limit(Duration::from_secs(1)).build()?,
        })
    }
}

/// Retry, breaker, bulkhead, timeout, lift. The type has no parameter: it is the same in every host.
pub type Resilient = Stack<
    LiftErrorsLayer,
    Stack<TimeoutLayer, Stack<BulkheadLayer, Stack<BreakerLayer, Stack<RetryLayer<Standard, Never>, Identity>>>>,
>;

/// Makes it. Nothing is replayed, because most hosts' requests are not `Clone`.
pub fn stack(policies: &Policies) -> Resilient {
    ServiceBuilder::new()
        .retrying(policies.retry.layer().replay(Never))
        .breaker(policies.breaker.layer())
        .bulkhead(policies.bulkhead.layer())
        .attempt_timeout(policies.timeout.layer())
        .lift_errors()
        .into_inner()
}
