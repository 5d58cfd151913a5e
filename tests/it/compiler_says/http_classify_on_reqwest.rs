//! `HttpClassify` before reqwest's client, whose responses are no `http::Response`.

use buttress::{BoxError, Breaker, ServiceBuilderExt};
use reqwest::{Client, Method, Request, Response};
use tower::{Service, ServiceBuilder, ServiceExt};

async fn client() -> Result<Response, BoxError> {
    let breaker = Breaker::builder("orders").build()?;
    #[cfg(not(feature = "remedy"))]
    let layer = breaker.layer().classify(buttress::HttpClassify);
    #[cfg(feature = "remedy")]
    let layer = breaker.layer().classify_with(|outcome: Result<&Response, &BoxError>| {
        buttress::http::verdict_of(outcome, |response| (response.status(), response.headers()))
    });
    let mut client = ServiceBuilder::new().breaker(layer).lift_errors().service(Client::new());
    let request = Request::new(Method::GET, "http://orders.test/".parse()?);
    client.ready().await?.call(request).await
}

fn main() {
    let _ = client();
}
