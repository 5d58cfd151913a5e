//! Sockets: the upstreams and the gateways as servers on loopback, and the ways to reach them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use axum::http::{Response, StatusCode, Uri};
use axum::serve::ListenerExt;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::net::TcpListener;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::tally::Fate;
use crate::upstream::Upstream;

/// What goes through a gateway: a GET, so that it may be repeated.
pub(crate) type Call = http::Request<Empty<Bytes>>;
/// What comes back.
pub(crate) type Answer = Response<Body>;

/// Marks the upstream's own answers: a 503 that a gateway passes on is not a refusal of that gateway.
const FROM_UPSTREAM: HeaderName = HeaderName::from_static("x-storm-upstream");

async fn answer(upstream: Upstream) -> Answer {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = upstream.serve().await;
    answer.headers_mut().insert(FROM_UPSTREAM, HeaderValue::from_static("1"));
    answer
}

/// Serves the upstream on a port of its own.
pub(crate) async fn serve_upstream(upstream: Upstream) -> std::io::Result<SocketAddr> {
    let app = Router::new().fallback(move || answer(upstream));
    serve(app, SocketAddr::from(([127, 0, 0, 1], 0))).await
}

/// Serves a gateway: every path goes through `stack`, but those `beside` it has.
pub(crate) async fn serve_gateway<S>(stack: S, beside: Router, at: SocketAddr) -> std::io::Result<SocketAddr>
where
    S: Service<Call, Response = Answer, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static,
{
    let stack =
        ServiceBuilder::new().map_request(|request: Request| request.map(|_| Empty::new())).service(stack);
    serve(beside.fallback_service(stack), at).await
}

async fn serve(app: Router, at: SocketAddr) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(at).await?;
    let address = listener.local_addr()?;
    let listener = listener.tap_io(|socket| {
        // Small answers must not wait for more to send; where it cannot be set, they do.
        let _ = socket.set_nodelay(true);
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

fn client() -> Client<HttpConnector, Empty<Bytes>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(5))
        .build(connector)
}

/// The innermost service of a gateway: passes the call on to `address`.
pub(crate) fn forward(
    address: SocketAddr,
) -> impl Service<Call, Response = Answer, Error = BoxError, Future: Send> + Clone + Send + Sync + 'static {
    let client = client();
    service_fn(move |mut call: Call| {
        let client = client.clone();
        async move {
            let path = call.uri().path_and_query().map_or("/", |path| path.as_str());
            *call.uri_mut() = format!("http://{address}{path}").parse()?;
            Ok(client.request(call).await?.map(Body::new))
        }
    })
}

/// The same without a socket, for the simulation.
pub(crate) fn direct(
    upstream: Upstream,
) -> impl Service<Call, Response = Answer, Error = BoxError, Future: Send> + Clone + Send + Sync + 'static {
    service_fn(move |_: Call| {
        let upstream = upstream.clone();
        async move { Ok(answer(upstream).await) }
    })
}

/// Where a client sends its requests.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "a run has two of them")]
pub(crate) enum Target {
    Socket { client: Client<HttpConnector, Empty<Bytes>>, uri: Uri },
    Simulated(BoxCloneSyncService<Call, Answer, Infallible>),
}

impl Target {
    pub(crate) fn socket(address: SocketAddr) -> Self {
        let uri = Uri::builder().scheme("http").authority(address.to_string()).path_and_query("/").build();
        Self::Socket { client: client(), uri: uri.expect("an address is an authority") }
    }

    pub(crate) fn simulated<S>(stack: S) -> Self
    where
        S: Service<Call, Response = Answer, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static,
    {
        Self::Simulated(BoxCloneSyncService::new(stack))
    }

    /// Sends one request and reads the whole answer.
    pub(crate) async fn send(&self) -> Fate {
        let answer = match self {
            Self::Socket { client, uri } => match client.get(uri.clone()).await {
                Ok(answer) => answer.map(Body::new),
                Err(_) => return Fate::Broken,
            },
            Self::Simulated(stack) => match stack.clone().oneshot(Call::default()).await {
                Ok(answer) => answer,
                Err(never) => match never {},
            },
        };
        let (head, body) = answer.into_parts();
        if body.collect().await.is_err() {
            return Fate::Broken;
        }
        match head.status {
            status if status.is_success() => Fate::Good,
            StatusCode::SERVICE_UNAVAILABLE if head.headers.contains_key(RETRY_AFTER) => Fate::Refused,
            StatusCode::SERVICE_UNAVAILABLE if !head.headers.contains_key(FROM_UPSTREAM) => Fate::Bare,
            _ => Fate::Failed,
        }
    }
}
