//! Plain functions as the requests of a stack.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use tower_service::Service;

/// The innermost service of a stack for plain functions: it calls the function that it is given as the request.
///
/// The function is `FnOnce`, so an `async` closure is one; a retry clones it. Any layer can stand around it. In the
/// crate `buttress` it ends a list as `.functions()`, and `stack.run(async || ..)` makes the call.
///
/// ```
/// # tokio_test::block_on(async {
/// use buttress_core::{Functions, TypedErrorsLayer};
/// use tower::{ServiceBuilder, ServiceExt};
///
/// // Layers, outermost first; then what the error of the function becomes, so that it can carry a refusal.
/// let stack = ServiceBuilder::new().layer(TypedErrorsLayer::new()).service(Functions);
/// let parse = |text: &'static str| async move { text.parse::<u32>() };
/// assert_eq!(stack.clone().oneshot(|| parse("7")).await.unwrap(), 7);
/// let odd = stack.oneshot(|| parse("seven")).await.unwrap_err();
/// assert_eq!(odd.inner().unwrap().to_string(), "invalid digit found in string");
/// # });
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Functions;

impl<F, Fut, T, E> Service<F> for Functions
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    type Response = T;
    type Error = E;
    type Future = Fut;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, function: F) -> Fut {
        function()
    }
}

/// What an attempt needs mutably, lent to one attempt after the other.
///
/// An `async` closure that captures `&mut` makes futures that are not `Send`, in any shape that stable Rust has; a
/// value that is lent does not. It comes back when the attempt ends, also if the attempt is dropped half-way.
///
/// ```
/// use buttress_core::Lend;
///
/// let counter = Lend::new(0);
/// *counter.take() += 1;
/// *counter.take() += 1;
/// assert_eq!(counter.into_inner(), Some(2));
/// ```
#[derive(Debug, Default)]
pub struct Lend<T>(Mutex<Option<T>>);

impl<T> Lend<T> {
    /// Keeps the value until it is taken.
    pub const fn new(value: T) -> Self {
        Self(Mutex::new(Some(value)))
    }

    /// Takes the value for one attempt.
    ///
    /// # Panics
    /// If another attempt has it. The attempts of a retry follow each other; if attempts run at once, as in a layer that
    /// does not wait for the first one, use [`try_take`](Self::try_take).
    #[track_caller]
    pub fn take(&self) -> Lent<'_, T> {
        self.try_take().expect("a value can be lent to one attempt at a time")
    }

    /// Takes the value for one attempt. `None` if another attempt has it.
    pub fn try_take(&self) -> Option<Lent<'_, T>> {
        let value = self.value().take()?;
        Some(Lent { home: self, value: Some(value) })
    }

    /// The value. `None` if an attempt that took it was leaked.
    pub fn into_inner(self) -> Option<T> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn value(&self) -> MutexGuard<'_, Option<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const LENT: &str = "a lent value is there until it is given back";

/// A value that is lent to one attempt; from [`Lend::take`]. Dropped, it gives the value back.
#[derive(Debug)]
pub struct Lent<'a, T> {
    home: &'a Lend<T>,
    value: Option<T>,
}

impl<T> Deref for Lent<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect(LENT)
    }
}

impl<T> DerefMut for Lent<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect(LENT)
    }
}

impl<T> Drop for Lent<'_, T> {
    fn drop(&mut self) {
        *self.home.value() = self.value.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_lent_to_one_attempt_at_a_time_and_comes_back() {
        let lend = Lend::new(vec![1]);
        let mut first = lend.take();
        first.push(2);
        assert!(lend.try_take().is_none());
        drop(first);
        assert_eq!(*lend.take(), [1, 2]);
        assert_eq!(lend.into_inner(), Some(vec![1, 2]));
    }
}
