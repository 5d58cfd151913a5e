//! Our layers, set up to do what the peers' do.

use std::time::Duration;

use buttress::{
    Breaker, Budget, Bulkhead, Fallback, LiftErrorsLayer, Retry, ServiceBuilderExt, Timeout,
    TypedErrorsLayer, breaker::WindowConfig,
};
use tower::{Layer, ServiceBuilder};

use crate::services::{Inner, Subject, subject};

const LONG: Duration = Duration::from_secs(30);

/// The bare service with our error type: the same cost, as a check.
pub(crate) fn typed(inner: impl Inner) -> Subject {
    subject(TypedErrorsLayer::new().layer(inner))
}

/// With boxed errors, the same.
pub(crate) fn lifted(inner: impl Inner) -> Subject {
    subject(LiftErrorsLayer::new().layer(inner))
}

/// Which rule a breaker has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rule {
    Consecutive,
    Count,
    Time,
    SlowCalls,
}

fn breaker_of(rule: Rule) -> Breaker {
    let made = Breaker::builder("bench");
    let made = match rule {
        Rule::Consecutive => made.consecutive_failures(5).failure_rate(None),
        Rule::Count => made.failure_rate(0.5).window(WindowConfig::count(100)),
        Rule::Time => made.failure_rate(0.5).window(WindowConfig::time(Duration::from_secs(10))),
        Rule::SlowCalls => made
            .failure_rate(0.5)
            .window(WindowConfig::count(100))
            .slow_call_duration(Duration::from_secs(1))
            .slow_call_rate(0.5),
    };
    made.build().expect("settings are fine")
}

pub(crate) fn breaker(rule: Rule, inner: impl Inner) -> Subject {
    subject(breaker_of(rule).layer().layer(TypedErrorsLayer::new().layer(inner)))
}

/// An open circuit: every call is refused.
pub(crate) fn breaker_open(inner: impl Inner) -> Subject {
    let breaker = breaker_of(Rule::Consecutive);
    breaker.isolate();
    subject(breaker.layer().layer(TypedErrorsLayer::new().layer(inner)))
}

fn retry_of(budget: bool) -> Retry {
    let made = Retry::builder("bench").max_attempts(3);
    let made = if budget { made.budget(Budget::new(0.2, 10).expect("settings are fine")) } else { made };
    made.build().expect("settings are fine")
}

pub(crate) fn retry(budget: bool, inner: impl Inner) -> Subject {
    subject(retry_of(budget).layer().layer(TypedErrorsLayer::new().layer(inner)))
}

fn bulkhead_of() -> Bulkhead {
    Bulkhead::builder("bench").max_concurrent(64).build().expect("settings are fine")
}

pub(crate) fn bulkhead(inner: impl Inner) -> Subject {
    subject(bulkhead_of().layer().layer(TypedErrorsLayer::new().layer(inner)))
}

fn timeout_of(limit: Duration) -> Timeout {
    Timeout::builder("bench").limit(limit).build().expect("settings are fine")
}

pub(crate) fn timeout(inner: impl Inner) -> Subject {
    subject(timeout_of(LONG).layer().layer(TypedErrorsLayer::new().layer(inner)))
}

fn fallback_of() -> Fallback {
    Fallback::builder("bench").build().expect("settings are fine")
}

pub(crate) fn fallback(inner: impl Inner) -> Subject {
    subject(fallback_of().layer().value(0_u64).layer(TypedErrorsLayer::new().layer(inner)))
}

/// Breaker, retry, bulkhead, timeout: what tower-resilience's four layers are.
pub(crate) fn four(inner: impl Inner) -> Subject {
    let service = ServiceBuilder::new()
        .breaker(breaker_of(Rule::Consecutive).layer())
        .retrying(retry_of(false).layer())
        .bulkhead(bulkhead_of().layer())
        .attempt_timeout(timeout_of(LONG).layer())
        .typed_errors()
        .service(inner);
    subject(service)
}

/// Breaker, retry, timeout: what seatbelt's three layers are.
pub(crate) fn three(inner: impl Inner) -> Subject {
    let service = ServiceBuilder::new()
        .breaker(breaker_of(Rule::Time).layer())
        .retrying(retry_of(false).layer())
        .attempt_timeout(timeout_of(LONG).layer())
        .typed_errors()
        .service(inner);
    subject(service)
}

/// Fallback, total timeout, retry, breaker, bulkhead, attempt timeout.
pub(crate) fn six(inner: impl Inner) -> Subject {
    let service = ServiceBuilder::new()
        .fallback(fallback_of().layer().value(0_u64))
        .deadline(timeout_of(LONG * 2).layer())
        .retrying(retry_of(false).layer())
        .breaker(breaker_of(Rule::Consecutive).layer())
        .bulkhead(bulkhead_of().layer())
        .attempt_timeout(timeout_of(LONG).layer())
        .typed_errors()
        .service(inner);
    subject(service)
}
