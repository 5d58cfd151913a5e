//! Settings: defaults, profiles with exact numbers, what is refused, and changes while the policy runs.

use std::time::Duration;

use buttress_core::BoxError;
use buttress_kit::{Backoff, BackoffKind, Budget, BudgetConfig, Jitter};
use buttress_retry::{Retry, RetryAfter, RetryConfig};

use crate::support::{aws, blipee, didactic, dspx, fluxus, ms, of};

/// Attempts, kind, base, factor, cap and jitter.
fn numbers(config: &RetryConfig) -> (u32, BackoffKind, Duration, f64, Duration, Jitter) {
    config.validate().unwrap();
    let Backoff { kind, base, factor, max, jitter, .. } = &config.backoff;
    (config.max_attempts, *kind, *base, *factor, *max, *jitter)
}

#[test]
fn defaults_are_three_attempts_from_100_ms_doubled_to_30_s_with_full_jitter() {
    use BackoffKind::Exponential;
    let default = RetryConfig::default();
    assert_eq!(numbers(&default), (3, Exponential, ms(100), 2.0, ms(30_000), Jitter::Full));
    assert_eq!((default.max_elapsed, default.budget, default.report_exhaustion), (None, None, false));
    assert_eq!((default.retry_after, default.retry_after_max), (RetryAfter::Obey, ms(30_000)));
    assert!(default.retry_rejections.is_empty());
}

#[test]
fn profiles_have_the_numbers_of_their_systems() {
    use BackoffKind::{Constant, Exponential, Linear};
    let fifth = Jitter::Proportional(0.2);
    let profiles = [
        (dspx(), (3, Exponential, 100, 4.0, 1600, Jitter::Additive(ms(50)))),
        (blipee(), (5, Exponential, 100, 2.0, 30_000, fifth)),
        (RetryConfig::exponential(5, ms(100), ms(30_000)), (5, Exponential, 100, 2.0, 30_000, fifth)),
        (RetryConfig::api_rate_limit(), (3, Exponential, 1000, 2.0, 60_000, fifth)),
        (RetryConfig::network(), (5, Exponential, 500, 1.5, 10_000, fifth)),
        (RetryConfig::fixed(3, ms(1000)), (3, Constant, 1000, 2.0, 30_000, Jitter::None)),
        (RetryConfig::linear(4, ms(500), ms(500)), (4, Linear, 500, 2.0, 30_000, Jitter::None)),
        (didactic(), (4, Exponential, 1000, 2.0, 60_000, Jitter::Proportional(0.1))),
        (fluxus(), (3, Constant, 0, 2.0, 30_000, Jitter::None)),
        (RetryConfig::none(), (1, Constant, 0, 2.0, 30_000, Jitter::None)),
        (aws(), (3, Exponential, 50, 2.0, 20_000, Jitter::Full)),
    ];
    for (profile, (attempts, kind, base, factor, max, jitter)) in profiles {
        assert_eq!(numbers(&profile), (attempts, kind, ms(base), factor, ms(max), jitter));
    }
}

