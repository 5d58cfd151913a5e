//! Stages of a pipeline and the policies in them, as one collector hears them and as the page shows them.

use std::{sync::atomic::AtomicU32, sync::atomic::Ordering::Relaxed, time::Duration};

use buttress::{
    Backoff, BoxError, Breaker, Meter, Outcome, Retry, ServiceBuilderExt, Timeout,
    breaker::OPEN,
    metrics::{Metrics, meter::STARTED},
    test::{MetricsProbe, Recording, What},
};
use tokio::time::sleep;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

const MILLI: Duration = Duration::from_millis(1);

fn done(what: &What) -> Option<(Outcome, Option<Duration>)> {
    if let What::Done { outcome, elapsed, .. } = what { Some((*outcome, *elapsed)) } else { None }
}

#[tokio::test(start_paused = true)]
async fn one_collector_hears_stages_attempts_time_outs_and_circuits() {
    let (heard, probe) = (Recording::new().timed(), MetricsProbe::off_the_record());
    let _local = probe.set_local();
    // Another test of this process may have installed metrics, which count too.
    let metrics = Metrics::builder().prefix("own_").build().unwrap();
    // Each builder has the same two, the collector and the page.
    macro_rules! heard {
        ($builder:expr) => {
            $builder.observe(heard.clone()).observe(metrics.clone()).build().unwrap()
        };
    }
    let stage = heard!(Meter::builder("service-circuit-breaker"));
    let retry = heard!(
        Retry::builder("ingest")
            .max_attempts(2)
            .backoff(Backoff::constant(MILLI))
            .retry_rejections([buttress::timeout::TIMEOUT])
    );
    let breaker = heard!(Breaker::builder("ingest").consecutive_failures(2).open_for(60_000 * MILLI));
    let attempt = heard!(Timeout::builder("ingest").limit(50 * MILLI));
    let calls = AtomicU32::new(0);
    let mut ingest = ServiceBuilder::new()
        .meter(stage.layer())
        .retrying(retry.layer())
        .breaker(breaker.layer())
        .attempt_timeout(attempt.layer())
        .lift_errors()
        .service(service_fn(|_: u32| {
            let call = calls.fetch_add(1, Relaxed);
            async move {
                sleep(if call == 0 { 60 * MILLI } else { 20 * MILLI }).await;
                if call < 2 { Ok("fine") } else { Err(BoxError::from("down")) }
            }
        }));
    // Times out and is made again; fails twice, which opens the circuit; is refused.
    assert_eq!(ingest.ready().await.unwrap().call(1).await.unwrap(), "fine");
    ingest.ready().await.unwrap().call(2).await.unwrap_err();
    ingest.ready().await.unwrap().call(3).await.unwrap_err();

    // Started, completed and how long it took, failed.
    let of_stage = heard.policy("service-circuit-breaker");
    assert_eq!(of_stage.notes().iter().filter(|note| note.what == STARTED).count(), 3);
    let ended: Vec<_> = of_stage.events().iter().filter_map(|one| done(&one.what)).collect();
    let took = |n: u32| Some(n * MILLI);
    assert_eq!(ended[0], (Outcome::Success, took(50 + 1 + 20)));
    assert_eq!(ended[1..], [(Outcome::Failure, took(20 + 1 + 20)), (Outcome::Failure, took(0))]);
    // Attempts by number.
    let attempts = |what: &What| matches!(what, What::Attempt { n: 1, .. });
    assert_eq!(heard.kind(&buttress::retry::KIND).count(attempts), 2);
    // A time-out.
    let timeouts = heard.kind(&buttress::timeout::KIND).outcomes();
    assert_eq!(timeouts.iter().filter(|outcome| **outcome == Outcome::TimedOut).count(), 1);
    // A circuit: what it counted, what it changed to, what it refused.
    let circuit = heard.kind(&buttress::breaker::KIND);
    assert_eq!(circuit.outcomes(), [Outcome::Failure, Outcome::Success, Outcome::Failure, Outcome::Failure]);
    assert_eq!(circuit.count(|what| matches!(what, What::Transition(change) if change.to == "open")), 1);
    let refused = circuit.refusals();
    assert!(!refused.is_empty() && refused.iter().all(|rejection| rejection.code() == OPEN));

    // The same on the page.
    let count = |name, label, value| probe.counter(name, &[(label, value)]);
    assert_eq!(count("own_meter_calls_started_total", "name", "service-circuit-breaker"), 3);
    assert_eq!(count("own_meter_calls_total", "result", "completed"), 1);
    assert_eq!(count("own_meter_calls_total", "result", "failed"), 2);
    assert_eq!(probe.histogram("own_meter_call_duration_seconds", &[("result", "completed")]), [0.071]);
    assert_eq!(probe.counter("own_retry_attempts_total", &[]), 2);
    assert_eq!(count("own_timeout_operations_total", "result", "timeout"), 1);
    assert_eq!(count("own_circuit_breaker_calls_total", "result", "failure"), 3);
    assert_eq!(count("own_circuit_breaker_calls_total", "result", "success"), 1);
    assert_eq!(count("own_circuit_breaker_calls_total", "result", "rejected"), refused.len() as u64);
    assert_eq!(count("own_circuit_breaker_state_changes_total", "to", "open"), 1);
}
