//! Several live policies of one kind and name.

use std::time::Duration;

use buttress_breaker::{Breaker, KeyedBreaker};
use buttress_core::{BoxError, Level, Outcome};
use buttress_metrics::Metrics;
use tokio::time::advance;

use crate::{Seen, done, policy};

async fn down() -> Result<(), BoxError> {
    Err("down".into())
}

async fn fine() -> Result<(), BoxError> {
    Ok(())
}

fn orders(metrics: &Metrics) -> Breaker {
    let builder = Breaker::builder("orders").consecutive_failures(1).open_for(Duration::from_secs(5));
    builder.observe(metrics.clone()).build().unwrap()
}

/// The states that the page says the breaker is in.
fn states(seen: &Seen) -> Vec<String> {
    let series = seen.0.series();
    let states = series.iter().filter(|one| one.name == "circuit_breaker_state").flat_map(|one| &one.labels);
    let states = states.filter(|(key, _)| key == "state").map(|(_, state)| state.clone());
    states.filter(|state| seen.gauge("circuit_breaker_state", &[("state", state)]) == Some(1.0)).collect()
}

#[tokio::test(start_paused = true)]
async fn gauges_are_those_of_the_one_that_has_lived_longest() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let metrics = Metrics::default();
    let (first, second) = (orders(&metrics), orders(&metrics));
    first.call(down).await.unwrap_err();
    second.call(fine).await.unwrap();
    metrics.refresh();
    assert_eq!(states(&seen), ["open"]);
    // Counters are those of both.
    assert_eq!(seen.counter("circuit_breaker_calls_total", &[("name", "orders")]), 2);
    advance(Duration::from_secs(6)).await;
    metrics.refresh();
    assert_eq!(states(&seen), ["half_open"]);
    drop(second);
    assert_eq!(states(&seen), ["half_open"]);
}

#[tokio::test(start_paused = true)]
async fn next_one_is_on_the_page_as_soon_as_the_first_is_gone() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let metrics = Metrics::default();
    let [first, second, third] = [orders(&metrics), orders(&metrics), orders(&metrics)];
    third.isolate();
    second.call(down).await.unwrap_err();
    assert_eq!(states(&seen), ["closed"]);
    drop(first);
    assert_eq!(states(&seen), ["open"]);
    advance(Duration::from_secs(6)).await;
    drop(second);
    assert_eq!(states(&seen), ["isolated"]);
    drop(third);
    assert!(states(&seen).is_empty());
    // And who comes after all were gone.
    let _fourth = orders(&metrics);
    assert_eq!(states(&seen), ["closed"]);
}

#[tokio::test(start_paused = true)]
async fn last_call_of_a_breaker_that_was_replaced_leaves_nothing_wrong_on_the_page() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let metrics = Metrics::default();
    let old = orders(&metrics);
    let late = old.try_acquire().unwrap();
    let new = orders(&metrics);
    drop(old); // its last call still runs
    new.call(fine).await.unwrap();
    late.failure();
    assert_eq!(states(&seen), ["closed"]);
    metrics.refresh();
    assert_eq!(states(&seen), ["closed"]);
    assert_eq!(seen.gauge("circuit_breaker_failure_ratio", &[]).map(f64::is_nan), Some(true));
}

#[tokio::test(start_paused = true)]
async fn keyed_breaker_and_a_plain_one_of_its_name_take_turns_too() {
    let seen = Seen::new();
    let _local = seen.0.set_local();
    let metrics = Metrics::default();
    let plain = orders(&metrics);
    let keyed = Breaker::keyed("orders").consecutive_failures(1).observe(metrics.clone());
    let keyed: KeyedBreaker<u32> = keyed.build().unwrap();
    keyed.call(&1, fine).await.unwrap();
    let keys = || seen.gauge("circuit_breaker_keys", &[("state", "closed")]);
    assert_eq!((states(&seen), keys()), (vec!["closed".to_owned()], None));
    drop(plain);
    assert_eq!((states(&seen), keys()), (vec![], Some(1.0)));
    drop(keyed);
    assert_eq!(keys(), Some(0.0));
}

#[test]
fn what_comes_and_goes_at_the_same_time_leaves_the_gauges_of_one_that_lives() {
    let seen = Seen::by_hand();
    let metrics = Metrics::default();
    let told = |value: f64| {
        let bulkhead = policy(&buttress_bulkhead::KIND, "orders", &metrics);
        bulkhead.level(Level::new(buttress_bulkhead::words::LIMIT, value));
        bulkhead.emit(done(Outcome::Success));
        bulkhead
    };
    for round in 0..200 {
        let lives = f64::from(round + 10);
        let _last = std::thread::scope(|scope| {
            let comes_and_goes = || {
                let _local = seen.0.set_local();
                (0..20).for_each(|_| drop(told(5.0)));
            };
            scope.spawn(comes_and_goes);
            scope.spawn(comes_and_goes);
            let stays = scope.spawn(|| {
                let _local = seen.0.set_local();
                told(lives)
            });
            stays.join().unwrap()
        });
        assert_eq!(seen.gauge("bulkhead_limit", &[]), Some(lives), "round {round}");
        seen.0.with_local(|| drop(_last));
        assert_eq!(seen.gauge("bulkhead_limit", &[]), Some(0.0), "round {round}");
    }
}
