//! A handle given to tower's own `layer`.

use std::io;

use buttress::{Breaker, ServiceBuilderExt};
use tower::{ServiceBuilder, service_fn};

async fn load(_id: u32) -> io::Result<String> {
    Ok(String::new())
}

fn stack() -> Result<(), buttress::BoxError> {
    let breaker = Breaker::builder("orders").build()?;
    #[cfg(not(feature = "remedy"))]
    let stack = ServiceBuilder::new().layer(breaker);
    #[cfg(feature = "remedy")]
    let stack = ServiceBuilder::new().layer(breaker.layer());
    let _orders = stack.lift_errors().service(service_fn(load));
    Ok(())
}

fn main() {
    let _ = stack();
}
