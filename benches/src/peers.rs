//! The peers, each set up to do what our layer does.

use std::{rc::Rc, sync::Arc, time::Duration};

use recloser::{AsyncRecloser, Recloser};
use seatbelt::{
    RecoveryInfo, ResilienceContext, breaker::Breaker as SeatbeltBreaker, retry::Retry as SeatbeltRetry,
    timeout::Timeout as SeatbeltTimeout,
};
use tick::Clock;
use tokio::runtime::Runtime;
use tower::{
    Layer, Service, ServiceBuilder,
    limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer},
    retry::{Policy, RetryLayer},
    timeout::TimeoutLayer,
};
use tower_resilience_bulkhead::BulkheadLayer;
use tower_resilience_circuitbreaker::{CircuitBreakerLayer, SlidingWindowType};
use tower_resilience_retry::RetryLayer as ResilienceRetryLayer;
use tower_resilience_timelimiter::TimeLimiterLayer;

use crate::{
    ours::Inner,
    services::{Drive, Echo, Fault, drive, drive_fn},
};

/// A bare service whose calls may be sent to another thread, which the peers that box ask for.
pub(crate) trait Threaded: Inner<Future: Send> + Send + Sync {}

impl<S: Inner<Future: Send> + Send + Sync> Threaded for S {}

const LONG: Duration = Duration::from_secs(30);

/// tower's retry with a policy that would retry errors twice.
#[derive(Clone, Copy, Debug)]
struct TwoMore(u8);

impl<Res, E> Policy<u64, Res, E> for TwoMore {
    type Future = std::future::Ready<()>;

    fn retry(&mut self, _: &mut u64, result: &mut Result<Res, E>) -> Option<Self::Future> {
        if result.is_ok() || self.0 == 0 {
            return None;
        }
        self.0 -= 1;
        Some(std::future::ready(()))
    }

    fn clone_request(&mut self, req: &u64) -> Option<u64> {
        Some(*req)
    }
}

pub(crate) fn tower_retry(runtime: &Rc<Runtime>, inner: impl Inner) -> Drive {
    drive(runtime, RetryLayer::new(TwoMore(2)).layer(inner))
}

pub(crate) fn tower_limit(runtime: &Rc<Runtime>, inner: impl Inner) -> Drive {
    drive(runtime, ConcurrencyLimitLayer::new(64).layer(inner))
}

pub(crate) fn tower_timeout<S>(runtime: &Rc<Runtime>, inner: S) -> Drive
where
    S: Service<u64, Error = Fault> + 'static,
{
    drive(runtime, TimeoutLayer::new(LONG).layer(inner))
}

pub(crate) fn tower_limit_shared() -> impl Fn(&Rc<Runtime>) -> Drive + Sync {
    let layer = GlobalConcurrencyLimitLayer::new(64);
    move |runtime| drive(runtime, layer.layer(Echo))
}

fn resilience_breaker() -> tower_resilience_circuitbreaker::CircuitBreakerConfigBuilder<
    tower_resilience_circuitbreaker::DefaultClassifier,
> {
    CircuitBreakerLayer::builder().failure_rate_threshold(0.5).minimum_number_of_calls(20)
}

pub(crate) fn resilience_breaker_count(runtime: &Rc<Runtime>, inner: impl Threaded) -> Drive {
    let layer = resilience_breaker().sliding_window_size(100).build().expect("settings are fine");
    drive(runtime, layer.layer(inner))
}

pub(crate) fn resilience_breaker_time(runtime: &Rc<Runtime>) -> Drive {
    let layer = resilience_breaker()
        .sliding_window_type(SlidingWindowType::TimeBased)
        .sliding_window_duration(Duration::from_secs(10))
        .build()
        .expect("settings are fine");
    drive(runtime, layer.layer(Echo))
}

pub(crate) fn resilience_breaker_shared() -> impl Fn(&Rc<Runtime>) -> Drive + Sync {
    let (layer, _) =
        resilience_breaker().sliding_window_size(100).build_with_handle().expect("settings are fine");
    move |runtime| drive(runtime, layer.layer(Echo))
}

