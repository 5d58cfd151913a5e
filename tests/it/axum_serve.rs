//! Real HTTP, a new connection for every request: `axum::serve` builds the services again for each of them, and
//! the state of the policies must live through that.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Router, http::StatusCode, routing::get};
use buttress::{Breaker, Bulkhead, HttpClassify, Registry, ServiceBuilderExt, Timeout, test::MetricsProbe};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
};
use tower::ServiceBuilder;

pub(crate) async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// One request on a connection of its own: the status, and the head of the answer in lower case.
pub(crate) async fn ask(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.to_lowercase())
}

#[tokio::test]
async fn breaker_opens_after_n_failures_though_every_request_has_its_connection() {
    let breaker = Breaker::builder("axum-breaker")
        .consecutive_failures(3)
        .open_for(Duration::from_secs(60))
        .build()
        .unwrap();
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let failing = move || {
        counted.fetch_add(1, SeqCst);
        async { StatusCode::INTERNAL_SERVER_ERROR }
    };
    let stack = ServiceBuilder::new().respond().breaker(breaker.layer().classify(HttpClassify)).lift_errors();
    let app = Router::new().route("/a", get(failing.clone())).route("/b", get(failing)).layer(stack);
    let address = serve(app).await;

    for path in ["/a", "/b", "/a"] {
        assert_eq!(ask(address, path).await.0, 500);
    }
    for path in ["/a", "/b", "/a", "/b"] {
        let (status, head) = ask(address, path).await;
        assert_eq!(status, 503);
        assert!(head.contains("retry-after: 60"), "{head}");
        assert!(head.ends_with("circuit_open"), "{head}");
    }
    assert_eq!(calls.load(SeqCst), 3);
    assert!(breaker.is_open());
}

#[tokio::test]
async fn bulkhead_holds_its_limit_over_connections() {
    let bulkhead = Bulkhead::builder("axum-bulkhead").max_concurrent(2).max_queue(3).build().unwrap();
    let (inside, peak, go) =
        (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
    let slow = {
        let (inside, peak, go) = (inside.clone(), peak.clone(), go.clone());
        move || {
            let (inside, peak, go) = (inside.clone(), peak.clone(), go.clone());
            async move {
                peak.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                go.notified().await;
                inside.fetch_sub(1, SeqCst);
                "done"
            }
        }
    };
    let stack = ServiceBuilder::new().respond().bulkhead(bulkhead.layer()).lift_errors();
    let address = serve(Router::new().route("/", get(slow)).layer(stack)).await;

    let mut asked = JoinSet::new();
    (0..8).for_each(|_| {
        asked.spawn(async move { ask(address, "/").await.0 });
    });
    // Three are refused at once: two run and three wait.
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(asked.join_next().await.unwrap().unwrap());
    }
    assert_eq!(statuses, [503, 503, 503]);
    for _ in 0..5 {
        go.notify_one();
        statuses.push(asked.join_next().await.unwrap().unwrap());
    }
    assert_eq!(statuses[3..], [200; 5]);
    assert_eq!(peak.load(SeqCst), 2);
}

#[tokio::test]
async fn time_out_is_504_and_the_handler_is_dropped() {
    let timeout = Timeout::builder("axum-timeout").limit(Duration::from_millis(50)).build().unwrap();
    let stack = ServiceBuilder::new().respond().deadline(timeout.layer()).lift_errors();
    let dropped = Arc::new(());
    let held = dropped.clone();
    let hanging = move || {
        let held = held.clone();
        async move {
            let _held = held;
            std::future::pending::<()>().await;
        }
    };
    let address = serve(Router::new().route("/", get(hanging)).layer(stack)).await;
    let (status, answer) = ask(address, "/").await;
    assert_eq!(status, 504);
    assert!(answer.ends_with("timeout"), "{answer}");
    assert_eq!(timeout.snapshot().timeouts, 1);
}

#[tokio::test]
async fn registry_keeps_one_breaker_however_often_it_is_asked() {
    let registry = Registry::new();
    let made = Arc::new(AtomicU32::new(0));
    let app = || {
        let breaker = registry.get_or_create("axum-registry", |name| {
            made.fetch_add(1, SeqCst);
            Breaker::builder(name).consecutive_failures(3).build()
        });
        let stack = ServiceBuilder::new().respond().breaker(breaker.unwrap().layer()).lift_errors();
        Router::new().route("/", get(|| async { "ok" })).layer(stack)
    };
    let (one, two) = (serve(app()).await, serve(app()).await);
    for address in [one, two, one, two] {
        assert_eq!(ask(address, "/").await.0, 200);
    }
    assert_eq!(made.load(SeqCst), 1);
    assert_eq!(registry.get::<Breaker>("axum-registry").unwrap().snapshot().successes, 4);
}

/// What was emitted under one policy's name.
fn series_of(probe: &MetricsProbe, policy: &str) -> usize {
    probe.series().iter().filter(|series| format!("{series:?}").contains(policy)).count()
}

#[tokio::test]
async fn number_of_series_stays_the_same_over_connections() {
    let probe = MetricsProbe::install_global();
    buttress::metrics::install();
    let breaker = Breaker::builder("axum-series").build().unwrap();
    let bulkhead = Bulkhead::builder("axum-series").build().unwrap();
    let timeout = Timeout::builder("axum-series").limit(Duration::from_secs(5)).build().unwrap();
    let stack = ServiceBuilder::new()
        .respond()
        .breaker(breaker.layer())
        .bulkhead(bulkhead.layer())
        .attempt_timeout(timeout.layer())
        .lift_errors();
    let address = serve(Router::new().route("/", get(|| async { "ok" })).layer(stack)).await;
    assert_eq!(ask(address, "/").await.0, 200);
    let after_one = series_of(&probe, "axum-series");
    for _ in 0..50 {
        assert_eq!(ask(address, "/").await.0, 200);
    }
    assert!(after_one > 0);
    assert_eq!(series_of(&probe, "axum-series"), after_one);
    let successes = [("name", "axum-series"), ("result", "success")];
    assert_eq!(probe.counter("circuit_breaker_calls_total", &successes), 51);
}
