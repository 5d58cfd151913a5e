//! `Retry-After`: from responses, and from refusals.

use std::time::Duration;

use buttress_core::{
    BoxError, Name, Rejection, Verdict,
    context::{self, CallContext},
};
use buttress_kit::Backoff;
use buttress_retry::{Retry, RetryAfter, RetryBuilder, RetryConfig};
use proptest::prelude::*;
use tokio::time::Instant;
use tower::{Layer, ServiceExt};

use crate::support::{OPEN, Script, aws, ms, of};

fn base(backoff: u64) -> RetryBuilder {
    Retry::builder("api").max_attempts(2).backoff(Backoff::constant(ms(backoff)))
}

/// The wait before the second attempt, or `None` where there was none.
async fn wait(retry: &Retry, hint: Duration) -> Option<Duration> {
    let script = Script::failing();
    let layer = retry.layer().classify_with(move |_: Result<&&str, &BoxError>| Verdict::retry_after(hint));
    layer.layer(script.service()).oneshot("a").await.unwrap_err();
    script.waits().first().copied()
}

#[tokio::test(start_paused = true)]
async fn hint_is_never_anticipated_and_never_shortens_the_backoff() {
    let retry = base(100).build().unwrap();
    assert_eq!(wait(&retry, ms(2500)).await, Some(ms(2500)));
    assert_eq!(wait(&retry, ms(40)).await, Some(ms(100)));
    assert_eq!(wait(&retry, Duration::ZERO).await, Some(ms(100)));
}

#[tokio::test(start_paused = true)]
async fn hint_above_the_cap_ends_the_call_instead_of_being_cut() {
    let retry = base(100).build().unwrap();
    assert_eq!(wait(&retry, Duration::from_secs(30)).await, Some(Duration::from_secs(30)));
    for hint in [ms(30_001), Duration::from_secs(9_999_999_999), Duration::MAX] {
        assert_eq!(wait(&retry, hint).await, None);
    }
    assert_eq!(retry.snapshot().stopped.deadline, 3);
}

#[tokio::test(start_paused = true)]
async fn bounded_hint_lies_between_the_backoff_and_five_seconds_more() {
    let mut config = aws();
    config.backoff.jitter = buttress_kit::Jitter::None;
    let retry = Retry::new("api", of(2, config)).unwrap();
    assert_eq!(wait(&retry, ms(1500)).await, Some(ms(1500)));
    assert_eq!(wait(&retry, ms(0)).await, Some(ms(50)));
    assert_eq!(wait(&retry, ms(10_000)).await, Some(ms(5050)));
    assert_eq!(wait(&retry, Duration::MAX).await, Some(ms(5050)));

    // What cannot be read is no hint.
    let script = Script::failing();
    retry.layer().layer(script.service()).oneshot("a").await.unwrap_err();
    assert_eq!(script.waits(), [ms(50)]);
}

#[tokio::test(start_paused = true)]
async fn hint_may_be_ignored() {
    let retry = base(100).retry_after(RetryAfter::Ignore).build().unwrap();
    assert_eq!(wait(&retry, Duration::MAX).await, Some(ms(100)));
}

#[tokio::test(start_paused = true)]
async fn hint_may_replace_the_backoff_which_then_begins_again() {
    let retry = Retry::builder("rpc").max_attempts(6).backoff(Backoff::exponential(ms(100)));
    let retry = retry.retry_after(RetryAfter::Replace).build().unwrap();
    let answers = ["a", "a", "push back", "a", "a"].map(|text| Err(text.into()));
    let script = Script::of(answers);
    let layer = retry.layer().classify_with(|outcome: Result<&&str, &BoxError>| match outcome {
        Ok(_) => Verdict::Success,
        Err(error) if error.to_string() == "push back" => Verdict::retry_after(ms(7)),
        Err(_) => Verdict::transient(),
    });
    layer.layer(script.service()).oneshot("a").await.unwrap();
    assert_eq!(script.waits(), [100, 200, 7, 100, 200].map(ms));
    assert_eq!(wait(&retry, Duration::from_secs(31)).await, None);
}

#[tokio::test(start_paused = true)]
async fn listed_refusal_is_retried_only_if_its_retry_after_fits_the_deadline() {
    let retry = base(10).retry_rejections(["CIRCUIT_OPEN"]).build().unwrap();
    for (left, waits) in [(ms(3000), vec![]), (ms(2000), vec![]), (ms(3001), vec![ms(3000)])] {
        let script = Script::failing_with(|| {
            Rejection::new(OPEN, &Name::new("inner")).with_retry_after(ms(3000)).into()
        });
        let deadline = Instant::now().checked_add(left).unwrap().into_std();
        let call = retry.layer().layer(script.service()).oneshot("a");
        context::scope(CallContext::default().until(deadline), call).await.unwrap_err();
        assert_eq!(script.waits(), waits, "{left:?} left");
    }
    assert_eq!(retry.snapshot().stopped.deadline, 2);
}

#[tokio::test(start_paused = true)]
async fn preset_for_rate_limits_obeys_a_minute() {
    let retry = Retry::new("api", of(2, RetryConfig::api_rate_limit())).unwrap();
    assert_eq!(wait(&retry, Duration::from_secs(60)).await, Some(Duration::from_secs(60)));
    assert_eq!(wait(&retry, Duration::from_secs(61)).await, None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn wait_is_never_early_never_above_the_cap_and_always_ends_before_the_deadline(
        backoff in 0_u64..5_000, hint in proptest::option::of(0_u64..20_000), cap in 0_u64..10_000,
        left in proptest::option::of(0_u64..20_000),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let retry = base(backoff).retry_after_max(ms(cap)).build().unwrap();
            let start = Instant::now();
            let deadline = left.map(|left| start.checked_add(ms(left)).unwrap().into_std());
            let context = deadline.map_or(CallContext::default(), |d| CallContext::default().until(d));
            let verdict = hint.map_or(Verdict::transient(), |hint| Verdict::retry_after(ms(hint)));
            let script = Script::failing();
            let layer = retry.layer().classify_with(move |_: Result<&&str, &BoxError>| verdict);
            context::scope(context, layer.layer(script.service()).oneshot("a")).await.unwrap_err();

            let wanted = backoff.max(hint.unwrap_or(0));
            let expected = hint.is_none_or(|hint| hint <= cap) && left.is_none_or(|left| wanted < left);
            assert_eq!(script.waits(), if expected { vec![ms(wanted)] } else { vec![] });
            if let Some(left) = left {
                assert!(start.elapsed() <= ms(left));
            }
        });
    }
}
