//! A circuit for each key.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use buttress_breaker::{
    Breaker, KeyedBreaker, State,
    words::{EVICTED, KEYS},
};
use buttress_core::{BoxError, Event, KeyOf, Level, Note, rejection};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::*;

fn keyed(max: usize) -> KeyedBreaker<u32> {
    Breaker::keyed("tenants").consecutive_failures(1).open_for(secs(60)).max_keys(max).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_key_s_failures_are_no_other_key_s_business() {
    let tenants = keyed(100);
    let inner = service_fn(|tenant: u32| async move {
        if tenant == 7 { Err::<u32, BoxError>("down".into()) } else { Ok(tenant) }
    });
    let mut svc = tenants.layer_by(|tenant: &u32| *tenant).layer(inner);
    svc.ready().await.unwrap().call(7).await.unwrap_err();
    let refused = svc.ready().await.unwrap().call(7).await.unwrap_err();
    assert_eq!(rejection(&*refused).unwrap().policy(), "tenants");
    assert_eq!(rejection(&*refused).unwrap().retry_after(), Some(secs(60)));
    assert_eq!(svc.ready().await.unwrap().call(8).await.unwrap(), 8);
    assert_eq!(tenants.keys_in(State::Open), [7]);
    assert_eq!(tenants.keys_in(State::Closed), [8]);
    pass(secs(60)).await;
    tenants.get(&7).unwrap().is(State::HalfOpen);
}

// A key that is borrowed from the request.
#[tokio::test(start_paused = true)]
async fn a_key_may_be_borrowed_from_the_request() {
    #[derive(Clone)]
    struct ByHost;
    impl KeyOf<String> for ByHost {
        type Key = str;
        fn with_key<T>(&self, url: &String, then: impl FnOnce(&str) -> T) -> T {
            then(url.split('/').next().unwrap_or_default())
        }
    }
    let hosts: KeyedBreaker<String> = Breaker::keyed("hosts").consecutive_failures(1).build().unwrap();
    let inner = service_fn(|_: String| async { Err::<(), BoxError>("down".into()) });
    let mut svc = hosts.layer_key(ByHost).layer(inner);
    svc.ready().await.unwrap().call("a.example/x".to_owned()).await.unwrap_err();
    assert!(hosts.get("a.example").unwrap().is_open());
    assert!(hosts.get("b.example").is_none());
    let permit = hosts.try_acquire("b.example").unwrap();
    permit.success();
    assert_eq!(hosts.len(), 2);
}

// No flood of made-up keys gets rid of a circuit that knows something, opens one, or has anybody refused.
#[tokio::test(start_paused = true)]
async fn the_cap_is_hard_and_a_flood_forgets_nothing_that_matters() {
    for max in [1, 10, 1_000, 5_000] {
        let tenants = keyed(max);
        let bad = (max / 20).max(1) as u32;
        for tenant in 0..bad {
            tenants.try_acquire(&tenant).unwrap().failure();
        }
        for tenant in 1_000_000..1_000_000 + 3 * max as u32 {
            tenants.try_acquire(&tenant).unwrap().success();
            assert!(tenants.len() <= max, "{} of {max}", tenants.len());
        }
        for tenant in 0..bad {
            tenants.try_acquire(&tenant).unwrap_err();
        }
        assert_eq!(tenants.keys_in(State::Open).len(), bad as usize);
    }
}

#[tokio::test(start_paused = true)]
async fn where_every_key_matters_a_new_one_passes_without_a_circuit() {
    let tenants = keyed(3);
    for tenant in 0..3 {
        tenants.try_acquire(&tenant).unwrap().failure();
    }
    for _ in 0..5 {
        tenants.try_acquire(&9).unwrap().failure();
    }
    assert_eq!((tenants.len(), tenants.untracked()), (3, 5));
    tenants.call(&9, || async { Ok::<_, BoxError>(()) }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn idle_keys_are_forgotten_and_used_ones_kept() {
    let tenants: KeyedBreaker<u32> = Breaker::keyed("x").idle_for(secs(60)).build().unwrap();
    for tenant in 0..10 {
        tenants.try_acquire(&tenant).unwrap().success();
    }
    for n in 0..4 {
        pass(secs(60)).await;
        tenants.try_acquire(&0).unwrap().success();
        tenants.try_acquire(&(100 + n)).unwrap().success(); // a new key brings the sweep
    }
    assert!(tenants.get(&0).is_some());
    assert!(tenants.get(&1).is_none());
    assert!(tenants.len() <= 4, "{}", tenants.len());
    // A call under way keeps its circuit.
    let permit = tenants.try_acquire(&5).unwrap();
    tenants.sweep();
    tenants.sweep();
    tenants.sweep();
    assert!(tenants.get(&5).is_some());
    permit.success();
}

#[tokio::test(start_paused = true)]
async fn observers_hear_numbers_and_never_keys() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let to = heard.clone();
    let tenants: KeyedBreaker<u32> = Breaker::keyed("x")
        .consecutive_failures(1)
        .max_keys(2)
        .on_event(move |event| match event {
            Event::Level(Level { what: KEYS, of: Some(state), value, .. }) => {
                to.lock().unwrap().push(format!("{state} {value}"));
            }
            Event::Transition(change) => assert_eq!(change.key, None),
            Event::Note(Note { what: EVICTED, .. }) => to.lock().unwrap().push("evicted".to_owned()),
            _ => {}
        })
        .build()
        .unwrap();
    heard.lock().unwrap().clear();
    tenants.try_acquire(&1).unwrap().failure();
    tenants.try_acquire(&2).unwrap().success();
    tenants.try_acquire(&3).unwrap().success();
    tenants.reset();
    tenants.remove(&1).unwrap();
    let expected = [
        "closed 1", "closed 0", "open 1", "closed 1", "closed 0", "evicted", "closed 1", "open 0",
        "closed 2", "closed 1",
    ];
    assert_eq!(*heard.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn new_settings_are_for_all_keys_and_not_for_one() {
    let tenants: KeyedBreaker<u32> = Breaker::keyed("x").consecutive_failures(5).build().unwrap();
    tenants.try_acquire(&1).unwrap().failure();
    let mut config = tenants.config();
    config.consecutive_failures = Some(2);
    let one = tenants.get(&1).unwrap();
    assert_eq!(one.reconfigure(config.clone()).unwrap_err().field(), "config");
    tenants.reconfigure(config).unwrap();
    tenants.try_acquire(&1).unwrap().failure();
    one.is(State::Open);
    tenants.try_acquire(&2).unwrap().failure();
    tenants.try_acquire(&2).unwrap().failure();
    assert!(tenants.get(&2).unwrap().is_open());
}

#[test]
fn bounds_that_cannot_work_are_refused() {
    let why = Breaker::keyed("x").max_keys(0).build::<u32>().unwrap_err();
    assert_eq!(why.field(), "max_keys");
    let why = Breaker::keyed("x").idle_for(std::time::Duration::ZERO).build::<u32>().unwrap_err();
    assert_eq!(why.field(), "idle_for");
    let why = Breaker::keyed("x").failure_rate(7.0).build::<u32>().unwrap_err();
    assert_eq!(why.field(), "failure_rate");
}

#[test]
fn racers_for_one_key_share_one_circuit() {
    let tenants: KeyedBreaker<u32> = Breaker::keyed("x").consecutive_failures(800).build().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..100 {
                    tenants.try_acquire(&1).unwrap().failure();
                }
            });
        }
    });
    assert_eq!(tenants.keys_in(State::Open), [1]);
    assert_eq!(tenants.len(), 1);
}