pub(crate) fn resilience_retry(runtime: &Rc<Runtime>, inner: impl Threaded) -> Drive {
    let layer = ResilienceRetryLayer::<u64, u64, Fault>::builder().max_attempts(3).build();
    drive(runtime, layer.layer(inner))
}

pub(crate) fn resilience_bulkhead(runtime: &Rc<Runtime>, inner: impl Threaded) -> Drive {
    let layer = BulkheadLayer::builder().max_concurrent_calls(64).build().expect("settings are fine");
    drive(runtime, layer.layer(inner))
}

pub(crate) fn resilience_timeout<S>(runtime: &Rc<Runtime>, inner: S) -> Drive
where
    S: Service<u64, Response = u64, Error = Fault> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    drive(runtime, TimeLimiterLayer::builder().timeout_duration(LONG).build().layer(inner))
}

/// Breaker, retry, bulkhead, timeout.
pub(crate) fn resilience_stack(runtime: &Rc<Runtime>) -> Drive {
    let timeout = TimeLimiterLayer::builder().timeout_duration(LONG).build();
    let bulkhead = BulkheadLayer::builder().max_concurrent_calls(64).build().expect("settings are fine");
    let breaker = resilience_breaker().consecutive_failures(5).build().expect("settings are fine");
    // Retry's type names the error of the level below it, five types deep: inferred from a function.
    fn retry<E>() -> ResilienceRetryLayer<u64, u64, E> {
        ResilienceRetryLayer::builder().max_attempts(3).build()
    }
    let service =
        ServiceBuilder::new().layer(breaker).layer(retry()).layer(bulkhead).layer(timeout).service(Echo);
    drive(runtime, service)
}

fn seatbelt() -> ResilienceContext<u64, Result<u64, Fault>> {
    ResilienceContext::new(Clock::new_tokio()).name("bench")
}

fn recovery(outcome: &Result<u64, Fault>) -> RecoveryInfo {
    if outcome.is_ok() { RecoveryInfo::never() } else { RecoveryInfo::retry() }
}

pub(crate) fn seatbelt_breaker(runtime: &Rc<Runtime>, inner: impl Threaded) -> Drive {
    let layer = runtime.block_on(async {
        SeatbeltBreaker::layer("bench", &seatbelt())
            .recovery_with(|outcome, _| recovery(outcome))
            .rejected_input_error(|_, _| Fault)
    });
    drive(runtime, ServiceBuilder::new().layer(layer).service(inner))
}

pub(crate) fn seatbelt_retry(runtime: &Rc<Runtime>, inner: impl Threaded) -> Drive {
    let layer = runtime.block_on(async {
        SeatbeltRetry::layer("bench", &seatbelt()).clone_input().recovery_with(|outcome, _| recovery(outcome))
    });
    drive(runtime, ServiceBuilder::new().layer(layer).service(inner))
}

pub(crate) fn seatbelt_timeout<S>(runtime: &Rc<Runtime>, inner: S) -> Drive
where
    S: Service<u64, Response = u64, Error = Fault> + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let layer = runtime.block_on(async {
        SeatbeltTimeout::layer("bench", &seatbelt()).timeout(LONG).timeout_error(|_| Fault)
    });
    drive(runtime, ServiceBuilder::new().layer(layer).service(inner))
}

/// Breaker, retry, timeout.
pub(crate) fn seatbelt_stack(runtime: &Rc<Runtime>) -> Drive {
    let service = runtime.block_on(async {
        let context = seatbelt();
        ServiceBuilder::new()
            .layer(
                SeatbeltBreaker::layer("bench", &context)
                    .recovery_with(|outcome, _| recovery(outcome))
                    .rejected_input_error(|_, _| Fault),
            )
            .layer(SeatbeltRetry::layer("bench", &context).clone_input().recovery_with(|o, _| recovery(o)))
            .layer(SeatbeltTimeout::layer("bench", &context).timeout(LONG).timeout_error(|_| Fault))
            .service(Echo)
    });
    drive(runtime, service)
}

pub(crate) fn recloser(runtime: &Rc<Runtime>) -> Drive {
    let recloser = Arc::new(AsyncRecloser::from(Recloser::custom().closed_len(100).build()));
    drive_fn(runtime, move |n| recloser.call(Echo.call(n)))
}
