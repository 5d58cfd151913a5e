//! The page tells the truth though nobody calls.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_breaker::Breaker;
use buttress_bulkhead::{Bulkhead, KIND as BULKHEAD, words};
use buttress_core::{BoxError, Level, Levels};
use buttress_kit::{Backoff, Budget};
use buttress_metrics::{HandleMode, Metrics, OTHER};
use buttress_retry::Retry;
use buttress_timeout::Timeout;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::time::{advance, sleep};

use crate::{Seen, policy};

const SECOND: Duration = Duration::from_secs(1);

async fn down() -> Result<(), BoxError> {
    Err("down".into())
}

async fn fine() -> Result<(), BoxError> {
    Ok(())
}

/// Opens at the first failure, for five seconds.
fn breaker(name: impl Into<String>, metrics: &Metrics) -> Breaker {
    let builder = Breaker::builder(name.into()).consecutive_failures(1).open_for(5 * SECOND);
    builder.observe(metrics.clone()).build().unwrap()
}

fn state(seen: &Seen, state: &str) -> Option<f64> {
    seen.gauge("circuit_breaker_state", &[("state", state)])
}

#[tokio::test(start_paused = true)]
async fn open_breaker_that_nobody_calls_is_half_open_on_the_page_once_its_wait_is_over() {
    for handles in [HandleMode::Cached, HandleMode::PerCall] {
        let seen = Seen::new();
        let _local = seen.0.set_local();
        let metrics = Metrics::builder().handle_mode(handles).build().unwrap();
        let breaker = breaker("payments", &metrics);
        breaker.call(down).await.unwrap_err();
        metrics.refresh();
        assert_eq!((state(&seen, "open"), state(&seen, "half_open")), (Some(1.0), Some(0.0)));
        advance(600 * SECOND).await;
        metrics.refresh();
        assert_eq!((state(&seen, "open"), state(&seen, "half_open")), (Some(0.0), Some(1.0)));
    }
}

#[tokio::test(start_paused = true)]
async fn retry_budget_that_nobody_uses_fills_up_on_the_page() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let metrics = Metrics::default();
    let retry = Retry::builder("payments").max_attempts(2).backoff(Backoff::none());
    let retry = retry.budget(Budget::new(0.0, 1).unwrap()).observe(metrics.clone()).build().unwrap();
    retry.call(down).await.unwrap_err();
    let left = || seen.gauge("retry_budget_available_ratio", &[]).unwrap();
    assert!(left() < 1.0);
    advance(600 * SECOND).await;
    metrics.refresh();
    assert_eq!(left(), 1.0);
}

/// Stands at a number that it tells to nobody unasked.
struct Silent(AtomicU32);

impl Levels for Silent {
    fn level(&self, number: u32) -> Option<Level> {
        (number == 0).then(|| Level::new(words::IN_FLIGHT, self.0.load(Relaxed).into()))
    }
}

#[test]
fn gauge_that_a_policy_forgot_to_tell_is_right_after_a_refresh() {
    let seen = Seen::by_hand();
    let _local = seen.0.set_local();
    let metrics = Metrics::default();
    let bulkhead = policy(&BULKHEAD, "payments", &metrics);
    let silent = Arc::new(Silent(AtomicU32::new(0)));
    let levels: Arc<dyn Levels> = silent.clone();
    bulkhead.recorder.as_ref().unwrap().follow(&Arc::downgrade(&levels));
    bulkhead.level(Level::new(words::IN_FLIGHT, 1.0)); // the call ended since, by a way out that tells nothing
    metrics.refresh();
    assert_eq!(seen.gauge("bulkhead_in_flight", &[]), Some(0.0));
    silent.0.store(3, Relaxed);
    metrics.refresh();
    assert_eq!(seen.gauge("bulkhead_in_flight", &[]), Some(3.0));
}

