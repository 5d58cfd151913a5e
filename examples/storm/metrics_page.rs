//! `/metrics` of the protected gateway: what its policies do, as Prometheus reads it.

use axum::Router;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusBuilder;
use tower::BoxError;

/// Installs the recorder of the process and serves what it holds.
pub(crate) fn router() -> Result<Router, BoxError> {
    let recorder = buttress::metrics::prometheus::with_buckets(PrometheusBuilder::new()).build_recorder();
    let page = recorder.handle();
    metrics::set_global_recorder(recorder)?;
    buttress::metrics::install();
    Ok(Router::new().route("/metrics", get(move || async move { page.render() })))
}
