use std::{
    error::Error as StdError,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{BoxError, Error, rejection};

/// Turns the inner service's errors into [`BoxError`], so that every layer outside can put rejections there.
///
/// Put it innermost, once per stack. A *through* layer: it lets the readiness of the service through. It adds nothing to
/// a call that succeeds.
#[derive(Clone, Copy, Debug, Default)]
pub struct LiftErrorsLayer {
    strip: bool,
}

impl LiftErrorsLayer {
    /// Makes the layer.
    pub const fn new() -> Self {
        Self { strip: false }
    }

    /// Also takes rejections out of the errors that pass, so that the layers outside count a nested stack's
    /// refusal as a failure of the service and not as one of their own. The text of the error stays.
    ///
    /// For a server that has to answer for what it depends on. Without it a refusal by the client of a dependency, be it
    /// an open circuit or a full bulkhead, is not held against the server that the client is part of.
    pub const fn strip(mut self) -> Self {
        self.strip = true;
        self
    }
}

impl<S> Layer<S> for LiftErrorsLayer {
    type Service = LiftErrors<S>;

    fn layer(&self, inner: S) -> LiftErrors<S> {
        LiftErrors { inner, strip: self.strip }
    }
}

/// A service whose errors are [`BoxError`]; made by [`LiftErrorsLayer`].
#[derive(Clone, Copy, Debug)]
pub struct LiftErrors<S> {
    inner: S,
    strip: bool,
}

impl<S, Req> Service<Req> for LiftErrors<S>
where
    S: Service<Req>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = LiftErrorsFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let strip = self.strip;
        self.inner.poll_ready(cx).map_err(|error| lifted(error, strip))
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        LiftErrorsFuture { call: self.inner.call(req), strip: self.strip }
    }
}

fn lifted(error: impl Into<BoxError>, strip: bool) -> BoxError {
    let error = error.into();
    if strip && rejection(&*error).is_some() { Box::new(Stripped(error.to_string())) } else { error }
}

/// What is left of a nested stack's rejection.
#[derive(Debug)]
struct Stripped(String);

impl fmt::Display for Stripped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Stripped {}

/// Turns the inner service's error type `E` into [`Error<E>`], for stacks that keep concrete error types.
///
/// Put it innermost, once per stack, instead of [`LiftErrorsLayer`]. A *through* layer, as that is.
#[derive(Clone, Copy, Debug, Default)]
pub struct TypedErrorsLayer {
    _priv: (),
}

impl TypedErrorsLayer {
    /// Makes the layer.
    pub const fn new() -> Self {
        Self { _priv: () }
    }
}

impl<S> Layer<S> for TypedErrorsLayer {
    type Service = TypedErrors<S>;

    fn layer(&self, inner: S) -> TypedErrors<S> {
        TypedErrors { inner }
    }
}

/// A service whose errors are [`Error<E>`]; made by [`TypedErrorsLayer`].
#[derive(Clone, Copy, Debug)]
pub struct TypedErrors<S> {
    inner: S,
}

impl<S, Req> Service<Req> for TypedErrors<S>
where
    S: Service<Req>,
    S::Error: StdError + 'static,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = TypedErrorsFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Error::Inner)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        TypedErrorsFuture { call: self.inner.call(req) }
    }
}

pin_project! {
    /// Resolves as the inner call does, its error boxed. Dropping it drops the call.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct LiftErrorsFuture<F> {
        #[pin]
        call: F,
        strip: bool,
    }
}

impl<F, T, E> Future for LiftErrorsFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.call.poll(cx).map_err(|error| lifted(error, *this.strip))
    }
}

pin_project! {
    /// Resolves as the inner call does, its error `E` as [`Error<E>`]. Dropping it drops the call.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct TypedErrorsFuture<F> {
        #[pin]
        call: F,
    }
}

impl<F, T, E> Future for TypedErrorsFuture<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, Error<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx).map_err(Error::Inner)
    }
}
