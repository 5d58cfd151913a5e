//! Our layers, set up to do what the peers' do.

use std::{rc::Rc, time::Duration};

use buttress::{
    Breaker, Budget, Bulkhead, Fallback, FromRejection, LiftErrorsLayer, Retry, ServiceBuilderExt, Timeout,
    TypedErrorsLayer, breaker::Window,
};
use tokio::runtime::Runtime;
use tower::{Layer, Service, ServiceBuilder};

use crate::services::{Drive, Echo, Fault, drive};

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

pub(crate) fn breaker(runtime: &Rc<Runtime>, rule: Rule) -> Drive {
    drive(runtime, breaker_of(rule).layer().layer(TypedErrorsLayer::new().layer(Echo)))
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

pub(crate) fn retry(runtime: &Rc<Runtime>, budget: bool) -> Drive {
    drive(runtime, retry_of(budget).layer().layer(TypedErrorsLayer::new().layer(Echo)))
}

pub(crate) fn bulkhead_of() -> Bulkhead {
    Bulkhead::builder("bench").max_concurrent(64).build().expect("settings are fine")
}

pub(crate) fn bulkhead(runtime: &Rc<Runtime>) -> Drive {
    drive(runtime, bulkhead_of().layer().layer(TypedErrorsLayer::new().layer(Echo)))
}

pub(crate) fn bulkhead_shared() -> impl Fn(&Rc<Runtime>) -> Drive + Sync {
    let layer = bulkhead_of().layer();
    move |runtime| drive(runtime, layer.layer(TypedErrorsLayer::new().layer(Echo)))
}

fn timeout_of(limit: Duration) -> Timeout {
    Timeout::builder("bench").limit(limit).build().expect("settings are fine")
}

pub(crate) fn timeout<S>(runtime: &Rc<Runtime>, inner: S) -> Drive
where
    S: Service<u64, Response = u64, Error = Fault> + Clone + 'static,
{
    drive(runtime, timeout_of(LONG).layer().layer(TypedErrorsLayer::new().layer(inner)))
}

pub(crate) fn fallback(runtime: &Rc<Runtime>) -> Drive {
    let fallback = Fallback::builder("bench").build().expect("settings are fine");
    drive(runtime, fallback.layer().value(0_u64).layer(TypedErrorsLayer::new().layer(Echo)))
}

/// Breaker, retry, bulkhead, timeout: what tower-resilience's four layers are.
pub(crate) fn four(runtime: &Rc<Runtime>) -> Drive {
    let service = ServiceBuilder::new()
        .breaker(breaker_of(Rule::Consecutive).layer())
        .retrying(retry_of(false).layer())
        .bulkhead(bulkhead_of().layer())
        .attempt_timeout(timeout_of(LONG).layer())
        .typed_errors()
        .service(Echo);
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
pub(crate) fn six(runtime: &Rc<Runtime>) -> Drive {
    drive(runtime, six_of(Echo))
}

fn six_of<S>(inner: S) -> impl Service<u64, Error: FromRejection> + use<S>
where
    S: Service<u64, Response = u64, Error = Fault> + Clone,
{
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
