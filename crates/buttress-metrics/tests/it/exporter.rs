use std::time::Duration;

use buttress_core::Outcome;
use buttress_metrics::Metrics;
use buttress_timeout::KIND;
use metrics_exporter_prometheus::PrometheusBuilder;

use crate::{done_after, policy};

fn page(builder: PrometheusBuilder, metrics: &Metrics) -> String {
    let recorder = builder.build_recorder();
    let (page, _local) = (recorder.handle(), metrics::set_default_local_recorder(&recorder));
    let timeout = policy(&KIND, "payments", metrics);
    timeout.emit(done_after(Outcome::Success, Some(Duration::from_millis(60))));
    page.render()
}

#[cfg(feature = "prometheus")]
#[test]
fn histograms_have_buckets_with_and_without_a_prefix() {
    let builder = || buttress_metrics::prometheus::with_buckets(PrometheusBuilder::new(), crate::KINDS);
    let labels = r#"{name="payments",result="success""#;
    for (metrics, prefix) in
        [(Metrics::default(), ""), (Metrics::builder().prefix("acme_").build().unwrap(), "acme_")]
    {
        let page = page(builder(), &metrics);
        let name = format!("{prefix}timeout_operation_duration_seconds");
        for line in [
            format!("# TYPE {name} histogram"),
            format!("{name}_bucket{labels},le=\"0.05\"}} 0"),
            format!("{name}_bucket{labels},le=\"0.075\"}} 1"),
            format!("{name}_bucket{labels},le=\"+Inf\"}} 1"),
            format!("{name}_sum{labels}}} 0.06"),
        ] {
            assert!(page.contains(&line), "{line}\n{page}");
        }
    }
}

#[test]
fn names_stay_as_they_are_with_the_exporters_recommended_naming() {
    for recommended in [false, true] {
        let page = page(PrometheusBuilder::new().with_recommended_naming(recommended), &Metrics::default());
        for line in [
            "# HELP timeout_operations_total Calls that ended, by how.",
            "# TYPE timeout_operations_total counter",
            r#"timeout_operations_total{name="payments",result="success"} 1"#,
            r#"timeout_operations_total{name="payments",result="timeout"} 0"#,
            r#"timeout_operation_duration_seconds_count{name="payments",result="success"} 1"#,
            "# TYPE buttress_build_info gauge",
        ] {
            assert!(page.contains(line), "{line}\n{page}");
        }
    }
}
