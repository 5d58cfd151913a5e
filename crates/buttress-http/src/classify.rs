use std::fmt;

use buttress_core::{Applied, Classify, FromRejection, Rejection, Standard, Verdict};
use http::{HeaderMap, Response, StatusCode};

use crate::{Refused, retry_after};

/// What a response with this status and these headers says about the service.
///
/// 5xx, 408 and 429 are failures, with their `Retry-After`; 501 and 505 are permanent ones. Every other status
/// is a success: a service that answers 404 works.
pub fn verdict(status: StatusCode, headers: &HeaderMap) -> Verdict {
    match status {
        StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => Verdict::permanent(),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => transient(headers),
        status if status.is_server_error() => transient(headers),
        _ => Verdict::Success,
    }
}

fn transient(headers: &HeaderMap) -> Verdict {
    retry_after(headers).map_or(Verdict::transient(), Verdict::retry_after)
}

/// The same for an outcome whose response is of another crate: `parts` gives its status and headers. Errors are
/// judged as [`Standard`] does.
///
/// ```
/// use buttress_core::{BoxError, Verdict};
/// use http::{HeaderMap, StatusCode};
///
/// /// A response of some client.
/// struct Answer(StatusCode, HeaderMap);
///
/// let answer = Answer(StatusCode::BAD_GATEWAY, HeaderMap::new());
/// let verdict = buttress_http::verdict_of(Ok::<_, &BoxError>(&answer), |answer| (answer.0, &answer.1));
/// assert_eq!(verdict, Verdict::transient());
/// ```
pub fn verdict_of<'a, Res, E, F>(outcome: Result<&'a Res, &'a E>, parts: F) -> Verdict
where
    E: FromRejection,
    F: FnOnce(&'a Res) -> (StatusCode, &'a HeaderMap),
{
    match outcome {
        Ok(response) => {
            let (status, headers) = parts(response);
            verdict(status, headers)
        }
        Err(error) => Classify::<(), E>::classify(&Standard, Err(error)),
    }
}

/// Classifies responses by [`verdict`], and errors as [`Standard`] does. Describes a response by its status, such as
/// `503`.
///
/// A response that stands for a refusal by a stack inside ([`Refused`]) says nothing about the service if nothing was
/// sent; otherwise its status counts, and a new try is left to that stack where that has given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpClassify;

impl<B, E: FromRejection> Classify<Response<B>, E> for HttpClassify {
    fn classify(&self, outcome: Result<&Response<B>, &E>) -> Verdict {
        if let Some(Refused(rejection)) = outcome.ok().and_then(refused) {
            match rejection.verdict() {
                Verdict::Failure { permanent: false, .. } => {}
                says_so => return says_so,
            }
        }
        verdict_of(outcome, |response| (response.status(), response.headers()))
    }

    fn refusal<'a>(&self, response: &'a Response<B>) -> Option<&'a Rejection> {
        refused(response).map(|refused| &refused.0)
    }

    fn describe(&self, outcome: Result<&Response<B>, &E>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match outcome {
            // The number alone: the reason is no news, and unknown statuses have none.
            Ok(response) => f.write_str(response.status().as_str()),
            Err(error) => Classify::<(), E>::describe(&Standard, Err(error), f),
        }
    }

    fn applied(&self, outcome: Result<&Response<B>, &E>) -> Applied {
        match outcome {
            Ok(response) if refused(response).is_some_and(|refused| !refused.0.was_sent()) => Applied::No,
            Ok(_) => Applied::Unknown,
            Err(error) => Classify::<(), E>::applied(&Standard, Err(error)),
        }
    }
}

fn refused<B>(response: &Response<B>) -> Option<&Refused> {
    response.extensions().get()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use buttress_core::{BoxError, Code, Name};

    use super::*;

    fn of(status: u16, wait: Option<&str>) -> Verdict {
        let mut response = Response::builder().status(status);
        if let Some(wait) = wait {
            response = response.header("retry-after", wait);
        }
        HttpClassify.classify(Ok::<_, &BoxError>(&response.body(()).unwrap()))
    }

    #[test]
    fn server_errors_408_and_429_are_failures_and_nothing_else_is() {
        for status in [100, 200, 204, 301, 304, 400, 401, 403, 404, 409, 410, 418, 422] {
            assert_eq!(of(status, None), Verdict::Success, "{status}");
        }
        for status in [408, 429, 500, 502, 503, 504, 599] {
            assert_eq!(of(status, None), Verdict::transient(), "{status}");
        }
        for status in [501, 505] {
            assert_eq!(of(status, None), Verdict::permanent(), "{status}");
        }
        assert_eq!(of(429, Some("7")), Verdict::retry_after(Duration::from_secs(7)));
        assert_eq!(of(503, Some("soon")), Verdict::transient());
        assert_eq!(of(200, Some("7")), Verdict::Success);
    }

    /// What is said of an outcome.
    struct Described<'a>(Result<&'a Response<()>, &'a BoxError>);

    impl fmt::Display for Described<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            HttpClassify.describe(self.0, f)
        }
    }

    #[test]
    fn response_is_described_by_its_status_and_an_error_by_what_it_displays() {
        for status in [200_u16, 429, 503, 599, 999] {
            let response = Response::builder().status(status).body(()).unwrap();
            assert_eq!(Described(Ok(&response)).to_string(), status.to_string());
        }
        assert_eq!(Described(Err(&"connection refused".into())).to_string(), "connection refused");
    }

    #[test]
    fn only_a_refusal_that_was_not_sent_is_known_to_have_had_no_effect() {
        const OPEN: &Code = &Code::refused("CIRCUIT_OPEN");
        let applied = |outcome: Result<&Response<()>, &BoxError>| HttpClassify.applied(outcome);
        let refused = || Rejection::new(OPEN, &Name::new("p"));
        assert_eq!(applied(Err(&refused().into())), Applied::No);
        assert_eq!(applied(Err(&refused().with_sent(true).into())), Applied::Unknown);
        assert_eq!(applied(Err(&"connection reset".into())), Applied::Unknown);
        // It was read, and what was done before it was said is not known.
        let response = Response::builder().status(503).body(()).unwrap();
        assert_eq!(applied(Ok(&response)), Applied::Unknown);
    }

    #[test]
    fn refusal_by_a_stack_inside_says_nothing_about_the_service_unless_it_was_sent() {
        const OPEN: &Code = &Code::refused("CIRCUIT_OPEN");
        const LATE: &Code = &Code::timed_out("TIMEOUT");
        let responded = |layer: crate::RespondLayer, rejection: Rejection| -> (Verdict, Applied) {
            let response: Response<String> = layer.response_to(&BoxError::from(rejection));
            let outcome = Ok::<_, &BoxError>(&response);
            (HttpClassify.classify(outcome), HttpClassify.applied(outcome))
        };
        let name = Name::new("orders");
        let layer = crate::RespondLayer::new();
        let second = Duration::from_secs(1);
        let refused = || Rejection::new(OPEN, &name);
        assert_eq!(responded(layer, refused()), (Verdict::Ignore, Applied::No));
        assert_eq!(responded(layer, refused().with_sent(true)), (Verdict::permanent(), Applied::Unknown));
        let late = Rejection::timed_out(LATE, &name, second, second);
        assert_eq!(responded(layer, late), (Verdict::retry_after(second), Applied::Unknown));
        // By its status, as that of any other server.
        assert_eq!(responded(layer.strip(), refused()), (Verdict::retry_after(second), Applied::Unknown));
    }
}
