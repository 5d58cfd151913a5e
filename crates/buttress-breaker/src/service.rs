use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll, ready},
};

use buttress_core::{Classify, FromRejection, Standard};
use buttress_kit::wakers::Parked;
use tower_service::Service;

use crate::{
    Breaker, BreakerFuture,
    engine::{Found, Refusal},
    shared::Shared,
    timer::Timer,
};

/// A service behind a [`Breaker`]; made by [`BreakerLayer`](crate::BreakerLayer).
///
/// Its clones share the circuit; readiness belongs to one of them.
pub struct BreakerService<S, C = Standard> {
    inner: S,
    breaker: Breaker,
    classify: C,
    /// The inner service said `Ok` to this very instance and was not called since.
    inner_ready: bool,
    /// What `poll_ready` found if it did not ask the inner service, for the `call` that follows: so a refusal reads
    /// the clock once.
    found: Found,
    waiting: Option<Waiting>,
}

/// How a service that is not ready hears that it may be by now.
struct Waiting {
    shared: Arc<Shared>,
    parked: Option<Parked>,
    /// Behind the readiness gate, the end of the open wait, or of a probe's lease; else the end of half-open.
    timer: Timer,
    /// The inner service was asked and said "not yet": this instance may be in its queue.
    queued: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(parked) = self.parked.take() {
            self.shared.wakers.unpark(parked);
        }
    }
}

/// What came of asking a circuit that refuses.
enum Asked {
    Refuses,
    NotAnyMore,
}

impl<S, C> BreakerService<S, C> {
    pub(crate) fn new(inner: S, breaker: Breaker, classify: C) -> Self {
        Self { inner, breaker, classify, inner_ready: false, found: Found::NOTHING, waiting: None }
    }

    /// The breaker.
    pub fn handle(&self) -> &Breaker {
        &self.breaker
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service. A readiness it had is used up.
    pub fn get_mut(&mut self) -> &mut S {
        self.inner_ready = false;
        &mut self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }

    /// Keeps the waker until the next transition.
    fn park(&mut self, cx: &Context<'_>) {
        let shared = &self.breaker.engine.shared;
        let waiting = self.waiting.get_or_insert_with(|| Waiting {
            shared: shared.clone(),
            parked: None,
            timer: Timer::default(),
            queued: false,
        });
        shared.wakers.park(&mut waiting.parked, cx.waker());
    }

    /// Gives back what the inner service may have reserved for this instance, or will once its turn comes: only
    /// dropping that instance does. A clone holds no reservation and is in no queue.
    fn leave_inner(&mut self)
    where
        S: Clone,
    {
        self.inner = self.inner.clone();
        self.inner_ready = false;
        if let Some(waiting) = &mut self.waiting {
            waiting.queued = false;
        }
    }

    fn poll_refusing(&mut self, cx: &mut Context<'_>) -> Poll<Asked>
    where
        S: Clone,
    {
        if self.waiting.is_some() || self.breaker.engine.shared.is_gated() {
            return self.poll_waiting(cx);
        }
        let Some(refusal) = self.breaker.engine.refusing() else { return Poll::Ready(Asked::NotAnyMore) };
        // The inner service is left alone, ready or not.
        self.found = refusal.found;
        Poll::Ready(Asked::Refuses)
    }

    /// Goes on if the service was not ready before, or must not be now.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Asked>
    where
        S: Clone,
    {
        let Some(refusal) = self.breaker.engine.refusing() else { return Poll::Ready(Asked::NotAnyMore) };
        let gated = self.breaker.engine.shared.is_gated();
        // A refusal is not called inside, and behind the gate nothing is for as long as the circuit refuses.
        if self.waiting.as_ref().is_some_and(|waiting| waiting.queued) || gated && self.inner_ready {
            self.leave_inner();
        }
        if gated {
            return self.poll_gate(refusal, cx).map(|()| Asked::NotAnyMore);
        }
        self.waiting = None;
        self.found = refusal.found;
        Poll::Ready(Asked::Refuses)
    }

    /// Waits for the circuit, behind the readiness gate.
    fn poll_gate(&mut self, mut refusal: Refusal, cx: &mut Context<'_>) -> Poll<()> {
        self.park(cx);
        let engine = &self.breaker.engine;
        let mut timer = self.waiting.as_mut().map(|waiting| &mut waiting.timer);
        loop {
            if let Some(timer) = &mut timer {
                timer.wake_at(refusal.until.map(|until| engine.shared.instant(until)), cx);
            }
            // Again, now that the waker is on the list: a change before that has woken nobody.
            match engine.refusing() {
                None => return Poll::Ready(()),
                Some(still) if still.until == refusal.until => return Poll::Pending,
                Some(other) => refusal = other,
            }
        }
    }

    fn poll_unready(&mut self, cx: &mut Context<'_>) -> Poll<()>
    where
        S: Clone,
    {
        // The circuit may open while the inner service is not ready, and then the caller must not wait for it
        // any longer.
        self.park(cx);
        if let Some(waiting) = &mut self.waiting {
            waiting.queued = true;
            // Time opens it too, and maybe nobody comes by to find that.
            waiting.timer.wake_at(self.breaker.engine.half_open_until(), cx);
        }
        match self.breaker.engine.refusing() {
            Some(refusal) if !self.breaker.engine.shared.is_gated() => {
                self.leave_inner();
                self.waiting = None;
                self.found = refusal.found;
                Poll::Ready(())
            }
            _ => Poll::Pending,
        }
    }
}

impl<S, C, Req> Service<Req> for BreakerService<S, C>
where
    S: Service<Req> + Clone,
    S::Error: FromRejection,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BreakerFuture<S::Future, C>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        if !self.breaker.engine.flows() {
            match ready!(self.poll_refusing(cx)) {
                Asked::Refuses => return Poll::Ready(Ok(())),
                Asked::NotAnyMore => {}
            }
        }
        match self.inner.poll_ready(cx) {
            Poll::Ready(ready) => {
                self.inner_ready = ready.is_ok();
                if self.waiting.is_some() {
                    self.waiting = None;
                }
                Poll::Ready(ready)
            }
            Poll::Pending => self.poll_unready(cx).map(Ok),
        }
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let engine = &self.breaker.engine;
        let was_ready = mem::take(&mut self.inner_ready);
        let admission = if was_ready {
            engine.admit()
        } else {
            engine.refuse_unready(mem::replace(&mut self.found, Found::NOTHING))
        };
        if admission.is_refused() {
            if was_ready {
                // Only dropping the instance that was polled ready gives back what it reserved. A clone holds no
                // reservation.
                self.inner = self.inner.clone();
            }
            return BreakerFuture::refused(engine.clone(), admission, self.classify.clone());
        }
        BreakerFuture::admitted(engine, admission, || (self.inner.call(req), self.classify.clone()))
    }
}

impl<S: Clone, C: Clone> Clone for BreakerService<S, C> {
    fn clone(&self) -> Self {
        // Readiness belongs to one instance.
        Self::new(self.inner.clone(), self.breaker.clone(), self.classify.clone())
    }
}

impl<S: fmt::Debug, C> fmt::Debug for BreakerService<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerService")
            .field("inner", &self.inner)
            .field("breaker", &self.breaker)
            .finish_non_exhaustive()
    }
}
