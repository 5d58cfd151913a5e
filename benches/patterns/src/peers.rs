//! The peers, each set up to do what our layer does.

use std::{
    future::{Ready, ready},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use recloser::{AsyncRecloser, Recloser, RecloserBuilder};
use seatbelt::{
    RecoveryInfo, ResilienceContext, breaker::Breaker as SeatbeltBreaker,
    fallback::Fallback as SeatbeltFallback, retry::Retry as SeatbeltRetry,
    timeout::Timeout as SeatbeltTimeout,
};
use tick::Clock;
use tokio::runtime::Runtime;
use tower::{
    Layer, ServiceBuilder,
    limit::GlobalConcurrencyLimitLayer,
    retry::{
        Policy, RetryLayer,
        budget::{Budget, TpsBudget},
    },
    timeout::TimeoutLayer,
};
use tower_resilience_bulkhead::BulkheadLayer;
use tower_resilience_circuitbreaker::{
    CircuitBreakerConfigBuilder, CircuitBreakerLayer, DefaultClassifier, SlidingWindowType,
};
use tower_resilience_fallback::FallbackLayer as ResilienceFallbackLayer;
use tower_resilience_retry::{RetryBudgetBuilder, RetryLayer as ResilienceRetryLayer};
use tower_resilience_timelimiter::TimeLimiterLayer;

use crate::{
    ours::Rule,
    services::{Dead, Drive, Fault, Inner, REACHED_THE_DEAD, Subject, subject, subject_fn},
};

const LONG: Duration = Duration::from_secs(30);
/// How long an open circuit stays open: longer than the benchmark runs.
const AN_HOUR: Duration = Duration::from_secs(3600);

/// tower's retry with a policy that would retry errors twice, if the budget has it.
#[derive(Clone, Debug)]
struct TwoMore<B> {
    left: u8,
    budget: B,
}

/// Whether another attempt may be made.
trait Account: Clone + Send {
    fn deposit(&self);
    fn withdraw(&self) -> bool;
}

/// No budget.
impl Account for () {
    fn deposit(&self) {}

    fn withdraw(&self) -> bool {
        true
    }
}

impl Account for Arc<TpsBudget> {
    fn deposit(&self) {
        Budget::deposit(&**self);
    }

    fn withdraw(&self) -> bool {
        Budget::withdraw(&**self)
    }
}

impl<B: Account, Res, E> Policy<u64, Res, E> for TwoMore<B> {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut u64, result: &mut Result<Res, E>) -> Option<Self::Future> {
        if result.is_ok() {
            self.budget.deposit();
            return None;
        }
        if self.left == 0 || !self.budget.withdraw() {
            return None;
        }
        self.left -= 1;
        Some(ready(()))
    }

    fn clone_request(&mut self, req: &u64) -> Option<u64> {
        Some(*req)
    }
}

pub(crate) fn tower_retry(inner: impl Inner) -> Subject {
    subject(RetryLayer::new(TwoMore { left: 2, budget: () }).layer(inner))
}

pub(crate) fn tower_retry_budget(inner: impl Inner) -> Subject {
    let budget = Arc::new(TpsBudget::new(Duration::from_secs(10), 10, 0.2));
    subject(RetryLayer::new(TwoMore { left: 2, budget }).layer(inner))
}

pub(crate) fn tower_limit(inner: impl Inner) -> Subject {
    subject(GlobalConcurrencyLimitLayer::new(64).layer(inner))
}

pub(crate) fn tower_timeout(inner: impl Inner) -> Subject {
    subject(TimeoutLayer::new(LONG).layer(inner))
}

fn resilience_breaker_of(rule: Rule) -> CircuitBreakerConfigBuilder<DefaultClassifier> {
    let made = CircuitBreakerLayer::builder().failure_rate_threshold(0.5).minimum_number_of_calls(20);
    match rule {
        Rule::Consecutive => made.consecutive_failures(5),
        Rule::Count => made.sliding_window_size(100),
        Rule::Time => made
            .sliding_window_type(SlidingWindowType::TimeBased)
            .sliding_window_duration(Duration::from_secs(10)),
        Rule::SlowCalls => made
            .sliding_window_size(100)
            .slow_call_duration_threshold(Duration::from_secs(1))
            .slow_call_rate_threshold(0.5),
    }
}

pub(crate) fn resilience_breaker(rule: Rule, inner: impl Inner) -> Subject {
    subject(resilience_breaker_of(rule).build().expect("settings are fine").layer(inner))
}

pub(crate) fn resilience_breaker_open(runtime: &Runtime, inner: impl Inner) -> Subject {
    let breaker = resilience_breaker_of(Rule::Consecutive).wait_duration_in_open(AN_HOUR);
    let (layer, handle) = breaker.build_with_handle().expect("settings are fine");
    runtime.block_on(handle.force_open());
    assert!(handle.is_open());
    subject(layer.layer(inner))
}

pub(crate) fn resilience_retry(budget: bool, inner: impl Inner) -> Subject {
    let made = ResilienceRetryLayer::<u64, u64, Fault>::builder().max_attempts(3);
    let made = if budget {
        let tokens = RetryBudgetBuilder::new().token_bucket().tokens_per_second(10.0).max_tokens(100);
        made.budget(tokens.build().expect("settings are fine"))
    } else {
        made
    };
    subject(made.build().layer(inner))
}