type Counts = Arc<Mutex<BTreeMap<String, f64>>>;

/// The last count told of each state.
#[allow(clippy::type_complexity, reason = "said once")]
fn counts() -> (Counts, impl Fn(&Event<'_>) + Send + Sync + 'static) {
    let counts = Counts::default();
    let to = counts.clone();
    let listener = move |event: &Event<'_>| {
        if let Event::Level(Level { what: KEYS, of: Some(state), value, .. }) = event {
            to.lock().unwrap().insert((*state).to_owned(), *value);
        }
    };
    (counts, listener)
}

// A call that was under way when its key was removed.
#[tokio::test(start_paused = true)]
async fn a_removed_key_is_counted_in_no_state_whatever_becomes_of_its_calls() {
    let (counts, listener) = counts();
    let tenants: KeyedBreaker<u32> =
        Breaker::keyed("x").consecutive_failures(1).on_event(listener).build().unwrap();
    tenants.try_acquire(&2).unwrap().success();
    let under_way = tenants.try_acquire(&1).unwrap();
    let removed = tenants.remove(&1).unwrap();
    under_way.failure();
    removed.is(State::Open);
    let counts = counts.lock().unwrap();
    assert_eq!((counts["closed"], counts["open"]), (1.0, 0.0));
}

// A key that opens between being found by one thread and being counted by the one that made it.
#[test]
fn keys_are_counted_exactly_however_threads_race_for_them() {
    let (counts, listener) = counts();
    let tenants: KeyedBreaker<u32> =
        Breaker::keyed("x").consecutive_failures(1).on_event(listener).build().unwrap();
    for round in 0..2_000 {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for key in 3 * round..3 * round + 3 {
                        let _ = tenants.try_acquire(&key).map(buttress_breaker::Permit::failure);
                        if key % 3 == 0 {
                            tenants.remove(&key);
                        }
                    }
                });
            }
        });
    }
    let open = tenants.keys_in(State::Open).len() as f64;
    let closed = tenants.keys_in(State::Closed).len() as f64;
    let counts = counts.lock().unwrap();
    assert_eq!((counts["open"], counts["closed"]), (open, closed));
}

