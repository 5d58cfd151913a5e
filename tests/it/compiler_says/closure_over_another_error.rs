//! A classifier for the error of the service, though the stack has lifted it.

use std::io;

use buttress::{BoxError, Breaker, ServiceBuilderExt, Verdict};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

async fn load(_id: u32) -> io::Result<String> {
    Ok(String::new())
}

#[cfg(not(feature = "remedy"))]
fn judge(outcome: Result<&String, &io::Error>) -> Verdict {
    if outcome.is_ok() { Verdict::Success } else { Verdict::transient() }
}

#[cfg(feature = "remedy")]
fn judge(outcome: Result<&String, &BoxError>) -> Verdict {
    if outcome.is_ok() { Verdict::Success } else { Verdict::transient() }
}

async fn client() -> Result<String, BoxError> {
    let breaker = Breaker::builder("orders").build()?;
    let layer = breaker.layer().classify_with(judge);
    let mut orders = ServiceBuilder::new().breaker(layer).lift_errors().service(service_fn(load));
    orders.ready().await?.call(7).await
}

fn main() {
    let _ = client();
}
