//! The guard of a call under way: its end is told exactly once, and cancelled and panicked are right in one place.
//!
//! 1. A pattern decides on plain data, and [`begin`]s the call with a ticket: what its end must know, such as a
//!    generation, a lease or the time.
//! 2. [`Begun::enter`] runs the inner service's `call`. If that panics, the call ends as panicked.
//!    [`Begun::entering`] is the same without a closure.
//! 3. [`Entered::in_flight`] makes the guard, which the future keeps.
//! 4. Code of others runs between [`InFlight::inside`] and [`Inside::leave`] or [`Inside::end`], or in
//!    [`InFlight::run`]. If it panics, the call ends as panicked at once, while the panic unwinds: a task that catches
//!    the panic may keep the future for long.
//! 5. [`InFlight::end`] ends the call. A guard that is dropped before ends it as cancelled.
//!
//! ```
//! use std::sync::{Arc, atomic::{AtomicU32, Ordering::Relaxed}};
//! use buttress_core::Outcome;
//! use buttress_kit::call::{Ends, begin};
//!
//! #[derive(Debug, Default)]
//! struct Lamp {
//!     lit: AtomicU32,
//!     failed: AtomicU32,
//! }
//!
//! impl Ends for Lamp {
//!     type Ticket = ();
//!     type End = Outcome;
//!
//!     fn end(&self, (): &(), outcome: Outcome) {
//!         self.lit.fetch_sub(1, Relaxed);
//!         if outcome != Outcome::Success {
//!             self.failed.fetch_add(1, Relaxed);
//!         }
//!     }
//! }
//!
//! let lamp = Arc::new(Lamp::default());
//! lamp.lit.fetch_add(1, Relaxed);
//! let (answer, entered) = begin(()).enter(&lamp, || 7);
//! let flight = entered.in_flight(lamp.clone());
//! drop(flight); // the caller went away
//! assert_eq!((answer, lamp.lit.load(Relaxed), lamp.failed.load(Relaxed)), (7, 0, 1));
//! ```
//!
//! Deciding on plain data and making the guard after the inner call returned is what makes it cheap: a guard that
//! lives across the inner call costs a breaker 73 instructions.

use std::{
    fmt,
    mem::{self, ManuallyDrop},
    sync::Arc,
};

use buttress_core::Outcome;

/// The engine's side of a call: what its end does.
pub trait Ends {
    /// What was decided when the call began. Plain data.
    type Ticket: Copy + fmt::Debug;

    /// How calls end: an [`Outcome`], or the pattern's own enum that knows more.
    type End: From<Outcome>;

    /// Counts, gives back and tells. Called exactly once for each call that began. It must not panic: it may run
    /// while another panic unwinds.
    fn end(&self, ticket: &Self::Ticket, end: Self::End);
}

impl<P: Ends + ?Sized> Ends for Arc<P> {
    type Ticket = P::Ticket;
    type End = P::End;

    #[inline]
    fn end(&self, ticket: &P::Ticket, end: P::End) {
        (**self).end(ticket, end);
    }
}

/// A call that was let in and has not reached the inner service: plain data, owed by whichever code holds it.
#[derive(Clone, Copy, Debug)]
#[must_use = "a call that began must be entered"]
pub struct Begun<T> {
    ticket: T,
}

/// Begins a call.
#[inline]
pub fn begin<T: Copy>(ticket: T) -> Begun<T> {
    Begun { ticket }
}

impl<T: Copy> Begun<T> {
    /// Runs the inner service's `call`. If that panics, the call ends as [`Outcome::Panicked`]; else
    /// [`in_flight`](Entered::in_flight) makes the guard, now that nothing can fail.
    #[inline]
    pub fn enter<P, R>(self, policy: &P, inner: impl FnOnce() -> R) -> (R, Entered<T>)
    where
        P: Ends<Ticket = T> + ?Sized,
    {
        let entering = self.entering(policy);
        let out = inner();
        (out, entering.entered())
    }