#[test]
fn settings_that_cannot_work_are_refused_by_name_and_all_others_work() {
    let field = |change: fn(&mut RetryConfig)| {
        let mut config = RetryConfig::default();
        change(&mut config);
        match Retry::new("p", config) {
            Ok(_) => String::new(),
            Err(error) => {
                assert!(!error.why().is_empty() && !error.value().is_empty());
                error.field().to_owned()
            }
        }
    };
    assert_eq!(field(|c| c.max_attempts = 0), "max_attempts");
    assert_eq!(field(|c| c.max_attempts = u32::MAX), "");
    for (refused, name) in [
        (field(|c| c.backoff.base = Duration::MAX), "backoff.base"),
        (field(|c| c.backoff.max = Duration::ZERO), "backoff.max"),
        (field(|c| c.backoff.max = Duration::MAX), "backoff.max"),
        (field(|c| c.backoff.max = ms(1)), "backoff.base"),
        (field(|c| c.backoff.factor = f64::NAN), "backoff.factor"),
        (field(|c| c.backoff.factor = f64::INFINITY), "backoff.factor"),
        (field(|c| c.backoff.factor = 1e300), "backoff.factor"),
        (field(|c| c.backoff.factor = -0.0), "backoff.factor"),
        (field(|c| c.backoff.factor = 0.5), "backoff.factor"),
        (field(|c| c.backoff.jitter = Jitter::Proportional(f64::NAN)), "backoff.jitter"),
        (field(|c| c.backoff.jitter = Jitter::Proportional(-0.0001)), "backoff.jitter"),
        (field(|c| c.backoff.jitter = Jitter::Symmetric(1.0001)), "backoff.jitter"),
        (field(|c| c.backoff.jitter = Jitter::Additive(Duration::MAX)), "backoff.jitter"),
        (field(|c| c.backoff.step = Some(Duration::MAX)), "backoff.step"),
        (field(|c| c.backoff.kind = BackoffKind::List), "backoff.list"),
        (
            field(|c| c.throttle_backoff = Some(Backoff::none().with_factor(f64::NAN))),
            "throttle_backoff.factor",
        ),
        (field(|c| c.max_elapsed = Some(Duration::ZERO)), "max_elapsed"),
        (field(|c| c.max_elapsed = Some(Duration::MAX)), "max_elapsed"),
        (field(|c| c.retry_after_max = Duration::MAX), "retry_after_max"),
        (field(|c| c.budget = Some(budget(f64::NAN, 10).into())), "budget.ratio"),
        (field(|c| c.budget = Some(budget(f64::INFINITY, 10).into())), "budget.ratio"),
        (field(|c| c.budget = Some(budget(-0.1, 10).into())), "budget.ratio"),
        (field(|c| c.budget = Some(budget(0.1, u32::MAX).into())), "budget.min_per_second"),
    ] {
        assert_eq!(refused, name);
    }
    assert_eq!(field(|c| c.backoff.base = Duration::ZERO), "");
    assert_eq!(field(|c| c.retry_after_max = Duration::ZERO), "");
    assert_eq!(field(|c| c.budget = Some(budget(0.0, 0).into())), "");
    assert_eq!(field(|c| c.retry_rejections = vec!["MINE".into(); 1000]), "");
}

fn with_budget(budget: BudgetConfig, mut config: RetryConfig) -> RetryConfig {
    config.budget = Some(budget.into());
    config
}

fn budget(ratio: f64, min_per_second: u32) -> BudgetConfig {
    let mut config = BudgetConfig::default();
    (config.ratio, config.min_per_second) = (ratio, min_per_second);
    config
}

#[tokio::test(start_paused = true)]
async fn longest_times_that_are_allowed_work() {
    let max = buttress_core::config::MAX_DURATION;
    let retry = Retry::builder("p").backoff(Backoff::constant(max)).max_elapsed(max).retry_after_max(max);
    let retry = retry.build().unwrap();
    let mut call = Box::pin(retry.call(|| async { Err::<(), BoxError>("down".into()) }));
    assert!(buttress_test::poll_once(call.as_mut()).is_pending());

    // A wait of a thousand years leaves no time for an attempt within five hundred.
    let half = max.checked_div(2).unwrap();
    let retry = Retry::builder("p").backoff(Backoff::constant(max)).max_elapsed(half).build().unwrap();
    let mut call = Box::pin(retry.call(|| async { Err::<(), BoxError>("down".into()) }));
    assert!(buttress_test::poll_once(call.as_mut()).is_ready());
}

#[tokio::test(start_paused = true)]
async fn new_settings_count_from_the_next_call_on_and_bad_ones_change_nothing() {
    let retry = Retry::new("p", fluxus()).unwrap();
    let attempts = async || {
        let before = retry.snapshot().retries;
        retry.call(|| async { Err::<(), BoxError>("down".into()) }).await.unwrap_err();
        retry.snapshot().retries - before + 1
    };
    assert_eq!(attempts().await, 3);
    retry.reconfigure(of(5, fluxus())).unwrap();
    assert_eq!(attempts().await, 5);
    let error = retry.reconfigure(of(0, fluxus())).unwrap_err();
    assert_eq!(error.field(), "max_attempts");
    let own = with_budget(BudgetConfig::default(), fluxus());
    assert_eq!(retry.reconfigure(own).unwrap_err().field(), "budget");
    assert_eq!(attempts().await, 5);
}

