use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

/// Moves the wait for readiness into the call: for a layer outside that should cover both.
///
/// An *owning* layer, one that waits within its call: always ready; each call readies a clone of its own, and an error of its readiness is that
/// call's error. Directly inside a time-out it makes the limit cover the wait; directly inside a fallback, a
/// service that is not ready in time can be answered for.
///
/// ```
/// # tokio_test::block_on(async {
/// use std::task::{Context, Waker};
///
/// use buttress_core::{BoxError, ReadyInCallLayer};
/// use tower::{Layer, Service, service_fn};
///
/// let mut svc = ReadyInCallLayer.layer(service_fn(|n: u32| async move { Ok::<_, BoxError>(n + 1) }));
/// assert!(Service::<u32>::poll_ready(&mut svc, &mut Context::from_waker(Waker::noop())).is_ready());
/// assert_eq!(svc.call(1).await.unwrap(), 2);
/// # });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadyInCallLayer;

impl<S> Layer<S> for ReadyInCallLayer {
    type Service = ReadyInCall<S>;

    fn layer(&self, inner: S) -> ReadyInCall<S> {
        ReadyInCall::new(inner)
    }
}

/// A service that waits for readiness within its call; made by [`ReadyInCallLayer`].
#[derive(Clone, Debug)]
pub struct ReadyInCall<S> {
    inner: S,
}

impl<S> ReadyInCall<S> {
    /// Makes the service.
    pub fn new(inner: S) -> Self {
        Self { inner }
    }
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
        ReadyInCallFuture::new(self.inner.clone(), req)
    }
}

impl<S: Service<Req>, Req> ReadyInCallFuture<S, Req> {
    /// Makes one call on a service of its own, once that is ready.
    #[inline]
    pub fn new(svc: S, req: Req) -> Self {
        Self { phase: Phase::Waiting { svc, req: Some(req) } }
    }

    /// Whether it has resolved or was given up.
    #[inline]
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Drops what it is at. It must not be polled any more.
    #[inline]
    pub fn give_up(self: Pin<&mut Self>) {
        self.project().phase.set(Phase::Over);
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
        Waiting { svc: S, req: Option<Req> },
        Calling { #[pin] call: F },
        Over,
    }
}

impl<S, Req> Future for ReadyInCallFuture<S, Req>
where
    S: Service<Req>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut phase = self.project().phase;
        loop {
            let answer = match phase.as_mut().project() {
                PhaseProj::Waiting { svc, req } => match ready!(svc.poll_ready(cx)) {
                    Ok(()) => {
                        let call = svc.call(req.take().expect("taken once, on the way to `Calling`"));
                        phase.set(Phase::Calling { call });
                        continue;
                    }
                    Err(broken) => Err(broken),
                },
                PhaseProj::Calling { call } => ready!(call.poll(cx)),
                PhaseProj::Over => panic!("polled after it resolved"),
            };
            // Not kept until this future is dropped: it may hold a permit, as tower's `ConcurrencyLimit`.
            phase.set(Phase::Over);
            return Poll::Ready(answer);
        }
    }
}

impl<S: Service<Req>, Req> fmt::Debug for ReadyInCallFuture<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match &self.phase {
            Phase::Waiting { .. } => "Waiting",
            Phase::Calling { .. } => "Calling",
            Phase::Over => "Over",
        };
        f.debug_struct("ReadyInCallFuture").field("phase", &phase).finish()
    }
}
