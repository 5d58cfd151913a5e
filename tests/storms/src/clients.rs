//! Who calls: the README's client as it stands there, and naive ones beside it.

use std::{convert::Infallible, sync::Arc, time::Duration};

use buttress::{Backoff, BackoffState, BoxError, Chance, Jitter, Retry, ServiceBuilderExt, Timeout};
use reqwest::{Request, Response};
use tokio::time::{Sleep, sleep};
use tower::{Service, ServiceBuilder, retry::Policy, service_fn};

use crate::{load::Client, server::Server};

/// What stands in a `reqwest::Client`'s place.
trait Upstream:
    Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<S> Upstream for S where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

fn upstream(server: &Server) -> impl Upstream + use<> {
    let server = server.clone();
    service_fn(move |_| {
        let served = server.serve();
        async move {
            served.await;
            Ok(Response::from(http::Response::new("")))
        }
    })
}

/// The README's client.
pub(crate) fn readme(server: &Server) -> Client {
    readme::new(server)
}

mod readme {
    use std::cell::RefCell;

    use crate::{load, server::Server};

    // The text itself, so that what is proven is what is copied. Its `reqwest::Client` alone is another.
    include!("../../it/first_screen/client.rs");

    /// Found by the text above before the crate of this name is.
    mod reqwest {
        pub(super) use ::reqwest::{Request, Response};

        use super::super::{Upstream, upstream};

        pub(super) struct Client;

        impl Client {
            #[allow(clippy::new_ret_no_self, reason = "the name is the one that the text calls")]
            pub(super) fn new() -> impl Upstream {
                super::SERVER.with_borrow(|server| upstream(server.as_ref().expect("set before")))
            }
        }
    }

    thread_local! {
        /// Before which server the next client stands: the text has no parameter for it.
        static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) };
    }

    pub(super) fn new(server: &Server) -> load::Client {
        SERVER.set(Some(server.clone()));
        load::Client::new(client().expect("the README's settings work"))
    }
}

/// For each attempt of a naive client.
const LIMIT: Duration = Duration::from_millis(500);
const ATTEMPTS: u32 = 4;

/// Full jitter, as it is recommended.
fn waits() -> Backoff {
    Backoff::exponential(Duration::from_millis(100))
        .with_max(Duration::from_secs(5))
        .with_jitter(Jitter::Full)
}

/// A time-out and three retries, of tower's own layers.
pub(crate) fn tower(server: &Server) -> Client {
    let again = Again { waited: BackoffState::default(), chance: Arc::new(Chance::random()) };
    Client::new(ServiceBuilder::new().retry(again).timeout(LIMIT).service(upstream(server)))
}

/// The same of ours: without a budget they are as naive.
pub(crate) fn unbudgeted(server: &Server) -> Client {
    let retry = Retry::builder("orders").max_attempts(ATTEMPTS).backoff(waits()).build();
    let attempt = Timeout::builder("orders-attempt").limit(LIMIT).build();
    let (retry, attempt) = (retry.expect("the settings work"), attempt.expect("the settings work"));
    Client::new(
        ServiceBuilder::new()
            .retrying(retry.layer().replay_with(Request::try_clone))
            .attempt_timeout(attempt.layer())
            .lift_errors()
            .service(upstream(server)),
    )
}

/// Tries again after any error.
#[derive(Clone)]
struct Again {
    waited: BackoffState,
    chance: Arc<Chance>,
}

impl Policy<Request, Response, BoxError> for Again {
    type Future = Sleep;

    fn retry(&mut self, _: &mut Request, result: &mut Result<Response, BoxError>) -> Option<Sleep> {
        if result.is_ok() || self.waited.retries() + 1 == ATTEMPTS {
            return None;
        }
        Some(sleep(waits().next(&mut self.waited, self.chance.unit())))
    }

    fn clone_request(&mut self, request: &Request) -> Option<Request> {
        request.try_clone()
    }
}
