//! What the first two blocks of the README say, used as their readers will: over real HTTP, from a handler and from
//! spawned tasks, and in the hour in which the dependency is dead or slow.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{StatusCode, header::RETRY_AFTER},
    routing::get,
};
use buttress::{BoxError, rejection};
use reqwest::{Method, Request, Response, Url};
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout},
};
use tower::{Service, ServiceExt, service_fn, util::BoxCloneSyncService};

use crate::axum_serve::{ask, serve};

/// The README's server, as it stands there.
mod server {
    include!("first_screen/server.rs");

    pub(super) fn new(orders: BoxCloneSyncService<Request, Response, BoxError>, url: Url) -> Router {
        app(Shop { orders, url }).unwrap()
    }
}

/// The README's client, as it stands there.
mod client {
    include!("first_screen/client.rs");

    // No more than the README's function promises: what that type does not allow must not compile below.
    pub(super) fn new()
    -> impl Service<Request, Response = Response, Error = BoxError, Future: Send> + Clone + Send + Sync + 'static
    {
        client().unwrap()
    }
}

/// The server's limit for a whole call.
const SERVER: Duration = Duration::from_secs(2);
/// The client's.
const CLIENT: Duration = Duration::from_secs(1);
/// How late a busy machine may be.
const SLACK: Duration = Duration::from_millis(400);

#[test]
fn these_files_are_the_first_blocks_of_the_readme() {
    let readme = include_str!("../../README.md");
    let blocks: Vec<&str> =
        readme.split("```rust\n").skip(1).map(|from| from.split("```").next().unwrap()).collect();
    assert_eq!(blocks[0], include_str!("first_screen/server.rs"));
    assert_eq!(blocks[1], include_str!("first_screen/client.rs"));
    assert_eq!(blocks[2], include_str!("first_screen/functions.rs"));
}

#[test]
fn versions_of_hosts_are_those_that_the_tests_run_with() {
    let table = |manifest: &str| -> toml::Table { toml::from_str(manifest).unwrap() };
    let workspace = table(include_str!("../../Cargo.toml"));
    let hosts = table(include_str!("../../examples/packages/hosts/Cargo.toml"));
    let version = |dependency: &toml::Value| {
        let version = dependency.get("version").unwrap_or(dependency);
        version.as_str().unwrap().to_owned()
    };
    let ours = |name: &str| version(&workspace["workspace"]["dependencies"][name]);
    let theirs = |name: &str| version(&hosts["dependencies"][name]);
    let readme = include_str!("../../README.md");
    let rust = workspace["workspace"]["package"]["rust-version"].as_str().unwrap();
    assert!(
        readme.contains(&format!("Rust {rust} or newer, and tower 0.5.")) && ours("tower").starts_with("0.5")
    );
    for (row, stated, taken) in [
        ("axum, or", "axum 0.8", ours("axum")),
        ("reqwest", "0.13", ours("reqwest")),
        ("hyper-util", "0.1", ours("hyper-util")),
        ("what has the types of `http`", "http 1", ours("http")),
        ("tonic", "0.14", theirs("tonic")),
        ("redis", "1.8", theirs("redis")),
    ] {
        let line = readme.lines().find(|line| line.starts_with(&format!("| {row}"))).unwrap();
        assert!(line.contains(&format!("| {stated} |")), "{line}");
        assert!(taken.starts_with(stated.split(' ').next_back().unwrap()), "{row}: {taken}");
    }
}

fn url(address: SocketAddr) -> Url {
    format!("http://{address}/").parse().unwrap()
}

fn request(address: SocketAddr) -> Request {
    Request::new(Method::GET, url(address))
}

