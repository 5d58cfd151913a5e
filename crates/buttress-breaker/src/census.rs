//! How many circuits of a keyed breaker are in which state, those included that only time has changed: a circuit whose
//! open wait is over is half-open to the next call, though none may come for a long time.

use std::collections::{BTreeSet, HashMap};

use crate::State;

/// In the order of their levels.
pub(crate) const STATES: [State; 6] =
    [State::Closed, State::Open, State::HalfOpen, State::Isolated, State::Disabled, State::MetricsOnly];

/// The number of the level that says how many circuits are in this state.
pub(crate) fn place(state: State) -> usize {
    STATES.iter().position(|one| *one == state).unwrap_or_default()
}

/// The state of a circuit, and what time alone makes of it and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    pub(crate) state: State,
    pub(crate) then: [Option<(u64, State)>; 2],
}

/// Plain data. Only circuits that time alone will change, or has, are known one by one; each of their changes costs as
/// much as finding it in the order of time.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// Below zero for a moment, if a circuit that was just made opens before it has joined.
    counts: [i64; STATES.len()],
    changing: HashMap<usize, Course>,
    due: BTreeSet<(u64, usize)>,
    /// The states whose numbers time has changed since somebody asked; a bit for each.
    moved: u32,
}

impl Census {
    /// A circuit more, in this state.
    pub(crate) fn join(&mut self, state: State) {
        self.add(state, 1);
    }

    /// A circuit less; `stored` is its state if time has not changed that.
    pub(crate) fn leave(&mut self, circuit: usize, stored: State) {
        let state = self.forget(circuit).unwrap_or(stored);
        self.add(state, -1);
    }

    /// A circuit takes this course. Before, it was in the state `stored`, if time had not changed that.
    pub(crate) fn set(&mut self, circuit: usize, stored: State, course: Course) {
        self.leave(circuit, stored);
        self.add(course.state, 1);
        if let [Some((when, _)), _] = course.then {
            self.changing.insert(circuit, course);
            self.due.insert((when, circuit));
        }
    }

    /// How many circuits are in this state by now.
    pub(crate) fn count(&mut self, state: State, now: u64) -> u64 {
        while let Some((when, circuit)) = self.due.first().copied().filter(|(when, _)| *when <= now) {
            self.due.remove(&(when, circuit));
            let Some(course) = self.changing.get_mut(&circuit) else { continue };
            let [next, last] = course.then;
            let Some((_, to)) = next else { continue };
            let from = std::mem::replace(&mut course.state, to);
            course.then = [last, None];
            if let Some((when, _)) = last {
                self.due.insert((when, circuit));
            }
            self.add(from, -1);
            self.add(to, 1);
            self.moved |= 1 << place(from) | 1 << place(to);
        }
        u64::try_from(self.counts.get(place(state)).copied().unwrap_or_default()).unwrap_or_default()
    }

    /// The states whose numbers time has changed since this was asked.
    pub(crate) fn take_moved(&mut self) -> impl Iterator<Item = State> + use<> {
        let moved = std::mem::take(&mut self.moved);
        STATES.into_iter().filter(move |state| moved & 1 << place(*state) != 0)
    }

    fn forget(&mut self, circuit: usize) -> Option<State> {
        let Course { state, then } = self.changing.remove(&circuit)?;
        if let [Some((when, _)), _] = then {
            self.due.remove(&(when, circuit));
        }
        Some(state)
    }

    fn add(&mut self, state: State, more: i64) {
        if let Some(count) = self.counts.get_mut(place(state)) {
            *count = count.saturating_add(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(census: &mut Census, now: u64) -> [u64; 3] {
        [State::Closed, State::Open, State::HalfOpen].map(|state| census.count(state, now))
    }

    fn open_until(when: u64) -> Course {
        Course { state: State::Open, then: [Some((when, State::HalfOpen)), None] }
    }

    const CLOSED: Course = Course { state: State::Closed, then: [None, None] };

    #[test]
    fn circuits_are_counted_as_what_time_has_made_of_them() {
        let mut census = Census::default();
        (0..3).for_each(|_| census.join(State::Closed));
        census.set(1, State::Closed, open_until(10));
        census.set(2, State::Closed, open_until(20));
        assert_eq!(counts(&mut census, 9), [1, 2, 0]);
        assert_eq!(counts(&mut census, 10), [1, 1, 1]);
        // The call that finds it: half-open for 5, then open for 5.
        let then = [Some((15, State::Open)), Some((20, State::HalfOpen))];
        census.set(1, State::Open, Course { state: State::HalfOpen, then });
        assert_eq!(counts(&mut census, 14), [1, 1, 1]);
        assert_eq!(counts(&mut census, 15), [1, 2, 0]);
        assert_eq!(counts(&mut census, 1_000), [1, 0, 2]);
        census.set(1, State::HalfOpen, CLOSED);
        census.leave(2, State::Open);
        assert_eq!(counts(&mut census, 1_000), [2, 0, 0]);
        assert!(census.changing.is_empty() && census.due.is_empty());
    }

    #[test]
    fn circuit_that_opens_before_it_has_joined_is_counted_once() {
        let mut census = Census::default();
        census.set(1, State::Closed, open_until(10));
        assert_eq!(counts(&mut census, 0), [0, 1, 0]);
        census.join(State::Closed);
        census.set(1, State::Open, open_until(10));
        assert_eq!(counts(&mut census, 0), [0, 1, 0]);
        assert_eq!(counts(&mut census, 10), [0, 0, 1]);
        census.leave(1, State::Open);
        assert_eq!(counts(&mut census, 10), [0, 0, 0]);
    }

    // A wait that is begun anew leaves nothing of the former one behind.
    #[test]
    fn longer_wait_takes_the_place_of_the_shorter_one() {
        let mut census = Census::default();
        census.join(State::Open);
        for when in [5, 50, 500] {
            census.set(1, State::Open, open_until(when));
        }
        assert_eq!(census.due.len(), 1);
        assert_eq!(counts(&mut census, 499), [0, 1, 0]);
        assert_eq!(counts(&mut census, 500), [0, 0, 1]);
    }
}
