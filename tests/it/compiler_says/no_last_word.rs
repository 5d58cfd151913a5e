//! A stack without `lift_errors` around a service with an error of its own, called.

use std::io;

use buttress::{Breaker, ServiceBuilderExt};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

async fn load(_id: u32) -> io::Result<String> {
    Ok(String::new())
}

async fn client() -> Result<String, buttress::BoxError> {
    let breaker = Breaker::builder("orders").build()?;
    let stack = ServiceBuilder::new().breaker(breaker.layer());
    #[cfg(feature = "remedy")]
    let stack = stack.lift_errors();
    let mut orders = stack.service(service_fn(load));
    Ok(orders.ready().await?.call(7).await?)
}

fn main() {
    let _ = client();
}
