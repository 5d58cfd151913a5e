use std::time::Duration;

use buttress::{BoxError, Breaker, Budget, Bulkhead, Retry, ServiceBuilderExt, Timeout, http::may_repeat};
use reqwest::{Client, Request, Response};
use tower::{Service, ServiceBuilder};

fn client() -> Result<
    impl Service<Request, Response = Response, Error = BoxError, Future: Send> + Clone + Send + Sync + 'static,
    BoxError,
> {
    let deadline = Timeout::builder("orders").limit(Duration::from_secs(1)).build()?;
    let retry = Retry::builder("orders").max_attempts(3).budget(Budget::new(0.1, 1)?).build()?;
    let breaker =
        Breaker::builder("orders").consecutive_failures(5).open_for(Duration::from_secs(2)).build()?;
    let bulkhead = Bulkhead::builder("orders").max_concurrent(32).max_queue(0).build()?;
    let attempt = Timeout::builder("orders-attempt").limit(Duration::from_millis(500)).build()?;

    let again =
        |sent: &Request| may_repeat(sent.method(), sent.headers()).then(|| sent.try_clone()).flatten();

    Ok(ServiceBuilder::new()
        .deadline(deadline.layer()) // for all attempts and the waits between them
        .retrying(retry.layer().classify_with(judge).replay_with(again))
        .breaker(breaker.layer().classify_with(judge))
        .bulkhead(bulkhead.layer())
        .attempt_timeout(attempt.layer())
        .lift_errors()
        .service(Client::new()))
}

fn judge(outcome: Result<&Response, &BoxError>) -> buttress::Verdict {
    buttress::http::verdict_of(outcome, |response| (response.status(), response.headers()))
}
