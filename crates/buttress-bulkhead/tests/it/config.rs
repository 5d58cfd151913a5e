//! Settings: defaults, boundaries, text.

use std::time::Duration;

use buttress_bulkhead::{Bulkhead, BulkheadConfig};
use buttress_kit::Mode;

use crate::support::ms;

#[test]
fn defaults_are_ten_at_once_a_hundred_waiting_and_thirty_seconds() {
    let bulkhead = Bulkhead::builder("db").build().unwrap();
    let config = bulkhead.config();
    assert_eq!(config, BulkheadConfig::default());
    assert_eq!((config.max_concurrent, config.max_queue), (10, 100));
    assert_eq!(config.queue_timeout, Some(Duration::from_secs(30)));
    assert_eq!((config.mode, config.timed), (Mode::Enforce, false));
    assert_eq!((bulkhead.snapshot().available, bulkhead.snapshot().queue_available), (10, 100));
}

#[test]
fn builder_sets_every_field() {
    let bulkhead = Bulkhead::builder("ai")
        .max_concurrent(20)
        .max_queue(50)
        .queue_timeout(ms(5))
        .mode(Mode::Shadow)
        .timed(true)
        .build()
        .unwrap();
    let config = bulkhead.config();
    assert_eq!((config.max_concurrent, config.max_queue), (20, 50));
    assert_eq!((config.queue_timeout, config.mode, config.timed), (Some(ms(5)), Mode::Shadow, true));
    assert_eq!(&**bulkhead.name(), "ai");
}

#[tokio::test(start_paused = true)]
async fn every_field_at_its_bounds_works_or_is_refused_by_name() {
    let with = |change: fn(&mut BulkheadConfig)| {
        let mut config = BulkheadConfig::default();
        change(&mut config);
        config
    };
    let refused = [
        (with(|c| c.max_concurrent = 0), "max_concurrent", "0"),
        (with(|c| c.max_concurrent = 1 << 24), "max_concurrent", "16777216"),
        (with(|c| c.max_concurrent = u32::MAX), "max_concurrent", "4294967295"),
        (with(|c| c.queue_timeout = Some(Duration::ZERO)), "queue_timeout", "0ns"),
        (with(|c| c.queue_timeout = Some(Duration::MAX)), "queue_timeout", "18446744073709551615.999999999s"),
    ];
    for (config, field, value) in refused {
        let why = Bulkhead::new("db", config).unwrap_err();
        assert_eq!((why.field(), why.value()), (field, value));
        assert!(!why.why().is_empty());
    }
    let works = [
        with(|c| c.max_concurrent = 1),
        with(|c| c.max_concurrent = (1 << 24) - 1),
        with(|c| c.max_queue = 0),
        with(|c| c.max_queue = u32::MAX),
        with(|c| c.queue_timeout = None),
        with(|c| c.queue_timeout = Some(Duration::from_nanos(1))),
        with(|c| c.queue_timeout = Some(buttress_core::config::MAX_DURATION)),
    ];
    for mut config in works {
        let bulkhead = Bulkhead::new("db", config.clone()).unwrap();
        drop(bulkhead.try_acquire().unwrap());
        config.max_concurrent = 1;
        config.max_queue = config.max_queue.max(1);
        bulkhead.reconfigure(config).unwrap();
        let permit = bulkhead.try_acquire().unwrap();
        let mut waiting = tokio_test::task::spawn(bulkhead.acquire());
        tokio_test::assert_pending!(waiting.poll());
        drop(permit);
        drop(tokio_test::assert_ready_ok!(waiting.poll()));
    }
}

#[test]
fn settings_are_text_and_unknown_ones_are_refused() {
    let config: BulkheadConfig =
        serde_json::from_str(r#"{"max_concurrent": 3, "queue_timeout": "1s 500ms"}"#).unwrap();
    assert_eq!((config.max_concurrent, config.max_queue), (3, 100));
    assert_eq!(config.queue_timeout, Some(ms(1_500)));
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<BulkheadConfig>(&text).unwrap(), config);
    let none: BulkheadConfig = serde_json::from_str(r#"{"queue_timeout": null, "mode": "shadow"}"#).unwrap();
    assert_eq!((none.queue_timeout, none.mode), (None, Mode::Shadow));
    let why = serde_json::from_str::<BulkheadConfig>(r#"{"max_concurent": 3}"#).unwrap_err();
    assert!(why.to_string().contains("max_concurent"), "{why}");
}
