use std::{
    cell::Cell,
    hash::{Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress_core::{BoxError, Event, Note, Value, Verdict};
use buttress_fallback::{Fallback, FallbackConfig, FallbackLayer, LastGood, Stale, words};
use tokio::time;
use tokio_test::task;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::ms;

#[derive(Clone, Debug, PartialEq)]
struct Price {
    cents: u32,
    stale: Option<Duration>,
}

type Ask = (&'static str, Option<u32>);

/// Answers with the price in the request, or fails where there is none.
async fn upstream((_, cents): Ask) -> Result<Price, BoxError> {
    cents.map(|cents| Price { cents, stale: None }).ok_or("down".into())
}

fn item(ask: &Ask) -> &'static str {
    ask.0
}

fn mark(price: &mut Price, stale: Stale) {
    price.stale = Some(stale.age);
}

type Layered = FallbackLayer<LastGood<&'static str, Price, fn(&Ask) -> &'static str, fn(&mut Price, Stale)>>;

fn layer(fallback: &Fallback) -> Layered {
    fallback.layer().last_good(item, mark)
}

fn storing(max_age_ms: u64, max_keys: usize) -> Fallback {
    Fallback::builder("prices").max_age(ms(max_age_ms)).max_keys(max_keys).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn stored_answer_is_given_for_its_key_only_and_marked_as_stale() {
    let fallback = storing(60_000, 10);
    let svc = layer(&fallback).layer(service_fn(upstream));
    let fresh = svc.clone().oneshot(("apple", Some(95))).await.unwrap();
    assert_eq!(fresh, Price { cents: 95, stale: None });
    time::advance(ms(7_000)).await;
    let stale = svc.clone().oneshot(("apple", None)).await.unwrap();
    assert_eq!(stale, Price { cents: 95, stale: Some(ms(7_000)) });
    let error = svc.clone().oneshot(("pear", None)).await.unwrap_err();
    assert_eq!(error.to_string(), "down"); // the primary's, unchanged
    let snapshot = fallback.snapshot();
    assert_eq!((snapshot.answered, snapshot.failed, snapshot.stale), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn age_counts_from_the_good_answer_and_ends_at_its_maximum() {
    let fallback = storing(1_000, 10);
    let mut svc = layer(&fallback).layer(service_fn(upstream));
    svc.call(("apple", Some(95))).await.unwrap();
    time::advance(ms(600)).await;
    svc.call(("apple", None)).await.unwrap();
    time::advance(ms(400)).await;
    assert_eq!(svc.call(("apple", None)).await.unwrap().stale, Some(ms(1_000)));
    time::advance(ms(1)).await;
    svc.call(("apple", None)).await.unwrap_err();
    // A new good answer is a new start.
    svc.call(("apple", Some(96))).await.unwrap();
    time::advance(ms(1_000)).await;
    assert_eq!(svc.call(("apple", None)).await.unwrap().cents, 96);
}

#[tokio::test(start_paused = true)]
async fn answer_not_used_for_longest_goes_first() {
    let fallback = storing(60_000, 2);
    let mut svc = layer(&fallback).layer(service_fn(upstream));
    svc.call(("apple", Some(1))).await.unwrap();
    svc.call(("pear", Some(2))).await.unwrap();
    svc.call(("apple", None)).await.unwrap(); // used
    svc.call(("plum", Some(3))).await.unwrap();
    svc.call(("pear", None)).await.unwrap_err();
    assert_eq!(svc.call(("apple", None)).await.unwrap().cents, 1);
    assert_eq!(svc.call(("plum", None)).await.unwrap().cents, 3);
    assert_eq!(fallback.snapshot().evicted, 1);
}

#[tokio::test(start_paused = true)]
async fn store_never_grows_beyond_its_maximum() {
    let fallback = storing(60_000, 3);
    let layer = fallback.layer().last_good(|n: &u32| *n, |_: &mut u32, _| {});
    let up = Arc::new(AtomicBool::new(true));
    let is_up = up.clone();
    let mut svc = layer.layer(service_fn(move |n: u32| {
        let up = is_up.load(SeqCst);
        async move { if up { Ok(n) } else { Err(BoxError::from("down")) } }
    }));
    for n in 0..100 {
        svc.call(n).await.unwrap();
    }
    assert_eq!(fallback.snapshot().evicted, 97);
    up.store(false, SeqCst);
    let mut held = 0;
    for n in 0..100 {
        held += u32::from(svc.call(n).await.is_ok());
    }
    assert_eq!(held, 3);
}

#[tokio::test(start_paused = true)]
async fn only_good_answers_are_stored() {
    let fallback = storing(60_000, 10);
    let free = |outcome: Result<&Price, &BoxError>| match outcome {
        Ok(price) if price.cents == 0 => Verdict::transient(),
        Ok(price) if price.cents == 1 => Verdict::Ignore,
        Ok(_) => Verdict::Success,
        Err(_) => Verdict::transient(),
    };
    let mut svc = layer(&fallback).classify_with(free).layer(service_fn(upstream));
    // Classified as a failure, and nothing is stored: returned as it came.
    assert_eq!(svc.call(("apple", Some(0))).await.unwrap(), Price { cents: 0, stale: None });
    svc.call(("apple", Some(1))).await.unwrap();
    svc.call(("apple", None)).await.unwrap_err();
    svc.call(("apple", Some(95))).await.unwrap();
    svc.call(("apple", Some(1))).await.unwrap();
    assert_eq!(svc.call(("apple", Some(0))).await.unwrap(), Price { cents: 95, stale: Some(ms(0)) });
    assert_eq!(svc.call(("apple", None)).await.unwrap().cents, 95);
}

#[tokio::test(start_paused = true)]
async fn services_of_one_layer_share_what_is_stored() {
    let fallback = storing(60_000, 10);
    let layer = layer(&fallback);
    layer.layer(service_fn(upstream)).oneshot(("apple", Some(95))).await.unwrap();
    let later = layer.clone().layer(service_fn(upstream)).oneshot(("apple", None)).await.unwrap();
    assert_eq!(later.cents, 95);
}

#[tokio::test(start_paused = true)]
async fn new_settings_hold_for_what_is_stored_already() {
    let fallback = storing(60_000, 10);
    let mut svc = layer(&fallback).layer(service_fn(upstream));
    for item in ["a", "b", "c", "d"] {
        svc.call((item, Some(1))).await.unwrap();
    }
    let mut config = FallbackConfig::default();
    config.max_age = ms(50);
    config.max_keys = 2;
    fallback.reconfigure(config).unwrap();
    svc.call(("e", Some(1))).await.unwrap();
    assert_eq!(fallback.snapshot().evicted, 3);
    svc.call(("d", None)).await.unwrap();
    time::advance(ms(51)).await;
    svc.call(("d", None)).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn stale_answers_and_evictions_are_told() {
    let heard = Arc::new(Mutex::new(vec![]));
    let to = heard.clone();
    let fallback = Fallback::builder("prices")
        .max_keys(1)
        .on_event(move |event| {
            if let Event::Note(note) = event {
                to.lock().unwrap().push((*note).clone());
            }
        })
        .build()
        .unwrap();
    let mut svc = layer(&fallback).layer(service_fn(upstream));
    svc.call(("apple", Some(95))).await.unwrap();
    time::advance(ms(20)).await;
    svc.call(("apple", None)).await.unwrap();
    svc.call(("pear", Some(50))).await.unwrap();
    assert_eq!(
        *heard.lock().unwrap(),
        [Note::with(words::STALE, Value::Time(ms(20))), Note::new(words::EVICTED)]
    );
}

/// A key whose `Hash` panics when it is asked so many times more.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key(u32);

thread_local! {
    static FUSE: Cell<u32> = const { Cell::new(u32::MAX) };
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let left = FUSE.get();
        FUSE.set(left.wrapping_sub(1));
        assert_ne!(left, 0, "in hash");
        self.0.hash(state);
    }
}

// Known from an eviction: the answer was gone, its place in the table was not, and a later call of another key panicked.
#[tokio::test(start_paused = true)]
async fn panic_of_a_keys_hash_harms_no_other_call() {
    for fuse in 0..8 {
        let fallback = storing(60_000, 3);
        let layer = fallback.layer().last_good(|ask: &(u32, bool)| Key(ask.0), |_: &mut u32, _| {});
        let mut svc = layer.layer(service_fn(|(n, ok): (u32, bool)| async move {
            if ok { Ok(n) } else { Err(BoxError::from("down")) }
        }));
        for n in 0..3 {
            svc.call((n, true)).await.unwrap();
        }
        FUSE.set(fuse);
        let stored = catch_unwind(AssertUnwindSafe(|| task::spawn(svc.call((3, true))).poll().is_ready()));
        FUSE.set(u32::MAX);
        assert!(stored.unwrap_or(true));
        let mut held = 0;
        for n in 0..4 {
            held += usize::from(svc.call((n, false)).await.is_ok_and(|got| got == n));
        }
        assert_eq!(held, 3, "fuse {fuse}");
        for n in 4..20 {
            svc.call((n, true)).await.unwrap();
            assert_eq!(svc.call((n, false)).await.unwrap(), n);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_store_and_read_at_once() {
    let fallback = storing(60_000, 8);
    let layer = fallback.layer().last_good(|ask: &(u32, bool)| ask.0, |_: &mut u32, _| {});
    let svc = layer.layer(service_fn(|(n, ok): (u32, bool)| async move {
        tokio::task::yield_now().await;
        if ok { Ok(n) } else { Err(BoxError::from("down")) }
    }));
    let tasks = (0..8_u32).map(|task| {
        let mut svc = svc.clone();
        tokio::spawn(async move {
            for n in 0..500 {
                let key = (task + n) % 16;
                let got = svc.call((key, n % 3 != 0)).await;
                assert!(got.is_err() || got.is_ok_and(|value| value == key)); // never another key's
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    // Every third of 500 calls failed, in each of 8 tasks.
    let snapshot = fallback.snapshot();
    assert_eq!(snapshot.answered + snapshot.failed, 8 * 167);
}
