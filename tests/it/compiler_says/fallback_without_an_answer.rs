//! A fallback that was not told what to answer.

use std::io;

use buttress::{BoxError, Fallback, ServiceBuilderExt};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

async fn load(_id: u32) -> io::Result<String> {
    Ok(String::new())
}

async fn client() -> Result<String, BoxError> {
    let fallback = Fallback::builder("orders").build()?;
    let layer = fallback.layer();
    #[cfg(feature = "remedy")]
    let layer = layer.value(String::from("none"));
    let mut orders = ServiceBuilder::new().fallback(layer).lift_errors().service(service_fn(load));
    orders.ready().await?.call(7).await
}

fn main() {
    let _ = client();
}
