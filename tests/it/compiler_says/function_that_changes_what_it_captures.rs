//! A function that needs `&mut`, retried.

use std::io;

use buttress::{BoxError, Retry, Run, ServiceBuilderExt};
use tower::ServiceBuilder;

struct Connection;

impl Connection {
    async fn get(&mut self) -> io::Result<String> {
        Ok(String::new())
    }
}

async fn orders(mut connection: Connection) -> Result<String, BoxError> {
    let retry = Retry::builder("orders").build()?;
    let stack = ServiceBuilder::new().retrying(retry.layer()).typed_errors().functions();
    #[cfg(not(feature = "remedy"))]
    let order = stack.run(async || connection.get().await).await?;
    #[cfg(feature = "remedy")]
    let order = {
        let lend = buttress::Lend::new(&mut connection);
        stack.run(async || lend.take().get().await).await?
    };
    Ok(order)
}

fn main() {
    let _ = orders(Connection);
}
