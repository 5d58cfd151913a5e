use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

/// Moves the wait for readiness into the call, so that a time-out outside of it covers both.
///
/// An *owning* layer: always ready; each call readies a clone of its own. Put it directly inside the time-out.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use buttress_core::BoxError;
/// use buttress_timeout::{ReadyInCallLayer, Timeout};
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
///
/// let mut svc = ServiceBuilder::new()
///     .layer(Timeout::builder("api").limit(Duration::from_secs(1)).build()?.layer())
///     .layer(ReadyInCallLayer)
///     .concurrency_limit(1)
///     .service(service_fn(|_: ()| std::future::pending::<Result<(), BoxError>>()));
/// let first = svc.ready().await.unwrap().call(());
/// let _held = tokio::spawn(first);
/// tokio::task::yield_now().await;
/// // The only slot is taken: the wait for it ends after a second.
/// assert!(svc.ready().await.unwrap().call(()).await.is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadyInCallLayer;

impl<S> Layer<S> for ReadyInCallLayer {
    type Service = ReadyInCall<S>;

    fn layer(&self, inner: S) -> ReadyInCall<S> {
        ReadyInCall { inner }
    }
}

/// A service that waits for readiness within its call; made by [`ReadyInCallLayer`].
#[derive(Clone, Debug)]
pub struct ReadyInCall<S> {
    inner: S,
}

impl<S, Req> Service<Req> for ReadyInCall<S>
where
    S: Service<Req> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ReadyInCallFuture<S, Req>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Req) -> Self::Future {
        ReadyInCallFuture { phase: Phase::Waiting { waiting: Some((self.inner.clone(), req)) } }
    }
}

pin_project! {
    /// Waits until the service is ready, then makes the call. Dropping it cancels whichever it is at.
    #[must_use = "futures do nothing unless polled"]
    pub struct ReadyInCallFuture<S: Service<Req>, Req> {
        #[pin]
        phase: Phase<S, Req, S::Future>,
    }
}

pin_project! {
    #[project = PhaseProj]
    enum Phase<S, Req, F> {
        Waiting { waiting: Option<(S, Req)> },
        Calling { #[pin] call: F },
    }
}

impl<S, Req> Future for ReadyInCallFuture<S, Req>
where
    S: Service<Req>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut phase = self.project().phase;
        loop {
            match phase.as_mut().project() {
                PhaseProj::Waiting { waiting } => {
                    let (svc, _) = waiting.as_mut().expect("polled after it resolved");
                    if let Err(broken) = ready!(svc.poll_ready(cx)) {
                        *waiting = None;
                        return Poll::Ready(Err(broken));
                    }
                    let (mut svc, req) = waiting.take().expect("polled after it resolved");
                    let call = svc.call(req);
                    phase.set(Phase::Calling { call });
                }
                PhaseProj::Calling { call } => return call.poll(cx),
            }
        }
    }
}

impl<S: Service<Req>, Req> fmt::Debug for ReadyInCallFuture<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match &self.phase {
            Phase::Waiting { .. } => "Waiting",
            Phase::Calling { .. } => "Calling",
        };
        f.debug_struct("ReadyInCallFuture").field("phase", &phase).finish()
    }
}
