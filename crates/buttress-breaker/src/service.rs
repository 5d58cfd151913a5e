use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll, ready},
};

use buttress_core::{Classify, FromRejection, Standard};
use tower_service::Service;

use crate::{
    Breaker, BreakerFuture,
    engine::{Common, FREE, Pass, Refusal},
    permit::Entering,
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
    /// For how long calls are refused, as it was when readiness was asked for; used where the inner service was
    /// not asked. So a refusal takes one look at the clock, and never says "try again" too early.
    refused_for: u64,
    /// The generation of the circuit in which that was so.
    refused_in: u64,
    waiting: Option<Waiting>,
}

/// How a service that is not ready hears that it may be by now.
struct Waiting {
    common: Arc<Common>,
    place: usize,
    /// Behind the readiness gate, the end of the open wait, or of a probe's lease; else the end of half-open.
    timer: Timer,
    /// The inner service was asked and said "not yet": this instance may stand in its line.
    in_line: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.common.unpark(self.place);
    }
}

/// What came of asking a circuit that refuses.
enum Asked {
    Refuses,
    NotAnyMore,
}

impl<S, C> BreakerService<S, C> {
    pub(crate) fn new(inner: S, breaker: Breaker, classify: C) -> Self {
        let (refused_for, refused_in) = (0, FREE);
        Self { inner, breaker, classify, inner_ready: false, refused_for, refused_in, waiting: None }
    }

    /// The breaker.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// The service behind it.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service behind it. A readiness it had is used up.
    pub fn get_mut(&mut self) -> &mut S {
        self.inner_ready = false;
        &mut self.inner
    }

    /// The service behind it.
    pub fn into_inner(self) -> S {
        self.inner
    }

    /// Keeps the waker until the next transition.
    fn park(&mut self, cx: &Context<'_>) {
        let common = &self.breaker.shared.common;
        match &self.waiting {
            Some(waiting) => _ = common.park(Some(waiting.place), cx.waker()),
            None => {
                let place = common.park(None, cx.waker());
                let waiting =
                    Waiting { common: common.clone(), place, timer: Timer::default(), in_line: false };
                self.waiting = Some(waiting);
            }
        }
    }

    /// Gives back what the inner service may have reserved for this instance, or will once its turn comes: only
    /// dropping that instance does. A clone holds no reservation and stands in no line.
    fn leave_inner(&mut self)
    where
        S: Clone,
    {
        self.inner = self.inner.clone();
        self.inner_ready = false;
        if let Some(waiting) = &mut self.waiting {
            waiting.in_line = false;
        }
    }

    #[cold]
    fn stop_waiting(&mut self) {
        self.waiting = None;
    }

    #[inline(never)]
    fn poll_refusing(&mut self, cx: &mut Context<'_>) -> Poll<Asked>
    where
        S: Clone,
    {
        if self.waiting.is_some() || self.breaker.shared.common.gated() {
            return self.poll_waiting(cx);
        }
        let Some(refusal) = self.breaker.shared.refusing() else { return Poll::Ready(Asked::NotAnyMore) };
        // The inner service is left alone, ready or not.
        self.ready_to_refuse(refusal);
        Poll::Ready(Asked::Refuses)
    }

    fn ready_to_refuse(&mut self, refusal: Refusal) {
        (self.refused_for, self.refused_in) = (refusal.wait, refusal.generation);
    }

    /// What to tell whoever calls though the inner service is not ready.
    fn refusal(&mut self) -> Pass {
        let shared = &self.breaker.shared;
        // Once, and not where the state has changed since: what was found then is not so any more.
        let found_in = std::mem::replace(&mut self.refused_in, FREE);
        let still = found_in == shared.front.word().generation();
        Pass::refused(if still { self.refused_for } else { shared.wait_if_called_unready() })
    }

    /// Goes on where the service was not ready before, or must not be now.
    #[cold]
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Asked>
    where
        S: Clone,
    {
        let Some(refusal) = self.breaker.shared.refusing() else { return Poll::Ready(Asked::NotAnyMore) };
        let gated = self.breaker.shared.common.gated();
        // A refusal is not called inside, and behind the gate nothing is for as long as the circuit refuses.
        if self.waiting.as_ref().is_some_and(|waiting| waiting.in_line) || gated && self.inner_ready {
            self.leave_inner();
        }
        if gated {
            return self.poll_gate(refusal, cx).map(|()| Asked::NotAnyMore);
        }
        self.waiting = None;
        self.ready_to_refuse(refusal);
        Poll::Ready(Asked::Refuses)
    }

    /// Waits for the circuit, behind the readiness gate.
    fn poll_gate(&mut self, mut refusal: Refusal, cx: &mut Context<'_>) -> Poll<()> {
        self.park(cx);
        let shared = &self.breaker.shared;
        let mut timer = self.waiting.as_mut().map(|waiting| &mut waiting.timer);
        loop {
            if let Some(timer) = &mut timer {
                timer.wake_at(refusal.until.map(|until| shared.common.instant(until)), cx);
            }
            // Asked again with the wakers in place: a change before that has woken nobody.
            match shared.refusing() {
                None => return Poll::Ready(()),
                Some(still) if still.until == refusal.until => return Poll::Pending,
                Some(other) => refusal = other,
            }
        }
    }

    #[cold]
    fn poll_unready(&mut self, cx: &mut Context<'_>) -> Poll<()>
    where
        S: Clone,
    {
        // The circuit may open while the inner service is not ready, and then the caller must not wait for it
        // any longer.
        self.park(cx);
        if let Some(waiting) = &mut self.waiting {
            waiting.in_line = true;
            // Time opens it too, and maybe nobody comes by to find that.
            waiting.timer.wake_at(self.breaker.shared.half_open_until(), cx);
        }
        match self.breaker.shared.refusing() {
            Some(refusal) if !self.breaker.shared.common.gated() => {
                self.leave_inner();
                self.waiting = None;
                self.ready_to_refuse(refusal);
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

    #[inline(always)]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        if !self.breaker.shared.flows() {
            match ready!(self.poll_refusing(cx)) {
                Asked::Refuses => return Poll::Ready(Ok(())),
                Asked::NotAnyMore => {}
            }
        }
        match self.inner.poll_ready(cx) {
            Poll::Ready(ready) => {
                self.inner_ready = ready.is_ok();
                if self.waiting.is_some() {
                    self.stop_waiting();
                }
                Poll::Ready(ready)
            }
            Poll::Pending => self.poll_unready(cx).map(Ok),
        }
    }

    // Inlined into the caller, so that the future is made where it stays: every copy of it costs more than the
    // whole decision. For the same reason the decision is plain data, and the permit is made after the call.
    #[inline(always)]
    fn call(&mut self, req: Req) -> Self::Future {
        let was_ready = std::mem::take(&mut self.inner_ready);
        // Not ready: the circuit refused when readiness was asked for, so the inner service was not asked. Whatever
        // the state is by now, it cannot be called.
        let pass = if was_ready { self.breaker.shared.enter() } else { self.refusal() };
        let shared = &self.breaker.shared;
        if pass.refused {
            if was_ready {
                // Only dropping the instance that was polled ready gives back what it reserved. A clone holds no
                // reservation.
                self.inner = self.inner.clone();
            }
            return BreakerFuture::refused(shared.clone(), pass, self.classify.clone());
        }
        let entering = Entering::new(shared, pass);
        let call = self.inner.call(req);
        let classify = self.classify.clone();
        entering.done();
        BreakerFuture::made(call, shared.clone(), pass, classify)
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