// Callers that heed `Retry-After` do not call: a key that is open is idle.
#[tokio::test(start_paused = true)]
async fn an_idle_key_is_not_forgotten_before_its_open_wait_is_over() {
    let tenants: KeyedBreaker<u32> =
        Breaker::keyed("x").consecutive_failures(1).open_for(secs(3_600)).idle_for(secs(60)).build().unwrap();
    for tenant in 0..4 {
        tenants.try_acquire(&tenant).unwrap().failure();
    }
    tenants.get(&1).unwrap().isolate();
    tenants.get(&2).unwrap().disable();
    tenants.get(&3).unwrap().force_close();
    pass(secs(600)).await;
    (0..3).for_each(|_| tenants.sweep());
    assert_eq!(tenants.try_acquire(&0).unwrap_err().retry_after(), Some(secs(3_000)));
    (0..3).for_each(|_| tenants.sweep());
    pass(secs(3_600)).await;
    (0..3).for_each(|_| tenants.sweep());
    let kept: Vec<_> = (0..4).filter(|tenant| tenants.get(tenant).is_some()).collect();
    assert_eq!(kept, [1, 2]);
}

// The worst flood: every known key matters, so that a search for room looks at all of them and finds next to none.
#[tokio::test(start_paused = true)]
async fn a_flood_over_a_full_map_costs_no_search_for_each_of_its_keys() {
    let tenants: KeyedBreaker<u32> =
        Breaker::keyed("x").consecutive_failures(2).max_keys(1_000).build().unwrap();
    for tenant in 0..999 {
        tenants.try_acquire(&tenant).unwrap().failure();
    }
    for tenant in 1_000_000..1_100_000 {
        tenants.try_acquire(&tenant).unwrap().success();
    }
    // The first took the last free place, the second that of the first after a search; no time has passed since.
    assert_eq!((tenants.len(), tenants.untracked()), (1_000, 99_998));
    // Room is looked for again after a while, and at once where keys were made to go.
    pass(ms(100)).await;
    tenants.try_acquire(&7_000_000).unwrap().success();
    assert!(tenants.get(&7_000_000).is_some());
    tenants.try_acquire(&8_000_000).unwrap().success();
    assert!(tenants.get(&8_000_000).is_none());
    tenants.reset();
    tenants.try_acquire(&8_000_000).unwrap().success();
    assert!(tenants.get(&8_000_000).is_some());
}

// What time alone has done to a circuit shows in the lists, and to the sweep.
#[tokio::test(start_paused = true)]
async fn a_key_that_was_half_open_for_too_long_is_listed_as_open_and_kept() {
    let builder = Breaker::keyed("x").consecutive_failures(1).open_for(secs(1)).half_open_timeout(secs(3));
    let keyed: KeyedBreaker<u32> = builder.build().unwrap();
    keyed.try_acquire(&1).unwrap().failure();
    pass(secs(1)).await;
    let hung = keyed.try_acquire(&1).unwrap();
    drop(hung);
    pass(secs(3)).await;
    assert_eq!(keyed.keys_in(State::Open), [1]);
    keyed.sweep();
    keyed.sweep();
    assert_eq!(keyed.len(), 1);
    pass(secs(1)).await;
    assert_eq!(keyed.keys_in(State::HalfOpen), [1]);
    keyed.sweep();
    assert_eq!(keyed.len(), 0);
}

// The closure that finds the key may panic: nothing was asked of any circuit by then.
#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_found_leaves_everything_usable() {
    let keyed: KeyedBreaker<u32> = Breaker::keyed("x").consecutive_failures(1).build().unwrap();
    let layer = keyed.layer_by(|n: &u32| -> u32 { n.checked_sub(1).expect("a key") });
    let mut svc = layer.layer(service_fn(|n: u32| async move { Ok::<_, BoxError>(n) }));
    svc.ready().await.unwrap();
    let call = std::panic::AssertUnwindSafe(|| drop(svc.call(0)));
    assert!(std::panic::catch_unwind(call).is_err());
    assert_eq!(svc.ready().await.unwrap().call(3).await.unwrap(), 3);
    assert_eq!((keyed.len(), keyed.get(&2).unwrap().snapshot().failures), (1, 0));
}

