//! For `metrics-exporter-prometheus`.

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

use crate::BUCKETS;

/// Sets the buckets of all histograms, with any prefix.
///
/// Without, the exporter renders them as summaries: there are no `_bucket` series, and a panel with
/// `histogram_quantile` stays empty. Buckets set for a whole name take precedence; `set_buckets` does so for all.
///
/// ```
/// use metrics_exporter_prometheus::PrometheusBuilder;
///
/// let recorder = buttress_metrics::prometheus::with_buckets(PrometheusBuilder::new()).build_recorder();
/// let page = recorder.handle();
/// metrics::set_global_recorder(recorder).unwrap();
/// buttress_metrics::install();
/// assert!(page.render().contains("buttress_build_info"));
/// ```
pub fn with_buckets(builder: PrometheusBuilder) -> PrometheusBuilder {
    BUCKETS.iter().fold(builder, |builder, (name, bounds)| {
        builder
            .set_buckets_for_metric(Matcher::Suffix((*name).to_owned()), bounds)
            .expect("only empty buckets are refused, and none is empty")
    })
}