#[tokio::test(start_paused = true)]
async fn shorter_wait_counts_for_the_call_under_way() {
    let retry = Retry::new("p", RetryConfig::fixed(3, ms(10_000))).unwrap();
    let start = tokio::time::Instant::now();
    let call = tokio::spawn(retry.call(|| async { Err::<(), BoxError>("down".into()) }));
    tokio::time::sleep(ms(1)).await;
    retry.reconfigure(RetryConfig::fixed(3, ms(50))).unwrap();
    call.await.unwrap().unwrap_err();
    assert_eq!(start.elapsed(), ms(10_050));
}

// As `Retry::reconfigure` says: neither more nor fewer attempts, neither sooner nor later.
#[tokio::test(start_paused = true)]
async fn call_under_way_keeps_its_number_of_attempts_and_its_max_elapsed() {
    for (old, new, attempts) in [(10_000, Some(150), 5), (250, Some(10_000), 3), (250, None, 3)] {
        let retry = Retry::builder("p").max_attempts(5).backoff(Backoff::constant(ms(100)));
        let retry = retry.max_elapsed(ms(old)).build().unwrap();
        let call = tokio::spawn(retry.call(|| async { Err::<(), BoxError>("down".into()) }));
        tokio::time::sleep(ms(1)).await;
        let mut config = of(9, retry.config());
        config.max_elapsed = new.map(ms);
        retry.reconfigure(config).unwrap();
        call.await.unwrap().unwrap_err();
        assert_eq!(retry.snapshot().retries + 1, attempts, "from {old} to {new:?}");
    }
}

#[test]
fn budget_of_ones_own_and_a_shared_one_can_both_be_given() {
    let config = with_budget(budget(0.5, 2), RetryConfig::default());
    let own = Retry::new("p", config.clone()).unwrap();
    assert_eq!(own.budget().unwrap().config(), Some(budget(0.5, 2)));
    own.reconfigure(own.config()).unwrap();

    let shared = Budget::grpc(10, 0.5).unwrap();
    let retry = Retry::builder("p").config(config).budget(shared).build().unwrap();
    assert_eq!(retry.budget().unwrap().config(), None);
    retry.reconfigure(retry.config()).unwrap();
}

#[test]
fn settings_are_read_from_a_file_and_written_back() {
    let text = r#"{
        "max_attempts": 5,
        "backoff": { "base": "250ms", "max": "10s", "jitter": { "proportional": 0.1 } },
        "max_elapsed": "1m",
        "retry_after": "bounded",
        "retry_after_max": "5s",
        "retry_rejections": ["CIRCUIT_OPEN", "RATE_LIMITED"],
        "budget": { "ratio": 0.1 }
    }"#;
    let config: RetryConfig = serde_json::from_str(text).unwrap();
    assert_eq!((config.max_attempts, config.backoff.base), (5, ms(250)));
    assert_eq!(config.retry_rejections, ["CIRCUIT_OPEN", "RATE_LIMITED"]);
    assert_eq!((config.retry_after, config.max_elapsed), (RetryAfter::Bounded, Some(ms(60_000))));
    for config in [config, RetryConfig::default(), aws(), dspx()] {
        let written = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<RetryConfig>(&written).unwrap(), config);
    }
    assert_eq!(serde_json::from_str::<RetryConfig>("{}").unwrap(), RetryConfig::default());
    for (bad, told) in [
        (r#"{"max_atempts": 3}"#, "max_atempts"),
        (r#"{"max_attempts": -1}"#, "-1"),
        (r#"{"retry_rejections": [7]}"#, "7"),
        (r#"{"max_elapsed": "5"}"#, "\"5\""),
    ] {
        let error = serde_json::from_str::<RetryConfig>(bad).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
}
