//! tower's own `timeout` given our layer.

use buttress::{ServiceBuilderExt, Timeout};
use tower::ServiceBuilder;

fn stack() -> Result<(), buttress::BoxError> {
    let timeout = Timeout::builder("orders").build()?;
    #[cfg(not(feature = "remedy"))]
    let _stack = ServiceBuilder::new().timeout(timeout.layer()).lift_errors();
    #[cfg(feature = "remedy")]
    let _stack = ServiceBuilder::new().deadline(timeout.layer()).lift_errors();
    Ok(())
}

fn main() {
    let _ = stack();
}
