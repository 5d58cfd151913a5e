use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use buttress_core::{FromRejection, Outcome, Rejection};
use pin_project_lite::pin_project;

use crate::call::{Ends, Entered, InFlight};

pin_project! {
    /// Resolves as the inner call does, or at once to a rejection: the future of patterns that only admit or refuse.
    ///
    /// # Cancellation
    /// Dropping it drops the call, and then ends it as cancelled.
    #[must_use = "futures do nothing unless polled"]
    pub struct Guarded<F, P: Ends> {
        // Dropped in this order: the call is gone before its end is told.
        #[pin]
        phase: Phase<F>,
        flight: Option<InFlight<P>>,
    }
}

pin_project! {
    #[project = PhaseProj]
    enum Phase<F> {
        Calling { #[pin] call: F },
        Refused { why: Option<Rejection> },
        Over,
    }
}

impl<F, P: Ends> Guarded<F, P> {
    /// A call that the inner service has taken: what [`Begun::enter`](crate::call::Begun::enter) returned.
    #[inline]
    pub fn admitted((call, entered): (F, Entered<P::Ticket>), policy: P) -> Self {
        Self { phase: Phase::Calling { call }, flight: Some(entered.in_flight(policy)) }
    }

    /// A call that was refused.
    #[inline]
    pub fn refused(why: Rejection) -> Self {
        Self { phase: Phase::Refused { why: Some(why) }, flight: None }
    }
}

impl<F, P, T, E> Future for Guarded<F, P>
where
    F: Future<Output = Result<T, E>>,
    P: Ends,
    E: FromRejection,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        match (this.phase.as_mut().project(), this.flight) {
            (PhaseProj::Calling { call }, Some(flight)) => {
                let inside = flight.inside();
                let Poll::Ready(result) = call.poll(cx) else {
                    inside.leave();
                    return Poll::Pending;
                };
                this.phase.set(Phase::Over);
                inside.end(if result.is_ok() { Outcome::Success } else { Outcome::Failure });
                Poll::Ready(result)
            }
            (PhaseProj::Refused { why }, _) => {
                let why = why.take().expect("polled after it resolved");
                Poll::Ready(Err(E::from_rejection(why)))
            }
            _ => panic!("polled after it resolved"),
        }
    }
}

impl<F, P: Ends> fmt::Debug for Guarded<F, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.phase {
            Phase::Calling { .. } => "Calling",
            Phase::Refused { .. } => "Refused",
            Phase::Over => "Over",
        };
        f.debug_struct("Guarded").field("phase", &phase).finish()
    }
}
