use std::{thread, time::Duration};

use buttress_core::{ConfigError, FromRejection, Note, OwnedEvent, config::MAX_DURATION, context};
use buttress_kit::{Handle, Health};
use buttress_timeout::{KIND, Timeout, TimeoutConfig};
use serde_json::json;
use tokio::time::Instant;

use crate::{ms, taking, timeout};

#[test]
fn default_is_5_s_and_propagates() {
    let config = TimeoutConfig::default();
    assert_eq!((config.limit, config.propagate), (Duration::from_secs(5), true));
}

#[tokio::test(start_paused = true)]
async fn every_setting_at_its_bounds_is_refused_by_name_or_works() {
    for bad in [Duration::ZERO, Duration::MAX, MAX_DURATION.saturating_add(Duration::from_nanos(1))] {
        let why = Timeout::builder("api").limit(bad).build().unwrap_err();
        assert_eq!(why.field(), "limit");
        assert_eq!(why.value(), format!("{bad:?}"));
        assert!(!why.why().is_empty());
        let timeout = timeout(10);
        assert!(timeout.reconfigure(TimeoutConfig::of(bad)).is_err());
        assert_eq!(timeout.config().limit, ms(10));
    }
    for good in [Duration::from_nanos(1), ms(1), Duration::from_secs(86_400 * 365 * 600), MAX_DURATION] {
        let timeout = Timeout::new("api", TimeoutConfig::of(good)).unwrap();
        assert_eq!(timeout.config().limit, good);
        let ends = timeout.call(|| taking(2)).await;
        assert_eq!(ends.is_ok(), good > ms(1), "{good:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn new_limit_holds_for_calls_made_from_then_on() {
    let timeout = timeout(50);
    let before = timeout.call(|| taking(1_000));
    timeout.reconfigure(TimeoutConfig::of(ms(200))).unwrap();
    let after = timeout.call(|| taking(1_000));
    let started = Instant::now();
    before.await.unwrap_err();
    assert_eq!(started.elapsed(), ms(50));
    after.await.unwrap_err();
    assert_eq!(started.elapsed(), ms(200));
}

#[test]
fn settings_read_and_write_as_text() {
    let config: TimeoutConfig = serde_json::from_str(r#"{"limit":"1m 30s"}"#).unwrap();
    assert_eq!((config.limit, config.propagate), (Duration::from_secs(90), true));
    assert_eq!(serde_json::to_string(&config).unwrap(), r#"{"limit":"1m 30s","propagate":true}"#);
    assert!(serde_json::from_str::<TimeoutConfig>(r#"{"limt":"1s"}"#).is_err());
    assert!(serde_json::from_str::<TimeoutConfig>(r#"{"limit":5}"#).is_err());
}

#[tokio::test(start_paused = true)]
async fn settings_that_two_threads_change_at_once_never_mix() {
    for _ in 0..200 {
        let timeout = timeout(10);
        thread::scope(|threads| {
            for (limit, propagate) in [(20, true), (30, false)] {
                let timeout = &timeout;
                let mut config = TimeoutConfig::of(ms(limit));
                config.propagate = propagate;
                threads.spawn(move || timeout.reconfigure(config).unwrap());
            }
        });
        // What calls obey is what is named.
        let config = timeout.config();
        assert_eq!(config.propagate, config.limit == ms(20));
        let mut told = None;
        let late = timeout.call(|| {
            told = context::deadline();
            taking(1_000)
        });
        assert_eq!(late.await.unwrap_err().rejection().unwrap().limit(), Some(config.limit));
        assert_eq!(told.is_some(), config.propagate);
    }
}

fn patch(timeout: &Timeout, patch: &serde_json::Value) -> Result<(), ConfigError> {
    let handle: &dyn Handle = timeout;
    handle.apply(&mut <dyn erased_serde::Deserializer<'_>>::erase(patch))
}

#[tokio::test(start_paused = true)]
async fn handle_is_treated_as_all_others_are() {
    let timeout = timeout(10);
    let handle: &dyn Handle = &timeout;
    assert_eq!((handle.kind(), handle.name().as_str(), handle.health()), (&KIND, "api", Health::Up));
    patch(&timeout, &json!({ "propagate": false })).unwrap();
    assert_eq!((timeout.config().limit, timeout.config().propagate), (ms(10), false));
    let why = patch(&timeout, &json!({ "limit": "0s" })).unwrap_err();
    assert_eq!((why.field(), why.policy()), ("limit", Some("timeout \"api\"")));
    assert_eq!(
        serde_json::to_value(handle.config_data()).unwrap(),
        json!({ "limit": "10ms", "propagate": false })
    );
    timeout.call(|| taking(20)).await.unwrap_err();
    assert_eq!(serde_json::to_value(handle.snapshot_data()).unwrap()["timeouts"], 1);
    let mut events = handle.events();
    handle.reset();
    assert_eq!(timeout.snapshot(), Default::default());
    assert_eq!(events.try_next().unwrap().what, OwnedEvent::Note(Note::new(Note::RESET)));
}
