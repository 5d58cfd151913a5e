//! The handle that all policies are treated by, and settings that change while others change them too.

use std::thread;

use buttress_core::{BoxError, ConfigError, Note};
use buttress_kit::{Budget, Handle};
use buttress_retry::{KIND, Retry, RetryConfig};
use buttress_test::Recording;
use serde_json::{Value, json};
use tokio_test::task;

use crate::support::{fluxus, ms, of};

fn patch(retry: &Retry, patch: &Value) -> Result<(), ConfigError> {
    retry.apply(&mut <dyn erased_serde::Deserializer<'_>>::erase(patch))
}

/// How many calls are made of what always fails.
fn calls(retry: &Retry) -> u64 {
    let before = retry.snapshot().retries;
    let failed = task::spawn(retry.call(|| std::future::ready(Err::<(), BoxError>("down".into())))).poll();
    assert!(failed.is_ready());
    retry.snapshot().retries - before + 1
}

#[test]
fn snapshot_and_settings_are_data() {
    let budget = Budget::in_flight(0.0, 4).unwrap();
    let retry = Retry::builder("payments").config(fluxus()).budget(budget).build().unwrap();
    let handle: &dyn Handle = &retry;
    assert_eq!((handle.kind(), handle.name().as_str()), (&KIND, "payments"));
    assert_eq!(calls(&retry), 3);
    let snapshot = serde_json::to_value(handle.snapshot_data()).unwrap();
    assert_eq!(snapshot, serde_json::to_value(retry.snapshot()).unwrap());
    assert_eq!((&snapshot["retries"], &snapshot["stopped"]["max_attempts"]), (&json!(2), &json!(1)));
    assert_eq!((&snapshot["stopped"]["budget"], &snapshot["budget_available"]), (&json!(0), &json!(4.0)));
    let config = serde_json::to_value(handle.config_data()).unwrap();
    assert_eq!(serde_json::from_value::<RetryConfig>(config).unwrap(), retry.config());
}

#[test]
fn patch_changes_the_settings_it_names_and_is_in_force_at_once() {
    let recording = Recording::new();
    let retry = Retry::builder("payments").config(fluxus()).observe(recording.clone()).build().unwrap();
    patch(&retry, &json!({ "max_attempts": 5, "retry_rejections": ["CIRCUIT_OPEN"] })).unwrap();
    let mut wanted = of(5, fluxus());
    wanted.retry_rejections = vec!["CIRCUIT_OPEN".into()];
    assert_eq!((retry.config(), calls(&retry)), (wanted, 5));
    assert_eq!(recording.noted(Note::RECONFIGURED).len(), 1);
}

#[test]
fn patch_that_cannot_work_changes_nothing_and_names_policy_and_setting() {
    let retry = Retry::new("payments", fluxus()).unwrap();
    for (bad, field) in [
        (json!({ "report_exhaustion": true, "max_attempts": 0 }), "max_attempts"),
        (json!({ "max_attempts": 9, "backoff": { "base": "1m" } }), "backoff.base"),
        (json!({ "max_attempts": 9, "budget": { "ratio": 0.5 } }), "budget"),
        (json!({ "max_atempts": 9 }), "max_atempts"),
    ] {
        let why = patch(&retry, &bad).unwrap_err();
        assert_eq!((why.field(), why.policy()), (field, Some("retry \"payments\"")));
        assert_eq!((retry.config(), calls(&retry)), (fluxus(), 3));
    }
}

#[test]
fn reset_begins_the_counts_anew_and_is_told() {
    let recording = Recording::new();
    let retry = Retry::builder("payments").config(fluxus()).observe(recording.clone()).build().unwrap();
    let fresh = retry.snapshot();
    calls(&retry);
    assert_ne!(retry.snapshot(), fresh);
    Handle::reset(&retry);
    assert_eq!(retry.snapshot(), fresh);
    assert_eq!(recording.notes().last(), Some(&Note::new(Note::RESET)));
}

#[test]
fn settings_that_are_named_are_those_in_force_however_many_change_them_at_once() {
    let retry = Retry::new("payments", fluxus()).unwrap();
    for _ in 0..200 {
        thread::scope(|scope| {
            for attempts in [2, 7] {
                let retry = &retry;
                scope.spawn(move || {
                    for _ in 0..20 {
                        retry.reconfigure(RetryConfig::fixed(attempts, ms(0))).unwrap();
                    }
                });
            }
        });
        assert_eq!(calls(&retry), u64::from(retry.config().max_attempts));
    }
}
