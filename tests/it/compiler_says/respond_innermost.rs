//! `respond` innermost instead of outermost, on an axum `Router`.

use axum::{Router, routing::get};
use buttress::{Bulkhead, ServiceBuilderExt};
use tower::ServiceBuilder;

fn app() -> Result<Router, buttress::ConfigError> {
    let bulkhead = Bulkhead::builder("shop").build()?;
    #[cfg(not(feature = "remedy"))]
    let stack = ServiceBuilder::new().bulkhead(bulkhead.layer()).lift_errors().respond();
    #[cfg(feature = "remedy")]
    let stack = ServiceBuilder::new().respond().bulkhead(bulkhead.layer()).lift_errors();
    Ok(Router::new().route("/", get(|| async { "orders" })).layer(stack))
}

fn main() {
    let _ = app();
}
