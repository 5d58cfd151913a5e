use std::time::Duration;

use buttress_core::config::MAX_DURATION;
use buttress_timeout::{Timeout, TimeoutConfig};
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
