use std::{collections::BTreeSet, fmt};

/// A rule that every Tower middleware should keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// The inner service is called only on an instance whose `poll_ready` has just answered ready.
    CallAfterReadiness,
    /// An instance whose `poll_ready` has failed is not used again.
    DiscardAfterReadyError,
    /// A future that has resolved is not polled again.
    NoPollAfterEnd,
    /// What the inner service reserved is given back, whatever becomes of the call, its future or the service.
    GiveReservationBack,
    /// A call that the inner service would answer is answered: after whatever happened to the calls before.
    PassHealthyCallsOn,
    /// `Pending` comes with a wake-up, of the waker of the last poll.
    WakeUp,
    /// What can end does end.
    NoHang,
    /// Nothing is polled again and again while nothing changes.
    NoBusyPolling,
    /// Nothing panics but what the inner service panics.
    NoPanic,
    /// A future that has resolved, and lives on, holds neither capacity nor a reservation.
    FinishedHoldsNothing,
    /// What was set up to refuse refuses, and does not call the inner service.
    Refuse,
    /// The layer is what it was declared to be, [`through`](super::Contract::through) or
    /// [`owning`](super::Contract::owning).
    AsDeclared,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CallAfterReadiness => "call without readiness",
            Self::DiscardAfterReadyError => "use after a readiness error",
            Self::NoPollAfterEnd => "poll after the end",
            Self::GiveReservationBack => "reservation not given back",
            Self::PassHealthyCallsOn => "healthy call not passed on",
            Self::WakeUp => "lost wake-up",
            Self::NoHang => "hang",
            Self::NoBusyPolling => "busy polling",
            Self::NoPanic => "panic",
            Self::FinishedHoldsNothing => "held by a finished future",
            Self::Refuse => "no refusal",
            Self::AsDeclared => "not as declared",
        })
    }
}

/// What was done with the middleware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[allow(missing_docs)] // their text says it, see `Display`
pub enum Scenario {
    Answers,
    Errors,
    DroppedBeforePoll,
    DroppedAfterPoll,
    DroppedAtEveryAwait,
    ServiceDropped,
    ParkedDropped,
    PanicInCall,
    PanicInPoll,
    CloneOfReady,
    ReadyRepeated,
    ReadinessWoken,
    AnswerWoken,
    Crowd,
    CrowdWithQuitters,
    StillWhileFull,
    StillWhilePending,
    FinishedKept,
    InnerFull,
    ReadinessFails,
    Placement,
    Refused,
}

impl Scenario {
    pub(super) const ALL: [Self; 22] = [
        Self::Answers,
        Self::Errors,
        Self::DroppedBeforePoll,
        Self::DroppedAfterPoll,
        Self::DroppedAtEveryAwait,
        Self::ServiceDropped,
        Self::ParkedDropped,
        Self::PanicInCall,
        Self::PanicInPoll,
        Self::CloneOfReady,
        Self::ReadyRepeated,
        Self::ReadinessWoken,
        Self::AnswerWoken,
        Self::Crowd,
        Self::CrowdWithQuitters,
        Self::StillWhileFull,
        Self::StillWhilePending,
        Self::FinishedKept,
        Self::InnerFull,
        Self::ReadinessFails,
        Self::Placement,
        Self::Refused,
    ];
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answers => "calls are answered",
            Self::Errors => "calls fail",
            Self::DroppedBeforePoll => "futures are dropped before their first poll",
            Self::DroppedAfterPoll => "futures are dropped after their first poll",
            Self::DroppedAtEveryAwait => "futures are dropped after any number of polls",
            Self::ServiceDropped => "a service is dropped that is ready",
            Self::ParkedDropped => "a caller goes away that waits for a slot",
            Self::PanicInCall => "the inner `call` panics",
            Self::PanicInPoll => "the inner future panics",
            Self::CloneOfReady => "a service that is ready is cloned",
            Self::ReadyRepeated => "`poll_ready` is repeated",
            Self::ReadinessWoken => "a slot becomes free for a caller that polled with two wakers",
            Self::AnswerWoken => "an answer comes to a caller that polled with two wakers",
            Self::Crowd => "many callers share few slots",
            Self::CrowdWithQuitters => "a caller goes away after it was woken",
            Self::StillWhileFull => "nothing changes while there is no slot",
            Self::StillWhilePending => "nothing changes while there is no answer",
            Self::FinishedKept => "resolved futures are kept",
            Self::InnerFull => "a call is made while there is no slot",
            Self::ReadinessFails => "the inner `poll_ready` fails",
            Self::Placement => "the inner service is asked for readiness",
            Self::Refused => "the layer refuses",
        })
    }
}

/// One rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// What was done.
    pub scenario: Scenario,
    /// What was seen.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: when {}: {}", self.rule, self.scenario, self.detail)
    }
}

/// What a [`Contract`](super::Contract) found. Its text is a line for each violation.
#[derive(Clone, Debug)]
pub struct Report {
    pub(super) service: String,
    pub(super) scenarios: Vec<Scenario>,
    pub(super) violations: Vec<Violation>,
    pub(super) allowed: Vec<Violation>,
}

impl Report {
    /// Whether every rule was kept, but for those that were allowed to be broken.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// What was broken.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// What was broken with leave, see [`Contract::allow`](super::Contract::allow).
    pub fn allowed(&self) -> &[Violation] {
        &self.allowed
    }

    /// The rules that were broken, each once.
    pub fn rules(&self) -> BTreeSet<Rule> {
        self.violations.iter().map(|violation| violation.rule).collect()
    }

    /// What was tried.
    pub fn scenarios(&self) -> &[Scenario] {
        &self.scenarios
    }

    /// Panics with the whole report unless it is clean.
    ///
    /// # Panics
    /// Where a rule was broken that was not allowed to be.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.is_clean(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (service, broken, tried) = (&self.service, self.violations.len(), self.scenarios.len());
        write!(f, "violations of the contract of `Service` by {service} in {tried} scenarios: {broken}")?;
        for violation in &self.violations {
            write!(f, "\n- {violation}")?;
        }
        for violation in &self.allowed {
            write!(f, "\n- allowed: {violation}")?;
        }
        Ok(())
    }
}

/// The name of a type without the paths, which hide it: `Timeout<Probe<u32>>`.
pub(super) fn short_name(name: &str) -> String {
    let mut short = String::with_capacity(name.len());
    for part in name.split_inclusive(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
        short.push_str(part.rsplit("::").next().unwrap_or(part));
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_without_paths() {
        assert_eq!(short_name("a::b::Retry<c::Probe<u32, d::e_f::G>>"), "Retry<Probe<u32, G>>");
        assert_eq!(short_name("[u8; 3]"), "[u8; 3]");
    }
}
