//! What holds for the settings of every pattern: one page has them all, a bad one is named with its policy, a change
//! replaces what it names as a whole, and reaches every key.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};

use buttress::{
    BoxError, Breaker, BreakerConfig, BudgetRule, Bulkhead, BulkheadConfig, ConfigError, Fallback,
    FallbackConfig, GrpcBudgetConfig, Handle, InFlightBudgetConfig, Keyed, Registry, Retry, RetryConfig,
    Timeout, TimeoutConfig, TokenBudgetConfig,
    breaker::{KeyedBreaker, WindowConfig},
    context,
    kit::{Config, erased_serde},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    runtime::Handle as Runtime,
    time::{Instant, advance},
};
use tower::{Service, ServiceExt, service_fn};

/// A settings file of all patterns.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    breaker: BTreeMap<String, BreakerConfig>,
    retry: BTreeMap<String, RetryConfig>,
    timeout: BTreeMap<String, TimeoutConfig>,
    bulkhead: BTreeMap<String, BulkheadConfig>,
    fallback: BTreeMap<String, FallbackConfig>,
}

/// The pieces of TOML of the page, in order.
fn page() -> Vec<&'static str> {
    let page = include_str!("../../docs/settings.md");
    let pieces = page.split("```toml\n").skip(1);
    pieces.map(|piece| piece.split("```").next().unwrap()).collect()
}

/// The names of all settings of a pattern, at any depth, with dots.
fn names(settings: &Value) -> BTreeSet<String> {
    let Value::Object(table) = settings else { return BTreeSet::new() };
    let mut all = BTreeSet::new();
    for (name, value) in table {
        all.insert(name.clone());
        all.extend(names(value).into_iter().map(|inner| format!("{name}.{inner}")));
    }
    all
}

#[test]
fn page_has_every_setting_of_every_pattern_with_its_default() {
    fn same<C: Config>(kind: &str, read: &BTreeMap<String, C>, table: &toml::Table) {
        assert_eq!(read["name"], C::default(), "{kind}: the page and the defaults differ");
        let written = serde_json::to_value(&table[kind]["name"]).unwrap();
        let default = serde_json::to_value(C::default()).unwrap();
        let missing: Vec<_> = names(&default).difference(&names(&written)).cloned().collect();
        assert!(missing.is_empty(), "docs/settings.md does not have these of a {kind}: {missing:?}");
    }
    let all = page()[0];
    let (file, table) = (toml::from_str::<File>(all).unwrap(), all.parse::<toml::Table>().unwrap());
    let File { breaker, retry, timeout, bulkhead, fallback } = file;
    same("breaker", &breaker, &table);
    same("retry", &retry, &table);
    same("timeout", &timeout, &table);
    same("bulkhead", &bulkhead, &table);
    same("fallback", &fallback, &table);
    // And each says what it may be.
    for line in all.lines().filter(|line| line.contains(" = ")) {
        assert!(line.contains(" # ") || line.contains("backoff = {"), "{line}: which values are there?");
    }
}

#[test]
fn page_has_the_settings_of_policies_by_key() {
    #[derive(Deserialize)]
    struct File {
        keys: Keyed,
    }
    let keys = toml::from_str::<File>(page()[1]).unwrap().keys;
    assert_eq!(keys, Keyed::default());
    let table = page()[1].parse::<toml::Table>().unwrap();
    let written = serde_json::to_value(&table["keys"]).unwrap();
    assert_eq!(names(&written), names(&serde_json::to_value(keys).unwrap()));
}

