//! Every setting at its limits: refused with its name, its value and a reason, or it works.

use std::time::Duration;

use buttress_breaker::{
    Breaker, BreakerConfig, Comparison, KeyedBreaker, OnCancel, Ramp, State, WindowConfig,
};
use buttress_core::ConfigError;
use buttress_kit::{Backoff, Handle, Health, Jitter, Mode, erased_serde};
use serde_json::json;

use crate::support::*;

fn refused(change: impl FnOnce(&mut BreakerConfig)) -> ConfigError {
    let mut config = BreakerConfig::default();
    change(&mut config);
    let why = Breaker::new("x", config.clone()).expect_err(&format!("{config:?} was built"));
    assert!(!why.why().is_empty() && !why.value().is_empty());
    why
}

/// Builds, and runs once around: calls, opening, half-open, closing, a day's idleness.
async fn works(change: impl FnOnce(&mut BreakerConfig)) {
    let mut config = BreakerConfig::default();
    change(&mut config);
    let breaker = Breaker::new("x", config.clone()).unwrap_or_else(|why| panic!("{why}: {config:?}"));
    for _ in 0..30 {
        if let Ok(permit) = breaker.try_acquire() {
            permit.failure();
        }
        if let Ok(permit) = breaker.try_acquire() {
            permit.success();
        }
    }
    breaker.force_open();
    let _ = breaker.try_acquire();
    pass(secs(86_400)).await;
    for _ in 0..10 {
        let _ = breaker.try_acquire().map(buttress_breaker::Permit::success);
    }
    breaker.snapshot();
    Handle::health(&breaker);
    breaker.reset();
    breaker.is(State::Closed);
}

