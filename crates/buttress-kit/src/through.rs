//! Layer and service of patterns that only admit or refuse.

use std::task::{Context, Poll};

use buttress_core::{FromRejection, Rejection};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    Guarded,
    call::{Begun, Ends},
};

/// The seam of a pattern that only admits or refuses.
pub trait Admits: Ends + Clone {
    /// Lets a call in, or refuses it.
    ///
    /// # Errors
    /// The refusal, which the policy has counted and told.
    fn admit(&self) -> Result<Begun<Self::Ticket>, Rejection>;

    /// Runs `call` if it is let in: for what is no service.
    fn enter<F>(&self, call: impl FnOnce() -> F) -> Guarded<F, Self> {
        match self.admit() {
            Ok(begun) => Guarded::admitted(begun.enter(self, call), self.clone()),
            Err(why) => Guarded::refused(why),
        }
    }
}

/// Finds the policy for a request: the only one there is, or the one of its key.
pub trait Finds<Req> {
    /// The policy of one request.
    type Policy: Admits;

    /// The policy.
    ///
    /// # Errors
    /// There is no room for a further key.
    fn find(&self, req: &Req) -> Result<Self::Policy, Rejection>;
}

impl<Req, P: Admits> Finds<Req> for P {
    type Policy = P;

    #[inline]
    fn find(&self, _: &Req) -> Result<P, Rejection> {
        Ok(self.clone())
    }
}

/// Puts a policy before every service it wraps. A *through* layer: it is ready when the service inside is.
#[derive(Clone, Debug)]
pub struct ThroughLayer<P> {
    policy: P,
}

impl<P> ThroughLayer<P> {
    /// A layer of this policy.
    pub fn new(policy: P) -> Self {
        Self { policy }
    }
}

impl<S, P: Clone> Layer<S> for ThroughLayer<P> {
    type Service = ThroughService<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        ThroughService { inner, policy: self.policy.clone() }
    }
}

/// A service behind a policy; made by [`ThroughLayer`].
#[derive(Clone, Debug)]
pub struct ThroughService<S, P> {
    inner: S,
    policy: P,
}

impl<S, P, Req> Service<Req> for ThroughService<S, P>
where
    S: Service<Req> + Clone,
    S::Error: FromRejection,
    P: Finds<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Guarded<S::Future, P::Policy>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let admitted = self.policy.find(&req).and_then(|policy| policy.admit().map(|begun| (policy, begun)));
        match admitted {
            Ok((policy, begun)) => Guarded::admitted(begun.enter(&policy, || self.inner.call(req)), policy),
            Err(why) => {
                // The inner was polled ready and is not called: only dropping that instance gives back what it
                // reserved. A clone holds no reservation.
                self.inner = self.inner.clone();
                Guarded::refused(why)
            }
        }
    }
}