// A key may be a secret: it is in the refusal only if the breaker was told to show it, and never in its text.
#[tokio::test(start_paused = true)]
async fn a_key_is_in_its_refusals_only_if_keys_are_shown() {
    for shows in [false, true] {
        let hosts: KeyedBreaker<String> =
            Breaker::keyed("hosts").consecutive_failures(1).call_timeout(secs(1)).build().unwrap();
        let hosts = if shows { hosts.show_keys() } else { hosts };
        let key = shows.then_some("a.example");
        hosts.try_acquire("a.example").unwrap().failure();
        for _ in 0..2 {
            let refused = hosts.try_acquire("a.example").unwrap_err();
            assert_eq!((refused.policy(), refused.key()), ("hosts", key));
            assert!(!format!("{refused} {refused:?}").contains("a.example"));
        }
        let inner = service_fn(|_: String| std::future::pending::<Result<(), BoxError>>());
        let mut svc = hosts.layer_by(|host: &String| host.clone()).layer(inner);
        let refused = svc.ready().await.unwrap().call("a.example".to_owned()).await.unwrap_err();
        assert_eq!(rejection(&*refused).unwrap().key(), key);
        let key = shows.then_some("b.example");
        let slow = svc.ready().await.unwrap().call("b.example".to_owned()).await.unwrap_err();
        assert_eq!(rejection(&*slow).unwrap().key(), key);
    }
}

// The map must be as it was, and so must the numbers that are told.
#[test]
fn a_key_that_cannot_be_copied_is_counted_in_no_state() {
    #[derive(Debug, PartialEq, Eq, Hash)]
    struct Key(u32);
    impl Clone for Key {
        fn clone(&self) -> Self {
            assert_ne!(self.0, 13, "no copy");
            Self(self.0)
        }
    }
    let (counts, listener) = counts();
    let keyed: KeyedBreaker<Key> = Breaker::keyed("x").max_keys(2).on_event(listener).build().unwrap();
    let fail = || {
        let call = std::panic::AssertUnwindSafe(|| keyed.try_acquire(&Key(13)).map(drop));
        std::panic::catch_unwind(call).unwrap_err();
    };
    (0..5).for_each(|_| fail());
    keyed.try_acquire(&Key(1)).unwrap().success();
    keyed.try_acquire(&Key(2)).unwrap().success();
    // Now that there is no room for it either.
    (0..5).for_each(|_| fail());
    assert_eq!((counts.lock().unwrap()["closed"], keyed.len()), (2.0, 2));
}

// Made-up keys must push out each other, not keys in constant use, whose window is what keeps a few failures from
// opening them.
#[tokio::test(start_paused = true)]
async fn a_flood_forgets_and_opens_no_key_in_constant_use() {
    for max in [30, 100, 1_500] {
        let keyed: KeyedBreaker<u32> =
            Breaker::keyed("x").failure_rate(0.5).minimum_calls(10).max_keys(max).build().unwrap();
        for round in 0..2_000 {
            for hot in 0..20 {
                keyed.try_acquire(&hot).unwrap().success();
            }
            keyed.try_acquire(&(1_000_000 + round)).unwrap().success();
        }
        for hot in 0..20 {
            (0..10).for_each(|_| keyed.try_acquire(&hot).unwrap().failure());
            let seen = keyed.get(&hot).unwrap().snapshot();
            assert_eq!((seen.state, seen.successes, seen.failures), (State::Closed, 2_000, 10), "{max}");
        }
        assert!(keyed.len() <= max);
    }
}

#[tokio::test(start_paused = true)]
async fn of_keys_that_may_go_the_one_not_used_for_longest_goes() {
    let keyed: KeyedBreaker<u32> = Breaker::keyed("x").max_keys(8).build().unwrap();
    for key in 0..8 {
        keyed.try_acquire(&key).unwrap().success();
    }
    for next in 8..200 {
        // All but the oldest.
        for key in next - 7..next {
            keyed.try_acquire(&key).unwrap().success();
        }
        keyed.try_acquire(&next).unwrap().success();
        // Not by `get`, which would be a use.
        let mut there = keyed.keys_in(State::Closed);
        there.sort_unstable();
        assert_eq!(there, (next - 7..=next).collect::<Vec<_>>());
    }
}
