//! What Prometheus gets to see: the real exporter, which came late, scraped over HTTP. Alone in its process, for which
//! metrics are installed.

use std::time::Duration;

use axum::{Router, routing::get};
use buttress::{
    Breaker, Bulkhead, KINDS, Timeout,
    metrics::{Metrics, OTHER, catalog, prometheus::with_buckets},
};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::BoxError;

async fn ok() -> Result<(), BoxError> {
    Ok(())
}

async fn down() -> Result<(), BoxError> {
    Err("down".into())
}

/// Installs the exporter and serves what it holds, as it was told and as of now; how to scrape it.
async fn exporter() -> impl AsyncFn(&str) -> String {
    let recorder = with_buckets(PrometheusBuilder::new(), KINDS).build_recorder();
    let (page, now) = (recorder.handle(), recorder.handle());
    metrics::set_global_recorder(recorder).unwrap();
    let app = Router::new()
        .route("/told", get(move || async move { page.render() }))
        .route("/now", get(move || async move { buttress::metrics::prometheus::render(&now) }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    async move |path: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }
}

fn has(page: &str, lines: &[&str]) {
    for line in lines {
        assert!(page.lines().any(|one| one == *line), "no {line} in\n{page}");
    }
}

#[tokio::test]
async fn exporter_that_came_late_shows_every_policy_with_help_types_buckets_and_gauges() {
    buttress::metrics::install();
    let breaker = Breaker::builder("pay").consecutive_failures(2).build().unwrap();
    let bulkhead = Bulkhead::builder("pay").max_concurrent(7).build().unwrap();
    let timeout = Timeout::builder("pay").limit(Duration::from_secs(1)).build().unwrap();
    breaker.call(ok).await.unwrap(); // nobody there to count it

    let scrape = exporter().await;
    assert_eq!(scrape("/told").await, "");
    buttress::metrics::describe_all(KINDS);
    let first = scrape("/told").await;
    has(&first, &[&format!("buttress_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"))]);

    tokio::time::sleep(Duration::from_millis(1050)).await; // the age at which handles are made anew
    bulkhead.call(ok).await.unwrap();
    timeout.call(ok).await.unwrap();
    breaker.call(ok).await.unwrap();
    breaker.call(down).await.unwrap_err();
    let before = scrape("/told").await;
    has(
        &before,
        &[
            r#"circuit_breaker_calls_total{name="pay",result="failure"} 1"#,
            r#"circuit_breaker_calls_total{name="pay",result="rejected"} 0"#,
            r#"circuit_breaker_state{name="pay",state="closed"} 1"#,
            r#"circuit_breaker_state{name="pay",state="open"} 0"#,
            r#"circuit_breaker_state_changes_total{name="pay",from="closed",to="open"} 0"#,
            r#"circuit_breaker_failure_ratio{name="pay"} NaN"#,
            r#"bulkhead_limit{name="pay"} 7"#,
            r#"bulkhead_in_flight{name="pay"} 0"#,
            r#"timeout_operation_duration_seconds_bucket{name="pay",result="success",le="0.005"} 1"#,
            r#"timeout_operation_duration_seconds_bucket{name="pay",result="success",le="+Inf"} 1"#,
        ],
    );
    breaker.call(down).await.unwrap_err();
    breaker.call(ok).await.unwrap_err();
    has(
        &scrape("/told").await,
        &[
            r#"circuit_breaker_calls_total{name="pay",result="failure"} 2"#,
            r#"circuit_breaker_calls_total{name="pay",result="rejected"} 1"#,
            r#"circuit_breaker_state{name="pay",state="open"} 1"#,
            r#"circuit_breaker_state_changes_total{name="pay",from="closed",to="open"} 1"#,
        ],
    );
    // Nobody calls, and the wait is over.
    let idle =
        Breaker::builder("idle").consecutive_failures(1).open_for(Duration::from_millis(50)).build().unwrap();
    idle.call(down).await.unwrap_err();
    tokio::time::sleep(Duration::from_millis(60)).await;
    has(&scrape("/told").await, &[r#"circuit_breaker_state{name="idle",state="open"} 1"#]);
    has(
        &scrape("/now").await,
        &[
            r#"circuit_breaker_state{name="idle",state="open"} 0"#,
            r#"circuit_breaker_state{name="idle",state="half_open"} 1"#,
        ],
    );

    // Every family on the page is described as in the catalogue.
    let catalog = catalog(KINDS);
    for family in before.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = family.split_once(' ').unwrap();
        let def = catalog.iter().find(|def| def.name == name).unwrap();
        assert_eq!(kind, def.kind.as_str(), "{name}");
        has(&before, &[&format!("# HELP {name} {}", def.help)]);
    }

    // With a prefix, and with more names than there may be; for policies of their own.
    let metrics = Metrics::builder().prefix("acme_").max_names(2).build().unwrap();
    for tenant in 0..50 {
        let timeout = Timeout::builder(format!("tenant-{tenant}")).limit(Duration::from_secs(1));
        timeout.observe(metrics.clone()).build().unwrap().call(ok).await.unwrap();
    }
    let page = scrape("/told").await;
    has(
        &page,
        &[
            r#"acme_timeout_operations_total{name="tenant-1",result="success"} 1"#,
            &format!(r#"acme_timeout_operations_total{{name="{OTHER}",result="success"}} 48"#),
            &format!(
                r#"acme_timeout_operation_duration_seconds_bucket{{name="{OTHER}",result="success",le="10"}} 48"#
            ),
        ],
    );
    let series = page.lines().filter(|line| line.starts_with("acme_timeout_operations_total{")).count();
    assert_eq!(series, 3 * 4);
}
