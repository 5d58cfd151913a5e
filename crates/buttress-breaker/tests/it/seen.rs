//! What is seen of a keyed breaker: which key changed its state, if keys are shown, and how many are in which state.

use std::sync::{Arc, Mutex};

use buttress_breaker::{
    Breaker, BreakerBuilder, KeyedBreaker, State,
    words::{BY_RULE, ERROR, KEYS},
};
use buttress_core::{
    BoxError, Event, KeyOf, Level, Levels, OwnedEvent, Recorder, Transition, Value, rejection,
};
use buttress_kit::Keyed;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::*;

fn hosts() -> BreakerBuilder<Keyed> {
    Breaker::keyed("hosts").consecutive_failures(1).open_for(secs(5)).success_threshold(1)
}

/// Changes of state as `key from>to`, and a listener that notes them.
fn changes() -> (Arc<Mutex<Vec<String>>>, impl Fn(&Event<'_>) + Send + Sync + 'static) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let to = heard.clone();
    let listener = move |event: &Event<'_>| {
        if let Event::Transition(Transition { from, to: state, key, .. }) = *event {
            to.lock().unwrap().push(format!("{} {from}>{state}", key.as_deref().unwrap_or("-")));
        }
    };
    (heard, listener)
}

async fn down(
    svc: &mut (impl Service<String, Response = (), Error = BoxError> + Clone),
    host: &str,
) -> BoxError {
    svc.ready().await.unwrap().call(host.to_owned()).await.unwrap_err()
}

fn dead() -> impl Service<String, Response = (), Error = BoxError> + Clone {
    service_fn(|_: String| async { Err::<(), BoxError>("down".into()) })
}

#[tokio::test(start_paused = true)]
async fn each_key_tells_its_changes_of_state_with_the_key_if_keys_are_shown() {
    for (shown, key) in [(false, "-"), (true, "a.example")] {
        let (heard, listener) = changes();
        let all: KeyedBreaker<String> = hosts().on_event(listener).build().unwrap();
        let all = if shown { all.show_keys() } else { all };
        let mut svc = all.layer_by(|host: &String| host.clone()).layer(dead());
        down(&mut svc, "a.example").await;
        pass(secs(5)).await;
        all.try_acquire("a.example").unwrap().success();
        let expected = ["closed>open", "open>half_open", "half_open>closed"];
        assert_eq!(*heard.lock().unwrap(), expected.map(|change| format!("{key} {change}")));
    }
}

#[tokio::test(start_paused = true)]
async fn opening_of_a_key_says_why_and_subscribers_hear_of_it() {
    let all: KeyedBreaker<String> = hosts().build().unwrap();
    let all = all.show_keys();
    let mut events = all.events();
    let mut svc = all.layer_by(|host: &String| host.clone()).layer(dead());
    down(&mut svc, "a.example").await;
    let Some(OwnedEvent::Transition(change)) = events.try_next().map(|event| event.what) else { panic!() };
    let text = |what| change.get(what).and_then(Value::as_text);
    assert_eq!((text(BY_RULE), text(ERROR)), (Some("consecutive_failures"), Some("down")));
    assert_eq!(change.key.as_deref(), Some("a.example"));
}

/// Finds the host of a URL; hosts are no secrets.
#[derive(Clone)]
struct ByHost;

impl KeyOf<String> for ByHost {
    type Key = str;

    fn with_key<T>(&self, url: &String, then: impl FnOnce(&str) -> T) -> T {
        then(url.split('/').next().unwrap_or_default())
    }

    fn show(&self, host: &str) -> Option<String> {
        Some(host.to_owned())
    }
}

