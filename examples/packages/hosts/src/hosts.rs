//! The stack, and a function per host that takes it.

use std::time::Duration;

use axum::Router;
use buttress::{
    BoxError, Breaker, BreakerLayer, Bulkhead, BulkheadLayer, ConfigError, HttpClassify, LiftErrorsLayer,
    Never, Retry, RetryLayer, ServiceBuilderExt, Standard, Timeout, TimeoutLayer,
};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use redis::{Cmd, Value, aio::ConnectionLike};
use tonic::{
    body::Body,
    client::GrpcService,
    service::Routes,
    transport::{Endpoint, Server},
};
use tower::{
    Layer, Service, ServiceBuilder,
    layer::util::{Identity, Stack},
    limit::GlobalConcurrencyLimitLayer,
};

use crate::{
    grpc,
    redis_stack::{self, Layered, MayRepeat, RedisService},
};

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
    /// Policies that all have this name. Three failures in a row open the breaker, for half a second: real
    /// servers are on real time.
    pub(crate) fn new(name: &str) -> Result<Self, ConfigError> {
        Ok(Self {
            breaker: Breaker::builder(name)
                .consecutive_failures(3)
                .open_for(Duration::from_millis(500))
                .build()?,
            bulkhead: Bulkhead::builder(name).max_concurrent(64).build()?,
            retry: Retry::builder(name).max_attempts(3).build()?,
            timeout: Timeout::builder(name).limit(Duration::from_secs(1)).build()?,
        })
    }
}

/// Retry, breaker, bulkhead, timeout, lift. No parameter is a request, a response or an error: the type is the
/// same in every host, but for what judges an answer and what may be asked again.
pub(crate) type Resilient<C = Standard, R = Never> = Stack<
    LiftErrorsLayer,
    Stack<TimeoutLayer, Stack<BulkheadLayer, Stack<BreakerLayer<C>, Stack<RetryLayer<C, R>, Identity>>>>,
>;

/// Makes it: errors are failures and answers are not, and nothing is asked twice, because most hosts' requests
/// are not `Clone`.
pub(crate) fn stack(policies: &Policies) -> Resilient {
    stack_with(policies, Standard, Never)
}

/// The same for hosts whose answers say more, and whose requests can be sent again.
pub(crate) fn stack_with<C, R>(policies: &Policies, judge: C, replay: R) -> Resilient<C, R>
where
    C: Clone,
    R: Clone,
{
    ServiceBuilder::new()
        .retrying(policies.retry.layer().classify(judge.clone()).replay(replay))
        .breaker(policies.breaker.layer().classify(judge))
        .bulkhead(policies.bulkhead.layer())
        .attempt_timeout(policies.timeout.layer())
        .lift_errors()
        .into_inner()
}

/// An axum router, with the stack outside of all its routes. A handler has no errors, only answers.
pub(crate) fn axum(policies: &Policies, routes: Router) -> Router {
    routes.layer(ServiceBuilder::new().respond().layer(stack_with(policies, HttpClassify, Never)))
}

/// The same between tower's own layers.
pub(crate) fn axum_between_towers_layers(policies: &Policies, routes: Router) -> Router {
    let layer = ServiceBuilder::new()
        .respond()
        .layer(tower::load_shed::LoadShedLayer::new())
        .layer(GlobalConcurrencyLimitLayer::new(64))
        .layer(stack_with(policies, HttpClassify, Never))
        .layer(tower::timeout::TimeoutLayer::new(Duration::from_secs(2)));
    routes.layer(layer)
}

/// A reqwest client.
pub(crate) fn reqwest(
    policies: &Policies,
) -> impl Service<reqwest::Request, Response = reqwest::Response, Error = BoxError, Future: Send>
+ Clone
+ Send
+ Sync
+ use<> {
    stack(policies).layer(reqwest::Client::new())
}

/// A reqwest client whose connects go through the stack.
pub(crate) fn reqwest_connector(policies: &Policies) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().connector_layer(stack(policies)).build()
}

/// A hyper-util client whose connects go through the stack. It is the connects that are judged: an answer of 500
/// came over a connect that worked.
pub(crate) fn hyper_util(
    policies: &Policies,
) -> Client<impl hyper_util::client::legacy::connect::Connect + Clone + Send + Sync + use<>, Full<bytes::Bytes>>
{
    let connector = buttress::http::connector(stack(policies).layer(HttpConnector::new()));
    Client::builder(TokioExecutor::new()).build(connector)
}

/// A tonic channel: any generated client takes it.
pub(crate) fn tonic_channel(
    policies: &Policies,
    endpoint: &Endpoint,
) -> impl GrpcService<Body, ResponseBody = Body, Error = BoxError> + Clone + Send + Sync + use<> {
    let judged = stack_with(policies, grpc::verdict, Never);
    ServiceBuilder::new().map_err(grpc::refusal_as_status).layer(judged).service(endpoint.connect_lazy())
}

/// A tonic server.
pub(crate) async fn tonic_server(
    policies: &Policies,
    listener: tokio::net::TcpListener,
    routes: Routes,
) -> Result<(), tonic::transport::Error> {
    let layer = ServiceBuilder::new().map_err(grpc::refusal_as_status).layer(stack(policies));
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    Server::builder().layer(layer).add_routes(routes).serve_with_incoming(incoming).await
}

/// A redis connection that is asked as ever, `connection.get("k")`, and asks through the stack.
pub(crate) fn redis<C>(
    policies: &Policies,
    connection: C,
) -> impl ConnectionLike + Clone + Send + Sync + use<C>
where
    C: ConnectionLike + Clone + Send + Sync + 'static,
{
    let stack = stack_with(policies, redis_stack::verdict, MayRepeat);
    Layered::new(stack.layer(RedisService(connection)), 0)
}

/// The same as a bare service of commands, for more layers around it.
pub(crate) fn redis_service<C>(
    policies: &Policies,
    connection: C,
) -> impl Service<Cmd, Response = Value, Error = BoxError, Future: Send> + Clone + Send + Sync + use<C>
where
    C: ConnectionLike + Clone + Send + Sync + 'static,
{
    stack_with(policies, redis_stack::verdict, MayRepeat).layer(RedisService(connection))
}
