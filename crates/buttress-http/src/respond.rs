use std::{
    convert::Infallible,
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{Class, Code, FromRejection, Rejection};
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

/// Answers instead of failing: the outermost layer of a server's stack.
///
/// | error | status |
/// |---|---|
/// | rejection of the class [`Refused`](Class::Refused): open circuit, bulkhead, exhausted retries | 503 |
/// | of the class [`TooMany`](Class::TooMany): this caller asks too much | 429 |
/// | of the class [`TimedOut`](Class::TimedOut): time-outs | 504 |
/// | any error that is no rejection | 500 |
///
/// Whatever stands for a rejection has a `Retry-After` in whole seconds, rounded up and never 0: the rejection's own,
/// else the layer's ([`retry_after`](Self::retry_after), default 1 s), as for time-outs, which cannot know. The body is the rejection's code as plain text;
/// neither policy names nor error texts go out. A *through* layer: it is ready when the service inside is.
///
/// Within the process the response is known to be a refusal of ours, by [`Refused`] among its extensions: what is around
/// this stack does not take it for a failure of the server, unless this one [strips](Self::strip) it.
///
/// In a handler whose client was refused, [`response_to`](Self::response_to) makes the same response.
#[derive(Clone, Copy, Debug)]
pub struct RespondLayer {
    retry_after: Option<Duration>,
    strip: bool,
}

/// Among the extensions of a response: it stands for this refusal, or for the end of a call that took too long. Put there
/// by [`RespondLayer`], read by [`HttpClassify`](crate::HttpClassify). It does not go over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub Rejection);

impl Default for RespondLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl RespondLayer {
    /// Makes the layer.
    pub const fn new() -> Self {
        Self { retry_after: Some(Duration::from_secs(1)), strip: false }
    }

    /// What `Retry-After` says where the rejection does not know; `None`: nothing.
    pub const fn retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// Leaves [`Refused`] out: whatever is around this stack counts its refusals as failures of the server, by their
    /// status. As [`LiftErrorsLayer::strip`](buttress_core::LiftErrorsLayer::strip) does for errors.
    pub const fn strip(mut self) -> Self {
        self.strip = true;
        self
    }

    /// The response that stands for an error: for handlers that call a stack of their own.
    ///
    /// ```
    /// use buttress_core::{BoxError, Code, Name, Rejection};
    /// use buttress_http::{Refused, RespondLayer};
    /// use http::Response;
    ///
    /// const OPEN: &Code = &Code::refused("CIRCUIT_OPEN");
    /// let error = BoxError::from(Rejection::new(OPEN, &Name::new("orders")));
    /// let response: Response<String> = RespondLayer::new().response_to(&error);
    /// assert_eq!(response.status(), 503);
    /// assert_eq!(response.extensions().get::<Refused>().unwrap().0.policy(), "orders");
    /// ```
    pub fn response_to<E: FromRejection, B: From<String>>(self, error: &E) -> Response<B> {
        self.answer(error.rejection())
    }

    fn answer<B: From<String>>(self, rejection: Option<&Rejection>) -> Response<B> {
        let (status, code) = match rejection {
            Some(rejection) => (status_of(rejection.code()), rejection.code().as_str()),
            None => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
        };
        let mut response = Response::new(B::from(code.to_owned()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Some(wait) = rejection.and_then(|rejection| rejection.retry_after().or(self.retry_after)) {
            let seconds = wait.as_nanos().div_ceil(1_000_000_000).max(1);
            headers.insert(RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)));
        }
        if let Some(rejection) = rejection.filter(|_| !self.strip) {
            response.extensions_mut().insert(Refused(rejection.clone()));
        }
        response
    }
}

fn status_of(code: &Code) -> StatusCode {
    match code.class() {
        Class::TooMany => StatusCode::TOO_MANY_REQUESTS,
        Class::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        // `Refused`, and what classes are to come: not now.
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

impl<S> Layer<S> for RespondLayer {
    type Service = RespondService<S>;

    fn layer(&self, inner: S) -> RespondService<S> {
        RespondService { inner, layer: *self, broken: None }
    }
}

/// A service that answers instead of failing; made by [`RespondLayer`].
#[derive(Debug)]
pub struct RespondService<S> {
    inner: S,
    layer: RespondLayer,
    /// The inner service failed when asked for readiness: the next call is answered with that, because there is
    /// no error to return it as. The outer `None`: it did not.
    broken: Option<Option<Rejection>>,
}

impl<S: Clone> Clone for RespondService<S> {
    fn clone(&self) -> Self {
        // A clone has been asked for nothing yet.
        Self { inner: self.inner.clone(), layer: self.layer, broken: None }
    }
}

impl<S, Req, B> Service<Req> for RespondService<S>
where
    S: Service<Req, Response = Response<B>>,
    S::Error: FromRejection,
    B: From<String>,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = RespondFuture<S::Future, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.broken.is_none() {
            match self.inner.poll_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => self.broken = Some(error.rejection().cloned()),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let phase = match self.broken.take() {
            Some(rejection) => Phase::Broken { rejection: Some(rejection) },
            None => Phase::Calling { call: self.inner.call(req) },
        };
        RespondFuture { phase, layer: self.layer, error: PhantomData }
    }
}

pin_project! {
    /// Resolves to the inner call's response, or to one that stands for its error. Dropping it drops the call.
    pub struct RespondFuture<F, E> {
        #[pin]
        phase: Phase<F>,
        layer: RespondLayer,
        error: PhantomData<fn() -> E>,
    }
}

pin_project! {
    #[project = PhaseProj]
    enum Phase<F> {
        Calling { #[pin] call: F },
        Broken { rejection: Option<Option<Rejection>> },
    }
}

impl<F, E, B> Future for RespondFuture<F, E>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: FromRejection,
    B: From<String>,
{
    type Output = Result<Response<B>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        Poll::Ready(Ok(match this.phase.project() {
            PhaseProj::Broken { rejection } => {
                let rejection = rejection.take().expect("polled after it resolved");
                this.layer.answer(rejection.as_ref())
            }
            PhaseProj::Calling { call } => match call.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(response)) => response,
                Poll::Ready(Err(error)) => this.layer.answer(error.rejection()),
            },
        }))
    }
}

impl<F, E> fmt::Debug for RespondFuture<F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RespondFuture").field("layer", &self.layer).finish_non_exhaustive()
    }
}
