//! One registry for all patterns.

use std::{thread, time::Duration};

use buttress::{BoxError, Breaker, Bulkhead, Fallback, Health, Registry, Retry, Timeout, breaker::State};
use serde_json::json;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// One policy of each pattern, all of one name, and a breaker by key.
fn all() -> Registry {
    let registry = Registry::new();
    registry.insert(Breaker::builder("orders").consecutive_failures(1).build().unwrap()).unwrap();
    registry.insert(Breaker::keyed("tenants").build::<String>().unwrap()).unwrap();
    registry.insert(Bulkhead::builder("orders").max_concurrent(1).max_queue(0).build().unwrap()).unwrap();
    registry.insert(Fallback::builder("orders").build().unwrap()).unwrap();
    registry.insert(Retry::builder("orders").build().unwrap()).unwrap();
    registry.insert(Timeout::builder("orders").build().unwrap()).unwrap();
    registry
}

#[tokio::test]
async fn all_patterns_are_found_listed_followed_and_reset_alike() {
    let registry = all();
    let listed: Vec<_> =
        registry.list().iter().map(|one| format!("{} {}", one.kind().name, one.name())).collect();
    let expected = [
        "breaker orders",
        "breaker tenants",
        "bulkhead orders",
        "fallback orders",
        "retry orders",
        "timeout orders",
    ];
    assert_eq!(listed, expected);
    let breaker: Breaker = registry.get("orders").unwrap();
    let bulkhead: Bulkhead = registry.get("orders").unwrap();
    assert!(registry.get::<Breaker>("tenants").is_none());
    registry.insert(Breaker::keyed("orders").build::<u32>().unwrap()).unwrap_err();

    assert_eq!(registry.health().worst, Health::Up);
    let mut events = registry.events();
    breaker.call(|| async { Err::<(), BoxError>("down".into()) }).await.unwrap_err();
    breaker.call(|| async { Ok::<_, BoxError>(()) }).await.unwrap_err();
    let permit = bulkhead.try_acquire().unwrap();
    bulkhead.try_acquire().unwrap_err();
    let health = registry.health();
    assert_eq!(health.worst, Health::Down);
    let each: Vec<_> = health.each.iter().map(|(kind, _, health)| (kind.name, *health)).collect();
    assert_eq!(each[0], ("breaker", Health::Down));
    assert_eq!(each[2], ("bulkhead", Health::Degraded));
    let kinds: Vec<_> = std::iter::from_fn(|| events.try_next()).map(|event| event.kind.name).collect();
    assert_eq!(kinds, ["breaker", "breaker", "bulkhead"]); // opened, refused, refused
    drop(permit);
    registry.reset_all();
    assert_eq!((breaker.state(), registry.health().worst), (State::Closed, Health::Up));
}

#[test]
fn one_file_changes_many_policies_or_none_and_what_is_written_is_read_again() {
    let registry = all();
    let patch = json!({
        "timeout": { "orders": { "limit": "250ms" } },
        "breaker": { "orders": { "open_for": "7s", "window": { "count": 50 } }, "tenants": { "open_for": "8s" } },
        "bulkhead": { "orders": { "max_concurrent": 9 } },
        "retry": { "orders": { "max_attempts": 4, "backoff": { "kind": "constant", "base": "5ms" } } },
        "fallback": { "orders": {}, "menu": {} },
    });
    let patched = registry.apply(&patch).unwrap();
    assert_eq!((patched.changed, patched.unknown), (6, vec!["fallback.menu".to_owned()]));
    let timeout: Timeout = registry.get("orders").unwrap();
    let breaker: Breaker = registry.get("orders").unwrap();
    let limits = || (timeout.config().limit, breaker.config().open_for);
    assert_eq!(limits(), (ms(250), Some(ms(7_000))));
    assert_eq!(registry.get::<Bulkhead>("orders").unwrap().config().max_concurrent, 9);
    assert_eq!(registry.get::<Retry>("orders").unwrap().config().max_attempts, 4);

    let bad = json!({
        "breaker": { "orders": { "open_for": "1s" } },
        "timeout": { "orders": { "limit": "0s" } },
    });
    let why = registry.apply(&bad).unwrap_err();
    assert_eq!(why.to_string(), "timeout \"orders\": `limit` = 0ns cannot work: must be longer than zero");
    assert_eq!(limits(), (ms(250), Some(ms(7_000))));

    for policy in registry.list() {
        let written = serde_json::to_value(policy.config_data()).unwrap();
        let patch = json!({ policy.kind().name: { policy.name().as_str(): written } });
        assert_eq!(registry.apply(&patch).unwrap().changed, 1);
        assert_eq!(serde_json::to_value(policy.config_data()).unwrap(), written);
    }
    let snapshot = serde_json::to_value(registry.snapshot()).unwrap();
    assert_eq!(snapshot["breaker"]["orders"]["state"], "closed");
    assert_eq!(snapshot["breaker"]["tenants"]["keys"], 0);
    assert_eq!(snapshot.as_object().unwrap().len(), 5);
}

// What was read, changed and written back lost half of the changes of two threads.
#[test]
fn no_change_in_place_is_lost_in_any_pattern() {
    let registry = all();
    let longer = |time: &mut Duration| *time = time.saturating_add(ms(1));
    let timeout: Timeout = registry.get("orders").unwrap();
    let breaker: Breaker = registry.get("orders").unwrap();
    let bulkhead: Bulkhead = registry.get("orders").unwrap();
    let retry: Retry = registry.get("orders").unwrap();
    let fallback: Fallback = registry.get("orders").unwrap();
    let before = (timeout.config(), breaker.config(), bulkhead.config(), retry.config(), fallback.config());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..500 {
                    timeout.update(|config| longer(&mut config.limit)).unwrap();
                    breaker.update(|config| config.permitted_probes += 1).unwrap();
                    bulkhead.update(|config| config.max_concurrent += 1).unwrap();
                    retry.update(|config| longer(&mut config.backoff.max)).unwrap();
                    fallback.update(|config| config.max_keys += 1).unwrap();
                }
            });
        }
    });
    assert_eq!(timeout.config().limit, before.0.limit.saturating_add(ms(1_000)));
    assert_eq!(breaker.config().permitted_probes, before.1.permitted_probes + 1_000);
    assert_eq!(bulkhead.config().max_concurrent, before.2.max_concurrent + 1_000);
    assert_eq!(retry.config().backoff.max, before.3.backoff.max.saturating_add(ms(1_000)));
    assert_eq!(fallback.config().max_keys, before.4.max_keys + 1_000);
}