#[tokio::test(start_paused = true)]
async fn settings_that_cannot_work_are_refused_by_name() {
    type Change = fn(&mut BreakerConfig);
    let table: &[(&str, Change)] = &[
        ("consecutive_failures", |c| c.consecutive_failures = Some(0)),
        ("failure_count", |c| c.failure_count = Some(0)),
        ("failure_rate", |c| c.failure_rate = Some(0.0)),
        ("failure_rate", |c| c.failure_rate = Some(-0.5)),
        ("failure_rate", |c| c.failure_rate = Some(1.000_1)),
        ("failure_rate", |c| c.failure_rate = Some(f64::NAN)),
        ("failure_rate", |c| c.failure_rate = Some(f64::INFINITY)),
        ("failure_rate", |c| c.failure_rate = Some(f64::NEG_INFINITY)),
        ("failure_rate", |c| c.failure_rate = Some(50.0)),
        ("slow_call_rate", |c| c.slow_call_rate = Some(0.5)),
        ("slow_call_rate", |c| {
            (c.slow_call_rate, c.slow_call_duration) = (Some(f64::NAN), Some(secs(1)));
        }),
        ("slow_call_rate", |c| (c.slow_call_rate, c.slow_call_duration) = (Some(0.0), Some(secs(1)))),
        ("slow_call_rate", |c| (c.slow_call_rate, c.slow_call_duration) = (Some(-1.0), Some(secs(1)))),
        ("slow_call_rate", |c| {
            (c.slow_call_rate, c.slow_call_duration) = (Some(f64::INFINITY), Some(secs(1)));
        }),
        ("slow_call_duration", |c| c.slow_call_duration = Some(Duration::ZERO)),
        ("slow_call_duration", |c| c.slow_call_duration = Some(Duration::MAX)),
        ("slow_call_duration", |c| {
            (c.slow_call_duration, c.call_timeout) = (Some(secs(2)), Some(secs(2)));
        }),
        ("window.count", |c| c.window = WindowConfig::count(0)),
        ("window.count", |c| c.window = WindowConfig::count(u32::MAX)),
        ("window.time", |c| c.window = WindowConfig::time(Duration::ZERO)),
        ("window.time", |c| c.window = WindowConfig::time(Duration::MAX)),
        ("window.interval", |c| c.window = WindowConfig::interval(Duration::ZERO)),
        ("window.interval", |c| c.window = WindowConfig::interval(Duration::MAX)),
        ("window.buckets", |c| c.window = WindowConfig::time(secs(1)).buckets(0)),
        ("window.buckets", |c| c.window = WindowConfig::time(secs(1)).buckets(u32::MAX)),
        ("minimum_calls", |c| (c.window, c.minimum_calls) = (WindowConfig::count(10), Some(11))),
        ("failure_count", |c| (c.window, c.failure_count) = (WindowConfig::count(10), Some(11))),
        ("open_for", |c| c.open_for = Some(Duration::ZERO)),
        ("open_for", |c| c.open_for = Some(Duration::MAX)),
        ("open_backoff.base", |c| c.open_backoff = Backoff::none()),
        ("open_backoff.factor", |c| c.open_backoff = Backoff::exponential(secs(1)).with_factor(f64::NAN)),
        ("open_backoff.max", |c| c.open_backoff = Backoff::exponential(secs(1)).with_max(Duration::MAX)),
        ("open_backoff.jitter", |c| {
            c.open_backoff = Backoff::exponential(secs(1)).with_jitter(Jitter::Symmetric(f64::NAN));
        }),
        ("open_backoff.list", |c| c.open_backoff = Backoff::list([secs(1), Duration::ZERO])),
        ("open_backoff.list", |c| c.open_backoff = Backoff::list([secs(1), secs(5)]).with_max(secs(2))),
        ("permitted_probes", |c| c.permitted_probes = 0),
        ("permitted_probes", |c| c.permitted_probes = u32::MAX),
        ("success_threshold", |c| c.success_threshold = 0),
        ("half_open_sample", |c| c.half_open_sample = Some(0)),
        ("half_open_sample", |c| c.half_open_sample = Some(1)),
        ("half_open_failure_rate", |c| c.half_open_failure_rate = Some(0.0)),
        ("half_open_failure_rate", |c| c.half_open_failure_rate = Some(-1.0)),
        ("half_open_failure_rate", |c| c.half_open_failure_rate = Some(f64::NAN)),
        ("half_open_failure_rate", |c| c.half_open_failure_rate = Some(f64::INFINITY)),
        ("half_open_timeout", |c| c.half_open_timeout = Some(Duration::MAX)),
        ("half_open_timeout_closes", |c| c.half_open_timeout_closes = true),
        ("half_open_timeout_closes", |c| {
            (c.half_open_timeout, c.half_open_timeout_closes) = (Some(Duration::ZERO), true);
        }),
        ("probe_lease", |c| c.probe_lease = Some(Duration::ZERO)),
        ("probe_lease", |c| c.probe_lease = Some(Duration::MAX)),
        ("ramp.start", |c| c.ramp = Some(Ramp::over(secs(1)).start(0.0))),
        ("ramp.start", |c| c.ramp = Some(Ramp::over(secs(1)).start(-1.0))),
        ("ramp.start", |c| c.ramp = Some(Ramp::over(secs(1)).start(f64::NAN))),
        ("ramp.start", |c| c.ramp = Some(Ramp::over(secs(1)).start(f64::INFINITY))),
        ("ramp.over", |c| c.ramp = Some(Ramp::over(Duration::ZERO))),
        ("ramp.over", |c| c.ramp = Some(Ramp::over(Duration::MAX))),
        ("call_timeout", |c| c.call_timeout = Some(Duration::ZERO)),
        ("call_timeout", |c| c.call_timeout = Some(Duration::MAX)),
    ];
    for (field, change) in table {
        let why = refused(*change);
        assert_eq!(why.field(), *field, "{why}");
    }
    let why = refused(|c| c.failure_rate = Some(50.0));
    assert!(why.to_string().contains("`failure_rate` = 50.0 cannot work"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn settings_at_their_limits_work() {
    let long = Duration::from_secs(1_000 * 365 * 24 * 3_600);
    works(|c| c.consecutive_failures = Some(u32::MAX)).await;
    works(|c| c.consecutive_failures = Some(1)).await;
    works(|c| c.failure_count = Some(u32::MAX)).await;
    works(|c| c.failure_rate = Some(f64::MIN_POSITIVE)).await;
    works(|c| c.failure_rate = Some(1.0)).await;
    works(|c| c.minimum_calls = Some(0)).await;
    works(|c| c.minimum_calls = Some(u32::MAX)).await;
    works(|c| c.window = WindowConfig::count(1)).await;
    works(|c| c.window = WindowConfig::count(1 << 20)).await;
    works(|c| c.window = WindowConfig::time(Duration::from_millis(1)).buckets(1_024)).await;
    works(|c| c.window = WindowConfig::time(long).buckets(1)).await;
    works(|c| c.window = WindowConfig::interval(Duration::from_millis(1))).await;
    works(|c| c.window = WindowConfig::interval(long)).await;
    works(|c| c.comparison = Comparison::Above).await;
    works(|c| c.slow_call_duration = Some(Duration::from_nanos(1))).await;
    works(|c| (c.slow_call_duration, c.slow_call_rate) = (Some(long), Some(1.0))).await;
    works(|c| c.open_for = Some(Duration::from_nanos(1))).await;
    works(|c| c.open_for = Some(long)).await;
    works(|c| c.open_backoff = Backoff::exponential(secs(1)).with_factor(1e9).with_max(long)).await;
    works(|c| c.permitted_probes = 1_024).await;
    works(|c| c.success_threshold = u32::MAX).await;
    works(|c| c.half_open_sample = Some(u32::MAX)).await;
    works(|c| {
        (c.half_open_sample, c.half_open_failure_rate) = (Some(u32::MAX), Some(f64::MIN_POSITIVE));
    })
    .await;
    works(|c| (c.half_open_sample, c.half_open_failure_rate) = (Some(1), Some(1.0))).await;
    works(|c| c.half_open_timeout = Some(Duration::ZERO)).await;
    works(|c| c.half_open_timeout = Some(Duration::from_nanos(1))).await;
    works(|c| c.half_open_timeout = Some(long)).await;
    works(|c| (c.half_open_timeout, c.half_open_timeout_closes) = (Some(secs(1)), true)).await;
    works(|c| c.probe_lease = Some(Duration::from_nanos(1))).await;
    works(|c| c.probe_lease = Some(long)).await;
    works(|c| c.ramp = Some(Ramp::over(long).start(f64::MIN_POSITIVE))).await;
    works(|c| c.ramp = Some(Ramp::over(Duration::from_nanos(1)).start(1.0))).await;
    works(|c| c.call_timeout = Some(Duration::from_nanos(1))).await;
    works(|c| c.call_timeout = Some(long)).await;
    for state in
        [State::Closed, State::Open, State::HalfOpen, State::Isolated, State::Disabled, State::MetricsOnly]
    {
        works(|c| c.initial_state = state).await;
        let breaker = Breaker::builder("x").initial_state(state).build().unwrap();
        breaker.is(state);
    }
    for on_cancel in [OnCancel::WhenAll, OnCancel::Ignore, OnCancel::Failure] {
        works(|c| c.on_cancel = on_cancel).await;
    }
    for mode in [Mode::Enforce, Mode::Shadow] {
        works(|c| c.mode = mode).await;
    }
    works(|c| c.gate_readiness = true).await;
    // A timer further away than any timer goes.
    let gated = Breaker::builder("x").gate_readiness(true).open_for(long).build().unwrap();
    gated.force_open();
    let inner = tower::service_fn(|(): ()| async { Ok::<_, buttress_core::BoxError>(()) });
    let mut svc = tokio_test::task::spawn(tower::Layer::layer(&gated.layer(), inner));
    assert!(svc.enter(|cx, mut svc| tower::Service::<()>::poll_ready(&mut *svc, cx)).is_pending());
}

#[tokio::test(start_paused = true)]
async fn only_what_is_set_is_a_rule() {
    let breaker = Breaker::builder("x").consecutive_failures(100).build().unwrap();
    breaker.fail(99);
    breaker.is(State::Closed);
    let breaker = Breaker::builder("x").consecutive_failures(5).failure_rate(0.5).build().unwrap();
    breaker.fail(5);
    breaker.is(State::Closed); // `minimum_calls` is 20 beside a rate, and gates every rule
    breaker.fail(15);
    breaker.is(State::Open);
}

#[test]
fn settings_are_read_from_text_and_written_back() {
    let text = r#"{"consecutive_failures":5,"window":{"time":"1m","buckets":6},"open_for":"30s","half_open_timeout":"10s","on_cancel":"ignore"}"#;
    let read: BreakerConfig = serde_json::from_str(text).unwrap();
    assert_eq!(read.window, WindowConfig::time(secs(60)).buckets(6));
    assert_eq!((read.consecutive_failures, read.open_for), (Some(5), Some(secs(30))));
    assert_eq!((read.on_cancel, read.success_threshold), (OnCancel::Ignore, 2));
    assert_eq!(read.half_open_timeout, Some(secs(10)));
    let written = serde_json::to_string(&read).unwrap();
    assert_eq!(serde_json::from_str::<BreakerConfig>(&written).unwrap(), read);
    // What is left out of the wait is the breaker's own: full jitter from 100 ms would hardly keep it open.
    let read: BreakerConfig = serde_json::from_str(r#"{"open_backoff":{"max":"5m"}}"#).unwrap();
    assert_eq!(read.open_backoff, BreakerConfig::default().open_backoff.with_max(secs(300)));
    let read: BreakerConfig = serde_json::from_str(r#"{"open_backoff":{"base":"70s"}}"#).unwrap();
    assert!(!read.validate().unwrap_err().to_string().contains("30 s"), "the breaker's `max` is 60 s");
    for (wrong, says) in [
        (r#"{"open_backoff":{"bass":"1s"}}"#, "unknown field `bass`"),
        (r#"{"faliure_rate":0.5}"#, "unknown field `faliure_rate`"),
        (r#"{"window":{"count":5,"time":"1s"}}"#, "either `count`, or `time`"),
        (r#"{"open_for":"30"}"#, "not a time"),
        (r#"{"initial_state":"half"}"#, "unknown variant"),
    ] {
        let why = serde_json::from_str::<BreakerConfig>(wrong).unwrap_err().to_string();
        assert!(why.contains(says), "{why}");
    }
    for profile in [
        BreakerConfig::default(),
        profile("blipee"),
        profile("opossum"),
        profile("fluxus"),
        profile("didactic"),
        serde_json::from_str(r#"{"window":{"interval":"30s"}}"#).unwrap(),
        serde_json::from_str(r#"{"window":{"count":30}}"#).unwrap(),
    ] {
        let text = serde_json::to_string(&profile).unwrap();
        assert_eq!(serde_json::from_str::<BreakerConfig>(&text).unwrap(), profile);
    }
}

fn patch(handle: &dyn Handle, settings: &serde_json::Value) -> Result<(), ConfigError> {
    handle.apply(&mut <dyn erased_serde::Deserializer<'_>>::erase(settings))
}

#[tokio::test(start_paused = true)]
async fn a_patch_is_for_what_it_names_and_for_all_keys_at_once() {
    let breaker = Breaker::builder("x").consecutive_failures(5).open_for(secs(9)).build().unwrap();
    patch(&breaker, &json!({ "consecutive_failures": 2, "open_backoff": { "max": "5m" } })).unwrap();
    let config = breaker.config();
    assert_eq!((config.consecutive_failures, config.open_for), (Some(2), Some(secs(9))));
    assert_eq!(config.open_backoff, BreakerConfig::default().open_backoff.with_max(secs(300)));
    breaker.fail(2);
    breaker.is(State::Open);
    let why = patch(&breaker, &json!({ "failure_rate": 3.0 })).unwrap_err();
    assert_eq!((why.policy(), why.field()), (Some("breaker \"x\""), "failure_rate"));
    assert_eq!(breaker.config(), config);

    let keyed: KeyedBreaker<u32> = Breaker::keyed("y").consecutive_failures(5).build().unwrap();
    keyed.try_acquire(&1).unwrap().failure();
    patch(&keyed, &json!({ "consecutive_failures": 1 })).unwrap();
    for key in [1, 2] {
        keyed.try_acquire(&key).unwrap().failure();
    }
    assert_eq!(keyed.snapshot().open, 2);
    assert_eq!(patch(&keyed.get(&1).unwrap(), &json!({})).unwrap_err().field(), "config");
}

// Between the check and the commit nobody else changes the settings, and nothing is told before all is done.
#[tokio::test(start_paused = true)]
async fn what_is_prepared_is_in_force_once_committed() {
    let (breaker, heard) = Heard::by(Breaker::builder("x").open_for(secs(1)).gate_readiness(true));
    breaker.force_open();
    let inner = tower::service_fn(|(): ()| async { Ok::<_, buttress_core::BoxError>(()) });
    let mut svc = tokio_test::task::spawn(tower::Layer::layer(&breaker.layer(), inner));
    assert!(svc.enter(|cx, mut svc| tower::Service::<()>::poll_ready(&mut *svc, cx)).is_pending());
    let reconfigured = || heard.count("Note { what: \"reconfigured\", value: None }");
    let settings = json!({ "gate_readiness": false });
    drop(breaker.prepare(&mut <dyn erased_serde::Deserializer<'_>>::erase(&settings)).unwrap());
    assert!(breaker.config().gate_readiness && !svc.is_woken());
    let tell = breaker
        .prepare(&mut <dyn erased_serde::Deserializer<'_>>::erase(&settings))
        .unwrap()
        .hold()
        .unwrap()
        .commit();
    assert_eq!((breaker.config().gate_readiness, reconfigured()), (false, 0));
    tell();
    assert_eq!(reconfigured(), 1);
    assert!(svc.is_woken());
}

#[tokio::test(start_paused = true)]
async fn any_handle_shows_what_it_does_as_data() {
    let breaker = Breaker::builder("x").consecutive_failures(1).open_for(secs(5)).build().unwrap();
    let keyed: KeyedBreaker<u32> = Breaker::keyed("x").build().unwrap();
    let handles: [&dyn Handle; 2] = [&breaker, &keyed];
    assert!(handles.iter().all(|handle| handle.kind().name == "breaker" && &**handle.name() == "x"));
    assert_eq!(handles[0].health(), Health::Up);
    breaker.fail(1);
    keyed.try_acquire(&1).unwrap().success();
    pass(ms(1_500)).await;
    let shown = handles.map(|handle| serde_json::to_value(handle.snapshot_data()).unwrap());
    let (one, all) = (&shown[0], &shown[1]);
    assert_eq!(
        (&one["state"], &one["failures"], &one["last_failure"]),
        (&json!("open"), &json!(1), &json!("1s 500ms"))
    );
    assert_eq!((&one["next_probe_in"], &one["last_error"]), (&json!("3s 500ms"), &json!("the call failed")));
    assert_eq!((&all["keys"], &all["closed"], &all["open"]), (&json!(1), &json!(1), &json!(0)));
    assert_eq!(serde_json::to_value(handles[0].config_data()).unwrap()["open_for"], json!("5s"));
    assert_eq!(handles[0].health(), Health::Down);
    pass(secs(5)).await;
    assert_eq!(handles[0].health(), Health::Degraded);
    handles[0].reset();
    assert_eq!(handles[0].health(), Health::Up);
}
