use std::time::Duration;

use buttress_core::{BoxError, config::MAX_DURATION};
use buttress_fallback::{Fallback, FallbackConfig};
use tower::{Layer, ServiceExt, service_fn};

use crate::fallback;

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
