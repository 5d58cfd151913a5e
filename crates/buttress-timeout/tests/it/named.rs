//! Timeouts by name, in a registry.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    task::{Context, Wake},
    thread,
    time::Duration,
};

use buttress_core::{BoxError, ConfigError, FromRejection};
use buttress_kit::Registry;
use buttress_timeout::{NOTHING_TO_RACE, Timeout, TimeoutConfig, TimeoutSnapshot, race};
use tokio::time::{self, Instant};

use crate::{Flag, ms, taking};

/// The table of a system that this serves: what is not in it has a limit all the same.
#[derive(Clone)]
struct Timeouts {
    registry: Registry,
    unknown: Timeout,
    start: BTreeMap<String, TimeoutConfig>,
}

impl Timeouts {
    fn new(start: BTreeMap<String, TimeoutConfig>) -> Self {
        let unknown = Timeout::builder("unknown").limit(ms(30_000)).build().unwrap();
        let timeouts = Self { registry: Registry::new(), unknown, start };
        timeouts.reset();
        timeouts
    }

    /// A name that is there gets new settings: its counts, and the handles that others hold, stay.
    fn register(&self, name: &str, config: TimeoutConfig) -> Result<Timeout, ConfigError> {
        let timeout = self.registry.get_or_create(name, |name| Timeout::new(name, config.clone()))?;
        if timeout.config() != config {
            timeout.reconfigure(config)?;
        }
        Ok(timeout)
    }

    /// A name that is not there starts from the settings of what is unknown.
    fn update(&self, name: &str, change: impl FnOnce(&mut TimeoutConfig)) -> Result<(), ConfigError> {
        let mut change = Some(change);
        let timeout: Timeout = self.registry.get_or_create(name, |name| {
            let mut config = self.unknown.config();
            change.take().unwrap()(&mut config);
            Timeout::new(name, config)
        })?;
        change.map_or(Ok(()), |change| timeout.update(change))
    }

    fn get(&self, name: &str) -> Option<Timeout> {
        self.registry.get(name)
    }

    fn resolve(&self, name: &str) -> Timeout {
        self.get(name).unwrap_or_else(|| self.unknown.clone())
    }

    fn all(&self) -> Vec<Timeout> {
        self.registry.list_of()
    }

    /// Back to the names and settings that it started with.
    fn reset(&self) {
        for timeout in self.all().iter().filter(|one| !self.start.contains_key(one.name().as_str())) {
            self.registry.remove::<Timeout>(timeout.name());
        }
        for (name, config) in &self.start {
            self.register(name, config.clone()).unwrap();
        }
    }
}

fn blipee() -> Timeouts {
    #[derive(serde::Deserialize)]
    struct File {
        timeouts: BTreeMap<String, TimeoutConfig>,
    }
    let text = include_str!("../../../../tests/data/sources/blipee.toml");
    Timeouts::new(toml::from_str::<File>(text).unwrap().timeouts)
}

async fn hang() -> Result<u64, BoxError> {
    std::future::pending().await
}

async fn ends_after(timeouts: &Timeouts, name: &str) -> Duration {
    let started = Instant::now();
    timeouts.resolve(name).call(hang).await.unwrap_err();
    started.elapsed()
}

#[tokio::test(start_paused = true)]
async fn default_table_is_exact_and_unknown_names_get_30_s() {
    let timeouts = blipee();
    let table = [
        ("api.default", 30),
        ("api.ai", 120),
        ("api.upload", 300),
        ("db.query", 30),
        ("db.transaction", 60),
        ("db.migration", 300),
        ("external.weather", 10),
        ("external.carbon", 15),
        ("external.regulatory", 20),
        ("cache.get", 1),
        ("cache.set", 2),
        ("queue.enqueue", 5),
        ("queue.process", 60),
    ];
    assert_eq!(timeouts.all().len(), table.len());
    for (name, seconds) in table {
        assert_eq!(timeouts.get(name).unwrap().config().limit, Duration::from_secs(seconds), "{name}");
        assert_eq!(ends_after(&timeouts, name).await, Duration::from_secs(seconds), "{name}");
    }
    assert!(timeouts.get("nobody").is_none());
    assert_eq!(ends_after(&timeouts, "nobody").await, Duration::from_secs(30));
    assert_eq!(timeouts.resolve("nobody").name().as_str(), "unknown");
    assert_eq!(timeouts.all().len(), table.len());
}