#[tokio::test(start_paused = true)]
async fn what_the_exporter_evicted_comes_back_though_nobody_calls() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let metrics = Metrics::builder().max_names(1).build().unwrap();
    let breaker = breaker("payments", &metrics);
    breaker.call(down).await.unwrap_err();
    let many = Timeout::builder("too_many").observe(metrics.clone()).build().unwrap();
    many.call(fine).await.unwrap();
    assert!(seen.0.evict("circuit_breaker_state", &[]) > 0);
    assert!(seen.0.evict("timeout_operations_total", &[]) > 0);
    crate::sleep(Duration::from_millis(1050)); // the age at which handles are made anew
    metrics.refresh();
    assert_eq!(state(&seen, "open"), Some(1.0));
    let others = |one: &buttress_test::Series| one.labels.contains(&("name".into(), OTHER.into()));
    assert_eq!(
        seen.0
            .series()
            .iter()
            .filter(|one| one.name == "timeout_operations_total")
            .filter(|one| others(one))
            .count(),
        4
    );
}

#[tokio::test(start_paused = true)]
async fn policy_that_is_gone_stays_at_rest() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let metrics = Metrics::default();
    let (gone, stays) = (breaker("gone", &metrics), breaker("stays", &metrics));
    gone.call(down).await.unwrap_err();
    stays.call(down).await.unwrap_err();
    drop(gone);
    metrics.refresh();
    let open = |name| seen.gauge("circuit_breaker_state", &[("name", name), ("state", "open")]);
    assert_eq!((open("gone"), open("stays")), (Some(0.0), Some(1.0)));
}

#[tokio::test(start_paused = true)]
async fn refresher_keeps_the_page_right_by_tokios_clock() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let metrics = Metrics::default();
    let breaker = breaker("payments", &metrics);
    breaker.call(down).await.unwrap_err();
    let refresher = tokio::spawn(metrics.refresher(SECOND));
    sleep(4 * SECOND).await;
    assert_eq!(state(&seen, "half_open"), Some(0.0));
    sleep(2 * SECOND).await;
    assert_eq!(state(&seen, "half_open"), Some(1.0));
    refresher.abort();

    // However often it is asked to, others run too.
    let busy = tokio::spawn(metrics.refresher(Duration::ZERO));
    sleep(SECOND).await;
    assert!(!busy.is_finished());
    busy.abort();
}

#[tokio::test(start_paused = true)]
async fn thousand_policies_are_refreshed_in_some_milliseconds() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let (page, _local) = (recorder.handle(), metrics::set_default_local_recorder(&recorder));
    let metrics = Metrics::builder().max_names(2000).build().unwrap();
    let breakers: Vec<_> = (0..1003).map(|n| breaker(format!("breaker-{n}"), &metrics)).collect();
    for breaker in &breakers {
        breaker.call(down).await.unwrap_err();
    }
    advance(6 * SECOND).await;
    let least = || (0..5).map(|_| took(|| metrics.refresh())).min().unwrap();
    let all = least();
    assert!(page.render().contains(r#"circuit_breaker_state{name="breaker-1002",state="half_open"} 1"#));
    // 9 ms of a machine with other work, unoptimized.
    assert!(all < Duration::from_millis(100), "{all:?}");
    drop(breakers);
    let none = least();
    assert!(none < all / 10, "{none:?} of {all:?}");
}

/// Real time.
#[allow(clippy::disallowed_methods)]
fn took(work: impl FnOnce()) -> Duration {
    let start = std::time::Instant::now();
    work();
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn calls_go_on_while_the_page_is_made() {
    let seen = Seen::new();
    let metrics = Metrics::default();
    let bulkhead = Bulkhead::builder("payments").max_concurrent(8).observe(metrics.clone());
    let bulkhead = seen.0.with_local(|| bulkhead.build().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let _local = seen.0.set_local();
                for _ in 0..20_000 {
                    drop(bulkhead.try_acquire());
                }
            });
        }
        scope.spawn(|| {
            let _local = seen.0.set_local();
            (0..2_000).for_each(|_| metrics.refresh());
        });
    });
    assert_eq!(seen.gauge("bulkhead_in_flight", &[]), Some(0.0));
}
