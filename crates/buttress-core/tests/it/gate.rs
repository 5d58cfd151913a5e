//! A layer that refuses, to stand for every pattern.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use buttress_core::{Code, FromRejection, Name, Rejection};
use tower::{Layer, Service};

/// Its one word.
pub(crate) const SHUT: &Code = &Code::refused("GATE_SHUT");

#[derive(Clone)]
pub(crate) struct GateLayer {
    pub(crate) name: Name,
    pub(crate) shut: bool,
}

impl GateLayer {
    pub(crate) fn open(name: &str) -> Self {
        Self { name: Name::new(name), shut: false }
    }

    pub(crate) fn shut(name: &str) -> Self {
        Self { name: Name::new(name), shut: true }
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, gate: self.clone() }
    }
}

#[derive(Clone)]
pub(crate) struct Gate<S> {
    inner: S,
    gate: GateLayer,
}

impl<S, Req> Service<Req> for Gate<S>
where
    S: Service<Req, Error: FromRejection + 'static, Future: 'static, Response: 'static>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        if self.gate.shut {
            let why = Rejection::new(SHUT, &self.gate.name);
            return Box::pin(async { Err(S::Error::from_rejection(why)) });
        }
        Box::pin(self.inner.call(req))
    }
}
