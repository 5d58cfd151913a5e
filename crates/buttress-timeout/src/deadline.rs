//! When a call must end. Plain data: the time is passed in, and so is the deadline from outside.

use std::time::{Duration, Instant};

use buttress_core::context::{self, EnteredDeadline};

/// When one call must end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    /// `None`: further away than clocks reach, so never.
    at: Option<Instant>,
    /// Whether the inner call is told of it, and an earlier one from outside is obeyed.
    propagate: bool,
}

impl Deadline {
    /// The deadline of a call that begins now.
    #[inline]
    pub(crate) fn new(now: Instant, limit: Duration, propagate: bool) -> Self {
        Self { at: now.checked_add(limit), propagate }
    }

    /// Obeys the one from outside, if it propagates and that one is earlier. Whether it does.
    #[inline]
    pub(crate) fn obey(&mut self, outer: impl FnOnce() -> Option<Instant>) -> bool {
        if !self.propagate {
            return false;
        }
        let outer = outer().filter(|outer| self.at.is_none_or(|own| *outer <= own));
        if outer.is_some() {
            self.at = outer;
        }
        outer.is_some()
    }

    /// When the call must end.
    #[inline]
    pub(crate) fn at(&self) -> Option<Instant> {
        self.at
    }

    /// What the inner call is told.
    #[inline]
    pub(crate) fn inward(&self) -> Option<Instant> {
        self.at.filter(|_| self.propagate)
    }

    /// Puts it in the context, until the guard is dropped.
    #[inline]
    pub(crate) fn show(&self) -> EnteredDeadline {
        context::enter_deadline(self.inward())
    }

    /// Whether the call must have ended by now.
    #[inline]
    pub(crate) fn has_passed(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn start() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    #[test]
    fn earlier_of_two_deadlines_holds_and_only_if_it_propagates() {
        let now = start();
        let later = |time| now.checked_add(time);
        for (outer, propagate, holds) in
            [(ms(5), true, ms(5)), (ms(10), true, ms(10)), (ms(20), true, ms(10)), (ms(5), false, ms(10))]
        {
            let mut deadline = Deadline::new(now, ms(10), propagate);
            let obeyed = deadline.obey(|| later(outer));
            assert_eq!(obeyed, propagate && outer <= ms(10));
            assert_eq!(deadline.at(), later(holds), "{outer:?} {propagate}");
            assert_eq!(deadline.inward(), later(holds).filter(|_| propagate));
        }
    }

    #[test]
    fn limit_beyond_what_clocks_reach_never_passes_unless_there_is_one_outside() {
        let now = start();
        let mut deadline = Deadline::new(now, Duration::MAX, true);
        assert!(!deadline.obey(|| None));
        assert!(!deadline.has_passed(now.checked_add(ms(1_000)).unwrap()));
        assert!(deadline.obey(|| Some(now)));
        assert!(deadline.has_passed(now));
    }
}