#[test]
fn other_forms_of_the_page_work_and_show_every_kind_of_budget_with_all_its_settings() {
    let forms = page()[2];
    let file: File = toml::from_str(forms).unwrap();
    for (name, config) in file.breaker {
        assert_ne!(config, BreakerConfig::default(), "{name}");
        Breaker::new(name, config).unwrap();
    }
    let table = forms.parse::<toml::Table>().unwrap();
    let mut budgets = BTreeSet::new();
    for (name, config) in file.retry {
        assert_ne!(config, RetryConfig::default(), "{name}");
        if let Some(rule) = config.budget {
            let default: BudgetRule = match rule {
                BudgetRule::Ratio(_) => buttress::BudgetConfig::default().into(),
                BudgetRule::Tokens(_) => TokenBudgetConfig::default().into(),
                BudgetRule::Grpc(_) => GrpcBudgetConfig::default().into(),
                BudgetRule::InFlight(_) => InFlightBudgetConfig::default().into(),
                other => panic!("{other:?} is not on the page"),
            };
            assert_eq!(rule, default, "{name}: the page and the defaults differ");
            let written = serde_json::to_value(&table["retry"][&name]["budget"]).unwrap();
            assert_eq!(names(&written), names(&serde_json::to_value(rule).unwrap()), "{name}");
            budgets.insert(format!("{:?}", std::mem::discriminant(&rule)));
        }
        let retry = Retry::new(&*name, config).unwrap();
        assert_eq!(retry.budget().is_some(), name.starts_with("budget-"), "{name}");
    }
    assert_eq!(budgets.len(), 4);
}

/// A policy of each pattern and form, and its settings at first.
fn every_policy() -> Vec<(&'static str, Arc<dyn Handle>, Value)> {
    fn of<C: Config>(handle: impl Handle, _: fn() -> C) -> (&'static str, Arc<dyn Handle>, Value) {
        (handle.kind().name, Arc::new(handle), serde_json::to_value(C::default()).unwrap())
    }
    vec![
        of(Breaker::builder("p").build().unwrap(), BreakerConfig::default),
        of(Breaker::keyed("p").build::<u32>().unwrap(), BreakerConfig::default),
        of(Retry::builder("p").build().unwrap(), RetryConfig::default),
        of(Timeout::builder("p").build().unwrap(), TimeoutConfig::default),
        of(Bulkhead::builder("p").build().unwrap(), BulkheadConfig::default),
        of(Fallback::builder("p").build().unwrap(), FallbackConfig::default),
    ]
}

