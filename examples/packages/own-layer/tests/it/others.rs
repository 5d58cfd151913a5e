//! What hosts, exporters, logs and registries make of a pattern that they do not know.

use std::{io, sync::Arc, sync::Mutex};

use buttress_http::RespondLayer;
use buttress_kit::{Handle, Registry};
use buttress_metrics::{Metrics, trace::Trace};
use http::StatusCode;
use own_layer::{KEYED, KIND, KeyedTurnstile, Turnstile};
use serde_json::json;
use tokio_test::block_on;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tracing_subscriber::EnvFilter;

use crate::{hold, never, ok, turnstile};

#[test]
fn table_is_without_a_fault() {
    assert_eq!(buttress_metrics::check(&[&KIND, &KEYED]), Ok(()));
}

#[test]
fn prometheus_has_its_rows() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let page = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        let builder = Turnstile::builder("search").max_in_flight(1).observe(Metrics::default());
        let turnstile = builder.build().unwrap();
        block_on(turnstile.call(ok)).unwrap();
        let _held = hold(turnstile.call(never));
        block_on(turnstile.call(never)).unwrap_err();
        let page = page.render();
        for line in [
            "# HELP turnstile_calls_total Calls that ended, by how.",
            "turnstile_calls_total{name=\"search\",result=\"success\"} 1",
            "turnstile_calls_total{name=\"search\",result=\"failure\"} 0",
            "turnstile_calls_total{name=\"search\",result=\"cancelled\"} 0",
            "turnstile_calls_total{name=\"search\",result=\"rejected\"} 1",
            "turnstile_in_flight{name=\"search\"} 1",
        ] {
            assert!(page.lines().any(|one| one == line), "{line} is not in\n{page}");
        }
    });
}

#[test]
fn log_has_its_line_under_a_target_of_its_own() {
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
    let written = |filter: &str| {
        let page = Page::default();
        let writer = page.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(filter))
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .without_time()
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let builder = Turnstile::builder("search").max_in_flight(1).observe(Trace::default());
            let turnstile = builder.build().unwrap();
            let _held = hold(turnstile.call(never));
            for _ in 0..3 {
                block_on(turnstile.call(never)).unwrap_err();
            }
        });
        let text = page.0.lock().unwrap().clone();
        String::from_utf8(text).unwrap()
    };
    let once = " WARN buttress::turnstile: turnstile full policy.name=\"search\" policy.kind=\"turnstile\" shadow=false suppressed=0\n";
    assert_eq!(written("buttress::turnstile=warn"), once);
    assert_eq!(written("buttress::turnstile=error"), "");
    assert_eq!(written("buttress::breaker=warn"), "");
}

#[tokio::test]
async fn http_answers_429_to_a_refusal() {
    let turnstile = turnstile(1);
    let handler =
        service_fn(|_: http::Request<()>| async { Ok::<_, BoxError>(http::Response::new(String::new())) });
    let svc = ServiceBuilder::new().layer(RespondLayer::new()).layer(turnstile.layer()).service(handler);
    let answer = || svc.clone().oneshot(http::Request::new(()));
    assert_eq!(answer().await.unwrap().status(), StatusCode::OK);
    let _held = hold(turnstile.call(never));
    let refused = answer().await.unwrap();
    assert_eq!((refused.status(), &**refused.body()), (StatusCode::TOO_MANY_REQUESTS, "TURNSTILE_FULL"));
}

#[test]
fn registry_lists_patches_and_resets_it() {
    let registry = Registry::new();
    let make = |name| Turnstile::builder(name).build();
    let turnstile = registry.get_or_create("search", make).unwrap();
    registry.insert(Turnstile::keyed("tenants").build().unwrap()).unwrap();
    registry.insert(Turnstile::keyed("search").build().unwrap()).unwrap_err();
    let mut events = registry.events();
    let patch = "[turnstile]\nsearch.max_in_flight = 1\ntenants = { max_in_flight = 1, mode = \"enforce\" }";
    assert_eq!(registry.apply(toml::Deserializer::parse(patch).unwrap()).unwrap().changed, 2);
    let _held = hold(turnstile.call(never));
    block_on(turnstile.call(never)).unwrap_err();
    let tenants: KeyedTurnstile = registry.get("tenants").unwrap();
    let _acme = hold(tenants.call("acme", never));
    block_on(tenants.call("acme", never)).unwrap_err();
    assert_eq!(
        serde_json::to_value(registry.snapshot()).unwrap(),
        json!({ "turnstile": { "search": { "in_flight": 1, "refused": 1 }, "tenants": { "keys": 1 } } })
    );
    let config = json!({ "max_in_flight": 1, "mode": "enforce" });
    for policy in registry.list() {
        assert_eq!(serde_json::to_value(policy.config_data()).unwrap(), config);
    }
    registry.reset_all();
    assert_eq!((turnstile.snapshot().in_flight, turnstile.snapshot().refused), (1, 0));
    assert_eq!(tenants.get("acme").unwrap().snapshot().refused, 0);
    // Two refusals and two resets.
    assert_eq!(std::iter::from_fn(|| events.try_next()).count(), 4);
    assert_eq!(turnstile.kind(), tenants.kind());
}
