use std::{error::Error as StdError, fmt, sync::Arc, thread};

use buttress_core::{Outcome, Rejection, Verdict};

use crate::{
    circuit::Ending,
    engine::{NO_TIME, Pass, Shared},
};

/// One call that was let in: a scope guard, to be told how it ended; made by
/// [`Breaker::try_acquire`](crate::Breaker::try_acquire).
///
/// # Cancellation
/// Dropped untold, the call was cancelled (`on_cancel` says what that means), or failed where a panic drops it.
/// A probe's place is given back either way.
#[must_use = "a dropped permit is a cancelled call"]
pub struct Permit {
    shared: Arc<Shared>,
    generation: u64,
    time: u64,
    lease: u32,
    pub(crate) held: Held,
}

/// Who holds a permit, which says what its drop means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) enum Held {
    /// Somebody, as a scope guard: a panic that drops it is the call's.
    Guard,
    /// A future, while the inner service is being polled: only a panic can drop it here.
    Busy,
    /// A future between two polls: whatever drops it, be it a panic elsewhere, has cancelled the call.
    Idle,
    // From here on there is nothing to tell; `Permit::drop` relies on the order.
    /// Whoever it is, the call's end is told.
    Settled,
    /// A future whose call was refused.
    Refused,
}

impl Permit {
    #[inline(always)]
    pub(crate) fn new(shared: Arc<Shared>, pass: Pass) -> Self {
        Self::held_by(Held::Guard, shared, pass)
    }

    #[inline(always)]
    pub(crate) fn held_by(held: Held, shared: Arc<Shared>, pass: Pass) -> Self {
        let Pass { generation, time, lease, .. } = pass;
        Self { shared, generation, time, lease, held }
    }

    #[inline(always)]
    fn pass(&self) -> Pass {
        let Self { generation, time, lease, .. } = *self;
        Pass { generation, time, lease, refused: false }
    }

    /// The call succeeded.
    pub fn success(self) {
        self.record(Verdict::Success);
    }

    /// The call failed.
    pub fn failure(self) {
        self.record(Verdict::transient());
    }

    /// The call failed with this error, of which the breaker keeps the text if it opens.
    pub fn failure_with(mut self, error: &(dyn StdError + 'static)) {
        self.settle(Verdict::transient(), false, Some(error));
    }

    /// The call ended like this.
    pub fn record(mut self, verdict: Verdict) {
        self.settle(verdict, false, None);
    }

    #[inline(always)]
    pub(crate) fn succeed(&mut self) {
        self.held = Held::Settled;
        self.shared.succeed(self.pass());
    }

    pub(crate) fn settle(
        &mut self,
        verdict: Verdict,
        timed_out: bool,
        error: Option<&(dyn StdError + 'static)>,
    ) {
        match verdict {
            Verdict::Success => self.succeed(),
            Verdict::Failure { .. } => self.end(Ending::Failure { timed_out }, Outcome::Failure, error),
            _ => self.end(Ending::Ignored, Outcome::Ignored, error),
        }
    }

    /// Ends the call by the breaker's own limit.
    pub(crate) fn time_out(&mut self, error: &(dyn StdError + 'static)) {
        self.end(Ending::Failure { timed_out: true }, Outcome::TimedOut, Some(error));
    }

    fn end(&mut self, ending: Ending, outcome: Outcome, error: Option<&(dyn StdError + 'static)>) {
        self.held = Held::Settled;
        self.shared.settle(self.pass(), ending, outcome, error);
    }

    #[cold]
    fn dropped(&mut self) {
        let panicked = match self.held {
            Held::Guard => thread::panicking(),
            held => held == Held::Busy,
        };
        if panicked {
            self.end(Ending::Failure { timed_out: false }, Outcome::Panicked, None);
        } else {
            self.end(Ending::Abandoned, Outcome::Cancelled, None);
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// What a refused call comes to.
    #[inline]
    pub(crate) fn rejection(&self) -> Rejection {
        self.shared.rejection(self.time)
    }

    /// When the call was let in, where that is known.
    #[inline(always)]
    pub(crate) fn started(&self) -> Option<u64> {
        (self.time != NO_TIME).then_some(self.time)
    }
}

impl Drop for Permit {
    #[inline(always)]
    fn drop(&mut self) {
        if self.held < Held::Settled {
            self.dropped();
        }
    }
}

/// Stands for a call while the inner service is called: a drop is a panic. It borrows, so that nothing is made
/// before the inner future is there.
pub(crate) struct Entering<'a> {
    shared: &'a Shared,
    pass: Pass,
}

impl<'a> Entering<'a> {
    #[inline(always)]
    pub(crate) fn new(shared: &'a Shared, pass: Pass) -> Self {
        Self { shared, pass }
    }

    /// No panic.
    #[inline(always)]
    pub(crate) fn done(self) {
        std::mem::forget(self);
    }
}

impl Drop for Entering<'_> {
    #[cold]
    fn drop(&mut self) {
        self.shared.settle(self.pass, Ending::Failure { timed_out: false }, Outcome::Panicked, None);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("probe", &(self.lease != 0)).finish_non_exhaustive()
    }
}
