//! Closures as services: what a handle's `.call` runs, for what is no service.

use std::{
    fmt,
    task::{Context, Poll},
};

use tower_service::Service;

/// A closure as a service for a single call.
pub struct CallOnce<F> {
    f: Option<F>,
}

impl<F> CallOnce<F> {
    /// For this closure.
    #[inline]
    pub fn new(f: F) -> Self {
        Self { f: Some(f) }
    }
}

impl<F, Fut, T, E> Service<()> for CallOnce<F>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Response = T;
    type Error = E;
    type Future = Fut;

    #[inline]
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    /// # Panics
    /// If it was called before. The future of a policy calls it once, and nobody else can get hold of it.
    #[inline]
    fn call(&mut self, (): ()) -> Fut {
        (self.f.take().expect("called twice"))()
    }
}

impl<F> fmt::Debug for CallOnce<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallOnce(..)")
    }
}

/// A closure as a service for any number of calls.
#[derive(Clone, Copy)]
pub struct Repeat<F> {
    f: F,
}

impl<F> Repeat<F> {
    /// For this closure.
    #[inline]
    pub fn new(f: F) -> Self {
        Self { f }
    }
}

impl<F, Fut, T, E> Service<()> for Repeat<F>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Response = T;
    type Error = E;
    type Future = Fut;

    #[inline]
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, (): ()) -> Fut {
        (self.f)()
    }
}

impl<F> fmt::Debug for Repeat<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Repeat(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::ready};

    use super::*;

    fn value<T>(future: std::future::Ready<Result<T, Infallible>>) -> T {
        let Ok(value) = future.into_inner();
        value
    }

    #[test]
    fn closure_is_ready_at_once_and_called_as_often_as_it_may_be() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let moved = String::from("once");
        let mut once = CallOnce::new(move || ready(Ok::<_, Infallible>(moved)));
        assert!(once.poll_ready(&mut cx).is_ready());
        assert_eq!(value(once.call(())), "once");
        let mut calls = 0;
        let mut repeat = Repeat::new(|| {
            calls += 1;
            ready(Ok::<_, Infallible>(calls))
        });
        assert!(repeat.poll_ready(&mut cx).is_ready());
        assert_eq!((value(repeat.call(())), value(repeat.call(()))), (1, 2));
        assert_eq!(format!("{once:?} {repeat:?}"), "CallOnce(..) Repeat(..)");
    }
}
