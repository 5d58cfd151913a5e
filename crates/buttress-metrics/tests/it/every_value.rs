//! Real policies through all that can happen to them: each value of each label of the catalogue is told.
//!
//! `cargo xtask test` holds what its whole run emitted against the catalogue; these are the tests that see to it
//! that nothing in the catalogue is missing there.

use std::time::Duration;

use buttress_breaker::{Breaker, KeyedBreaker};
use buttress_bulkhead::Bulkhead;
use buttress_core::{BoxError, Kind, Never, Verdict};
use buttress_fallback::Fallback;
use buttress_kit::{Backoff, Budget, Mode};
use buttress_metrics::{MetricKind, Metrics, catalog, meter::Meter};
use buttress_retry::Retry;
use buttress_test::{Probe, Script, poll_once, step};
use buttress_timeout::Timeout;
use tokio::time::{advance, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::Seen;

const HOUR: Duration = Duration::from_secs(3600);

impl Seen {
    /// That every metric of a pattern was told, with every value of its labels.
    fn has_all_of(&self, kinds: &[Kind]) {
        for def in catalog(kinds).iter().filter(|def| def.policy.is_some()) {
            let mut series = vec![Vec::new()];
            for label in &def.labels {
                series.extend(label.values.iter().map(|value| vec![(label.key, *value)]));
            }
            for labels in series {
                let told = match def.kind {
                    MetricKind::Counter => self.counter(def.name, &labels) > 0,
                    MetricKind::Histogram => !self.0.histogram(def.name, &labels).is_empty(),
                    _ => self.0.series().iter().any(|series| {
                        series.name == def.name
                            && labels.iter().all(|(key, value)| {
                                series.labels.contains(&((*key).to_owned(), (*value).to_owned()))
                            })
                    }),
                };
                assert!(told, "{}{labels:?}", def.name);
            }
        }
    }
}

async fn down() -> Result<(), BoxError> {
    Err("down".into())
}

/// Takes an hour and ends as asked.
async fn slowly(outcome: Result<(), BoxError>) -> Result<(), BoxError> {
    sleep(HOUR).await;
    outcome
}

/// Begins a call and gives it up.
async fn give_up<T>(call: impl Future<Output = T>) {
    assert!(poll_once(std::pin::pin!(call)).is_pending());
}

#[tokio::test(start_paused = true)]
async fn breaker_tells_every_value() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let breaker = Breaker::builder("payments")
        .consecutive_failures(100)
        .slow_call_duration(HOUR / 2)
        .slow_call_rate(1.0)
        .minimum_calls(4)
        .open_for(HOUR)
        .observe(Metrics::default())
        .build()
        .unwrap();
    breaker.call(|| slowly(Ok(()))).await.unwrap();
    breaker.call(|| slowly(Err("down".into()))).await.unwrap_err();
    let ignored = breaker.call(|| slowly(Ok(())));
    ignored.classify_with(|_: Result<&(), &BoxError>| Verdict::Ignore).await.unwrap();
    let mut cancelled = Box::pin(breaker.call(|| slowly(Ok(()))));
    assert!(poll_once(cancelled.as_mut()).is_pending());
    advance(HOUR).await;
    drop(cancelled);

    breaker.force_open();
    breaker.call(down).await.unwrap_err();
    breaker.force_half_open().unwrap();
    breaker.isolate();
    breaker.disable();
    breaker.metrics_only();
    breaker.force_close();

    let shadow = Breaker::builder("shadow").mode(Mode::Shadow).observe(Metrics::default()).build().unwrap();
    shadow.force_open();
    shadow.call(down).await.unwrap_err();

    let tenants: KeyedBreaker<String> =
        Breaker::keyed("tenants").observe(Metrics::default()).build().unwrap();
    for key in ["closed", "open", "half_open", "isolated", "disabled", "metrics_only"] {
        tenants.try_acquire(key).unwrap().success();
        let one = tenants.get(key).unwrap();
        match key {
            "open" => one.force_open(),
            "half_open" => {
                one.force_open();
                one.force_half_open().unwrap();
            }
            "isolated" => one.isolate(),
            "disabled" => one.disable(),
            "metrics_only" => one.metrics_only(),
            _ => {}
        }
        let labels = [("name", "tenants"), ("state", key)];
        assert_eq!(seen.gauge("circuit_breaker_keys", &labels), Some(1.0), "{key}");
    }
    seen.has_all_of(&[&buttress_breaker::KIND, &buttress_breaker::KEYED]);
}

