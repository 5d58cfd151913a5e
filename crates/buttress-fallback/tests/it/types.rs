use std::{
    fmt::Debug,
    rc::Rc,
    task::{Context, Poll},
};

use buttress_core::{BoxError, Standard, Verdict};
use buttress_fallback::{Fallback, FallbackLayer, FallbackService, Value};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneService};

use crate::{down, fallback};

fn all<T: Clone + Send + Sync + Unpin + Debug + 'static>(_: &T) {}

#[test]
fn types_are_what_connection_builders_need() {
    // The request type is `Rc`: nothing may depend on it.
    #[derive(Clone, Debug)]
    struct Inner;
    impl Service<Rc<()>> for Inner {
        type Response = u32;
        type Error = BoxError;
        type Future = std::future::Ready<Result<u32, BoxError>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, _: Rc<()>) -> Self::Future {
            std::future::ready(Ok(1))
        }
    }
    fn is_service<S: Service<Rc<()>>>(_: &S) {}
    let fallback = fallback();
    all(&fallback);
    let value: FallbackLayer<Value<u32>, Standard> = fallback.layer().value(1);
    all(&value);
    let svc: FallbackService<Inner, Value<u32>> = value.layer(Inner);
    all(&svc);
    is_service(&svc);
    let by_service = fallback.layer().service(Inner);
    all(&by_service);
    all(&by_service.layer(Inner));
    is_service(&by_service.layer(Inner));
    let last_good = fallback.layer().last_good(|_: &Rc<()>| 7_u8, |_: &mut u32, _| {});
    all(&last_good);
    all(&last_good.layer(Inner));
    is_service(&last_good.layer(Inner));
    all(&fallback.layer().answer_for(|_: &Rc<()>, failed: Result<u32, BoxError>| failed));
    all(&fallback.layer().value(1).handle_with(|_: Result<&u32, &BoxError>| true));
    let judged = fallback.layer().value(1).classify_with(|_: Result<&u32, &BoxError>| Verdict::transient());
    all(&judged);
    all(&judged.layer(Inner));
    fn is_send<T: Send + Debug>(_: &T) {}
    is_send(&fallback.call(down::<u32>, |_| Ok(1)));
}

#[test]
fn answer_that_is_kept_ready_is_not_shown() {
    let layer = fallback().layer().value("s3ntinel");
    assert!(!format!("{layer:?} {:?}", layer.layer(())).contains("s3ntinel"));
}

#[tokio::test]
async fn boxed_service_that_is_not_sync_can_be_the_second_one() {
    let backup = BoxCloneService::new(service_fn(|n: u32| async move { Ok::<_, BoxError>(n) }));
    let layer = fallback().layer().service(backup);
    all(&layer);
    let svc = layer.layer(service_fn(|_: u32| down::<u32>()));
    assert_eq!(tokio::spawn(svc.oneshot(4)).await.unwrap().unwrap(), 4);
}

#[tokio::test]
async fn ten_layers_infer_with_nothing_annotated() {
    let f = fallback();
    let backup = service_fn(|n: u32| async move { Ok::<_, BoxError>(n) });
    let svc = ServiceBuilder::new()
        .layer(f.layer().value(0))
        .layer(f.layer().answer_with(|failed| failed))
        .layer(f.layer().answer_for(|_: &u32, failed| failed))
        .layer(f.layer().last_good(|n: &u32| *n, |_, _| {}))
        .layer(f.layer().service(backup))
        .layer(f.layer().value(0).handle_with(|outcome| outcome.is_err()))
        .layer(f.layer().value(0).classify_with(|_| Verdict::Success))
        .layer(f.layer().answer_with(|_| Ok(5)))
        .layer(f.layer().value(0))
        .layer(f.layer().value(4))
        .service(service_fn(|_: u32| down()));
    assert_eq!(svc.oneshot(1).await.unwrap(), 4);
}

#[tokio::test]
async fn layers_share_state_however_often_they_are_applied() {
    let fallback = Fallback::new("prices", Default::default()).unwrap();
    let layer = fallback.layer().value(0);
    for _ in 0..3 {
        layer.layer(service_fn(|()| down::<u32>())).oneshot(()).await.unwrap();
    }
    assert_eq!(layer.handle().snapshot().answered, 3);
    assert_eq!(fallback.snapshot().answered, 3);
}