#[tokio::test(start_paused = true)]
async fn registered_name_has_its_own_limit() {
    let timeouts = Timeouts::new(BTreeMap::new());
    timeouts.register("api.weather", TimeoutConfig::of(ms(10_000))).unwrap();
    let ai = timeouts.register("api.ai", TimeoutConfig::of(ms(120_000))).unwrap();
    assert_eq!(ends_after(&timeouts, "api.weather").await, ms(10_000));
    assert_eq!(ends_after(&timeouts, "api.ai").await, ms(120_000));
    let late = timeouts.resolve("api.ai").call(hang).await.unwrap_err();
    assert_eq!(late.rejection().unwrap().policy(), "api.ai");
    assert_eq!(ai.snapshot().timeouts, 2);
    // Again: the handle and its counts stay.
    timeouts.register("api.ai", TimeoutConfig::of(ms(5))).unwrap();
    assert_eq!(ends_after(&timeouts, "api.ai").await, ms(5));
    assert_eq!(ai.snapshot().timeouts, 3);
    assert_eq!(ai.config().limit, ms(5));
}

#[tokio::test(start_paused = true)]
async fn names_can_be_updated_listed_and_reset() {
    let timeouts = blipee();
    let clone = timeouts.clone();
    clone.update("cache.get", |config| config.limit = ms(50)).unwrap();
    clone.update("mine", |config| assert_eq!(config.limit, ms(30_000))).unwrap();
    assert_eq!(ends_after(&timeouts, "cache.get").await, ms(50));
    let all = timeouts.all();
    assert_eq!(all.len(), 14);
    let limit = |of: &str| all.iter().find(|one| one.name().as_str() == of).unwrap().config().limit;
    assert_eq!((limit("cache.get"), limit("mine")), (ms(50), ms(30_000)));
    timeouts.reset();
    assert_eq!(timeouts.all().len(), 13);
    assert_eq!(ends_after(&timeouts, "cache.get").await, ms(1_000));
    assert!(timeouts.get("mine").is_none());
}

#[tokio::test(start_paused = true)]
async fn limit_can_be_overridden_for_one_call() {
    let timeouts = blipee();
    let late = timeouts.resolve("cache.get").call_within(ms(7), hang).await.unwrap_err();
    assert_eq!(late.rejection().unwrap().limit(), Some(ms(7)));
    assert_eq!(ends_after(&timeouts, "cache.get").await, ms(1_000));
}

#[test]
fn bad_limit_names_the_policy_and_changes_nothing() {
    let timeouts = blipee();
    let why = timeouts.register("cache.get", TimeoutConfig::of(Duration::ZERO)).unwrap_err();
    assert_eq!((why.policy(), why.field(), why.value()), (Some("timeout \"cache.get\""), "limit", "0ns"));
    assert!(timeouts.register("new", TimeoutConfig::of(Duration::MAX)).is_err());
    assert!(timeouts.get("new").is_none());
    assert_eq!(timeouts.get("cache.get").unwrap().config().limit, ms(1_000));
}

