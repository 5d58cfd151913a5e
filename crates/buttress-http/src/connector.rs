use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use tower_service::Service;

/// Makes a stack around a connector fit for hyper-util's client, which wants futures that are `Unpin`: boxes
/// one future per connect, none per request.
pub fn connector<S>(stack: S) -> Connector<S> {
    Connector { stack }
}

/// A stack around a connector, its futures boxed; made by [`connector`]. A *through* layer: it is ready
/// when the connector inside is.
#[derive(Clone, Copy, Debug)]
pub struct Connector<S> {
    stack: S,
}

impl<S, Req> Service<Req> for Connector<S>
where
    S: Service<Req>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Connecting<S::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.stack.poll_ready(cx)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        Connecting(Box::pin(self.stack.call(req)))
    }
}

/// Resolves as the connect does. Dropping it drops the connect.
pub struct Connecting<T, E>(Pin<Box<dyn Future<Output = Result<T, E>> + Send>>);

impl<T, E> Future for Connecting<T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<T, E> fmt::Debug for Connecting<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connecting(..)")
    }
}
