//! A turnstile, and what the rest of buttress makes of it.

mod others;

use std::{
    future::{Ready, pending, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_core::{BoxError, Class, Event, FromRejection, Rejection};
use buttress_kit::Mode;
use buttress_test::contract::Contract;
use own_layer::{FULL, Turnstile, TurnstileConfig};
use tokio::time;
use tokio_test::{
    assert_pending, assert_ready_err, assert_ready_ok, block_on,
    task::{Spawn, spawn},
};
use tower::{Layer, ServiceExt, limit::GlobalConcurrencyLimitLayer, service_fn};

fn turnstile(max_in_flight: u32) -> Turnstile {
    Turnstile::builder("search").max_in_flight(max_in_flight).build().unwrap()
}

fn never() -> impl Future<Output = Result<(), BoxError>> {
    pending()
}

fn ok() -> Ready<Result<u32, BoxError>> {
    ready(Ok(1))
}

/// A call under way.
fn hold<F: Future<Output = Result<(), BoxError>>>(call: F) -> Spawn<F> {
    let mut call = spawn(call);
    assert_pending!(call.poll());
    call
}

#[test]
fn call_beyond_the_limit_is_refused_by_code_class_and_name() {
    let turnstile = turnstile(1);
    let held = hold(turnstile.call(never));
    let error = block_on(turnstile.call(never)).unwrap_err();
    let why = error.rejection().unwrap();
    assert_eq!((why.code(), why.code().class(), why.policy()), (FULL, Class::TooMany, "search"));
    assert_eq!(
        (why.to_string(), why.was_sent()),
        ("too many calls are under way in \"search\"".into(), false)
    );
    drop(held);
    assert_eq!(block_on(turnstile.call(ok)).unwrap(), 1);
    assert_eq!((turnstile.snapshot().in_flight, turnstile.snapshot().refused), (0, 1));
}

#[test]
fn place_comes_back_however_a_call_ends() {
    let turnstile = turnstile(1);
    let in_flight = || turnstile.snapshot().in_flight;
    block_on(turnstile.call(ok)).unwrap();
    block_on(turnstile.call(|| ready(Err::<(), BoxError>("down".into())))).unwrap_err();
    drop(hold(turnstile.call(never)));
    drop(turnstile.call(never));
    assert_eq!(in_flight(), 0);
    let panics = || drop(turnstile.call(|| -> Ready<Result<(), BoxError>> { panic!("in the call") }));
    catch_unwind(AssertUnwindSafe(panics)).unwrap_err();
    assert_eq!(in_flight(), 0);
    // Also if whoever caught the panic keeps the future.
    let mut broken = spawn(turnstile.call(|| async { panic!("in a poll") as Result<(), BoxError> }));
    catch_unwind(AssertUnwindSafe(|| broken.poll().is_ready())).unwrap_err();
    assert_eq!(in_flight(), 0);
    assert_ready_ok!(spawn(turnstile.call(ok)).poll());
}

#[tokio::test]
async fn refusal_gives_the_reserved_slot_back() {
    let (turnstile, one) = (turnstile(1), GlobalConcurrencyLimitLayer::new(1));
    let echo = service_fn(|n: u32| async move { Ok::<_, BoxError>(n) });
    let mut svc = turnstile.layer().layer(one.layer(echo));
    let _held = hold(turnstile.call(never));
    svc.ready().await.unwrap(); // holds the only slot
    tower::Service::call(&mut svc, 1).await.unwrap_err();
    assert_eq!(one.layer(echo).oneshot(2).await.unwrap(), 2); // would wait for ever
}

#[test]
fn layer_keeps_the_contract_of_services() {
    let full = || {
        let turnstile = turnstile(1);
        let layer = turnstile.layer();
        (layer, move || std::mem::forget(hold(turnstile.call(never))))
    };
    Contract::new(|| turnstile(1).layer()).through().run().assert_clean();
    Contract::new(|| turnstile(8).layer()).refusing(full).run().assert_clean();
    let keyed = || Turnstile::keyed("search").max_in_flight(1).max_keys(1).build().unwrap();
    Contract::new(move || keyed().layer_by(u32::to_string)).through().run().assert_clean();
}

#[test]
fn each_end_is_told_once_and_the_level_with_it() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    let listen = move |event: &Event<'_>| {
        heard.lock().unwrap().push(match event {
            Event::Done { outcome, .. } => outcome.as_str().to_owned(),
            Event::Level(level) => format!("{}={}", level.what, level.value),
            Event::Refused { rejection, shadow } => format!("{} {shadow}", rejection.code()),
            Event::Note(note) => note.what.to_owned(),
            other => format!("{other:?}"),
        });
    };
    let turnstile = Turnstile::builder("search").max_in_flight(1).on_event(listen).build().unwrap();
    told.lock().unwrap().clear();
    let held = hold(turnstile.call(never));
    drop(block_on(turnstile.call(never)));
    drop(held);
    let all = ["in_flight=1", "TURNSTILE_FULL false", "cancelled", "in_flight=0"];
    assert_eq!(*told.lock().unwrap(), all);
    turnstile.reconfigure(shadow()).unwrap();
    assert_eq!(told.lock().unwrap().last().unwrap(), "reconfigured");
    let _held = hold(turnstile.call(never));
    let _beyond = hold(turnstile.call(never));
    assert!(told.lock().unwrap().contains(&"TURNSTILE_FULL true".to_owned()));
}