fn limited(name: &str, limit: Duration) -> Timeout {
    Timeout::builder(name).limit(limit).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn race_returns_the_winners_name_and_drops_the_losers() {
    let (flag, dropped) = Flag::new();
    let slow = async move {
        let _flag = flag;
        taking(80).await
    };
    type Op = Pin<Box<dyn Future<Output = Result<u64, BoxError>> + Send>>;
    let operations: [(Timeout, Op); 3] = [
        (limited("slow", ms(200)), Box::pin(slow)),
        (limited("too slow", ms(10)), Box::pin(taking(20))),
        (limited("fast", ms(200)), Box::pin(taking(50))),
    ];
    let started = Instant::now();
    let mut race = Box::pin(race(operations));
    let (winner, value) = race.as_mut().await.unwrap();
    assert_eq!(((winner.as_str(), value), started.elapsed()), (("fast", 50), ms(50)));
    assert!(dropped.load(SeqCst));
}

#[tokio::test(start_paused = true)]
async fn race_that_all_lose_returns_the_last_error() {
    let timeouts = blipee();
    let late = race([
        (limited("a", ms(30)), taking(99)),
        (limited("b", ms(50)), taking(99)),
        (limited("c", ms(40)), taking(99)),
    ]);
    let late = late.await.unwrap_err();
    assert_eq!(late.rejection().unwrap().limit(), Some(ms(50)));
    let registered = race([(timeouts.resolve("cache.get"), hang()), (timeouts.resolve("cache.set"), hang())]);
    assert_eq!(registered.await.unwrap_err().rejection().unwrap().policy(), "cache.set");
}

#[tokio::test(start_paused = true)]
async fn race_of_handles_counts_in_each_of_them() {
    let near = Timeout::builder("near").limit(ms(20)).build().unwrap();
    let far = Timeout::builder("far").limit(ms(100)).build().unwrap();
    let (winner, took) = race([(near.clone(), taking(30)), (far.clone(), taking(60))]).await.unwrap();
    assert_eq!((winner.as_str(), took), ("far", 60));
    assert_eq!((near.snapshot().timeouts, far.snapshot()), (1, TimeoutSnapshot::default()));
    let never = race([(near.clone(), hang()), (far.clone(), hang())]);
    drop(time::timeout(ms(1), never).await);
    assert_eq!((near.snapshot().cancelled, far.snapshot().cancelled), (1, 1));
}

#[tokio::test]
async fn race_of_nobody_is_an_error() {
    let nobody: [(Timeout, std::future::Ready<Result<(), BoxError>>); 0] = [];
    let why = race(nobody).await.unwrap_err();
    assert_eq!(why.rejection().unwrap().code(), NOTHING_TO_RACE);
}

/// Wakes an executor that polls right inside of `wake`, where the table is used again.
struct Inline(Registry, AtomicBool);

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        let _ = self.0.get::<Timeout>("api.search");
        self.1.store(true, SeqCst);
    }
}

#[test]
fn clear_locks_nothing_while_those_are_woken_who_followed_what_goes() {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let registry = Registry::new();
        registry.insert(Timeout::new("api.search", TimeoutConfig::default()).unwrap()).unwrap();
        let mut events = registry.get::<Timeout>("api.search").unwrap().events();
        let inline = Arc::new(Inline(registry.clone(), AtomicBool::new(false)));
        let waker = inline.clone().into();
        assert!(Pin::new(&mut events).poll_next(&mut Context::from_waker(&waker)).is_pending());
        registry.clear();
        tell.send(inline.1.load(SeqCst)).unwrap();
    });
    assert_eq!(told.recv_timeout(Duration::from_secs(5)), Ok(true), "no deadlock");
}

#[test]
fn settings_a_table_cannot_start_with_name_the_policy() {
    let registry = Registry::new();
    let new =
        |name: &str, limit| registry.get_or_create(name, |name| Timeout::new(name, TimeoutConfig::of(limit)));
    new("fine", ms(1)).unwrap();
    let why = new("api.ai", Duration::ZERO).unwrap_err();
    assert_eq!((why.policy(), why.field(), why.value()), (Some("timeout \"api.ai\""), "limit", "0ns"));
    assert!(new("", ms(1)).is_err());
    assert_eq!(registry.len(), 1);
}

// Known from a table that read, changed and registered: of 20 000 updates from two threads, half were lost.
#[test]
fn updates_from_several_threads_all_count() {
    let timeouts = Timeouts::new(BTreeMap::new());
    let times = 2_000;
    let longer = |config: &mut TimeoutConfig| config.limit = config.limit.saturating_add(ms(1));
    thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                for _ in 0..times {
                    timeouts.update("mine", longer).unwrap();
                }
            });
        }
    });
    assert_eq!(timeouts.get("mine").unwrap().config().limit, ms(30_000 + 2 * times));
}

#[test]
fn update_that_cannot_work_changes_and_registers_nothing() {
    let timeouts = blipee();
    let bad = |config: &mut TimeoutConfig| config.limit = Duration::ZERO;
    let why = timeouts.update("cache.get", bad).unwrap_err();
    assert_eq!((why.policy(), why.field(), why.value()), (Some("timeout \"cache.get\""), "limit", "0ns"));
    assert_eq!(timeouts.update("new", bad).unwrap_err().policy(), Some("timeout \"new\""));
    assert!(timeouts.update("", |_| ()).is_err());
    assert_eq!(timeouts.all().len(), 13);
    assert_eq!(timeouts.get("cache.get").unwrap().config().limit, ms(1_000));
}