#[tokio::test(start_paused = true)]
async fn retry_tells_every_value() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let retry = || {
        Retry::builder("payments")
            .max_attempts(2)
            .backoff(Backoff::constant(Duration::from_secs(1)))
            .observe(Metrics::default())
    };
    let plain = retry().budget(Budget::new(0.0, 1).unwrap()).build().unwrap();
    let script = Script::new([step::ok(1), step::err("down"), step::ok(2)]);
    let inner: Probe<u32, u32> = script.then(|| step::err("down")).service();
    let mut svc = plain.layer().layer(inner.clone());
    svc.ready().await.unwrap().call(1).await.unwrap(); // without retry
    svc.ready().await.unwrap().call(1).await.unwrap(); // with one
    svc.ready().await.unwrap().call(1).await.unwrap_err(); // and in vain
    let mut call = Box::pin(svc.ready().await.unwrap().call(1));
    assert!(poll_once(call.as_mut()).is_pending());
    inner.fail_readiness("broken for good".into());
    call.await.unwrap_err();
    give_up(svc.ready().await.unwrap().call(1)).await;

    let once = plain.layer().replay(Never).layer(service_fn(|_: u32| down()));
    once.oneshot(1).await.unwrap_err();
    let refused = |response: Result<&u32, &BoxError>| match response {
        Ok(_) => Verdict::transient(),
        Err(_) => Verdict::permanent(),
    };
    let by_response = plain.layer().classify_with(refused);
    by_response
        .clone()
        .layer(service_fn(|n: u32| async move { Ok::<_, BoxError>(n) }))
        .oneshot(1)
        .await
        .unwrap();
    by_response
        .layer(service_fn(|_: u32| async { Err::<u32, _>(BoxError::from("gone")) }))
        .oneshot(1)
        .await
        .unwrap_err();
    let timeout = Timeout::builder("payments").limit(HOUR / 2).build().unwrap();
    let hangs = plain.layer().layer(timeout.layer().layer(service_fn(|_: u32| slowly(Ok(())))));
    hangs.oneshot(1).await.unwrap_err();

    retry().budget(Budget::new(0.0, 0).unwrap()).build().unwrap().call(down).await.unwrap_err();
    retry().max_elapsed(Duration::from_millis(1)).build().unwrap().call(down).await.unwrap_err();
    seen.has_all_of(&[&buttress_retry::KIND]);
}

#[tokio::test(start_paused = true)]
async fn timeout_tells_every_value() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let timeout = Timeout::builder("payments").limit(HOUR / 2).observe(Metrics::default()).build().unwrap();
    timeout.call(|| async { Ok::<_, BoxError>(()) }).await.unwrap();
    timeout.call(down).await.unwrap_err();
    timeout.call(|| slowly(Ok(()))).await.unwrap_err();
    give_up(timeout.call(|| slowly(Ok(())))).await;
    seen.has_all_of(&[&buttress_timeout::KIND]);
}

#[tokio::test(start_paused = true)]
async fn bulkhead_tells_every_value() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let bulkhead = |mode| {
        let builder = Bulkhead::builder("payments").max_concurrent(1).max_queue(1).queue_timeout(HOUR / 2);
        builder.mode(mode).observe(Metrics::default()).build().unwrap()
    };
    let one = bulkhead(Mode::Enforce);
    one.call(down).await.unwrap_err();
    let (running, waiting) = (one.call(|| slowly(Ok(()))), one.call(|| slowly(Ok(()))));
    tokio::pin!(running, waiting);
    assert!(poll_once(running.as_mut()).is_pending() && poll_once(waiting.as_mut()).is_pending());
    one.call(down).await.unwrap_err(); // no room in the line
    waiting.await.unwrap_err(); // waited long enough
    running.await.unwrap();
    give_up(one.call(|| slowly(Ok(())))).await;

    let shadow = bulkhead(Mode::Shadow);
    let mut three: Vec<_> = (0..3).map(|_| Box::pin(shadow.call(|| slowly(Ok(()))))).collect();
    for call in &mut three {
        assert!(poll_once(call.as_mut()).is_pending());
    }
    seen.has_all_of(&[&buttress_bulkhead::KIND]);
}

#[tokio::test(start_paused = true)]
async fn fallback_tells_every_value() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let fallback = Fallback::builder("prices").observe(Metrics::default()).build().unwrap();
    let backup =
        service_fn(|n: u32| async move { if n == 2 { Err(BoxError::from("also down")) } else { Ok(0) } });
    let layer = fallback.layer().service(backup);
    let layer =
        layer.handle_with(|outcome: Result<_, &BoxError>| outcome.is_err_and(|e| e.to_string() == "down"));
    let svc = layer.layer(service_fn(|n: u32| async move {
        match n {
            0 => Ok(n),
            1 | 2 => Err(BoxError::from("down")),
            3 => Err("grave".into()),
            _ => slowly(Ok(())).await.map(|()| n),
        }
    }));
    let answers = [0, 1, 2, 3].map(|n| svc.clone().oneshot(n));
    let mut failed = Vec::new();
    for answer in answers {
        failed.push(answer.await.is_err());
    }
    assert_eq!(failed, [false, false, true, true]);
    give_up(svc.oneshot(4)).await;
    seen.has_all_of(&[&buttress_fallback::KIND]);
}

#[tokio::test(start_paused = true)]
async fn meter_tells_every_value() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let meter = Meter::builder("parse").observe(Metrics::default()).build().unwrap();
    meter.call(|| slowly(Ok(()))).await.unwrap();
    meter.call(down).await.unwrap_err();
    give_up(meter.call(|| slowly(Ok(())))).await;
    seen.has_all_of(&[&buttress_metrics::meter::KIND]);
}
