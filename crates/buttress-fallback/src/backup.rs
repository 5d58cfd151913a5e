//! Answers with another service.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use buttress_core::{ReadyInCall, ReadyInCallFuture, Replay};
use buttress_kit::unpoisoned;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{Answer, Answering, Capture, Decide, Fallback, First, Readiness, answer::answer, sealed::Sealed};

/// Answers with another service; made by [`FallbackLayer::service`](crate::FallbackLayer::service).
pub struct ByService<B, R> {
    // Locked only to clone it when it is needed. Boxed services are often not `Sync`; this is.
    backup: Arc<Mutex<B>>,
    replay: R,
}

impl<B, R> ByService<B, R> {
    pub(crate) fn new(backup: B, replay: R) -> Self {
        Self { backup: Arc::new(Mutex::new(backup)), replay }
    }

    pub(crate) fn replaying<T>(self, replay: T) -> ByService<B, T> {
        ByService { backup: self.backup, replay }
    }
}

answer!(ByService<B, R: Clone> { backup, replay });

impl<B, R> Readiness for ByService<B, R> {
    type Inner<S> = ReadyInCall<S>;

    fn readied<S>(inner: S) -> ReadyInCall<S> {
        ReadyInCall::new(inner)
    }
}

impl<Req, B, R: Replay<Req>> Capture<Req> for ByService<B, R> {
    type Captured = Option<Req>;

    fn capture(&self, req: &Req) -> Option<Req> {
        self.replay.save(req)
    }
}

impl<Req, Res, Err, B, R> Answer<Option<Req>, Res, Err> for ByService<B, R>
where
    B: Service<Req, Response = Res, Error = Err> + Clone,
{
    type Future = ByServiceFuture<B, Req>;

    fn answer<C: Decide<Res, Err>>(
        &self,
        captured: Option<Req>,
        failed: Result<Res, Err>,
        _fallback: &Fallback,
        decide: &C,
    ) -> Result<Self::Future, Result<Res, Err>> {
        let Some(req) = captured else { return Err(failed) };
        let backup = unpoisoned(self.backup.lock()).clone();
        let first = match failed {
            Err(error) => First::Error(error),
            Ok(answer) => First::Answer(Described(decide, &answer, PhantomData::<fn() -> Err>).to_string()),
        };
        Ok(ByServiceFuture { call: ReadyInCallFuture::new(backup, req), first: Some(first) })
    }
}

pin_project! {
    /// The call of the service that stands in, and the failure of the one that it stands in for.
    #[must_use = "futures do nothing unless polled"]
    pub struct ByServiceFuture<B: Service<Req>, Req> {
        #[pin]
        call: ReadyInCallFuture<B, Req>,
        first: Option<First<B::Error>>,
    }
}

impl<B: Service<Req>, Req> Future for ByServiceFuture<B, Req> {
    type Output = Result<B::Response, B::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx)
    }
}

impl<B: Service<Req>, Req> Sealed for ByServiceFuture<B, Req> {}

impl<B: Service<Req>, Req> Answering<B::Error> for ByServiceFuture<B, Req> {
    fn first(self: Pin<&mut Self>) -> Option<First<B::Error>> {
        self.project().first.take()
    }
}

impl<B: Service<Req>, Req> fmt::Debug for ByServiceFuture<B, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByServiceFuture").field("call", &self.call).finish_non_exhaustive()
    }
}

/// What a classifier says of an answer.
struct Described<'a, C, Res, Err>(&'a C, &'a Res, PhantomData<fn() -> Err>);

impl<C: Decide<Res, Err>, Res, Err> fmt::Display for Described<'_, C, Res, Err> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.describe(self.1, f)
    }
}
