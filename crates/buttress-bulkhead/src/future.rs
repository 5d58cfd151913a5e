use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use buttress_core::{Classify, FromRejection, Standard};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::lease::{Busy, Lease, outcome_of};

pin_project! {
    /// Waits for a slot, then for the inner service to be ready, then resolves as the inner call does; or to a
    /// rejection.
    ///
    /// Until it is polled it has no slot and no place in the line. Dropping it gives up what it has, and cancels
    /// the inner call. The slot is given back when the call is done, not when this is dropped.
    #[must_use = "futures do nothing unless polled"]
    pub struct BulkheadFuture<S, Req, C = Standard>
    where
        S: Service<Req>,
    {
        // Before the lease, so that a cancelled call is over before its slot is free.
        #[pin]
        phase: Phase<S, Req, S::Future>,
        lease: Lease,
        classify: C,
    }
}

pin_project! {
    #[project = PhaseProj]
    enum Phase<S, Req, F> {
        // Waits for a slot, then for the service.
        Entering { inner: S, req: Option<Req> },
        Calling { #[pin] call: F },
        Over,
    }
}

impl<S, Req, C> BulkheadFuture<S, Req, C>
where
    S: Service<Req>,
{
    pub(crate) fn new(inner: S, req: Req, lease: Lease, classify: C) -> Self {
        Self { phase: Phase::Entering { inner, req: Some(req) }, lease, classify }
    }

    /// The 1-based place in the line, while it waits. Walks the line.
    pub fn queue_position(&self) -> Option<usize> {
        self.lease.position()
    }
}

impl<S, Req, C> Future for BulkheadFuture<S, Req, C>
where
    S: Service<Req>,
    S::Error: FromRejection,
    C: Classify<S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    // Inlined into whoever awaits it, so that what the inner service answers goes where it stays without a copy.
    // What waits and what fails stays outside.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.as_mut().project();
        if !this.lease.is_held() {
            if let Err(why) = ready!(this.lease.poll_take(cx)) {
                this.phase.set(Phase::Over);
                return Poll::Ready(Err(S::Error::from_rejection(why)));
            }
        }
        let busy = Busy::new(this.lease);
        match poll_inner(this.phase.as_mut(), cx) {
            Poll::Pending => {
                busy.returned();
                Poll::Pending
            }
            // Taken apart at once: a whole `Result` that is borrowed for the verdict is written to memory.
            Poll::Ready(Ok(response)) => {
                let verdict = this.classify.classify(Ok(&response));
                // What is left of the call goes before its slot does.
                this.phase.set(Phase::Over);
                busy.ended(outcome_of(verdict));
                Poll::Ready(Ok(response))
            }
            Poll::Ready(Err(error)) => {
                let verdict = this.classify.classify(Err(&error));
                this.phase.set(Phase::Over);
                busy.ended(outcome_of(verdict));
                Poll::Ready(Err(error))
            }
        }
    }
}

#[inline(always)]
fn poll_inner<S, Req>(
    mut phase: Pin<&mut Phase<S, Req, S::Future>>,
    cx: &mut Context<'_>,
) -> Poll<Result<S::Response, S::Error>>
where
    S: Service<Req>,
{
    loop {
        match phase.as_mut().project() {
            PhaseProj::Entering { inner, req } => {
                if let Err(error) = ready!(inner.poll_ready(cx)) {
                    return Poll::Ready(Err(error));
                }
                let call = inner.call(req.take().expect("taken once, on the way to `Calling`"));
                phase.set(Phase::Calling { call });
            }
            PhaseProj::Calling { call } => return call.poll(cx),
            PhaseProj::Over => panic!("polled after it resolved"),
        }
    }
}

impl<S, Req, C> fmt::Debug for BulkheadFuture<S, Req, C>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadFuture").field("lease", &self.lease).finish_non_exhaustive()
    }
}
