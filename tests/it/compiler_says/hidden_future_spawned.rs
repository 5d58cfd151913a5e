//! A function's `impl Service` that does not say that its future is `Send`, spawned.

use buttress::{BoxError, Breaker, ServiceBuilderExt};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

#[cfg(not(feature = "remedy"))]
fn client() -> Result<impl Service<u32, Response = u32, Error = BoxError> + Clone + Send + 'static, BoxError>
{
    stack()
}

#[cfg(feature = "remedy")]
fn client() -> Result<
    impl Service<u32, Response = u32, Error = BoxError, Future: Send> + Clone + Send + 'static,
    BoxError,
> {
    stack()
}

fn stack() -> Result<
    impl Service<u32, Response = u32, Error = BoxError, Future: Send> + Clone + Send + 'static,
    BoxError,
> {
    let breaker = Breaker::builder("orders").build()?;
    let stack = ServiceBuilder::new().breaker(breaker.layer()).lift_errors();
    Ok(stack.service(service_fn(|id: u32| async move { Ok::<_, BoxError>(id) })))
}

fn main() {
    let client = client().unwrap();
    tokio::spawn(client.oneshot(7));
}
