//! Our layers, set up to do what the peers' do.

use std::{rc::Rc, time::Duration};

use buttress::{
    Breaker, Budget, Bulkhead, Fallback, FromRejection, LiftErrorsLayer, Retry, ServiceBuilderExt, Timeout,
    TypedErrorsLayer, breaker::Window,
};
use tokio::runtime::Runtime;
use tower::{Layer, Service, ServiceBuilder};

use crate::services::{Drive, Echo, Fault, drive};

/// A bare service.
pub(crate) trait Inner: Service<u64, Response = u64, Error = Fault> + Clone + 'static {}

impl<S: Service<u64, Response = u64, Error = Fault> + Clone + 'static> Inner for S {}

const LONG: Duration = Duration::from_secs(30);

/// The bare service with our error type: the same cost, as a check.
pub(crate) fn typed(runtime: &Rc<Runtime>) -> Drive {
    drive(runtime, TypedErrorsLayer::new().layer(Echo))
}

/// With boxed errors, the same.
pub(crate) fn lifted(runtime: &Rc<Runtime>) -> Drive {
    drive(runtime, LiftErrorsLayer::new().layer(Echo))
}

/// Which rule a breaker has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rule {
    Consecutive,
    Count,
    Time,
    SlowCalls,
}

pub(crate) fn breaker_of(rule: Rule) -> Breaker {
    let made = Breaker::builder("bench");
    let made = match rule {
        Rule::Consecutive => made.consecutive_failures(5).failure_rate(None),
        Rule::Count => made.failure_rate(0.5).window(Window::count(100)),
        Rule::Time => made.failure_rate(0.5).window(Window::time(Duration::from_secs(10))),
        Rule::SlowCalls => made
            .failure_rate(0.5)
            .window(Window::count(100))
            .slow_call_duration(Duration::from_secs(1))
            .slow_call_rate(0.5),
    };
    made.build().expect("settings are fine")
}

pub(crate) fn breaker(runtime: &Rc<Runtime>, rule: Rule, inner: impl Inner) -> Drive {
    drive(runtime, breaker_of(rule).layer().layer(TypedErrorsLayer::new().layer(inner)))
}

/// An open circuit: every call is refused.
pub(crate) fn breaker_open(runtime: &Rc<Runtime>) -> Drive {
    let breaker = breaker_of(Rule::Consecutive);
    breaker.isolate();
    drive(runtime, breaker.layer().layer(TypedErrorsLayer::new().layer(Echo)))
}

/// One breaker for all threads.
pub(crate) fn breaker_shared(rule: Rule) -> impl Fn(&Rc<Runtime>) -> Drive + Sync {
    let layer = breaker_of(rule).layer();
    move |runtime| drive(runtime, layer.layer(TypedErrorsLayer::new().layer(Echo)))
}

fn retry_of(budget: bool) -> Retry {
    let made = Retry::builder("bench").max_attempts(3);
    let made = if budget { made.budget(Budget::new(0.2, 10).expect("settings are fine")) } else { made };
    made.build().expect("settings are fine")
}

pub(crate) fn retry(runtime: &Rc<Runtime>, budget: bool, inner: impl Inner) -> Drive {
    drive(runtime, retry_of(budget).layer().layer(TypedErrorsLayer::new().layer(inner)))
}

pub(crate) fn bulkhead_of() -> Bulkhead {
    Bulkhead::builder("bench").max_concurrent(64).build().expect("settings are fine")
}

pub(crate) fn bulkhead(runtime: &Rc<Runtime>, inner: impl Inner) -> Drive {
    drive(runtime, bulkhead_of().layer().layer(TypedErrorsLayer::new().layer(inner)))
}

pub(crate) fn bulkhead_shared() -> impl Fn(&Rc<Runtime>) -> Drive + Sync {
    let layer = bulkhead_of().layer();
    move |runtime| drive(runtime, layer.layer(TypedErrorsLayer::new().layer(Echo)))
}

fn timeout_of(limit: Duration) -> Timeout {
    Timeout::builder("bench").limit(limit).build().expect("settings are fine")
}

pub(crate) fn timeout(runtime: &Rc<Runtime>, inner: impl Inner) -> Drive {
    drive(runtime, timeout_of(LONG).layer().layer(TypedErrorsLayer::new().layer(inner)))
}

pub(crate) fn fallback(runtime: &Rc<Runtime>, inner: impl Inner) -> Drive {
    let fallback = Fallback::builder("bench").build().expect("settings are fine");
    drive(runtime, fallback.layer().value(0_u64).layer(TypedErrorsLayer::new().layer(inner)))
}

/// Breaker, retry, bulkhead, timeout: what tower-resilience's four layers are.
pub(crate) fn four(runtime: &Rc<Runtime>, inner: impl Inner) -> Drive {
    let service = ServiceBuilder::new()
        .breaker(breaker_of(Rule::Consecutive).layer())
        .retrying(retry_of(false).layer())
        .bulkhead(bulkhead_of().layer())
        .attempt_timeout(timeout_of(LONG).layer())
        .typed_errors()
        .service(inner);
    drive(runtime, service)
}

/// Breaker, retry, timeout: what seatbelt's three layers are.
pub(crate) fn three(runtime: &Rc<Runtime>) -> Drive {
    let service = ServiceBuilder::new()
        .breaker(breaker_of(Rule::Time).layer())
        .retrying(retry_of(false).layer())
        .attempt_timeout(timeout_of(LONG).layer())
        .typed_errors()
        .service(Echo);
    drive(runtime, service)
}

/// Fallback, total timeout, retry, breaker, bulkhead, attempt timeout.
pub(crate) fn six(runtime: &Rc<Runtime>, inner: impl Inner) -> Drive {
    drive(runtime, six_of(inner))
}

fn six_of<S: Inner>(inner: S) -> impl Service<u64, Error: FromRejection> + use<S> {
    let fallback = Fallback::builder("bench").build().expect("settings are fine");
    ServiceBuilder::new()
        .fallback(fallback.layer().value(0_u64))
        .deadline(timeout_of(LONG * 2).layer())
        .retrying(retry_of(false).layer())
        .breaker(breaker_of(Rule::Consecutive).layer())
        .bulkhead(bulkhead_of().layer())
        .attempt_timeout(timeout_of(LONG).layer())
        .typed_errors()
        .service(inner)
}
