//! Answers with another service.

use std::sync::{Arc, Mutex};

use buttress_core::{ReadyInCall, ReadyInCallFuture, Replay};
use buttress_kit::unpoisoned;
use tower_service::Service;

use crate::{Answer, Capture, Fallback, Readiness, answer::answer};

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
    type Future = ReadyInCallFuture<B, Req>;

    fn answer(
        &self,
        captured: Option<Req>,
        failed: Result<Res, Err>,
        _fallback: &Fallback,
    ) -> Result<Self::Future, Result<Res, Err>> {
        let Some(req) = captured else { return Err(failed) };
        let backup = unpoisoned(self.backup.lock()).clone();
        Ok(ReadyInCallFuture::new(backup, req))
    }
}
