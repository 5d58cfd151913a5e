//! A handle given where its layer is meant.

use buttress::{Retry, ServiceBuilderExt};
use tower::ServiceBuilder;

fn stack() -> Result<(), buttress::BoxError> {
    let retry = Retry::builder("orders").build()?;
    #[cfg(not(feature = "remedy"))]
    let _stack = ServiceBuilder::new().retrying(retry);
    #[cfg(feature = "remedy")]
    let _stack = ServiceBuilder::new().retrying(retry.layer());
    Ok(())
}

fn main() {
    let _ = stack();
}