    /// As [`enter`](Self::enter), for a future that is made where it stays: the inner service's `call` runs until the
    /// returned value is told that it returned. What comes out of a closure may be copied on its way, and a future of
    /// many layers is large.
    #[inline]
    pub fn entering<P>(self, policy: &P) -> Entering<'_, P>
    where
        P: Ends<Ticket = T> + ?Sized,
    {
        Entering { policy, ticket: self.ticket }
    }

    /// The guard of a call whose inner `call` is made later, or never: it may be dropped before.
    #[inline]
    pub fn in_flight<P: Ends<Ticket = T>>(self, policy: P) -> InFlight<P> {
        InFlight { policy, ticket: Some(self.ticket) }
    }
}

/// The inner service took the call.
#[derive(Clone, Copy, Debug)]
#[must_use = "make the guard"]
pub struct Entered<T> {
    ticket: T,
}

impl<T: Copy> Entered<T> {
    /// The guard of the call.
    #[inline]
    pub fn in_flight<P: Ends<Ticket = T>>(self, policy: P) -> InFlight<P> {
        InFlight { policy, ticket: Some(self.ticket) }
    }
}

/// The inner service's `call` runs; made by [`Begun::entering`].
#[must_use = "dropped, it says that the inner `call` panicked"]
pub struct Entering<'a, P: Ends + ?Sized> {
    policy: &'a P,
    ticket: P::Ticket,
}

impl<P: Ends + ?Sized> Entering<'_, P> {
    /// It returned.
    #[inline]
    pub fn entered(self) -> Entered<P::Ticket> {
        let ticket = self.ticket;
        mem::forget(self);
        Entered { ticket }
    }
}

impl<P: Ends + ?Sized> fmt::Debug for Entering<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entering").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

impl<P: Ends + ?Sized> Drop for Entering<'_, P> {
    fn drop(&mut self) {
        cut_short(self.policy, &mut Some(self.ticket), Outcome::Panicked);
    }
}

/// Ends a call that did not resolve, if there is one.
// Cold, out of the way of what every call runs and drops: 3 to 8 instructions of each layer's row in docs/benchmarks.md.
#[cold]
fn cut_short<P: Ends + ?Sized>(policy: &P, ticket: &mut Option<P::Ticket>, outcome: Outcome) {
    end(policy, ticket, outcome.into());
}

#[inline]
fn end<P: Ends + ?Sized>(policy: &P, ticket: &mut Option<P::Ticket>, end: P::End) {
    // Cleared after it was told, and also if that panics. Taken out before, it would be copied whole.
    let told = Told(ticket);
    if let Some(ticket) = told.0 {
        policy.end(ticket, end);
    }
}

struct Told<'a, T>(&'a mut Option<T>);

impl<T> Drop for Told<'_, T> {
    #[inline]
    fn drop(&mut self) {
        *self.0 = None;
    }
}

/// A call under way. Its end is told once: by [`end`](Self::end); as panicked, at once, if code that runs
/// [`inside`](Self::inside) panics; as cancelled when this is dropped.
///
/// It can be moved: into the body of a response, to another thread.
pub struct InFlight<P: Ends> {
    policy: P,
    ticket: Option<P::Ticket>,
}

impl<P: Ends> InFlight<P> {
    /// For layers that wait before a call begins: nothing is under way yet.
    #[inline]
    pub fn idle(policy: P) -> Self {
        Self { policy, ticket: None }
    }

    /// The call begins. One that is under way already goes on, and the new one is cancelled.
    #[inline]
    pub fn begin(&mut self, begun: Begun<P::Ticket>) {
        match self.ticket {
            None => self.ticket = Some(begun.ticket),
            Some(_) => cut_short(&self.policy, &mut Some(begun.ticket), Outcome::Cancelled),
        }
    }

