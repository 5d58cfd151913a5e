//! tower's own `retry` given our layer.

use std::io;

use buttress::{Retry, ServiceBuilderExt};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

async fn load(_id: u32) -> io::Result<String> {
    Ok(String::new())
}

async fn client() -> Result<String, buttress::BoxError> {
    let retry = Retry::builder("orders").build()?;
    #[cfg(not(feature = "remedy"))]
    let stack = ServiceBuilder::new().retry(retry.layer());
    #[cfg(feature = "remedy")]
    let stack = ServiceBuilder::new().retrying(retry.layer());
    let mut orders = stack.lift_errors().service(service_fn(load));
    Ok(orders.ready().await?.call(7).await?)
}

fn main() {
    let _ = client();
}
