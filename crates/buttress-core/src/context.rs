//! What a call knows about itself: its deadline, the number of the attempt, its priority.
//!
//! Timeout and retry scope it around every inner `call` and `poll`; it stays on the thread that polls. After a
//! `tokio::spawn`, put it there again with [`scope`].

use std::{
    cell::Cell,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use pin_project_lite::pin_project;

/// What a call knows about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallContext {
    /// When the whole call must have ended. `None`: no deadline.
    pub deadline: Option<Instant>,
    /// The number of the attempt, from 1. 0 outside of a retry.
    pub attempt: u32,
    /// How important the call is; higher goes first. Default 0.
    pub priority: u8,
}

impl CallContext {
    /// With a deadline no later than `deadline`; an earlier one stays.
    pub fn until(mut self, deadline: Instant) -> Self {
        self.deadline = Some(self.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
        self
    }

    /// With the number of the attempt, from 1.
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// With a priority.
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// The time left. `None`: no deadline. Zero: it has passed.
    pub fn remaining(&self, now: Instant) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(now))
    }
}

/// The context in force. A cell for each part: whoever changes one leaves the others alone, and a part that was
/// just written is read back in the width it was written in, which costs a tenth of reading all three at once.
struct Current {
    deadline: Cell<Option<Instant>>,
    attempt: Cell<u32>,
    priority: Cell<u8>,
}

thread_local! {
    static CURRENT: Current = const {
        Current { deadline: Cell::new(None), attempt: Cell::new(0), priority: Cell::new(0) }
    };
}

/// The context of the call that is being polled on this thread; the default one outside of any.
#[inline]
pub fn current() -> CallContext {
    CURRENT.with(|current| CallContext {
        deadline: current.deadline.get(),
        attempt: current.attempt.get(),
        priority: current.priority.get(),
    })
}

/// Puts `context` in force on this thread until the guard is dropped.
#[inline]
pub fn enter(context: CallContext) -> Entered {
    CURRENT.with(|current| {
        let before = CallContext {
            deadline: current.deadline.replace(context.deadline),
            attempt: current.attempt.replace(context.attempt),
            priority: current.priority.replace(context.priority),
        };
        Entered { before, _not_send: PhantomData }
    })
}

/// Changes the number of the attempt alone, until the guard is dropped. Cheaper than [`enter`].
#[inline]
pub fn enter_attempt(attempt: u32) -> EnteredAttempt {
    let before = CURRENT.with(|current| current.attempt.replace(attempt));
    EnteredAttempt { before, _not_send: PhantomData }
}

/// Makes the deadline no later than `deadline` until the guard is dropped. Where there is an earlier one already,
/// or with `None`, it changes nothing. Cheaper than [`enter`].
#[inline]
pub fn enter_deadline(deadline: Option<Instant>) -> EnteredDeadline {
    let before = CURRENT.with(|current| {
        let before = current.deadline.get();
        let sooner = deadline.is_some_and(|own| before.is_none_or(|earlier| own < earlier));
        sooner.then(|| {
            current.deadline.set(deadline);
            before
        })
    });
    EnteredDeadline { before, _not_send: PhantomData }
}

/// The deadline in force. Cheaper than [`current`].
#[inline]
pub fn deadline() -> Option<Instant> {
    CURRENT.with(|current| current.deadline.get())
}

/// Restores the former context when dropped; made by [`enter`].
#[derive(Debug)]
#[must_use = "the context is in force only while the guard lives"]
pub struct Entered {
    before: CallContext,
    // The guard belongs to its thread.
    _not_send: PhantomData<*const ()>,
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        CURRENT.with(|current| {
            current.deadline.set(self.before.deadline);
            current.attempt.set(self.before.attempt);
            current.priority.set(self.before.priority);
        });
    }
}

/// Restores the former number when dropped; made by [`enter_attempt`].
#[derive(Debug)]
#[must_use = "the number is in force only while the guard lives"]
pub struct EnteredAttempt {
    before: u32,
    _not_send: PhantomData<*const ()>,
}

impl Drop for EnteredAttempt {
    #[inline]
    fn drop(&mut self) {
        CURRENT.with(|current| current.attempt.set(self.before));
    }
}

/// Restores the former deadline when dropped; made by [`enter_deadline`].
#[derive(Debug)]
#[must_use = "the deadline is in force only while the guard lives"]
pub struct EnteredDeadline {
    /// `None`: it was not changed.
    before: Option<Option<Instant>>,
    // The guard belongs to its thread.
    _not_send: PhantomData<*const ()>,
}

impl Drop for EnteredDeadline {
    #[inline]
    fn drop(&mut self) {
        if let Some(before) = self.before {
            CURRENT.with(|current| current.deadline.set(before));
        }
    }
}

/// Runs `future` in `context`, wherever it is polled: for work that is spawned.
///
/// ```
/// # tokio_test::block_on(async {
/// use buttress_core::context::{self, CallContext};
///
/// let attempt = context::scope(CallContext::default().attempt(2), async { context::current().attempt });
/// assert_eq!(attempt.await, 2);
/// assert_eq!(context::current().attempt, 0);
/// # });
/// ```
pub fn scope<F>(context: CallContext, future: F) -> Scope<F> {
    Scope { future, context }
}

pin_project! {
    /// A future in a context; made by [`scope`].
    #[derive(Debug)]
    pub struct Scope<F> {
        #[pin]
        future: F,
        context: CallContext,
    }
}

impl<F: Future> Future for Scope<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = enter(*this.context);
        this.future.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_is_restored_also_after_a_panic() {
        let _outer = enter(CallContext::default().attempt(1));
        let _ = std::panic::catch_unwind(|| {
            let _inner = enter(CallContext::default().attempt(2));
            panic!("inside");
        });
        assert_eq!(current().attempt, 1);
    }

    #[test]
    fn entered_deadline_changes_nothing_but_a_later_deadline() {
        let now = tokio::time::Instant::now().into_std();
        let soon = now.checked_add(Duration::from_secs(1)).unwrap();
        let late = now.checked_add(Duration::from_secs(9)).unwrap();
        let _attempt = enter_attempt(3);
        let outer = enter_deadline(Some(late));
        {
            let _none = enter_deadline(None);
            assert_eq!(deadline(), Some(late));
            let _inner = enter_deadline(Some(soon));
            let _later = enter_deadline(Some(late));
            assert_eq!(current(), CallContext::default().attempt(3).until(soon));
        }
        assert_eq!(deadline(), Some(late));
        drop(outer);
        assert_eq!(current(), CallContext::default().attempt(3));
    }

    #[test]
    fn the_earlier_deadline_wins() {
        let now = tokio::time::Instant::now().into_std();
        let soon = now.checked_add(Duration::from_secs(1)).unwrap();
        let late = now.checked_add(Duration::from_secs(9)).unwrap();
        let context = CallContext::default().until(soon).until(late);
        assert_eq!(context.remaining(now), Some(Duration::from_secs(1)));
        assert_eq!(context.remaining(late), Some(Duration::ZERO));
    }
}