#[tokio::test(start_paused = true)]
async fn layer_says_whether_and_how_keys_are_shown() {
    let (heard, listener) = changes();
    let all: KeyedBreaker<String> = hosts().on_event(listener).build().unwrap();
    let mut by_host = all.layer_key(ByHost).layer(dead());
    down(&mut by_host, "a.example/secret").await;
    let refused = down(&mut by_host, "a.example/secret").await;
    assert_eq!(rejection(&*refused).unwrap().key(), Some("a.example"));
    assert!(!format!("{refused} {refused:?}").contains("example"));
    // Without a strategy that shows it.
    let layer = all.layer_by(|host: &String| host.clone());
    down(&mut layer.clone().layer(dead()), "b.example").await;
    let layer = layer.show_key(|host| host.chars().take(1).collect());
    down(&mut layer.layer(dead()), "c.example").await;
    assert_eq!(*heard.lock().unwrap(), ["a.example closed>open", "- closed>open", "c closed>open"]);
}

// Keys come from requests.
#[tokio::test(start_paused = true)]
async fn no_more_than_the_beginning_of_a_long_key_is_shown() {
    let (heard, listener) = changes();
    let all: KeyedBreaker<String> = hosts().on_event(listener).build().unwrap();
    let all = all.show_keys();
    all.try_acquire(&*"ä".repeat(1 << 20)).unwrap().failure();
    assert_eq!(*heard.lock().unwrap(), [format!("{}… closed>open", "ä".repeat(64))]);
}

#[test]
fn key_that_panics_as_it_is_shown_is_not_let_in_and_no_harm_to_others() {
    let all: KeyedBreaker<u32> = hosts().build().unwrap();
    let _layer = all.layer_by(|key: &u32| *key).show_key(|key| {
        assert_ne!(*key, 13, "no words");
        key.to_string()
    });
    let call = || all.try_acquire(&13).map(drop);
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).unwrap_err();
    all.try_acquire(&1).unwrap().success();
    assert_eq!((all.len(), all.keys_in(State::Closed)), (1, vec![1]));
}

/// What a page that asks for the levels sees.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Option<std::sync::Weak<dyn Levels>>>>);

impl Recorder for Page {
    fn record(&self, _event: &Event<'_>) {}

    fn follow(&self, levels: &std::sync::Weak<dyn Levels>) {
        *self.0.lock().unwrap() = Some(levels.clone());
    }
}

impl Page {
    fn levels(&self) -> Vec<Level> {
        let levels = self.0.lock().unwrap().as_ref().and_then(std::sync::Weak::upgrade).unwrap();
        let mut all = Vec::new();
        levels.levels(&mut |level| all.push(level));
        all
    }

