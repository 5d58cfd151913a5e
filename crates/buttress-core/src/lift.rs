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
/// Put it innermost, once per stack. A *through* layer; it adds nothing to a call that succeeds.
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
    type Future = MapErr<S::Future, fn(S::Error) -> BoxError>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let map = mapping(self.strip);
        self.inner.poll_ready(cx).map_err(map)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        MapErr { call: self.inner.call(req), map: Some(mapping(self.strip)) }
    }
}

fn mapping<E: Into<BoxError>>(strip: bool) -> fn(E) -> BoxError {
    if strip { |error| stripped(error.into()) } else { Into::into }
}

fn stripped(error: BoxError) -> BoxError {
    if rejection(&*error).is_some() { Box::new(Stripped(error.to_string())) } else { error }
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
/// Put it innermost, once per stack, instead of [`LiftErrorsLayer`]. A *through* layer.
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
    type Future = MapErr<S::Future, fn(S::Error) -> Error<S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Error::Inner)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        MapErr { call: self.inner.call(req), map: Some(Error::Inner) }
    }
}

pin_project! {
    /// Resolves as the inner call does, its error mapped. Dropping it drops the call.
    #[derive(Debug)]
    pub struct MapErr<F, M> {
        #[pin]
        call: F,
        map: Option<M>,
    }
}

impl<F, M, T, E, E2> Future for MapErr<F, M>
where
    F: Future<Output = Result<T, E>>,
    M: FnOnce(E) -> E2,
{
    type Output = Result<T, E2>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.call.poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(value)) => Poll::Ready(Ok(value)),
            Poll::Ready(Err(error)) => {
                let map = this.map.take().expect("polled after it resolved");
                Poll::Ready(Err(map(error)))
            }
        }
    }
}
