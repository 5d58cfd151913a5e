//! The extension of `ServiceBuilder` is not imported.

use buttress::Breaker;
#[cfg(feature = "remedy")]
use buttress::ServiceBuilderExt;
use tower::ServiceBuilder;

fn stack() -> Result<(), buttress::BoxError> {
    let breaker = Breaker::builder("orders").build()?;
    let _stack = ServiceBuilder::new().breaker(breaker.layer());
    Ok(())
}

fn main() {
    let _ = stack();
}
