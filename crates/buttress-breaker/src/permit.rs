use std::{error::Error as StdError, fmt, sync::Arc, thread};

use buttress_core::{Outcome, Rejection, Verdict};
use buttress_kit::call::{InFlight, begin};

use crate::engine::{Admission, End, Engine};

/// One call that was let in: a scope guard, to be told how it ended; made by
/// [`Breaker::try_acquire`](crate::Breaker::try_acquire).
///
/// # Cancellation
/// Dropped untold, the call was cancelled (`on_cancel` says what that means), or failed if a panic drops it. A probe's
/// slot is given back either way.
#[must_use = "a dropped permit is a cancelled call"]
pub struct Permit {
    flight: InFlight<Arc<Engine>>,
}

impl Permit {
    #[inline]
    pub(crate) fn of(engine: &Arc<Engine>, mut admission: Admission) -> Result<Self, Rejection> {
        if admission.is_refused() {
            engine.count_refusal(admission.time);
            return Err(engine.rejection(admission.time));
        }
        engine.waits(&mut admission);
        Ok(Self { flight: begin(admission).in_flight(engine.clone()) })
    }

    /// The call succeeded.
    pub fn success(mut self) {
        self.flight.end(Outcome::Success);
    }

    /// The call failed.
    pub fn failure(mut self) {
        self.flight.end(Outcome::Failure);
    }

    /// The call failed with this error, of which the breaker keeps the text if it opens.
    pub fn failure_with(mut self, error: &(dyn StdError + 'static)) {
        if let Some(call) = self.flight.take() {
            let says = || error.to_string();
            let end = End { error: Some(error), says: Some(&says), ..End::of(Outcome::Failure) };
            self.flight.policy().end_with(call, end);
        }
    }

    /// The call ended like this.
    pub fn record(mut self, verdict: Verdict) {
        if let Some(call) = self.flight.take() {
            self.flight.policy().end_as(call, verdict);
        }
    }
}

#[inline]
pub(crate) fn outcome(verdict: Verdict) -> Outcome {
    match verdict {
        Verdict::Success => Outcome::Success,
        Verdict::Failure { .. } => Outcome::Failure,
        _ => Outcome::Ignored,
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // Else cancelled.
        if self.flight.ticket().is_some() && thread::panicking() {
            self.flight.end(Outcome::Panicked);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let probe = self.flight.ticket().is_some_and(|call| call.lease() != 0);
        f.debug_struct("Permit").field("probe", &probe).finish_non_exhaustive()
    }
}
