//! A single handle calls a function whose error cannot carry a refusal.

use std::io;

use buttress::{BoxError, Breaker};

async fn load(_id: u32) -> io::Result<String> {
    Ok(String::new())
}

async fn orders() -> Result<String, BoxError> {
    let breaker = Breaker::builder("orders").build()?;
    #[cfg(not(feature = "remedy"))]
    let order = breaker.call(|| load(7)).await?;
    #[cfg(feature = "remedy")]
    let order = breaker.call(async || load(7).await.map_err(BoxError::from)).await?;
    Ok(order)
}

fn main() {
    let _ = orders();
}
