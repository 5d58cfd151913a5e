//! A stack on an axum `Router` that fails instead of answering.

use axum::{Router, routing::get};
use buttress::{Bulkhead, ServiceBuilderExt};
use tower::ServiceBuilder;

fn app() -> Result<Router, buttress::ConfigError> {
    let bulkhead = Bulkhead::builder("shop").build()?;
    let stack = ServiceBuilder::new();
    #[cfg(feature = "remedy")]
    let stack = stack.respond();
    let stack = stack.bulkhead(bulkhead.layer()).lift_errors();
    Ok(Router::new().route("/", get(|| async { "orders" })).layer(stack))
}

fn main() {
    let _ = app();
}