    /// The policy.
    #[inline]
    pub fn policy(&self) -> &P {
        &self.policy
    }

    /// The ticket of the call under way.
    #[inline]
    pub fn ticket(&self) -> Option<P::Ticket> {
        self.ticket
    }

    /// The policy, and the ticket of the call under way, which may change as the call goes on.
    #[inline]
    pub fn parts(&mut self) -> (&P, Option<&mut P::Ticket>) {
        (&self.policy, self.ticket.as_mut())
    }

    /// Takes the call out of the guard: the caller owes its end from here on.
    #[inline]
    pub fn take(&mut self) -> Option<P::Ticket> {
        self.ticket.take()
    }

    /// Code of others runs until the returned value is told how it left: should it panic, the call ends as
    /// panicked.
    #[inline]
    pub fn inside(&mut self) -> Inside<'_, P> {
        Inside(self)
    }

    /// Runs code of others: polls, classifies, answers, drops.
    #[inline]
    pub fn run<R>(&mut self, foreign: impl FnOnce(&P) -> R) -> R {
        let inside = self.inside();
        let out = foreign(&inside.0.policy);
        inside.leave();
        out
    }

    /// Ends the call, if it has not ended.
    #[inline]
    pub fn end(&mut self, end: impl Into<P::End>) {
        self::end(&self.policy, &mut self.ticket, end.into());
    }
}

impl<P: Ends> Drop for InFlight<P> {
    #[inline]
    fn drop(&mut self) {
        if self.ticket.is_some() {
            cut_short(&self.policy, &mut self.ticket, Outcome::Cancelled);
        }
    }
}

impl<P: Ends> fmt::Debug for InFlight<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

/// Code of others runs; made by [`InFlight::inside`].
#[must_use = "dropped, it says that the code inside panicked"]
pub struct Inside<'a, P: Ends>(&'a mut InFlight<P>);

impl<P: Ends> Inside<'_, P> {
    /// The policy.
    #[inline]
    pub fn policy(&self) -> &P {
        &self.0.policy
    }

    /// The policy, and the ticket of the call under way, which may change as the call goes on.
    #[inline]
    pub fn parts(&mut self) -> (&P, Option<&mut P::Ticket>) {
        self.0.parts()
    }

    /// It returned, and the call goes on.
    #[inline]
    pub fn leave(self) {
        mem::forget(self);
    }

    /// It returned, and the call is over.
    #[inline]
    pub fn end(self, end: impl Into<P::End>) {
        ManuallyDrop::new(self).0.end(end);
    }
}

impl<P: Ends> Drop for Inside<'_, P> {
    fn drop(&mut self) {
        cut_short(&self.0.policy, &mut self.0.ticket, Outcome::Panicked);
    }
}

