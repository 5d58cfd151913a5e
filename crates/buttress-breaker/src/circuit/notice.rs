//! What happened to a circuit, put down for those who listen; whether anybody does is not the circuit's business.

use std::{sync::Arc, time::Duration};

use buttress_core::{Note, Transition, Value, Word};

use super::{Circuit, History};
use crate::{OpenReason, State, window::Counts, words};

/// So many changes wait for the text of one that comes before them. With more, it goes without.
const MOST_WAITING: usize = 32;

/// What happened, for those who listen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Notice {
    Changed { from: State, to: State, cause: Word, detail: Detail },
    Note(Note),
}

/// What is known of a change of state.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Detail {
    /// What the decision was made on.
    pub(super) counts: Counts,
    /// The rule that opened the circuit, and how many of what it counts there were.
    pub(super) rule: Option<(OpenReason, Option<u64>)>,
    pub(super) error: Said,
    /// How long the new state lasts at least, or, on closing, how long ago the circuit left closed; nanoseconds.
    pub(super) open_for: Option<u64>,
    /// Calls refused since the circuit was last closed.
    pub(super) rejected: u64,
}

/// The last failure in words.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Said {
    #[default]
    Nothing,
    /// The call that opened the circuit is about to say it, with no lock held. In which generation it did.
    Awaited(u64),
    Text(Arc<str>),
}

impl Detail {
    pub(super) fn of(counts: Counts) -> Self {
        Self { counts, ..Self::default() }
    }

    /// The change of state as it is told.
    pub(crate) fn transition(self, from: State, to: State, cause: Word) -> Transition {
        let (rule, count) = self.rule.map_or((None, None), |(rule, count)| (Some(rule), count));
        // A rule may look further back than the window does.
        let calls = self.counts.calls.max(count.unwrap_or_default());
        let mut told = Transition::new(from.as_str(), to.as_str(), cause)
            .with(words::CALLS, Value::Count(calls))
            .with(words::REJECTED, Value::Count(self.rejected));
        told.detail.extend(rule.map(|rule| (words::BY_RULE, Value::Word(rule.as_str()))));
        told.detail.extend(count.map(|count| (words::COUNT, Value::Count(count))));
        let (failures, slow) = self.counts.ratios();
        for (what, ratio) in [(words::FAILURE_RATIO, failures), (words::SLOW_RATIO, slow)] {
            told.detail.extend(ratio.map(|ratio| (what, Value::Ratio(ratio))));
        }
        let open_for = self.open_for.map(Duration::from_nanos);
        told.detail.extend(open_for.map(|time| (words::OPEN_FOR, Value::Time(time))));
        if let Said::Text(text) = self.error {
            told.detail.push((words::ERROR, Value::Text(text)));
        }
        told
    }
}

impl Notice {
    fn is_awaited(&self) -> bool {
        matches!(self, Self::Changed { detail: Detail { error: Said::Awaited(_), .. }, .. })
    }
}

impl Circuit {
    /// The circuit has just been opened by a call, which says by [`set_last_error`](Self::set_last_error) what it ended
    /// with. Until then the change is told to nobody, nor are those that follow.
    pub(super) fn await_error(&mut self) {
        let generation = self.generation;
        if let Some(Notice::Changed { detail, .. }) = self.history_mut().notices.last_mut() {
            detail.error = Said::Awaited(generation);
        }
    }

    /// What the call ended with that opened the circuit and began this generation.
    pub(crate) fn set_last_error(&mut self, generation: u64, error: Arc<str>) {
        let is_present = self.generation == generation;
        let history = self.history_mut();
        for notice in &mut history.notices {
            if let Notice::Changed { detail, .. } = notice {
                if detail.error == Said::Awaited(generation) {
                    detail.error = Said::Text(error.clone());
                }
            }
        }
        if is_present {
            history.last_error = Some(error);
        }
    }

    /// Takes what happened, as far as all is known of it.
    pub(crate) fn take_notices(&mut self) -> impl Iterator<Item = Notice> + '_ {
        self.history.iter_mut().flat_map(|history| {
            let known = history.known();
            history.notices.drain(..known)
        })
    }
}

impl History {
    fn known(&self) -> usize {
        let all = self.notices.len();
        if all > MOST_WAITING {
            return all;
        }
        self.notices.iter().position(Notice::is_awaited).unwrap_or(all)
    }
}
