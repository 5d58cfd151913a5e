//! A retry before reqwest's client, whose requests are not `Clone`.

use buttress::{BoxError, Retry, ServiceBuilderExt};
use reqwest::{Client, Method, Request, Response};
use tower::{Service, ServiceBuilder, ServiceExt};

async fn client() -> Result<Response, BoxError> {
    let retry = Retry::builder("orders").build()?;
    let layer = retry.layer();
    #[cfg(feature = "remedy")]
    let layer = layer.replay_with(|request: &Request| {
        let again = buttress::http::may_repeat(request.method(), request.headers());
        again.then(|| request.try_clone()).flatten()
    });
    let mut client = ServiceBuilder::new().retrying(layer).lift_errors().service(Client::new());
    let request = Request::new(Method::GET, "http://orders.test/".parse()?);
    client.ready().await?.call(request).await
}

fn main() {
    let _ = client();
}
