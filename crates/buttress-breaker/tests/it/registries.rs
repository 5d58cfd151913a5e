//! Many breakers.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::SeqCst},
};

use buttress_breaker::{Breaker, Registry, State};
use buttress_core::Transition;

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_hundred_racers_one_makes_the_breaker() {
    let registry = Registry::new();
    let made = Arc::new(AtomicU32::new(0));
    let barrier = Arc::new(tokio::sync::Barrier::new(100));
    let racers: Vec<_> = (0..100)
        .map(|_| {
            let (registry, made, barrier) = (registry.clone(), made.clone(), barrier.clone());
            tokio::spawn(async move {
                barrier.wait().await;
                let breaker = registry.get_or_create("payments", |builder| {
                    made.fetch_add(1, SeqCst);
                    builder.consecutive_failures(100)
                });
                breaker.unwrap().fail(1);
            })
        })
        .collect();
    for racer in racers {
        racer.await.unwrap();
    }
    assert_eq!(made.load(SeqCst), 1);
    registry.get("payments").unwrap().is(State::Open); // all hundred failures went to one
}

#[tokio::test(start_paused = true)]
async fn breakers_are_found_taken_out_and_listed() {
    let registry = Registry::new();
    assert!(registry.get("a").is_none() && registry.is_empty());
    for name in ["b", "a", "c"] {
        registry.get_or_create(name, |builder| builder).unwrap();
    }
    let names: Vec<_> = registry.all().iter().map(|one| one.name().to_string()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(&**registry.remove("b").unwrap().name(), "b");
    assert!(registry.get("b").is_none() && registry.remove("b").is_none());
    registry.clear();
    assert!(registry.is_empty());
}

// A million names out of requests
#[tokio::test(start_paused = true)]
async fn number_of_names_is_bounded_and_who_is_there_stays() {
    let registry = Registry::new();
    let made = AtomicU32::new(0);
    let mut refused = 0;
    for n in 0..1_000_000 {
        let asked = registry.get_or_create(format!("user-{n}"), |builder| {
            made.fetch_add(1, SeqCst);
            builder
        });
        if let Err(why) = asked {
            assert_eq!((why.field(), why.value()), ("max_names", "10000"));
            refused += 1;
        }
    }
    assert_eq!((registry.len(), made.load(SeqCst), refused), (10_000, 10_000, 990_000));
    // Names that are known, and others once there is room.
    registry.get_or_create("user-0", |_| unreachable!()).unwrap();
    registry.remove("user-0").unwrap();
    registry.get_or_create("payments", |builder| builder).unwrap();
    registry.get_or_create("user-0", |builder| builder).unwrap_err();
    assert!(registry.insert(&Breaker::builder("by hand").build().unwrap()).is_none());
    assert_eq!(registry.len(), 10_001);
    let none = Registry::with_max_names(0);
    none.get_or_create("a", |builder| builder).unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn settings_that_cannot_work_leave_no_name_behind() {
    let registry = Registry::new();
    let why = registry.get_or_create("a", |builder| builder.failure_rate(2.0)).unwrap_err();
    assert_eq!(why.field(), "failure_rate");
    assert!(registry.get("a").is_none() && registry.is_empty());
    registry.get_or_create("a", |builder| builder.failure_rate(0.2)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn health_counts_by_state() {
    let registry = Registry::new();
    let get = |name: &str| {
        registry.get_or_create(name, |builder| builder.open_for(secs(1)).failure_rate(0.6)).unwrap()
    };
    let (good, open, half_open, bad) = (get("good"), get("open"), get("half-open"), get("bad"));
    get("isolated").isolate();
    half_open.force_open();
    pass(secs(1)).await;
    open.force_open();
    good.ok(20);
    bad.ok(10);
    bad.fail(10);
    let health = registry.health();
    assert_eq!((health.total, health.healthy, health.unhealthy), (5, 2, 3));
    let by_state = health.by_state;
    assert_eq!((by_state.closed, by_state.open, by_state.half_open), (2, 2, 1));
    let metrics = registry.metrics();
    let top: Vec<_> = metrics.top_failure_rates.iter().map(|(name, rate)| (&**name, *rate)).collect();
    assert_eq!(top, [("bad", 0.5), ("good", 0.0)]);
    let unhealthy: Vec<_> = metrics.unhealthy.iter().map(|name| &**name).collect();
    assert_eq!(unhealthy, ["half-open", "isolated", "open"]);
}

#[tokio::test(start_paused = true)]
async fn ten_highest_failure_rates_are_listed() {
    let registry = Registry::new();
    for n in 0..15 {
        let breaker =
            registry.get_or_create(format!("b{n:02}"), |builder| builder.failure_rate(1.0)).unwrap();
        breaker.ok(20 - n);
        breaker.fail(n);
    }
    let top = registry.metrics().top_failure_rates;
    assert_eq!(top.len(), 10);
    assert_eq!((&*top[0].0, top[0].1), ("b14", 0.7));
}

#[tokio::test(start_paused = true)]
async fn reset_all_closes_everything() {
    let registry = Registry::new();
    for name in ["a", "b"] {
        registry.get_or_create(name, |builder| builder).unwrap().isolate();
    }
    registry.reset_all();
    assert_eq!(registry.health().by_state.closed, 2);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_covers_breakers_that_come_later() {
    let registry = Registry::new();
    registry.get_or_create("early", |builder| builder).unwrap();
    let mut changes = registry.subscribe();
    registry.get("early").unwrap().force_open();
    registry.get_or_create("late", |builder| builder).unwrap().isolate();
    let own = Breaker::builder("own").build().unwrap();
    registry.insert(&own);
    own.disable();
    for expected in [("early", "open"), ("late", "isolated"), ("own", "disabled")] {
        let change = changes.next().await.unwrap();
        let Transition { from, to, .. } = change.transition;
        assert_eq!((&*change.name, from, to), (expected.0, "closed", expected.1));
    }
    assert!(changes.try_next().is_none());
    assert_eq!(changes.missed(), 0);
}

// The settings of one may depend on the others; and a page that lists them must not wait for a slow factory.
#[test]
fn settings_that_look_at_the_registry_do_not_wait_for_themselves() {
    let (done, watchdog) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let registry = Registry::new();
        let first = registry.get_or_create("first", |builder| builder.consecutive_failures(7)).unwrap();
        let second = registry.get_or_create("second", |builder| {
            assert!(registry.get("second").is_none());
            assert_eq!((registry.len(), registry.health().total), (1, 1));
            let _changes = registry.subscribe();
            builder.config(registry.get("first").unwrap().config())
        });
        assert_eq!(second.unwrap().config(), first.config());
        done.send(registry.len()).unwrap();
    });
    let len = watchdog.recv_timeout(std::time::Duration::from_secs(5)).expect("a deadlock");
    assert_eq!(len, 2);
}