/// A dependency of which every answer is this one, and how often it was asked.
async fn dependency(status: StatusCode, retry_after: Option<&'static str>) -> (SocketAddr, Arc<AtomicU32>) {
    let asked = Arc::new(AtomicU32::new(0));
    let counted = asked.clone();
    let answer = move || {
        counted.fetch_add(1, SeqCst);
        let mut answer = http::Response::builder().status(status);
        if let Some(wait) = retry_after {
            answer = answer.header(RETRY_AFTER, wait);
        }
        async move { answer.body(Body::from("two orders")).unwrap() }
    };
    (serve(Router::new().route("/", get(answer))).await, asked)
}

/// A dependency that takes calls and answers none.
async fn silent() -> SocketAddr {
    serve(Router::new().route("/", get(std::future::pending::<()>))).await
}

/// A dependency that has gone: its port refuses connections.
async fn dead() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// The README's server before the README's client before this dependency.
async fn shop(orders: SocketAddr) -> SocketAddr {
    serve(server::new(BoxCloneSyncService::new(client::new()), url(orders))).await
}

#[tokio::test]
async fn client_is_called_in_handlers() {
    let (orders, asked) = dependency(StatusCode::OK, None).await;
    // In a struct that is the state, as the README has it.
    let (status, answer) = ask(shop(orders).await, "/orders").await;
    assert_eq!(status, 200);
    assert!(answer.ends_with("two orders"), "{answer}");

    // And without a box, in a closure.
    let client = client::new();
    let list = move || {
        let client = client.clone();
        async move { client.oneshot(request(orders)).await.unwrap().text().await.unwrap() }
    };
    let (status, answer) = ask(serve(Router::new().route("/", get(list))).await, "/").await;
    assert_eq!(status, 200);
    assert!(answer.ends_with("two orders"), "{answer}");
    assert_eq!(asked.load(SeqCst), 2);
}

#[tokio::test]
async fn client_is_called_in_spawned_tasks() {
    let (orders, asked) = dependency(StatusCode::OK, None).await;
    let client = client::new();

    let mut readied = client.clone();
    let oneshot = client.clone();
    let tasks: [JoinHandle<Result<Response, BoxError>>; 3] = [
        tokio::spawn(client.oneshot(request(orders))),
        tokio::spawn(async move { readied.ready().await?.call(request(orders)).await }),
        tokio::spawn(async move { oneshot.oneshot(request(orders)).await }),
    ];
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(asked.load(SeqCst), 3);
}

#[tokio::test]
async fn health_is_well_while_the_dependency_is_dead_and_its_circuit_open() {
    let orders = dead().await;
    let client = client::new();
    let shop = serve(server::new(BoxCloneSyncService::new(client.clone()), url(orders))).await;
    // More than five failures in a row need: the later ones are refusals.
    for _ in 0..30 {
        assert_eq!(ask(shop, "/orders").await.0, 502);
    }
    let refused = client.oneshot(request(orders)).await.unwrap_err();
    assert_eq!(rejection(&*refused).unwrap().code(), "CIRCUIT_OPEN");
    assert_eq!(ask(shop, "/health").await.0, 200);
    // The server itself refuses nothing either: the handler still runs, and says that it is the other one.
    assert_eq!(ask(shop, "/orders").await.0, 502);
}

