use std::{error::Error as StdError, fmt, sync::Arc, thread};

use buttress_core::{Outcome, Verdict};

use crate::{
    circuit::{Ending, Ticket},
    engine::{NO_TIME, Shared},
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
    ticket: Ticket,
    started: u64,
    settled: bool,
    pub(crate) held: Held,
}

/// Who holds a permit, which says what its drop means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Somebody, as a scope guard: a panic that drops it is the call's.
    Guard,
    /// A future, while the inner service is being called or polled: only a panic can drop it here.
    Busy,
    /// A future between two polls: whatever drops it, be it a panic elsewhere, has cancelled the call.
    Idle,
}

impl Permit {
    #[inline]
    pub(crate) fn new(shared: Arc<Shared>, ticket: Ticket, started: u64) -> Self {
        Self { shared, ticket, started, settled: false, held: Held::Guard }
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

    #[inline]
    pub(crate) fn settle(
        &mut self,
        verdict: Verdict,
        timed_out: bool,
        error: Option<&(dyn StdError + 'static)>,
    ) {
        let (ending, outcome) = match verdict {
            Verdict::Success => (Ending::Success, Outcome::Success),
            Verdict::Failure { .. } => (Ending::Failure { timed_out }, Outcome::Failure),
            _ => (Ending::Ignored, Outcome::Ignored),
        };
        self.end(ending, outcome, error);
    }

    /// Ends the call by the breaker's own limit.
    pub(crate) fn time_out(&mut self, error: &(dyn StdError + 'static)) {
        self.end(Ending::Failure { timed_out: true }, Outcome::TimedOut, Some(error));
    }

    #[inline]
    fn end(&mut self, ending: Ending, outcome: Outcome, error: Option<&(dyn StdError + 'static)>) {
        if !std::mem::replace(&mut self.settled, true) {
            self.shared.settle(self.ticket, self.started, ending, outcome, error);
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn started(&self) -> Option<u64> {
        (self.started != NO_TIME).then_some(self.started)
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        if self.settled {
            return;
        }
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
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("probe", &(self.ticket.lease != 0)).finish_non_exhaustive()
    }
}
