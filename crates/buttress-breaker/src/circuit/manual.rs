//! What operators do to a circuit.

use buttress_core::Note;

use super::{Circuit, Notice, Now, Tally, notice::Detail};
use crate::{OpenReason, State, rules::Rules, window::Window, words};

impl Circuit {
    /// Opens. `wait`: for this long, which does not count as a further opening; else for as long as the settings
    /// say.
    pub(crate) fn force_open(&mut self, rules: &Rules, wait: Option<u64>, now: Now) {
        self.advance_time(rules, now);
        // Open already: the same wait starts again, it does not grow.
        let again = (self.state == State::Open).then(|| self.history().wait);
        self.open(rules, OpenReason::Manual, words::MANUAL, wait.or(again), now);
    }

    /// Lets probes in. In a state in which calls flow it does nothing, and returns that state.
    pub(crate) fn force_half_open(&mut self, rules: &Rules, now: Now) -> Result<(), State> {
        self.advance_time(rules, now);
        match self.state {
            State::Open | State::HalfOpen | State::Isolated => {
                self.half_open(rules, words::MANUAL, now);
                Ok(())
            }
            from => Err(from),
        }
    }

    pub(crate) fn force_close(&mut self, rules: &Rules, now: Now) {
        self.advance_time(rules, now);
        self.close(rules, words::MANUAL, now);
    }

    /// Isolates, disables, or only measures.
    pub(crate) fn force(&mut self, rules: &Rules, to: State, now: Now) {
        self.advance_time(rules, now);
        self.transition(to, words::MANUAL, Detail::default(), now);
    }

    pub(crate) fn reset(&mut self, rules: &Rules, now: Now) {
        self.force_close(rules, now);
        self.successes = 0;
        let history = self.history_mut();
        history.tally = Tally::default();
        history.row_began = 0;
        history.last_failure = None;
        history.reason = None;
        history.notices.push(Notice::Note(Note::new(Note::RESET)));
    }

    /// Takes new settings. The window keeps what it holds unless `reshaped`.
    pub(crate) fn reconfigure(&mut self, rules: &Rules, reshaped: bool, now: Now) {
        if reshaped {
            self.window = Window::new(rules.window);
            self.window.clear(now.time);
        }
        if let Some(history) = self.history.as_mut().filter(|history| history.ramp_until > 0) {
            // A ramp under way goes on from where a new one with as much time left would be.
            history.ramp_until = history.ramp_until.min(now.time.saturating_add(rules.ramp));
        }
        self.rules_due = true;
    }

    pub(crate) fn end_ramp(&mut self) {
        self.history_mut().ramp_until = 0;
    }
}