#[tokio::test]
async fn retry_after_that_does_not_fit_into_the_deadline_is_not_waited_for() {
    let (orders, asked) = dependency(StatusCode::SERVICE_UNAVAILABLE, Some("20")).await;
    let begun = Instant::now();
    let answer = timeout(CLIENT, client::new().oneshot(request(orders))).await.unwrap().unwrap();
    // What the dependency said, and not a time-out: the caller may know what to do with it.
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()[RETRY_AFTER], "20");
    assert_eq!(asked.load(SeqCst), 1);

    assert_eq!(ask(shop(orders).await, "/orders").await.0, 502);
    assert_eq!(asked.load(SeqCst), 2);
    assert!(begun.elapsed() < CLIENT, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn silent_dependency_holds_a_caller_for_the_deadline_at_most() {
    let orders = silent().await;
    let begun = Instant::now();
    let late = client::new().oneshot(request(orders)).await.unwrap_err();
    let took = begun.elapsed();
    let rejection = rejection(&*late).unwrap();
    // Two attempts, of which the deadline ended the second.
    assert_eq!((rejection.code().as_str(), rejection.policy()), ("TIMEOUT", "orders"));
    assert!(took < CLIENT + SLACK, "{took:?}");
}

#[tokio::test]
async fn callers_of_a_silent_dependency_are_refused_or_bounded() {
    let orders = silent().await;
    let client = client::new();
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let client = client.clone();
        calls.spawn(async move {
            let begun = Instant::now();
            let error = client.oneshot(request(orders)).await.unwrap_err();
            (rejection(&*error).unwrap().code(), begun.elapsed())
        });
    }
    let ended = calls.join_all().await;
    let full = ended.iter().filter(|(code, _)| *code == "BULKHEAD_QUEUE_FULL").count();
    assert_eq!(full, 100 - 32);
    for (code, took) in ended {
        assert!(took < CLIENT + SLACK, "{code} after {took:?}");
    }
}

/// The README's server in paused time, with a dependency that takes this long; there are no sockets. What each of
/// 200 callers at once was answered, and after how long; and the same of one who then asks for the health.
async fn crowd(orders_take: Duration) -> (Vec<(StatusCode, Duration)>, (StatusCode, Duration)) {
    let slow = service_fn(move |_: Request| async move {
        sleep(orders_take).await;
        Ok::<_, BoxError>(Response::from(http::Response::new("two orders")))
    });
    let app = server::new(BoxCloneSyncService::new(slow), Url::parse("http://orders.test/").unwrap());
    let ask = |path: &'static str| {
        let app = app.clone();
        async move {
            let begun = Instant::now();
            let request = http::Request::get(path).body(Body::empty()).unwrap();
            let answer: Result<_, Infallible> = app.oneshot(request).await;
            (answer.unwrap().status(), begun.elapsed())
        }
    };
    let crowd: JoinSet<_> = (0..200).map(|_| ask("/orders")).collect();
    sleep(Duration::from_millis(1)).await;
    let health = ask("/health").await;
    (crowd.join_all().await, health)
}

/// How many were answered so, and the longest time that took, in tenths of a second.
fn answered(crowd: &[(StatusCode, Duration)], status: StatusCode, tenths: u128) -> usize {
    crowd.iter().filter(|(is, took)| *is == status && (took.as_millis() + 5) / 100 == tenths).count()
}

#[tokio::test(start_paused = true)]
async fn who_queues_for_a_slow_handler_is_told_within_the_deadline() {
    let (crowd, health) = crowd(Duration::from_millis(1900)).await;
    assert_eq!(answered(&crowd, StatusCode::OK, 19), 64);
    assert_eq!(answered(&crowd, StatusCode::SERVICE_UNAVAILABLE, 5), 64); // queued, and gave up
    assert_eq!(answered(&crowd, StatusCode::SERVICE_UNAVAILABLE, 0), 200 - 128); // found the queue full
    assert_eq!(health, (StatusCode::OK, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn handler_slower_than_the_deadline_is_answered_for() {
    let (crowd, health) = crowd(SERVER * 10).await;
    assert_eq!(answered(&crowd, StatusCode::GATEWAY_TIMEOUT, 20), 64);
    assert!(crowd.iter().all(|(_, took)| *took <= SERVER + Duration::from_millis(2)));
    assert_eq!(health, (StatusCode::OK, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn who_queues_and_gets_a_place_has_what_is_left_of_the_deadline() {
    // The second 64 begin after 0.4 s and would end at 0.8 s.
    let (crowd, _) = crowd(Duration::from_millis(400)).await;
    assert_eq!(answered(&crowd, StatusCode::OK, 4), 64);
    assert_eq!(answered(&crowd, StatusCode::OK, 8), 64);
    assert_eq!(answered(&crowd, StatusCode::SERVICE_UNAVAILABLE, 0), 200 - 128);
}