impl<P: Ends> fmt::Debug for Inside<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inside").field(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::Mutex,
    };

    use super::*;

    #[derive(Debug, Default)]
    struct Log(Mutex<Vec<(u32, Outcome)>>);

    impl Log {
        fn ends(&self) -> Vec<(u32, Outcome)> {
            self.0.lock().unwrap().clone()
        }
    }

    impl Ends for Log {
        type Ticket = u32;
        type End = Outcome;

        fn end(&self, ticket: &u32, end: Outcome) {
            self.0.lock().unwrap().push((*ticket, end));
        }
    }

    fn under_way(log: &Arc<Log>, ticket: u32) -> InFlight<Arc<Log>> {
        begin(ticket).enter(log, || ()).1.in_flight(log.clone())
    }

    #[test]
    fn end_is_told_exactly_once() {
        let log = Arc::new(Log::default());
        let mut flight = under_way(&log, 1);
        flight.run(|_| ());
        flight.end(Outcome::Success);
        flight.end(Outcome::Failure);
        drop(flight);
        assert_eq!(log.ends(), [(1, Outcome::Success)]);
    }

    #[test]
    fn call_that_is_dropped_is_cancelled_and_one_that_is_taken_is_owed() {
        let log = Arc::new(Log::default());
        drop(under_way(&log, 1));
        assert_eq!(under_way(&log, 2).take(), Some(2));
        drop(InFlight::idle(log.clone()));
        assert_eq!(log.ends(), [(1, Outcome::Cancelled)]);
    }

    #[test]
    fn panic_in_the_inner_call_ends_it_as_panicked() {
        let log = Arc::new(Log::default());
        let caught = catch_unwind(AssertUnwindSafe(|| begin(3).enter(&log, || panic!("inner")).0));
        assert!(caught.is_err());
        assert_eq!(log.ends(), [(3, Outcome::Panicked)]);
    }

    #[test]
    fn call_that_returned_is_not_over_and_one_that_unwound_is() {
        let log = Arc::new(Log::default());
        let entering = begin(3).entering(&log);
        let flight = entering.entered().in_flight(log.clone());
        assert!(log.ends().is_empty());
        drop(flight);
        drop(begin(4).entering(&log));
        assert_eq!(log.ends(), [(3, Outcome::Cancelled), (4, Outcome::Panicked)]);
    }

    #[test]
    fn end_that_panics_is_not_told_again() {
        struct Breaks(Log);
        impl Ends for Breaks {
            type Ticket = u32;
            type End = Outcome;

            fn end(&self, ticket: &u32, end: Outcome) {
                self.0.end(ticket, end);
                panic!("end");
            }
        }
        let breaks = Arc::new(Breaks(Log::default()));
        let mut flight = begin(9).in_flight(breaks.clone());
        let caught = catch_unwind(AssertUnwindSafe(|| flight.inside().end(Outcome::Success)));
        assert!(caught.is_err());
        drop(flight);
        assert_eq!(breaks.0.ends(), [(9, Outcome::Success)]);
    }

    #[test]
    fn panic_inside_is_told_at_once_though_the_guard_is_kept() {
        let log = Arc::new(Log::default());
        let mut flight = under_way(&log, 4);
        let caught = catch_unwind(AssertUnwindSafe(|| flight.run(|_| panic!("poll"))));
        assert!(caught.is_err());
        assert_eq!(log.ends(), [(4, Outcome::Panicked)]);
        drop(flight);
        assert_eq!(log.ends().len(), 1);
    }

    #[test]
    fn inside_ends_or_goes_on() {
        let log = Arc::new(Log::default());
        let mut flight = under_way(&log, 5);
        flight.inside().leave();
        assert_eq!((flight.ticket(), log.ends().len()), (Some(5), 0));
        flight.inside().end(Outcome::TimedOut);
        assert_eq!((flight.ticket(), log.ends()), (None, vec![(5, Outcome::TimedOut)]));
    }

    #[test]
    fn ticket_that_changed_is_the_one_that_the_end_knows() {
        let log = Arc::new(Log::default());
        let mut flight = under_way(&log, 5);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let mut inside = flight.inside();
            let (_, ticket) = inside.parts();
            *ticket.unwrap() = 8;
            panic!("poll");
        }));
        assert!(caught.is_err());
        assert_eq!(log.ends(), [(8, Outcome::Panicked)]);
        assert!(flight.parts().1.is_none());
    }

    #[test]
    fn second_call_of_one_guard_is_cancelled_and_the_first_goes_on() {
        let log = Arc::new(Log::default());
        let mut flight = InFlight::idle(log.clone());
        flight.begin(begin(6));
        flight.begin(begin(7));
        flight.end(Outcome::Success);
        assert_eq!(log.ends(), [(7, Outcome::Cancelled), (6, Outcome::Success)]);
    }

    #[test]
    fn guard_can_be_moved_into_a_body_or_to_another_thread() {
        fn movable<T: Send + Sync + Unpin + 'static>() {}
        movable::<InFlight<Arc<Log>>>();
    }
}
