//! A short outage, simulated: what an operator sees of it. `docs/first-outage.md` shows these samples, and a
//! test holds them against this.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use buttress::metrics::prometheus::with_buckets;
use http_body_util::BodyExt;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tower::{BoxError, ServiceExt};

use crate::engine::{Blind, End, Lane, Plan, Storm};
use crate::layers::Stack;
use crate::log;
use crate::naive::NaiveConfig;
use crate::protected::Protected;
use crate::script::Script;
use crate::upstream::Upstream;
use crate::wire::{self, Answer, Call, Target};

const SCRIPT: &str = "\
well      3 100 100
squeezed  3  20 100
dead      3   0 100
well      3 100 100
";

/// The series that tell what is going on. A page has many more.
const TOLD: [&str; 10] = [
    "circuit_breaker_state{",
    "circuit_breaker_calls_total{",
    "bulkhead_in_flight{",
    "bulkhead_limit{",
    "bulkhead_executions_total{",
    "bulkhead_calls_total{",
    "retry_attempts_total{",
    "retry_calls_total{",
    "retry_stopped_total{",
    "timeout_operations_total{",
];

/// All samples: each begins with a line `== what it is`.
pub(crate) fn samples() -> Result<String, BoxError> {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(async {
        let builder = with_buckets(PrometheusBuilder::new(), buttress::KINDS);
        let recorder = builder.build_recorder();
        let page = recorder.handle();
        metrics::set_global_recorder(recorder)?;
        buttress::metrics::install();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = lines.clone();
        log::install(move |line| sink.lock().unwrap_or_else(PoisonError::into_inner).push(line))?;

        let plan = Arc::new(Plan::new(Script::parse(SCRIPT)?, 200, 1, NaiveConfig::default()));
        let upstream = Upstream::new(plan.seed, plan.health(Duration::ZERO));
        let stack = Stack::new(Protected::new(&plan)?.stack(wire::direct(upstream.clone())));
        let lane = Lane::new("protected", Target::simulated(stack.clone()), upstream);
        let storm = Storm::new(plan, vec![lane]);

        let start = Instant::now();
        let answers = tokio::spawn(answers(stack, start));
        let scrapes = tokio::spawn(scrapes(page.clone(), start));
        let (_running, stop) = watch::channel(false);
        let over = async {
            storm.generate(start, stop).await;
            End::Over
        };
        storm.direct(start, &mut Blind, over).await;

        // Where a whole test run is held against the catalogue of metrics, this counts.
        if let Some(folder) = std::env::var_os("BUTTRESS_EMITTED") {
            std::fs::write(Path::new(&folder).join("storm-outage.prom"), page.render())?;
        }

        let mut out = String::new();
        for (what, answer) in answers.await? {
            out += &format!("== answer {what}\n{answer}\n");
        }
        for (what, page) in scrapes.await? {
            out += &format!("== metrics {what}\n{page}\n");
        }
        let lines = lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n");
        Ok(out + "== log\n" + &lines + "\n")
    })
}

/// Asks twenty times a second and keeps the first answer of each kind.
async fn answers(stack: Stack, start: Instant) -> BTreeMap<String, String> {
    let mut asked = tokio::task::JoinSet::new();
    for n in 0..220 {
        let stack = stack.clone();
        asked.spawn(async move {
            sleep_until(start + Duration::from_millis(n * 50)).await;
            let Ok(answer) = stack.oneshot(Call::default()).await;
            (n, raw(answer).await)
        });
    }
    let mut all = asked.join_all().await;
    all.sort_unstable();
    let mut kinds = BTreeMap::new();
    for (_, (code, text)) in all {
        kinds.entry(code).or_insert(text);
    }
    kinds
}

/// The body, which says what kind of an answer it is, and the answer as it goes over the wire.
async fn raw(answer: Answer) -> (String, String) {
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned());
    let body = body.unwrap_or_default();
    let mut text = format!("HTTP/1.1 {}\n", head.status);
    let mut headers: Vec<_> =
        head.headers.iter().filter(|(name, _)| !name.as_str().starts_with("x-")).collect();
    headers.sort_by_key(|(name, _)| name.as_str());
    for (name, value) in headers {
        text += &format!("{name}: {}\n", value.to_str().unwrap_or("?"));
    }
    if body.is_empty() {
        return (format!("{} of the upstream", head.status.as_u16()), text);
    }
    text += &format!("\n{body}\n");
    (body, text)
}

/// The telling series while the upstream is squeezed, dead and well again.
async fn scrapes(page: PrometheusHandle, start: Instant) -> Vec<(&'static str, String)> {
    let mut pages = Vec::new();
    for (what, millis) in [("squeezed", 5_500), ("dead", 8_500), ("afterwards", 11_500)] {
        sleep_until(start + Duration::from_millis(millis)).await;
        let page = page.render();
        let mut told: Vec<&str> = page
            .lines()
            .filter(|line| TOLD.iter().any(|name| line.starts_with(name)) && !line.ends_with(" 0"))
            .collect();
        told.sort_unstable();
        pages.push((what, told.join("\n") + "\n"));
    }
    pages
}
