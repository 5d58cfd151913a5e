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

use buttress_core::{BoxError, FromRejection};
use buttress_timeout::{NOTHING_TO_RACE, Timeout, TimeoutConfig, TimeoutSnapshot, Timeouts, race};
use tokio::time::{self, Instant};

use crate::{Flag, ms, taking};

/// The table of a system that this serves, as its settings file has it.
fn blipee() -> Timeouts {
    #[derive(serde::Deserialize)]
    struct File {
        timeouts: BTreeMap<String, TimeoutConfig>,
    }
    let text = include_str!("../../../../tests/data/sources/blipee.toml");
    Timeouts::starting_with(toml::from_str::<File>(text).unwrap().timeouts).unwrap()
}

async fn hang() -> Result<u64, BoxError> {
    std::future::pending().await
}

async fn ends_after(timeouts: &Timeouts, name: &str) -> Duration {
    let started = Instant::now();
    timeouts.call(name, hang).await.unwrap_err();
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
    let timeouts = Timeouts::new();
    timeouts.register("api.weather", TimeoutConfig::of(ms(10_000))).unwrap();
    let ai = timeouts.register("api.ai", TimeoutConfig::of(ms(120_000))).unwrap();
    assert_eq!(ends_after(&timeouts, "api.weather").await, ms(10_000));
    assert_eq!(ends_after(&timeouts, "api.ai").await, ms(120_000));
    let late = timeouts.call("api.ai", hang).await.unwrap_err();
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
    let limit = |of: &str| all.iter().find(|(name, _)| name.as_str() == of).unwrap().1.limit;
    assert_eq!((limit("cache.get"), limit("mine")), (ms(50), ms(30_000)));
    timeouts.reset();
    assert_eq!(timeouts.all().len(), 13);
    assert_eq!(ends_after(&timeouts, "cache.get").await, ms(1_000));
    assert!(timeouts.get("mine").is_none());
}

#[tokio::test(start_paused = true)]
async fn limit_can_be_overridden_for_one_call() {
    let timeouts = blipee();
    let late = timeouts.call_within("cache.get", ms(7), hang).await.unwrap_err();
    assert_eq!(late.rejection().unwrap().limit(), Some(ms(7)));
    assert_eq!(ends_after(&timeouts, "cache.get").await, ms(1_000));
}

#[test]
fn bad_limit_names_the_policy_and_changes_nothing() {
    let timeouts = blipee();
    let why = timeouts.register("cache.get", TimeoutConfig::of(Duration::ZERO)).unwrap_err();
    assert_eq!(why.to_string(), "timeout \"cache.get\": `limit` = 0ns cannot work: must be longer than zero");
    assert!(timeouts.register("new", TimeoutConfig::of(Duration::MAX)).is_err());
    assert!(timeouts.get("new").is_none());
    assert_eq!(timeouts.get("cache.get").unwrap().config().limit, ms(1_000));
}

#[tokio::test(start_paused = true)]
async fn race_returns_the_winners_name_and_drops_the_losers() {
    let timeouts = blipee();
    let (flag, dropped) = Flag::new();
    let slow = async move {
        let _flag = flag;
        taking(80).await
    };
    type Op = Pin<Box<dyn Future<Output = Result<u64, BoxError>> + Send>>;
    let operations: [(&str, Duration, Op); 3] = [
        ("slow", ms(200), Box::pin(slow)),
        ("too slow", ms(10), Box::pin(taking(20))),
        ("fast", ms(200), Box::pin(taking(50))),
    ];
    let started = Instant::now();
    let mut race = Box::pin(timeouts.race(operations));
    let won = race.as_mut().await.unwrap();
    assert_eq!((won, started.elapsed()), (("fast", 50), ms(50)));
    assert!(dropped.load(SeqCst));
}

#[tokio::test(start_paused = true)]
async fn race_that_all_lose_returns_the_last_error() {
    let timeouts = blipee();
    let late =
        timeouts.race([("a", ms(30), taking(99)), ("b", ms(50), taking(99)), ("c", ms(40), taking(99))]);
    let late = late.await.unwrap_err();
    assert_eq!(late.rejection().unwrap().limit(), Some(ms(50)));
    let registered = timeouts.race([("cache.get", None, hang()), ("cache.set", None, hang())]);
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
struct Inline(Timeouts, AtomicBool);

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        let _ = self.0.get("api.search");
        self.1.store(true, SeqCst);
    }
}

#[test]
fn reset_locks_nothing_while_those_are_woken_who_followed_what_goes() {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let timeouts = Timeouts::new();
        let mut events = timeouts.register("api.search", TimeoutConfig::default()).unwrap().events();
        let inline = Arc::new(Inline(timeouts.clone(), AtomicBool::new(false)));
        let waker = inline.clone().into();
        assert!(Pin::new(&mut events).poll_next(&mut Context::from_waker(&waker)).is_pending());
        timeouts.reset();
        tell.send(inline.1.load(SeqCst)).unwrap();
    });
    assert_eq!(told.recv_timeout(Duration::from_secs(5)), Ok(true), "no deadlock");
}

#[test]
fn settings_a_table_cannot_start_with_name_the_policy() {
    let bad = [("fine", TimeoutConfig::default()), ("api.ai", TimeoutConfig::of(Duration::ZERO))];
    let why = Timeouts::starting_with(bad).unwrap_err();
    assert_eq!((why.policy(), why.field(), why.value()), (Some("timeout \"api.ai\""), "limit", "0ns"));
    assert!(Timeouts::starting_with([("", TimeoutConfig::default())]).is_err());
}

// Known from a table that read, changed and registered: of 20 000 updates from two threads, half were lost.
#[test]
fn updates_from_several_threads_all_count() {
    let timeouts = Timeouts::new();
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
