//! What happened to a circuit, put down for those who listen; whether anybody does is not the circuit's business.

use std::time::Duration;

use buttress_core::{Note, Transition, Value, Word};

use crate::{State, window::Counts, words};

/// What happened, for those who listen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Notice {
    Changed { from: State, to: State, cause: Word, detail: Detail },
    Note(Note),
}

/// What is known of a change of state.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Detail {
    /// What the decision was made on.
    pub(super) counts: Counts,
    /// How long the new state lasts at least, or, on closing, how long ago the circuit left closed; nanoseconds.
    pub(super) open_for: Option<u64>,
    /// Calls refused since the circuit was last closed.
    pub(super) rejected: u64,
}

impl Detail {
    pub(super) fn of(counts: Counts) -> Self {
        Self { counts, ..Self::default() }
    }

    /// The change of state as it is told.
    pub(crate) fn transition(&self, from: State, to: State, cause: Word) -> Transition {
        let mut told = Transition::new(from.as_str(), to.as_str(), cause)
            .with(words::CALLS, Value::Count(self.counts.calls))
            .with(words::REJECTED, Value::Count(self.rejected));
        let (failures, slow) = self.counts.ratios();
        for (what, ratio) in [(words::FAILURE_RATIO, failures), (words::SLOW_RATIO, slow)] {
            told.detail.extend(ratio.map(|ratio| (what, Value::Ratio(ratio))));
        }
        let open_for = self.open_for.map(Duration::from_nanos);
        told.detail.extend(open_for.map(|time| (words::OPEN_FOR, Value::Time(time))));
        told
    }
}
