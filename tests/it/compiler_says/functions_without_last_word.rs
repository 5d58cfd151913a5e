//! A function with an error of its own through a stack without a last word.

use std::io;

use buttress::{BoxError, Retry, Run, ServiceBuilderExt};
use tower::ServiceBuilder;

async fn load(_id: u32) -> io::Result<String> {
    Ok(String::new())
}

async fn orders() -> Result<String, BoxError> {
    let retry = Retry::builder("orders").build()?;
    let stack = ServiceBuilder::new().retrying(retry.layer());
    #[cfg(feature = "remedy")]
    let stack = stack.typed_errors();
    Ok(stack.functions().run(async || load(7).await).await?)
}

fn main() {
    let _ = orders();
}
