//! What everything else makes of a pattern that only the facade was told of.

use std::{
    io,
    sync::{Arc, Mutex},
};

use buttress::{BoxError, FromRejection, KINDS, Registry, RespondLayer, Toy, toy::SHUT};
use http::{Request, Response, StatusCode};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tracing_subscriber::EnvFilter;

async fn fail(toy: &Toy) -> BoxError {
    let down = service_fn(|()| async { Err::<(), BoxError>("down".into()) });
    toy.layer().layer(down).oneshot(()).await.unwrap_err()
}

#[tokio::test]
async fn refusal_is_a_503_and_says_its_code() {
    let toy = Toy::builder("orders").max_failures(1).build().unwrap();
    let handler = |_: Request<()>| async { Ok::<_, BoxError>(Response::new(String::new())) };
    let svc =
        ServiceBuilder::new().layer(RespondLayer::new()).layer(toy.layer()).service(service_fn(handler));
    let answer = || svc.clone().oneshot(Request::new(()));
    assert_eq!(answer().await.unwrap().status(), StatusCode::OK);
    assert!(fail(&toy).await.rejection().is_none());
    assert_eq!(fail(&toy).await.rejection().unwrap().code(), SHUT);
    let refused = answer().await.unwrap();
    assert_eq!((refused.status(), &**refused.body()), (StatusCode::SERVICE_UNAVAILABLE, "TOY_SHUT"));
    toy.reset();
    assert_eq!(answer().await.unwrap().status(), StatusCode::OK);
}

#[test]
fn its_rows_stand_on_the_page() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let page = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        let toy = Toy::builder("orders").max_failures(1).observe(buttress::metrics::Metrics::default());
        let toy = toy.build().unwrap();
        block_on(fail(&toy));
        block_on(fail(&toy));
        let page = page.render();
        for line in [
            "toy_calls_total{name=\"orders\",result=\"success\"} 0",
            "toy_calls_total{name=\"orders\",result=\"failure\"} 1",
            "toy_calls_total{name=\"orders\",result=\"rejected\"} 1",
            "toy_state{name=\"orders\",state=\"open\"} 0",
            "toy_state{name=\"orders\",state=\"shut\"} 1",
            "toy_failures{name=\"orders\"} 1",
        ] {
            assert!(page.lines().any(|one| one == line), "{line} is not in\n{page}");
        }
    });
    let listed = buttress::metrics::catalog(KINDS);
    assert!(listed.iter().any(|metric| metric.name == "toy_state"));
}

#[test]
fn its_target_filters() {
    let shut = "WARN buttress::toy: toy shut policy.name=\"orders\" policy.kind=\"toy\"";
    assert_eq!(written("off,buttress::toy=warn"), [shut]);
    assert_eq!(written("off,buttress::toy=error"), [""; 0]);
    assert_eq!(written("warn,buttress::toy=off"), [""; 0]);
}

#[test]
fn registry_patches_it() {
    let registry = Registry::new();
    let toy = registry.get_or_create("orders", |name| Toy::builder(name).build()).unwrap();
    let patch = toml::Deserializer::parse("[toy.orders]\nmax_failures = 1").unwrap();
    assert_eq!(registry.apply(patch).unwrap().changed, 1);
    block_on(fail(&toy));
    assert_eq!(block_on(fail(&toy)).rejection().unwrap().code(), SHUT);
    let patch = toml::Deserializer::parse("[toy.orders]\nmax_failures = 0").unwrap();
    let why = registry.apply(patch).unwrap_err();
    assert_eq!((why.policy(), why.field()), (Some("toy \"orders\""), "max_failures"));
    assert_eq!(toy.config().max_failures, 1);
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// What is written under a filter as a toy shuts.
fn written(filter: &str) -> Vec<String> {
    let page = Page::default();
    let writer = page.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .without_time()
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        let toy = Toy::builder("orders").max_failures(1).observe(buttress::metrics::trace::Trace::default());
        block_on(fail(&toy.build().unwrap()));
    });
    let text = page.0.lock().unwrap().clone();
    String::from_utf8(text).unwrap().lines().map(|line| line.trim().to_owned()).collect()
}

#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl io::Write for Page {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
