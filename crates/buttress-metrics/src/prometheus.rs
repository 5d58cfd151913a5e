//! For `metrics-exporter-prometheus`.

use buttress_core::Kind;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::{buckets, refresh};

/// Sets the buckets of all histograms of these kinds, with any prefix. The kinds of buttress itself are
/// `buttress::KINDS`; those of a layer of your own are given in the same way, in a second call if you like.
///
/// Without, the exporter renders them as summaries: there are no `_bucket` series, and a panel with
/// `histogram_quantile` stays empty. Buckets set for a whole name take precedence; `set_buckets` does so for all.
///
/// ```
/// use metrics_exporter_prometheus::PrometheusBuilder;
/// # mod buttress {
/// #     pub static KINDS: &[buttress_core::Kind] = &[&buttress_timeout::KIND];
/// #     pub mod metrics { pub use buttress_metrics::*; }
/// # }
///
/// let builder = PrometheusBuilder::new();
/// let recorder = buttress::metrics::prometheus::with_buckets(builder, buttress::KINDS).build_recorder();
/// let page = recorder.handle();
/// metrics::set_global_recorder(recorder).unwrap();
/// buttress::metrics::install();
/// assert!(page.render().contains("buttress_build_info"));
/// ```
pub fn with_buckets(builder: PrometheusBuilder, kinds: &[Kind]) -> PrometheusBuilder {
    buckets(kinds).into_iter().fold(builder, |builder, (name, bounds)| {
        builder
            .set_buckets_for_metric(Matcher::Suffix(name.to_owned()), bounds)
            .expect("only empty buckets are refused, and none is empty")
    })
}

/// The page as of now: [`refresh`], and then what the exporter renders. For whoever serves `/metrics`.
///
/// It refreshes what is [installed](crate::install). Metrics that single policies have of their own are asked by
/// [`Metrics::refresh`](crate::Metrics::refresh).
///
/// ```
/// use metrics_exporter_prometheus::PrometheusBuilder;
/// # mod buttress { pub mod metrics { pub use buttress_metrics::*; } }
///
/// let recorder = PrometheusBuilder::new().build_recorder();
/// let page = recorder.handle();
/// metrics::set_global_recorder(recorder).unwrap();
/// buttress::metrics::install();
/// assert!(buttress::metrics::prometheus::render(&page).contains("buttress_build_info"));
/// ```
pub fn render(page: &PrometheusHandle) -> String {
    refresh();
    page.render()
}