    /// How many keys are closed, open and half-open.
    fn keys(&self) -> [f64; 3] {
        let all = self.levels();
        ["closed", "open", "half_open"].map(|state| {
            all.iter().find(|level| (level.what, level.of) == (KEYS, Some(state))).unwrap().value
        })
    }
}

// Nobody calls for ten minutes: what the page says must be what a call would find.
#[tokio::test(start_paused = true)]
async fn keys_are_counted_as_a_call_would_find_them() {
    let page = Page::default();
    let seen = page.clone();
    let all: KeyedBreaker<u32> =
        hosts().observe(move |_: &_, _: &_| Some(Arc::new(seen.clone()) as _)).build().unwrap();
    for key in 0..5 {
        all.try_acquire(&key).unwrap().success();
    }
    for key in 0..3 {
        all.try_acquire(&key).unwrap().failure();
        pass(secs(1)).await;
    }
    assert_eq!(page.keys(), [2.0, 3.0, 0.0]);
    pass(secs(2)).await;
    assert_eq!(page.keys(), [2.0, 2.0, 1.0]);
    pass(secs(600)).await;
    assert_eq!(page.keys(), [2.0, 0.0, 3.0]);
    assert_eq!(all.snapshot().half_open, 3);
    // From here on by calls again, and by hand.
    all.try_acquire(&0).unwrap().success();
    all.try_acquire(&1).unwrap().failure();
    assert_eq!(page.keys(), [3.0, 1.0, 1.0]);
    all.get(&1).unwrap().force_open_for(secs(60));
    pass(secs(59)).await;
    assert_eq!(page.keys(), [3.0, 1.0, 1.0]);
    pass(secs(1)).await;
    assert_eq!(page.keys(), [3.0, 0.0, 2.0]);
    all.remove(&1);
    assert_eq!(page.keys(), [3.0, 0.0, 1.0]);
    all.reset();
    assert_eq!(page.keys(), [4.0, 0.0, 0.0]);
}

#[tokio::test(start_paused = true)]
async fn keys_that_were_half_open_for_too_long_are_counted_as_what_that_makes_of_them() {
    for (closes, then) in [(false, [0.0, 1.0, 0.0]), (true, [1.0, 0.0, 0.0])] {
        let page = Page::default();
        let seen = page.clone();
        let builder = hosts().half_open_timeout(secs(2)).half_open_timeout_closes(closes);
        let all: KeyedBreaker<u32> =
            builder.observe(move |_: &_, _: &_| Some(Arc::new(seen.clone()) as _)).build().unwrap();
        all.try_acquire(&1).unwrap().failure();
        pass(secs(5)).await;
        drop(all.try_acquire(&1).unwrap());
        assert_eq!(page.keys(), [0.0, 0.0, 1.0]);
        pass(secs(2)).await;
        assert_eq!(page.keys(), then);
        pass(secs(600)).await;
        assert_eq!(page.keys()[1], 0.0);
    }
}

// What one number loses to time the other gains, and both are told.
#[tokio::test(start_paused = true)]
async fn number_that_time_has_changed_is_told_with_the_next_one_that_is() {
    let told = Arc::new(Mutex::new(std::collections::BTreeMap::new()));
    let to = told.clone();
    let listener = move |event: &Event<'_>| {
        if let Event::Level(Level { what: KEYS, of: Some(state), value, .. }) = *event {
            to.lock().unwrap().insert(state, value);
        }
    };
    let all: KeyedBreaker<u32> = hosts().on_event(listener).build().unwrap();
    all.try_acquire(&1).unwrap().failure();
    pass(secs(600)).await;
    all.try_acquire(&2).unwrap().failure();
    let told = told.lock().unwrap();
    assert_eq!((told["closed"], told["open"], told["half_open"]), (0.0, 1.0, 1.0));
}

#[tokio::test(start_paused = true)]
async fn open_breaker_whose_wait_is_over_says_half_open_when_it_is_asked() {
    let page = Page::default();
    let seen = page.clone();
    let builder = Breaker::builder("x").consecutive_failures(1).open_for(ms(200));
    let breaker = builder.observe(move |_: &_, _: &_| Some(Arc::new(seen.clone()) as _)).build().unwrap();
    breaker.fail(1);
    assert_eq!(page.levels()[0], Level::state("open"));
    pass(secs(3)).await;
    assert_eq!(page.levels()[0], Level::state("half_open"));
    breaker.is(State::HalfOpen);
}

// By a thousand threads' worth of openings: what is told last is what is.
#[test]
fn numbers_are_right_once_nothing_moves_however_many_moved_them() {
    let page = Page::default();
    let seen = page.clone();
    let all: KeyedBreaker<u32> =
        hosts().observe(move |_: &_, _: &_| Some(Arc::new(seen.clone()) as _)).build().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let all = &all;
            scope.spawn(move || {
                for n in 0..500_u32 {
                    let key = (thread + n) % 50;
                    match all.try_acquire(&key) {
                        Ok(permit) if n % 3 == 0 => permit.failure(),
                        Ok(permit) => permit.success(),
                        Err(_) => drop(all.remove(&key)),
                    }
                }
            });
        }
    });
    let seen = all.snapshot();
    assert_eq!(page.keys(), [seen.closed as f64, seen.open as f64, seen.half_open as f64]);
    assert_eq!(seen.keys as f64, page.keys().iter().sum::<f64>());
}
