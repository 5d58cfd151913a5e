use std::time::Duration;

use axum::{Router, extract::State, http::StatusCode, routing::get};
use buttress::{BoxError, Bulkhead, ConfigError, ServiceBuilderExt, Timeout};
use reqwest::{Method, Request, Response, Url};
use tower::{ServiceBuilder, ServiceExt, util::BoxCloneSyncService};

#[derive(Clone)]
struct Shop {
    orders: BoxCloneSyncService<Request, Response, BoxError>, // new(client()?), of the next block
    url: Url,
}

fn app(shop: Shop) -> Result<Router, ConfigError> {
    let deadline = Timeout::builder("shop").limit(Duration::from_secs(2)).build()?;
    let bulkhead = Bulkhead::builder("shop")
        .max_concurrent(64)
        .max_queue(64)
        .queue_timeout(Duration::from_millis(500))
        .build()?;

    let stack = ServiceBuilder::new()
        .respond() // a refusal becomes 503, a time-out 504, both with Retry-After
        .deadline(deadline.layer()) // for all that is inside, the wait in the queue too
        .bulkhead(bulkhead.layer())
        .lift_errors(); // innermost, once: any error becomes BoxError

    Ok(Router::new()
        .route("/orders", get(list))
        .layer(stack)
        .route("/health", get(|| async { "well" })) // added after the stack, so never refused by it
        .with_state(shop))
}

async fn list(State(shop): State<Shop>) -> Result<String, StatusCode> {
    let orders = async {
        let answer = shop.orders.oneshot(Request::new(Method::GET, shop.url)).await?;
        Ok::<_, BoxError>(answer.error_for_status()?.text().await?)
    };
    orders.await.map_err(|_| StatusCode::BAD_GATEWAY)
}
