//! How many attempts are made, with what waits, and what the caller gets.

use buttress_core::{Backoff, BoxError};
use buttress_retry::{Retry, RetryConfig};
use tower::{Layer, ServiceExt};

use crate::support::{Script, ms};

// S0-011, S3-011, C-01, vector fx-retry-first
#[tokio::test(start_paused = true)]
async fn call_that_succeeds_is_made_once() {
    let script = Script::default();
    let retry = Retry::new("payments", RetryConfig::default()).unwrap();
    let svc = retry.layer().layer(script.service());
    assert_eq!(svc.oneshot("a").await.unwrap(), "ok");
    assert_eq!((script.calls(), retry.snapshot().attempts), (1, 1));
}

// vector r4j-re-01, C-07
#[tokio::test(start_paused = true)]
async fn max_attempts_counts_all_calls_and_the_last_error_comes_out_unchanged() {
    let script = Script::of([Err("one".into()), Err("two".into()), Err("three".into())]);
    let retry = Retry::new("payments", RetryConfig::fixed(3, ms(500))).unwrap();
    let error: BoxError = retry.layer().layer(script.service()).oneshot("a").await.unwrap_err();
    assert_eq!(error.to_string(), "three");
    assert_eq!(script.waits(), [ms(500), ms(500)]);
}

// S4-002
#[tokio::test(start_paused = true)]
async fn retries_count_the_calls_after_the_first() {
    let script = Script::failing();
    let retry = Retry::builder("payments").retries(2).backoff(Backoff::none()).build().unwrap();
    retry.layer().layer(script.service()).oneshot("a").await.unwrap_err();
    assert_eq!(script.calls(), 3);
}
