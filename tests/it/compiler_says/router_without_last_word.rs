//! A stack on an axum `Router` without `lift_errors`.

use axum::{Router, routing::get};
use buttress::{Bulkhead, ServiceBuilderExt};
use tower::ServiceBuilder;

fn app() -> Result<Router, buttress::ConfigError> {
    let bulkhead = Bulkhead::builder("shop").build()?;
    let stack = ServiceBuilder::new().respond().bulkhead(bulkhead.layer());
    #[cfg(feature = "remedy")]
    let stack = stack.lift_errors();
    Ok(Router::new().route("/", get(|| async { "orders" })).layer(stack))
}

fn main() {
    let _ = app();
}
