//! The stack, and a function per host that takes it.

use std::time::Duration;

use axum::Router;
use buttress::{
    BoxError, Breaker, BreakerLayer, Bulkhead, BulkheadLayer, ConfigError, LiftErrorsLayer, Never, Retry,
    RetryLayer, ServiceBuilderExt, Standard, Timeout, TimeoutLayer,
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
pub(crate) struct Policies {
    /// Its breaker.
    pub breaker: Breaker,
    bulkhead: Bulkhead,
    retry: Retry,
    timeout: Timeout,
}

impl Policies {
    /// Policies that all have this name.
    pub(crate) fn new(name: &str) -> Result<Self, ConfigError> {
        Ok(Self {
            breaker: Breaker::builder(name)
                .consecutive_failures(3)
                .open_for(Duration::from_secs(30))
                .build()?,
            bulkhead: Bulkhead::builder(name).max_concurrent(64).build()?,
            retry: Retry::builder(name).max_attempts(3).build()?,
            timeout: Timeout::builder(name).limit(Duration::from_secs(1)).build()?,
        })
    }
}

/// Retry, breaker, bulkhead, timeout, lift. The type has no parameter: it is the same in every host.
pub(crate) type Resilient = Stack<
    LiftErrorsLayer,
    Stack<
        TimeoutLayer,
        Stack<BulkheadLayer, Stack<BreakerLayer, Stack<RetryLayer<Standard, Never>, Identity>>>,
    >,
>;

/// Makes it. Nothing is replayed, because most hosts' requests are not `Clone`.
pub(crate) fn stack(policies: &Policies) -> Resilient {
    ServiceBuilder::new()
        .retrying(policies.retry.layer().replay(Never))
        .breaker(policies.breaker.layer())
        .bulkhead(policies.bulkhead.layer())
        .attempt_timeout(policies.timeout.layer())
        .lift_errors()
        .into_inner()
}

/// An axum router, with the stack outside of all its routes.
pub(crate) fn axum(policies: &Policies) -> Router {
    Router::new().layer(ServiceBuilder::new().respond().layer(stack(policies)))
}

/// The same between tower's own layers.
pub(crate) fn axum_between_towers_layers(policies: &Policies) -> Router {
    let layer = ServiceBuilder::new()
        .respond()
        .layer(tower::load_shed::LoadShedLayer::new())
        .layer(GlobalConcurrencyLimitLayer::new(64))
        .layer(stack(policies))
        .layer(tower::timeout::TimeoutLayer::new(Duration::from_secs(2)));
    Router::new().layer(layer)
}

/// A reqwest client.
pub(crate) fn reqwest(
    policies: &Policies,
) -> impl Service<reqwest::Request, Response = reqwest::Response, Error = BoxError> + Clone + Send + Sync {
    stack(policies).layer(reqwest::Client::new())
}

/// A reqwest client whose connects go through the stack.
pub(crate) fn reqwest_connector(policies: &Policies) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().connector_layer(stack(policies)).build()
}

/// A hyper-util client whose connects go through the stack.
pub(crate) fn hyper_util(
    policies: &Policies,
) -> Client<impl hyper_util::client::legacy::connect::Connect + Clone + Send + Sync, Full<bytes::Bytes>> {
    let connector = buttress::http::connector(stack(policies).layer(HttpConnector::new()));
    Client::builder(TokioExecutor::new()).build(connector)
}

/// A tonic channel: any generated client takes it.
pub(crate) fn tonic_channel(
    policies: &Policies,
) -> impl tonic::client::GrpcService<tonic::body::Body, Error = BoxError> + Clone + Send + Sync {
    stack(policies).layer(tonic::transport::Endpoint::from_static("http://127.0.0.1:9").connect_lazy())
}

/// A tonic server.
pub(crate) async fn tonic_server(policies: &Policies) -> Result<(), tonic::transport::Error> {
    let routes = tonic::service::Routes::default();
    let address = ([127, 0, 0, 1], 0).into();
    tonic::transport::Server::builder().layer(stack(policies)).add_routes(routes).serve(address).await
}

/// A redis connection: commands go through the stack, and are asked as ever.
pub(crate) async fn redis(policies: &Policies, client: &redis::Client) -> redis::RedisResult<Option<String>> {
    use redis::AsyncCommands;

    let connection = client.get_multiplexed_async_connection().await?;
    // A command can be sent again, so that this stack retries.
    let stack = ServiceBuilder::new()
        .retrying(policies.retry.layer())
        .breaker(policies.breaker.layer())
        .bulkhead(policies.bulkhead.layer())
        .attempt_timeout(policies.timeout.layer())
        .lift_errors();
    let mut connection = Layered::new(stack.service(RedisService(connection)), 0);
    let _: () = connection.set("greeting", "hello").await?;
    redis::cmd("GET").arg("greeting").query_async(&mut connection).await
}

/// The request of the redis stack can be sent again.
const _: fn() = || {
    fn replayable<T: Clone>() {}
    replayable::<Call>();
};