fn resilience_bulkhead_of() -> BulkheadLayer {
    BulkheadLayer::builder().max_concurrent_calls(64).build().expect("settings are fine")
}

pub(crate) fn resilience_bulkhead(inner: impl Inner) -> Subject {
    subject(resilience_bulkhead_of().layer(inner))
}

pub(crate) fn resilience_timeout(inner: impl Inner) -> Subject {
    subject(TimeLimiterLayer::builder().timeout_duration(LONG).build().layer(inner))
}

pub(crate) fn resilience_fallback(inner: impl Inner) -> Subject {
    subject(ResilienceFallbackLayer::<u64, u64, Fault>::value(0).layer(inner))
}

/// Breaker, retry, bulkhead, timeout.
pub(crate) fn resilience_stack(inner: impl Inner) -> Subject {
    // Retry's type names the error of the level below it, five types deep: inferred from a function.
    fn retry<E>() -> ResilienceRetryLayer<u64, u64, E> {
        ResilienceRetryLayer::builder().max_attempts(3).build()
    }
    let service = ServiceBuilder::new()
        .layer(resilience_breaker_of(Rule::Consecutive).build().expect("settings are fine"))
        .layer(retry())
        .layer(resilience_bulkhead_of())
        .layer(TimeLimiterLayer::builder().timeout_duration(LONG).build())
        .service(inner);
    subject(service)
}

type Answer = Result<u64, Fault>;

/// seatbelt's clock makes a task, hence the runtime.
fn seatbelt(runtime: &Runtime) -> ResilienceContext<u64, Answer> {
    let _entered = runtime.enter();
    ResilienceContext::new(Clock::new_tokio()).name("bench")
}

fn recovery(outcome: &Answer) -> RecoveryInfo {
    if outcome.is_ok() { RecoveryInfo::never() } else { RecoveryInfo::retry() }
}

pub(crate) fn seatbelt_breaker(runtime: &Runtime, inner: impl Inner) -> Subject {
    let layer = SeatbeltBreaker::layer("bench", &seatbelt(runtime))
        .recovery_with(|outcome, _| recovery(outcome))
        .rejected_input_error(|_, _| Fault);
    subject(ServiceBuilder::new().layer(layer).service(inner))
}

pub(crate) fn seatbelt_breaker_open(runtime: &Runtime) -> Subject {
    let layer = SeatbeltBreaker::layer("bench", &seatbelt(runtime))
        .recovery_with(|outcome, _| recovery(outcome))
        .rejected_input_error(|_, _| Fault)
        .break_duration(AN_HOUR);
    opened(runtime, subject(ServiceBuilder::new().layer(layer).service(Dead)))
}

/// Calls until the circuit has opened.
fn opened(runtime: &Runtime, dead: Subject) -> Subject {
    let mut drive: Drive = dead();
    drive(runtime, 1_000);
    let reached = REACHED_THE_DEAD.load(Relaxed);
    drive(runtime, 1_000);
    assert_eq!(REACHED_THE_DEAD.load(Relaxed), reached, "the circuit is open");
    dead
}

pub(crate) fn seatbelt_retry(runtime: &Runtime, inner: impl Inner) -> Subject {
    let layer = SeatbeltRetry::layer("bench", &seatbelt(runtime))
        .clone_input()
        .recovery_with(|outcome, _| recovery(outcome));
    subject(ServiceBuilder::new().layer(layer).service(inner))
}

pub(crate) fn seatbelt_timeout(runtime: &Runtime, inner: impl Inner) -> Subject {
    let layer = SeatbeltTimeout::layer("bench", &seatbelt(runtime)).timeout(LONG).timeout_error(|_| Fault);
    subject(ServiceBuilder::new().layer(layer).service(inner))
}

pub(crate) fn seatbelt_fallback(runtime: &Runtime, inner: impl Inner) -> Subject {
    let layer = SeatbeltFallback::layer("bench", &seatbelt(runtime))
        .should_fallback(|outcome: &Answer| outcome.is_err())
        .fallback_output(Ok(0));
    subject(ServiceBuilder::new().layer(layer).service(inner))
}

/// Breaker, retry, timeout.
pub(crate) fn seatbelt_stack(runtime: &Runtime, inner: impl Inner) -> Subject {
    let context = seatbelt(runtime);
    let service = ServiceBuilder::new()
        .layer(
            SeatbeltBreaker::layer("bench", &context)
                .recovery_with(|outcome, _| recovery(outcome))
                .rejected_input_error(|_, _| Fault),
        )
        .layer(SeatbeltRetry::layer("bench", &context).clone_input().recovery_with(|o, _| recovery(o)))
        .layer(SeatbeltTimeout::layer("bench", &context).timeout(LONG).timeout_error(|_| Fault))
        .service(inner);
    subject(service)
}

fn recloser_of() -> RecloserBuilder {
    Recloser::custom().closed_len(100)
}

pub(crate) fn recloser(mut inner: impl Inner) -> Subject {
    let recloser = AsyncRecloser::from(recloser_of().build());
    subject_fn(move |n| recloser.call(inner.call(n)))
}

pub(crate) fn recloser_open(runtime: &Runtime) -> Subject {
    let recloser = AsyncRecloser::from(recloser_of().open_wait(AN_HOUR).build());
    // The future is made whether the circuit is open or not; it is not polled, but it is made.
    let dead = subject_fn(move |_| recloser.call(async { Err::<u64, Fault>(Fault) }));
    dead()(runtime, 1_000);
    dead
}