fn patch(handle: &dyn Handle, settings: &Value) -> Result<(), ConfigError> {
    handle.apply(&mut <dyn erased_serde::Deserializer<'_>>::erase(settings))
}

fn in_force(handle: &dyn Handle) -> Value {
    serde_json::to_value(handle.config_data()).unwrap()
}

#[test]
fn settings_written_out_and_read_in_again_are_the_same_in_formats_with_and_without_a_null() {
    fn round<C: Config>(config: &C) {
        let text = toml::to_string(config).unwrap();
        assert_eq!(&toml::from_str::<C>(&text).unwrap(), config, "{text}");
        let json = serde_json::to_string(config).unwrap();
        assert_eq!(&serde_json::from_str::<C>(&json).unwrap(), config, "{json}");
    }
    let off: File = toml::from_str(
        "bulkhead.b.queue_timeout = 'none'\nretry.r.throttle_backoff = {}\nbreaker.b.open_for = '3s'\n\
         breaker.b.ramp = {}\nbreaker.b.window.count = 7",
    )
    .unwrap();
    let (bulkhead, breaker) = (&off.bulkhead["b"], &off.breaker["b"]);
    assert_eq!((bulkhead.queue_timeout, breaker.window), (None, WindowConfig::count(7)));
    round(bulkhead);
    round(breaker);
    round(&off.retry["r"]);
    round(&RetryConfig::default());
    round(&TimeoutConfig::default());
    round(&FallbackConfig::default());
    // What is in force, as a patch, puts it back.
    for (kind, handle, _) in every_policy() {
        let before = in_force(&*handle);
        patch(&*handle, &before).unwrap();
        assert_eq!(in_force(&*handle), before, "{kind}");
        // TOML leaves out what is null, and what is left out of a patch stays as it is.
        let null = before.as_object().unwrap().iter().find(|(_, value)| value.is_null());
        assert_eq!(null, None, "{kind}: a setting that may be off is written as \"none\"");
    }
}

#[test]
fn patch_replaces_only_what_it_names() {
    let patches = [
        ("breaker", json!({ "open_for": "7s", "permitted_probes": 3 })),
        ("retry", json!({ "max_attempts": 7 })),
        ("timeout", json!({ "limit": "7s" })),
        ("bulkhead", json!({ "queue_timeout": "none" })),
        ("fallback", json!({ "max_keys": 7 })),
    ];
    for (kind, handle, default) in every_policy() {
        let (_, changes) = patches.iter().find(|(of, _)| *of == kind).unwrap();
        patch(&*handle, changes).unwrap();
        let mut wanted = default.clone();
        for (name, value) in changes.as_object().unwrap() {
            wanted[name] = value.clone();
        }
        assert_eq!(in_force(&*handle), wanted, "{kind}");
        patch(&*handle, &json!({})).unwrap();
        assert_eq!(in_force(&*handle), wanted, "{kind}: nothing named, nothing changed");
    }
}

/// A setting that cannot work of each pattern, and a part of what helps.
fn bad() -> [(&'static str, Value, &'static str, &'static str); 10] {
    [
        (
            "breaker",
            json!({ "consecutive_failures": 0 }),
            "consecutive_failures",
            "leave it out for no such rule",
        ),
        ("breaker", json!({ "slow_call_rate": 0.5 }), "slow_call_rate", "needs `slow_call_duration`"),
        ("breaker", json!({ "window": { "count": 0 } }), "window.count", "from 1 to 1048576"),
        ("retry", json!({ "max_attempts": 0 }), "max_attempts", "1 means no retry"),
        ("retry", json!({ "backoff": { "factor": 0.5 } }), "backoff.factor", "from 1.0 to 1e9"),
        (
            "retry",
            json!({ "budget": { "in_flight": { "ratio": 2.0 } } }),
            "budget.in_flight.ratio",
            "from 0.0 to 1.0",
        ),
        ("timeout", json!({ "limit": "0s" }), "limit", "longer than zero"),
        ("bulkhead", json!({ "max_concurrent": 0 }), "max_concurrent", "use `close`"),
        ("bulkhead", json!({ "queue_timeout": "0s" }), "queue_timeout", "longer than zero"),
        ("fallback", json!({ "max_keys": 0 }), "max_keys", "without `last_good`"),
    ]
}

#[test]
fn setting_that_cannot_work_is_told_with_policy_field_value_and_remedy_however_it_comes() {
    fn told(why: &ConfigError, kind: &str, field: &str, remedy: &str) {
        let policy = format!("{kind} \"orders\"");
        assert_eq!((why.policy(), why.field()), (Some(&*policy), field));
        assert!(!why.value().is_empty() && why.why().contains(remedy), "{why}");
        let text = why.to_string();
        assert!(text.starts_with(&format!("{policy}: `{field}` = ")) && text.ends_with(why.why()), "{text}");
    }
    fn read<C: Config>(settings: &Value) -> C {
        serde_json::from_value(settings.clone()).unwrap()
    }
    let registry = Registry::new();
    registry.insert(Breaker::builder("orders").build().unwrap()).unwrap();
    registry.insert(Retry::builder("orders").build().unwrap()).unwrap();
    registry.insert(Timeout::builder("orders").build().unwrap()).unwrap();
    registry.insert(Bulkhead::builder("orders").build().unwrap()).unwrap();
    registry.insert(Fallback::builder("orders").build().unwrap()).unwrap();
    for (kind, settings, field, remedy) in bad() {
        let (built, changed) = match kind {
            "breaker" => {
                let config = || read::<BreakerConfig>(&settings);
                let keyed = Breaker::keyed("orders");
                let one = keyed.clone().build::<u32>().unwrap();
                told(&keyed.config(config()).build::<u32>().unwrap_err(), kind, field, remedy);
                told(&one.reconfigure(config()).unwrap_err(), kind, field, remedy);
                let one = registry.get::<Breaker>("orders").unwrap();
                (Breaker::new("orders", config()).err(), one.reconfigure(config()))
            }
            "retry" => {
                let one = registry.get::<Retry>("orders").unwrap();
                (Retry::new("orders", read(&settings)).err(), one.reconfigure(read(&settings)))
            }
            "timeout" => {
                let one = registry.get::<Timeout>("orders").unwrap();
                // Time-outs by name are a registry with time-outs in it.
                let named = Registry::new();
                let made = named.get_or_create("orders", |name| Timeout::new(name, read(&settings)));
                told(&made.unwrap_err(), kind, field, remedy);
                assert!(named.is_empty());
                told(&one.update(|config| *config = read(&settings)).unwrap_err(), kind, field, remedy);
                (Timeout::new("orders", read(&settings)).err(), one.reconfigure(read(&settings)))
            }
            "bulkhead" => {
                let one = registry.get::<Bulkhead>("orders").unwrap();
                (Bulkhead::new("orders", read(&settings)).err(), one.reconfigure(read(&settings)))
            }
            _ => {
                let one = registry.get::<Fallback>("orders").unwrap();
                (Fallback::new("orders", read(&settings)).err(), one.reconfigure(read(&settings)))
            }
        };
        told(&built.unwrap(), kind, field, remedy);
        told(&changed.unwrap_err(), kind, field, remedy);
        let why = registry.apply(json!({ (kind): { "orders": settings } })).unwrap_err();
        told(&why, kind, field, remedy);
    }
    for policy in registry.list() {
        let kind = policy.kind().name;
        let (.., default) = every_policy().into_iter().find(|(of, ..)| *of == kind).unwrap();
        assert_eq!(in_force(&*policy), default, "{kind}");
    }
}

#[test]
fn settings_of_keys_that_cannot_work_are_told_in_the_same_way() {
    let none = Keyed { max_keys: 0, ..Keyed::default() };
    let at_once = Keyed { idle_for: Duration::ZERO, ..Keyed::default() };
    for (keys, field) in [(none, "max_keys"), (at_once, "idle_for")] {
        let why = Breaker::keyed("tenants").keys(keys).build::<u32>().unwrap_err();
        assert_eq!((why.policy(), why.field()), (Some("breaker \"tenants\""), field));
    }
}

#[test]
fn value_of_the_wrong_kind_is_told_with_the_setting_and_what_is_expected_in_words() {
    let shapes = [
        json!("odd"),
        json!(true),
        json!(-7),
        json!(0.5),
        json!([]),
        json!(["x"]),
        json!({ "odd": 1 }),
        json!({}),
    ];
    let mut refused = 0;
    for (kind, handle, default) in every_policy() {
        for name in default.as_object().unwrap().keys() {
            for value in &shapes {
                let Err(why) = patch(&*handle, &json!({ (name): value })) else {
                    patch(&*handle, &default).unwrap();
                    continue;
                };
                refused += 1;
                assert_eq!(why.policy(), Some(&*format!("{kind} \"p\"")), "{why}");
                assert!(why.field() == name || why.field().starts_with(&format!("{name}.")), "{name}: {why}");
                // What a reader of a settings file knows nothing of.
                for rust in [
                    "struct ",
                    "enum ",
                    "variant of",
                    "tuple",
                    "unit variant",
                    "unit struct",
                    "Option",
                    "Text",
                ] {
                    assert!(!why.why().contains(rust), "{name} = {value}: {why}");
                }
            }
        }
    }
    assert!(refused > 200, "{refused}");
    let one = Breaker::builder("p").build().unwrap();
    let why = patch(&one, &json!({ "window": "count" })).unwrap_err().to_string();
    assert_eq!(
        why,
        "breaker \"p\": `window` cannot be read: invalid type: string \"count\", expected a window such as \
         { count = 100 }, { time = \"10s\", buckets = 10 } or { interval = \"1m\" }"
    );
}

#[test]
fn names_that_there_are_not_are_told_with_those_that_there_are() {
    for (kind, handle, default) in every_policy() {
        let why = patch(&*handle, &json!({ "odd_one": 1 })).unwrap_err();
        assert_eq!(why.field(), "odd_one");
        for name in default.as_object().unwrap().keys() {
            assert!(why.why().contains(&**name), "{kind}: {why}");
        }
        assert_eq!(in_force(&*handle), default);
    }
}

/// Two threads change the settings of one policy at the same moment, as a whole or by a patch, again and again. What is in force then is what one or the other has set, and `obeys` asks calls whether they see the same.
async fn change_at_once<P, C>(
    policy: &P,
    reconfigure: fn(&P, C) -> Result<(), ConfigError>,
    one: C,
    other: C,
    mut obeys: impl AsyncFnMut(C),
) where
    P: Handle + Clone,
    C: Config,
{
    let rounds = 3_000;
    let moment = Arc::new(Barrier::new(3));
    let threads = [(one.clone(), 1), (other.clone(), 2)].map(|(config, number)| {
        let (policy, moment, runtime) = (policy.clone(), moment.clone(), Runtime::current());
        let settings = serde_json::to_value(&config).unwrap();
        thread::spawn(move || {
            let _clock = runtime.enter();
            for round in 0..rounds {
                moment.wait();
                // Both as a whole, both by patches, or one so and one so.
                let changed = match round % 4 {
                    0 => patch(&policy, &settings),
                    way if way == number => patch(&policy, &settings),
                    _ => reconfigure(&policy, config.clone()),
                };
                changed.unwrap();
                moment.wait();
            }
        })
    });
    for _ in 0..rounds {
        moment.wait();
        moment.wait();
        let set: C = serde_json::from_value(in_force(policy)).unwrap();
        assert!(set == one || set == other, "mixed: {set:?}");
        obeys(set).await;
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

async fn down() -> Result<u32, BoxError> {
    Err("down".into())
}

#[tokio::test(start_paused = true)]
async fn two_changes_of_a_timeout_at_once_never_mix_and_calls_obey_what_is_in_force() {
    let timeout = Timeout::builder("p").build().unwrap();
    let (one, mut other) =
        (TimeoutConfig::of(Duration::from_secs(1)), TimeoutConfig::of(Duration::from_secs(3)));
    other.propagate = false;
    change_at_once(&timeout, Timeout::reconfigure, one, other, async |config| {
        let (start, mut seen) = (Instant::now(), None);
        let call = timeout.call(|| {
            seen = Some(context::current().deadline.is_some());
            std::future::pending::<Result<u32, BoxError>>()
        });
        call.await.unwrap_err();
        assert_eq!((start.elapsed(), seen), (config.limit, Some(config.propagate)));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn two_changes_of_a_retry_at_once_never_mix_and_calls_obey_what_is_in_force() {
    let retry = Retry::builder("p").build().unwrap();
    let [one, other] = [2, 5].map(|n| RetryConfig::fixed(n, Duration::from_secs(n.into())));
    change_at_once(&retry, Retry::reconfigure, one, other, async |config| {
        let (start, mut calls) = (Instant::now(), 0);
        let call = retry.call(|| {
            calls += 1;
            down()
        });
        call.await.unwrap_err();
        let waits = config.backoff.base * (config.max_attempts - 1);
        assert_eq!((calls, start.elapsed()), (config.max_attempts, waits));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn two_changes_of_a_bulkhead_at_once_never_mix_and_calls_obey_what_is_in_force() {
    let bulkhead = Bulkhead::builder("p").build().unwrap();
    let [one, other] = [1, 3].map(|limit| {
        let mut config = BulkheadConfig::default();
        (config.max_concurrent, config.max_queue) = (limit, limit);
        config
    });
    change_at_once(&bulkhead, Bulkhead::reconfigure, one, other, async |config| {
        let snapshot = bulkhead.snapshot();
        assert_eq!((snapshot.limit, snapshot.max_queue), (config.max_concurrent, config.max_queue));
        let held: Vec<_> = (0..9).map_while(|_| bulkhead.try_acquire().ok()).collect();
        assert_eq!(held.len(), config.max_concurrent as usize);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn two_changes_of_a_fallback_at_once_never_mix_and_calls_obey_what_is_in_force() {
    let fallback = Fallback::builder("p").build().unwrap();
    let [one, other] = [(1, 1), (3_600, 3)].map(|(secs, keys)| {
        let mut config = FallbackConfig::default();
        (config.max_age, config.max_keys) = (Duration::from_secs(secs), keys);
        config
    });
    // A request is a key, and whether the service works.
    let works =
        service_fn(|(key, works): (u32, bool)| async move { if works { Ok(key) } else { down().await } });
    let mut service = fallback.layer().last_good(|req: &(u32, bool)| req.0, |_: &mut u32, _| ()).wrap(works);
    change_at_once(&fallback, Fallback::reconfigure, one, other, async |config| {
        for key in 0..3 {
            service.ready().await.unwrap().call((key, true)).await.unwrap();
        }
        let mut stored = 0;
        for key in 0..3 {
            stored += usize::from(service.ready().await.unwrap().call((key, false)).await.is_ok());
        }
        assert_eq!(stored, config.max_keys);
        advance(Duration::from_secs(60)).await;
        let late = service.ready().await.unwrap().call((2, false)).await;
        assert_eq!(late.is_ok(), config.max_age > Duration::from_secs(60));
    })
    .await;
}

/// How many failures open this circuit, and for how long.
fn opens_by(breaker: &Breaker) -> (Option<u32>, Option<Duration>) {
    breaker.reset();
    let mut failures = 0;
    loop {
        match breaker.try_acquire() {
            Ok(permit) => permit.failure(),
            Err(refused) => return (Some(failures), refused.retry_after()),
        }
        failures += 1;
    }
}

fn by_failures(failures: u32) -> BreakerConfig {
    let mut config = BreakerConfig::default();
    config.consecutive_failures = Some(failures);
    config.open_for = Some(Duration::from_secs(failures.into()));
    config
}

#[tokio::test(start_paused = true)]
async fn two_changes_of_a_breaker_at_once_never_mix_and_calls_obey_what_is_in_force() {
    let breaker = Breaker::builder("p").build().unwrap();
    change_at_once(&breaker, Breaker::reconfigure, by_failures(1), by_failures(3), async |config| {
        assert_eq!(opens_by(&breaker), (config.consecutive_failures, config.open_for));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn two_changes_of_a_breaker_by_key_at_once_never_mix_and_every_key_obeys_what_is_in_force() {
    let keyed = Breaker::keyed("p").build::<u32>().unwrap();
    (0..5).for_each(|key| drop(keyed.try_acquire(&key)));
    change_at_once(&keyed, KeyedBreaker::reconfigure, by_failures(1), by_failures(3), async |config| {
        // The last one comes only now.
        drop(keyed.try_acquire(&5));
        for key in 0..=5 {
            let circuit = keyed.get(&key).unwrap();
            assert_eq!(opens_by(&circuit), (config.consecutive_failures, config.open_for), "key {key}");
            assert_eq!(circuit.config(), config);
        }
        keyed.remove(&5);
    })
    .await;
}

#[test]
fn patches_of_two_settings_at_once_both_count() {
    let patches = [
        ("breaker", json!({ "permitted_probes": 3 }), json!({ "success_threshold": 3 })),
        ("retry", json!({ "max_attempts": 7 }), json!({ "retry_after": "ignore" })),
        ("timeout", json!({ "limit": "7s" }), json!({ "propagate": false })),
        ("bulkhead", json!({ "max_concurrent": 7 }), json!({ "queue_timeout": "none" })),
        ("fallback", json!({ "max_keys": 7 }), json!({ "max_age": "7s" })),
    ];
    for (kind, handle, default) in every_policy() {
        let (_, one, other) = patches.iter().find(|(of, ..)| *of == kind).unwrap();
        let mut wanted = default.clone();
        for (name, value) in one.as_object().unwrap().iter().chain(other.as_object().unwrap()) {
            wanted[name] = value.clone();
        }
        let moment = Barrier::new(2);
        for _ in 0..100 {
            patch(&*handle, &default).unwrap();
            thread::scope(|threads| {
                for change in [one, other] {
                    threads.spawn(|| {
                        moment.wait();
                        patch(&*handle, change).unwrap();
                    });
                }
            });
            assert_eq!(in_force(&*handle), wanted, "{kind}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn new_settings_of_a_policy_by_key_reach_every_key_that_there_is_and_those_that_come_meanwhile() {
    let keyed = Breaker::keyed("tenants").config(by_failures(9)).build::<u32>().unwrap();
    let runtime = Runtime::current();
    (0..100).for_each(|key| drop(keyed.try_acquire(&key)));
    thread::scope(|threads| {
        threads.spawn(|| {
            let _clock = runtime.enter();
            (100..3_000).for_each(|key| drop(keyed.try_acquire(&key)));
        });
        (2..=5).for_each(|failures| keyed.reconfigure(by_failures(failures)).unwrap());
        patch(&keyed, &json!({ "consecutive_failures": 2 })).unwrap();
    });
    for key in 0..3_000 {
        let opens = opens_by(&keyed.get(&key).unwrap());
        assert_eq!(opens, (Some(2), Some(Duration::from_secs(5))), "key {key}");
    }
}
