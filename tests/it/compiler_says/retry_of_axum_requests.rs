//! A retry on an axum `Router`, whose requests are not `Clone`.

use axum::{Router, routing::get};
use buttress::{Retry, ServiceBuilderExt};
use tower::ServiceBuilder;

fn app() -> Result<Router, buttress::ConfigError> {
    let retry = Retry::builder("shop").build()?;
    #[cfg(not(feature = "remedy"))]
    let stack = ServiceBuilder::new().respond().retrying(retry.layer()).lift_errors();
    #[cfg(feature = "remedy")]
    let stack = ServiceBuilder::new()
        .respond()
        .layer(buttress::ReplayBodyLayer::default())
        .retrying(retry.layer().replay(buttress::HttpReplay))
        .lift_errors()
        .map_request(|request: axum::http::Request<buttress::ReplayBody<_>>| {
            request.map(axum::body::Body::new)
        });
    Ok(Router::new().route("/", get(|| async { "orders" })).layer(stack))
}

fn main() {
    let _ = app();
}
