use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use buttress_core::{FromRejection, Standard};
use tokio::time::Sleep;
use tower_service::Service;

use crate::{Breaker, BreakerFuture, engine::Shared};

/// A service behind a [`Breaker`]; made by [`BreakerLayer`](crate::BreakerLayer).
pub struct BreakerService<S, C = Standard> {
    inner: S,
    breaker: Breaker,
    classify: C,
    /// The inner service said `Ok` to this very instance and was not called since.
    inner_ready: bool,
    wait: Wait,
}

/// How a service that is not ready hears that it may be by now.
#[derive(Default)]
struct Wait {
    place: Option<(Arc<Shared>, usize)>,
    /// Only behind the readiness gate: the end of the open wait, or of a probe's lease.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Wait {
    fn park(&mut self, shared: &Arc<Shared>, cx: &Context<'_>) {
        let place = shared.park(self.place.as_ref().map(|(_, place)| *place), cx.waker());
        if self.place.is_none() {
            self.place = Some((shared.clone(), place));
        }
    }

    fn over(&mut self) {
        self.timer = None;
        if let Some((shared, place)) = self.place.take() {
            shared.unpark(place);
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.over();
    }
}

impl<S, C> BreakerService<S, C> {
    pub(crate) fn new(inner: S, breaker: Breaker, classify: C) -> Self {
        Self { inner, breaker, classify, inner_ready: false, wait: Wait::default() }
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

    /// Waits for the circuit, behind the readiness gate.
    fn poll_gate(&mut self, mut until: Option<u64>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = &self.breaker.shared;
        self.wait.park(shared, cx);
        loop {
            match until {
                Some(until) => {
                    let end = shared.instant(until);
                    let timer = match &mut self.wait.timer {
                        Some(timer) => {
                            if timer.deadline() != end {
                                timer.as_mut().reset(end);
                            }
                            timer
                        }
                        none => none.insert(Box::pin(tokio::time::sleep_until(end))),
                    };
                    ready_or_continue(timer, cx);
                }
                None => self.wait.timer = None,
            }
            // Asked again after the waker is in place: a change in between has woken nobody.
            match shared.refusing() {
                None => return Poll::Ready(()),
                Some(other) if other == until => return Poll::Pending,
                Some(other) => until = other,
            }
        }
    }
}

/// Polls the timer only so that it keeps the waker; whether it is time is asked of the breaker.
fn ready_or_continue(timer: &mut Pin<Box<Sleep>>, cx: &mut Context<'_>) {
    let _ = Future::poll(timer.as_mut(), cx);
}

impl<S, C, Req> Service<Req> for BreakerService<S, C>
where
    S: Service<Req> + Clone,
    S::Error: FromRejection,
    C: buttress_core::Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BreakerFuture<S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        if let Some(until) = self.breaker.shared.refusing() {
            if !self.breaker.shared.gated() {
                // Ready to refuse. The inner service is left alone, ready or not.
                self.wait.over();
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_gate(until, cx));
        }
        match self.inner.poll_ready(cx) {
            Poll::Ready(ready) => {
                self.inner_ready = ready.is_ok();
                self.wait.over();
                Poll::Ready(ready)
            }
            Poll::Pending => {
                // The circuit may open while the inner service is not ready, and then the caller must not wait
                // for it any longer.
                self.wait.park(&self.breaker.shared, cx);
                match self.breaker.shared.refusing() {
                    Some(_) if !self.breaker.shared.gated() => {
                        self.wait.over();
                        Poll::Ready(Ok(()))
                    }
                    _ => Poll::Pending,
                }
            }
        }
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let shared = &self.breaker.shared;
        if !std::mem::take(&mut self.inner_ready) {
            // The circuit refused when readiness was asked for, so the inner service was not asked. Whatever the
            // state is by now, it cannot be called.
            let wait =
                shared.refusing().map_or(Some(0), |until| until.map(|at| at.saturating_sub(shared.now())));
            return BreakerFuture::refused(shared.refuse(wait));
        }
        match shared.admit() {
            Ok(permit) => {
                let classify = self.classify.clone();
                let inner = &mut self.inner;
                BreakerFuture::admitted(permit, classify, || inner.call(req))
            }
            Err(why) => {
                // The inner was polled ready and is not called: only dropping that instance gives back what it
                // reserved. A clone holds no reservation.
                self.inner = self.inner.clone();
                BreakerFuture::refused(why)
            }
        }
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
