//! `/metrics` of the protected gateway: what its policies do, as Prometheus reads it.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use buttress::metrics::prometheus::with_buckets;
use metrics_exporter_prometheus::PrometheusBuilder;
use tower::BoxError;

/// Installs the recorder of the process and serves what it holds; within a runtime, which keeps it small.
pub(crate) fn router() -> Result<Router, BoxError> {
    let builder = with_buckets(PrometheusBuilder::new(), buttress::KINDS);
    let recorder = builder.build_recorder();
    let page = recorder.handle();
    metrics::set_global_recorder(recorder)?;
    buttress::metrics::install();
    let upkeep = page.clone();
    tokio::spawn(async move {
        // Without it, what histograms hear is kept one by one until somebody reads the page.
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            upkeep.run_upkeep();
        }
    });
    Ok(Router::new().route("/metrics", get(move || async move { page.render() })))
}
