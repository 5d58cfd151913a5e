//! What the types promise.

use std::{fmt::Debug, rc::Rc};

use buttress_breaker::{
    Breaker, BreakerBuilder, BreakerConfig, BreakerFuture, BreakerLayer, BreakerService, BreakerSnapshot,
    KeyedBreakerSnapshot, Permit,
};
use buttress_core::{BoxError, Error, Verdict};
use tower::{ServiceBuilder, ServiceExt, service_fn};

fn all<T: Clone + Send + Sync + Unpin + Debug>() {}
fn thread_safe<T: Send + Sync + Unpin + Debug>() {}

#[test]
fn types_are_what_tower_s_users_need() {
    all::<Breaker>();
    all::<BreakerConfig>();
    all::<BreakerLayer>();
    all::<BreakerService<u8>>();
    all::<BreakerSnapshot>();
    all::<KeyedBreakerSnapshot>();
    thread_safe::<Permit>();
    fn builds<T: Clone + Debug>() {}
    builds::<BreakerBuilder>();
    // A request that is neither `Send` nor `Clone`, and a future that is not `Send`.
    let breaker = Breaker::builder("x").build().unwrap();
    let svc = service_fn(|request: Rc<std::cell::Cell<u8>>| async move { Ok::<_, BoxError>(request) });
    let stack = ServiceBuilder::new().layer(breaker.layer()).service(svc);
    tokio_test::block_on(stack.oneshot(Rc::default())).unwrap();
}

// A future that is moved with every call: its size is a cost.
#[test]
fn a_future_adds_little_to_the_one_it_wraps() {
    let own = size_of::<BreakerFuture<std::future::Ready<Result<u64, BoxError>>>>();
    let inner = size_of::<std::future::Ready<Result<u64, BoxError>>>();
    assert!(own - inner <= 48, "{own} around {inner}");
}

// Ten of them infer with nothing annotated
#[tokio::test(start_paused = true)]
async fn ten_layers_infer_with_nothing_annotated() {
    let breaker = Breaker::builder("x").build().unwrap();
    let stack =
        ServiceBuilder::new()
            .layer(breaker.layer())
            .layer(breaker.layer().classify_with(|outcome| {
                if outcome.is_ok() { Verdict::Success } else { Verdict::transient() }
            }))
            .layer(breaker.layer())
            .layer(breaker.layer().classify_with(|_: Result<&u32, _>| Verdict::Success))
            .layer(breaker.layer())
            .layer(breaker.layer().classify_with(|_: Result<_, &BoxError>| Verdict::Ignore))
            .layer(breaker.layer())
            .layer(breaker.layer().classify(buttress_core::OnlyErrors::codes(["503"])))
            .layer(breaker.layer())
            .layer(breaker.layer())
            .service(service_fn(|n: u32| async move { Ok::<_, BoxError>(n) }));
    assert_eq!(stack.oneshot(7).await.unwrap(), 7);
}

// Errors never nest, and typed ones stay typed.
#[tokio::test(start_paused = true)]
async fn typed_errors_stay_flat() {
    let breaker = Breaker::builder("x").consecutive_failures(1).build().unwrap();
    let typed = buttress_core::TypedErrorsLayer::new();
    let svc = ServiceBuilder::new()
        .layer(breaker.layer())
        .layer(breaker.layer())
        .layer(typed)
        .service(service_fn(|(): ()| async { Err::<(), _>(std::fmt::Error) }));
    let error: Error<std::fmt::Error> = svc.clone().oneshot(()).await.unwrap_err();
    assert_eq!(error, Error::Inner(std::fmt::Error));
    let error: Error<std::fmt::Error> = svc.oneshot(()).await.unwrap_err();
    assert_eq!(error.rejection().unwrap().code(), "CIRCUIT_OPEN");
}
