use std::{thread, time::Duration};

use buttress_core::{BoxError, ConfigError, Note, OwnedEvent, config::MAX_DURATION};
use buttress_fallback::{Fallback, FallbackConfig, KIND};
use buttress_kit::{Handle, Health};
use serde_json::json;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::{down, fallback, ms};

#[test]
fn defaults_are_5_min_and_1024_keys() {
    let config = FallbackConfig::default();
    assert_eq!((config.max_age, config.max_keys), (Duration::from_secs(300), 1024));
}

#[tokio::test(start_paused = true)]
async fn every_setting_at_its_bounds_is_refused_by_name_or_works() {
    let too_long = MAX_DURATION.saturating_add(Duration::from_nanos(1));
    for bad in [Duration::ZERO, Duration::MAX, too_long] {
        let why = Fallback::builder("p").max_age(bad).build().unwrap_err();
        assert_eq!((why.field(), why.value()), ("max_age", &*format!("{bad:?}")));
    }
    let why = Fallback::builder("p").max_keys(0).build().unwrap_err();
    assert_eq!((why.field(), why.value()), ("max_keys", "0"));
    let fallback = fallback();
    let mut config = FallbackConfig::default();
    config.max_keys = 0;
    assert!(fallback.reconfigure(config).is_err());
    assert_eq!(fallback.config(), FallbackConfig::default());
    for (max_age, max_keys) in [(Duration::from_nanos(1), 1), (MAX_DURATION, usize::MAX)] {
        let fallback = Fallback::builder("p").max_age(max_age).max_keys(max_keys).build().unwrap();
        let svc = fallback.layer().last_good(|_: &bool| (), |_: &mut u32, _| {}).layer(service_fn(
            |ok: bool| async move { if ok { Ok(1) } else { Err(BoxError::from("down")) } },
        ));
        assert_eq!(svc.clone().oneshot(true).await.unwrap(), 1);
        assert_eq!(svc.oneshot(false).await.unwrap(), 1);
    }
}

#[test]
fn settings_read_and_write_as_text() {
    let config: FallbackConfig = serde_json::from_str(r#"{"max_age":"1m 30s"}"#).unwrap();
    assert_eq!((config.max_age, config.max_keys), (Duration::from_secs(90), 1024));
    assert_eq!(serde_json::to_string(&config).unwrap(), r#"{"max_age":"1m 30s","max_keys":1024}"#);
    assert!(serde_json::from_str::<FallbackConfig>(r#"{"max_aeg":"1s"}"#).is_err());
}

#[tokio::test]
async fn settings_that_two_threads_change_at_once_never_mix() {
    let pair = |n: u64| {
        let mut config = FallbackConfig::default();
        (config.max_age, config.max_keys) = (ms(n), n as usize);
        config
    };
    for _ in 0..200 {
        let fallback = fallback();
        thread::scope(|threads| {
            for n in [1, 4] {
                let fallback = &fallback;
                threads.spawn(move || fallback.reconfigure(pair(n)).unwrap());
            }
        });
        // What calls obey is what is named.
        let config = fallback.config();
        let layer = fallback.layer().last_good(|n: &u32| *n, |_: &mut u32, _| {});
        let mut svc = layer.layer(service_fn(|n: u32| async move { Ok::<_, BoxError>(n) }));
        for n in 0..5 {
            svc.ready().await.unwrap().call(n).await.unwrap();
        }
        assert_eq!(fallback.snapshot().evicted, 5 - config.max_keys as u64);
        assert_eq!(config, pair(config.max_keys as u64));
    }
}

fn patch(fallback: &Fallback, patch: &serde_json::Value) -> Result<(), ConfigError> {
    let handle: &dyn Handle = fallback;
    handle.apply(&mut <dyn erased_serde::Deserializer<'_>>::erase(patch))
}

#[tokio::test(start_paused = true)]
async fn handle_is_treated_as_all_others_are() {
    let fallback = fallback();
    let handle: &dyn Handle = &fallback;
    assert_eq!((handle.kind(), handle.name().as_str(), handle.health()), (&KIND, "prices", Health::Up));
    patch(&fallback, &json!({ "max_keys": 7 })).unwrap();
    assert_eq!((fallback.config().max_age, fallback.config().max_keys), (Duration::from_secs(300), 7));
    let why = patch(&fallback, &json!({ "max_keys": 0 })).unwrap_err();
    assert_eq!((why.field(), why.policy()), ("max_keys", Some("fallback \"prices\"")));
    assert_eq!(
        serde_json::to_value(handle.config_data()).unwrap(),
        json!({ "max_age": "5m", "max_keys": 7 })
    );
    fallback.call(down, |_| Ok(1)).await.unwrap();
    assert_eq!(serde_json::to_value(handle.snapshot_data()).unwrap()["answered"], 1);
    handle.reset();
    assert_eq!(fallback.snapshot(), Default::default());
}

#[tokio::test(start_paused = true)]
async fn events_can_be_fetched() {
    let fallback = fallback();
    let mut events = fallback.events();
    fallback.call(down, |_| Ok(1)).await.unwrap(); // the ends of calls are for observers
    fallback.reset();
    let event = events.try_next().unwrap();
    assert_eq!((event.kind, event.policy.as_str()), (&KIND, "prices"));
    assert_eq!(event.what, OwnedEvent::Note(Note::new(Note::RESET)));
    assert_eq!(events.try_next(), None);
}
