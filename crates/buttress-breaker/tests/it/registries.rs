//! Many breakers.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::SeqCst},
};

use buttress_breaker::{Breaker, BreakerBuilder, State};
use buttress_core::{ConfigError, Name, OwnedEvent, Transition};
use buttress_kit::{Health, Registry};

use crate::support::*;

fn get_or_create(
    registry: &Registry,
    name: impl Into<Name>,
    settings: impl FnOnce(BreakerBuilder) -> BreakerBuilder,
) -> Result<Breaker, ConfigError> {
    registry.get_or_create(name, |name| settings(Breaker::builder(name)).build())
}

fn get(registry: &Registry, name: &str) -> Option<Breaker> {
    registry.get(name)
}

/// How many are closed, open (isolated ones too) and half-open.
fn by_state(registry: &Registry) -> [usize; 3] {
    let mut counts = [0; 3];
    for breaker in registry.list_of::<Breaker>() {
        let state = match breaker.state() {
            State::Open | State::Isolated => 1,
            State::HalfOpen => 2,
            _ => 0,
        };
        counts[state] += 1;
    }
    counts
}

/// The ten highest failure rates, of those with enough calls.
fn top_failure_rates(registry: &Registry) -> Vec<(String, f64)> {
    let all = registry.list_of::<Breaker>();
    let mut rates: Vec<_> =
        all.iter().filter_map(|one| Some((one.name().to_string(), one.snapshot().failure_ratio?))).collect();
    rates.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    rates.truncate(10);
    rates
}

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
                let breaker = get_or_create(&registry, "payments", |builder| {
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
    get(&registry, "payments").unwrap().is(State::Open); // all hundred failures went to one
}

#[tokio::test(start_paused = true)]
async fn breakers_are_found_taken_out_and_listed() {
    let registry = Registry::new();
    assert!(get(&registry, "a").is_none() && registry.is_empty());
    for name in ["b", "a", "c"] {
        get_or_create(&registry, name, |builder| builder).unwrap();
    }
    let names: Vec<_> = registry.list_of::<Breaker>().iter().map(|one| one.name().to_string()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(&**registry.remove::<Breaker>("b").unwrap().name(), "b");
    assert!(get(&registry, "b").is_none() && registry.remove::<Breaker>("b").is_none());
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
        let asked = get_or_create(&registry, format!("user-{n}"), |builder| {
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
    get_or_create(&registry, "user-0", |_| unreachable!()).unwrap();
    registry.remove::<Breaker>("user-0").unwrap();
    get_or_create(&registry, "payments", |builder| builder).unwrap();
    get_or_create(&registry, "user-0", |builder| builder).unwrap_err();
    assert!(registry.insert(Breaker::builder("by hand").build().unwrap()).is_ok());
    assert_eq!(registry.len(), 10_001);
    let none = Registry::with_max_names(0);
    get_or_create(&none, "a", |builder| builder).unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn settings_that_cannot_work_leave_no_name_behind() {
    let registry = Registry::new();
    let why = get_or_create(&registry, "a", |builder| builder.failure_rate(2.0)).unwrap_err();
    assert_eq!(why.field(), "failure_rate");
    assert!(get(&registry, "a").is_none() && registry.is_empty());
    get_or_create(&registry, "a", |builder| builder.failure_rate(0.2)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn health_counts_by_state() {
    let registry = Registry::new();
    let get = |name: &str| {
        get_or_create(&registry, name, |builder| builder.open_for(secs(1)).failure_rate(0.6)).unwrap()
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
    let (healthy, unhealthy): (Vec<_>, Vec<_>) =
        health.each.iter().partition(|(_, _, health)| *health == Health::Up);
    assert_eq!((health.each.len(), healthy.len(), unhealthy.len()), (5, 2, 3));
    assert_eq!(by_state(&registry), [2, 2, 1]);
    let top = top_failure_rates(&registry);
    let top: Vec<_> = top.iter().map(|(name, rate)| (&**name, *rate)).collect();
    assert_eq!(top, [("bad", 0.5), ("good", 0.0)]);
    let unhealthy: Vec<_> = unhealthy.iter().map(|(_, name, _)| &**name).collect();
    assert_eq!(unhealthy, ["half-open", "isolated", "open"]);
}

#[tokio::test(start_paused = true)]
async fn ten_highest_failure_rates_are_listed() {
    let registry = Registry::new();
    for n in 0..15 {
        let breaker =
            get_or_create(&registry, format!("b{n:02}"), |builder| builder.failure_rate(1.0)).unwrap();
        breaker.ok(20 - n);
        breaker.fail(n);
    }
    let top = top_failure_rates(&registry);
    assert_eq!(top.len(), 10);
    assert_eq!((&*top[0].0, top[0].1), ("b14", 0.7));
}

#[tokio::test(start_paused = true)]
async fn reset_all_closes_everything() {
    let registry = Registry::new();
    for name in ["a", "b"] {
        get_or_create(&registry, name, |builder| builder).unwrap().isolate();
    }
    registry.reset_all();
    assert_eq!(by_state(&registry)[0], 2);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_covers_breakers_that_come_later() {
    let registry = Registry::new();
    get_or_create(&registry, "early", |builder| builder).unwrap();
    let mut changes = registry.events();
    get(&registry, "early").unwrap().force_open();
    get_or_create(&registry, "late", |builder| builder).unwrap().isolate();
    let own = Breaker::builder("own").build().unwrap();
    registry.insert(own.clone()).unwrap();
    own.disable();
    for expected in [("early", "open"), ("late", "isolated"), ("own", "disabled")] {
        let change = changes.next().await.unwrap();
        let OwnedEvent::Transition(Transition { from, to, .. }) = change.what else { panic!("{change:?}") };
        assert_eq!((&*change.policy, from, to), (expected.0, "closed", expected.1));
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
        let first = get_or_create(&registry, "first", |builder| builder.consecutive_failures(7)).unwrap();
        let second = get_or_create(&registry, "second", |builder| {
            assert!(get(&registry, "second").is_none());
            assert_eq!((registry.len(), registry.health().each.len()), (1, 1));
            let _changes = registry.events();
            builder.config(get(&registry, "first").unwrap().config())
        });
        assert_eq!(second.unwrap().config(), first.config());
        done.send(registry.len()).unwrap();
    });
    let len = watchdog.recv_timeout(std::time::Duration::from_secs(5)).expect("a deadlock");
    assert_eq!(len, 2);
}