fn shadow() -> TurnstileConfig {
    let mut config = TurnstileConfig::default();
    (config.max_in_flight, config.mode) = (1, Mode::Shadow);
    config
}

#[test]
fn settings_are_checked_and_change_at_once() {
    let why = Turnstile::builder("search").max_in_flight(0).build().unwrap_err();
    assert_eq!(
        why.to_string(),
        "turnstile \"search\": `max_in_flight` = 0 cannot work: no call could ever pass; must be at least 1"
    );
    let why = Turnstile::keyed("tenants").max_keys(0).build().unwrap_err();
    assert_eq!((why.policy(), why.field()), (Some("turnstile \"tenants\""), "max_keys"));
    let turnstile = turnstile(1);
    let _held = hold(turnstile.call(never));
    let mut wider = turnstile.config();
    wider.max_in_flight = 2;
    turnstile.reconfigure(wider).unwrap();
    let _second = hold(turnstile.call(never));
    wider.max_in_flight = 0;
    turnstile.reconfigure(wider).unwrap_err();
    assert_eq!(turnstile.config().max_in_flight, 2);
    block_on(turnstile.call(ok)).unwrap_err();
}

#[tokio::test]
async fn keys_are_apart_and_named_in_refusals_if_they_may_be() {
    let turnstiles = Turnstile::keyed("tenants").max_in_flight(1).build().unwrap().show_keys();
    let svc = turnstiles.layer_by_ref(|tenant: &&'static str| *tenant).layer(service_fn(|_| never()));
    let _held = hold(svc.clone().oneshot("acme"));
    let error = svc.clone().oneshot("acme").await.unwrap_err();
    let why = error.rejection().unwrap();
    assert_eq!((why.policy(), why.key()), ("tenants", Some("acme")));
    assert_eq!(why.to_string(), "too many calls are under way in \"tenants\"");
    let _other = hold(svc.oneshot("other"));
    assert_eq!(turnstiles.get("acme").unwrap().snapshot().refused, 1);
    assert_eq!(turnstiles.get("other").unwrap().snapshot().refused, 0);
    assert!(turnstiles.get("third").is_none());
    let hidden = Turnstile::keyed("tenants").max_in_flight(1).build().unwrap();
    let _held = hold(hidden.call("acme", never));
    let error = hidden.call("acme", never).await.unwrap_err();
    assert_eq!(error.rejection().unwrap().key(), None);
}

#[tokio::test(start_paused = true)]
async fn flood_of_keys_forgets_none_under_way_and_idle_ones_go() {
    let keyed = Turnstile::keyed("tenants").max_in_flight(1).max_keys(2).idle_for(Duration::from_secs(60));
    let turnstiles = keyed.build().unwrap();
    let acme = hold(turnstiles.call("acme", never));
    for n in 0..100 {
        turnstiles.call(&*format!("user {n}"), ok).await.unwrap();
    }
    assert_eq!(turnstiles.len(), 2);
    assert_ready_err!(spawn(turnstiles.call("acme", never)).poll());
    let _other = hold(turnstiles.call("other", never));
    let refused = turnstiles.call("third", ok).await.unwrap_err();
    assert_eq!(refused.rejection().map(Rejection::code), Some(FULL));
    drop(acme);
    for _ in 0..2 {
        time::advance(Duration::from_secs(61)).await;
        drop(turnstiles.call("third", ok).await);
    }
    assert!(turnstiles.get("acme").is_none() && turnstiles.get("other").is_some());
}
