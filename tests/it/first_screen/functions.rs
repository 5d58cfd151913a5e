use std::{io, time::Duration};

use buttress::{BoxError, Breaker, Lend, Retry, Run, ServiceBuilderExt, Timeout};
use tokio::{fs, io::AsyncReadExt, io::AsyncWriteExt, net::TcpStream};
use tower::ServiceBuilder;

async fn report(path: &str, url: &str, connection: TcpStream) -> Result<String, BoxError> {
    let deadline = Timeout::builder("report").limit(Duration::from_secs(2)).build()?;
    let retry = Retry::builder("report").max_attempts(3).build()?;
    let breaker = Breaker::builder("report").consecutive_failures(5).build()?;
    let stack = ServiceBuilder::new()
        .deadline(deadline.layer())
        .retrying(retry.layer())
        .breaker(breaker.layer())
        .typed_errors() // each function keeps its own error: `E` becomes buttress::Error<E>
        .functions(); // ends the list, where a service would stand

    let file = stack.run(|| fs::read_to_string(path)).await?; // io::Error
    let page = stack.run(async || reqwest::get(url).await?.text().await).await?; // reqwest::Error
    let connection = Lend::new(connection); // what an attempt needs `&mut` is lent, one attempt after the other
    let reply = stack.run(async || ping(&mut connection.take()).await).await?;
    Ok(format!("{file}, {page}, {reply}"))
}

async fn ping(connection: &mut TcpStream) -> io::Result<u8> {
    connection.write_all(b"ping\n").await?;
    connection.read_u8().await
}
