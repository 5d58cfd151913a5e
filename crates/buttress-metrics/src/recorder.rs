//! The one recorder of all kinds: it reads the table of a kind once for each policy, and then moves slots.

use std::sync::Weak;

use buttress_core::{
    Code, Event, Kind, Level, Note, Outcome, Recorder, Rejection, Row, Rows, Transition, Value, When, Word,
    observe::Levels,
};

use crate::{
    clock,
    series::{CounterSlot, GaugeSlot, Handles, HistogramSlot, MAX_AGE, Series, StartAt},
};

const OUTCOMES: [Outcome; 6] = [
    Outcome::Success,
    Outcome::Failure,
    Outcome::Panicked,
    Outcome::TimedOut,
    Outcome::Ignored,
    Outcome::Cancelled,
];

/// Moves the series of one policy.
pub(crate) struct TableRecorder {
    pub(crate) kind: Kind,
    table: Table,
    pub(crate) series: Series,
}

/// The table of a kind, by event: what is looked up in it is there already.
#[derive(Default)]
struct Table {
    /// By outcome.
    done: [Ended; OUTCOMES.len()],
    /// For the words that a row has to itself.
    done_as: ByWord<[Ended; OUTCOMES.len()]>,
    refused: Vec<CounterSlot>,
    /// For the codes that a row has to itself.
    codes: ByWord<Vec<CounterSlot>>,
    shadow: Vec<CounterSlot>,
    notes: ByWord<Noted>,
    attempts: ByWord<Vec<CounterSlot>>,
    delays: Vec<HistogramSlot>,
    changes: Vec<Changes>,
    changed_at: Vec<GaugeSlot>,
    states: Vec<(Word, GaugeSlot)>,
    levels: Vec<(Word, GaugeSlot)>,
    parts: Vec<(Word, Word, GaugeSlot)>,
    /// Gauges that are NaN again in these states.
    anew: Vec<(GaugeSlot, &'static [Word])>,
    /// A note begins each call, so its end need not look at the clock once more.
    begins: bool,
    timed: bool,
}

/// What the end of a call moves.
#[derive(Default)]
struct Ended {
    always: Vec<Slot>,
    if_slow: Vec<Slot>,
}

/// What a note moves.
#[derive(Default)]
struct Noted {
    counters: Vec<CounterSlot>,
    by_value: Vec<(Word, CounterSlot)>,
    histograms: Vec<HistogramSlot>,
}

struct Changes {
    metric: &'static str,
    listed: Vec<(Word, Word, CounterSlot)>,
}

/// Things by word. There are few, so a search is as good as a map.
struct ByWord<T>(Vec<(Word, T)>);

impl<T> Default for ByWord<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Default> ByWord<T> {
    fn get(&self, word: &str) -> Option<&T> {
        self.0.iter().find(|(known, _)| is_same(known, word)).map(|(_, thing)| thing)
    }

    fn entry(&mut self, word: Word) -> &mut T {
        let at = self.0.iter().position(|(known, _)| *known == word).unwrap_or_else(|| {
            self.0.push((word, T::default()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }
}

/// The length decides nearly always, and then the address, if the word is the constant of one crate.
fn is_same(one: &str, other: &str) -> bool {
    one.len() == other.len() && (one.as_ptr() == other.as_ptr() || one == other)
}

/// A row of some metric, and its series.
struct Listed {
    metric: usize,
    when: When,
    slot: Slot,
}

#[derive(Clone, Copy)]
enum Slot {
    Counter(CounterSlot),
    Histogram(HistogramSlot),
}

impl TableRecorder {
    pub(crate) fn new(kind: Kind, mut series: Series) -> Self {
        let table = Table::read(kind, &mut series);
        Self { kind, table, series: series.ready() }
    }

    fn fresh(&self) -> Handles<'_> {
        self.series.fresh(|handles, level| self.table.put(handles, level))
    }

    /// Tells all anew that moves by time alone.
    pub(crate) fn refresh(&self) {
        self.series.refresh(|handles, level| self.table.put(handles, level));
    }

    /// From now on this one's levels are exported, as they are now.
    fn take_over(&self) {
        self.series.speak();
        self.refresh();
    }

    fn count(&self, counters: &[CounterSlot]) {
        if !counters.is_empty() {
            let handles = self.fresh();
            counters.iter().for_each(|slot| handles.count(*slot));
        }
    }

    fn refused(&self, rejection: &Rejection) {
        // A call that was sent and then cut short ends with `Done`.
        if !rejection.was_sent() {
            self.count(self.table.codes.get(rejection.code().as_str()).unwrap_or(&self.table.refused));
        }
    }

    fn changed(&self, &Transition { from, to, .. }: &Transition) {
        let handles = self.fresh();
        let are_known = [from, to].iter().all(|state| self.kind.states.contains(state));
        for Changes { metric, listed } in &self.table.changes {
            match listed.iter().find(|(one, other, _)| (*one, *other) == (from, to)) {
                Some((_, _, slot)) => handles.count(*slot),
                None if are_known => handles.count_rare(metric, &[("from", from), ("to", to)]),
                None => {}
            }
        }
        self.table.is_in(&handles, to);
        for slot in &self.table.changed_at {
            handles.set(*slot, clock::unix_seconds());
        }
        for (slot, _) in self.table.anew.iter().filter(|(_, states)| states.contains(&to)) {
            handles.set(*slot, f64::NAN);
        }
    }

    fn noted(&self, note: &Note) {
        let Some(noted) = self.table.notes.get(note.what) else { return };
        let handles = self.fresh();
        noted.counters.iter().for_each(|slot| handles.count(*slot));
        match &note.value {
            Some(Value::Time(took)) => noted.histograms.iter().for_each(|slot| handles.observe(*slot, *took)),
            Some(value) => {
                let text = value.as_text();
                let counted = noted.by_value.iter().filter(|(word, _)| Some(*word) == text);
                counted.for_each(|(_, slot)| handles.count(*slot));
            }
            None => {}
        }
    }
}

impl Recorder for TableRecorder {
    fn record(&self, event: &Event<'_>) {
        match *event {
            Event::Done { outcome, result, elapsed, slow, .. } => {
                let ended = self.table.ended(outcome, result);
                // A short call needs no second look at the clock, if its beginning looked.
                let handles = match elapsed {
                    Some(elapsed) if self.table.begins && elapsed < MAX_AGE => self.series.latest(),
                    _ => self.fresh(),
                };
                let if_slow = if slow { &*ended.if_slow } else { &[] };
                for slot in ended.always.iter().chain(if_slow) {
                    match (slot, elapsed) {
                        (Slot::Counter(slot), _) => handles.count(*slot),
                        (Slot::Histogram(slot), Some(elapsed)) => handles.observe(*slot, elapsed),
                        (Slot::Histogram(_), None) => {}
                    }
                }
            }
            Event::Refused { shadow: true, .. } => self.count(&self.table.shadow),
            Event::Refused { rejection, .. } => self.refused(rejection),
            Event::Attempt { delay, reason, .. } => {
                let handles = self.fresh();
                self.table.attempts.get(reason).into_iter().flatten().for_each(|slot| handles.count(*slot));
                self.table.delays.iter().for_each(|slot| handles.observe(*slot, delay));
            }
            Event::Transition(transition) => self.changed(transition),
            // Told beside events that ask for fresh handles, or, as a limit, set again when those come.
            Event::Level(level) if level.of.is_none() => self.table.put(&self.series.latest(), level),
            Event::Level(level) => self.table.put(&self.fresh(), level),
            Event::Note(note) => self.noted(note),
            _ => {}
        }
    }

    fn timed(&self) -> bool {
        self.table.timed && self.series.wants_durations()
    }

    fn passive(&self) -> bool {
        true
    }

    fn follow(&self, levels: &Weak<dyn Levels>) {
        self.series.follow(levels);
    }
}

impl Drop for TableRecorder {
    fn drop(&mut self) {
        let Some(seat) = &self.series.seat else { return };
        let places = &self.series.shared.places;
        let Some(mut next) = places.leave(self.kind, seat) else { return };
        self.series.rest(next.as_deref().map(|next| &next.series));
        if next.is_none() {
            next = places.clear(self.kind, seat);
        }
        if let Some(next) = next {
            next.take_over();
        }
    }
}

impl Table {
    fn ended(&self, outcome: Outcome, result: Word) -> &Ended {
        &self.done_as.get(result).unwrap_or(&self.done)[outcome as usize]
    }

    /// Sets the gauges of a level.
    fn put(&self, handles: &Handles<'_>, level: Level) {
        match level.of {
            None => {
                for (_, slot) in self.levels.iter().filter(|(what, _)| is_same(what, level.what)) {
                    handles.set(*slot, level.value);
                }
            }
            Some(state) if level.what == Level::STATE => self.is_in(handles, state),
            Some(part) => {
                let gauges = self.parts.iter().filter(|(what, of, _)| (*what, *of) == (level.what, part));
                gauges.for_each(|(_, _, slot)| handles.set(*slot, level.value));
            }
        }
    }

    fn is_in(&self, handles: &Handles<'_>, state: Word) {
        if self.states.iter().any(|(known, _)| *known == state) {
            for (one, slot) in &self.states {
                handles.set(*slot, f64::from(u8::from(*one == state)));
            }
        }
    }

    /// Makes the series of a kind, and finds out which event moves which.
    fn read(kind: Kind, series: &mut Series) -> Self {
        let mut table = Self::default();
        let mut rows = Vec::new();
        for (metric, def) in kind.metrics.iter().enumerate() {
            let name = def.name;
            let mut list = |when, slot| rows.push(Listed { metric, when, slot });
            match def.rows {
                Rows::Counters(key, all) => {
                    by_value(all, |value| Slot::Counter(series.counter(name, &[(key, value)], StartAt::Zero)))
                        .for_each(|(when, slot)| list(when, slot))
                }
                Rows::Elapsed(key, all) => {
                    table.timed = true;
                    by_value(all, |value| Slot::Histogram(series.histogram(name, &[(key, value)])))
                        .for_each(|(when, slot)| list(when, slot));
                }
                Rows::Counter(when) => list(when, Slot::Counter(series.counter(name, &[], StartAt::Zero))),
                Rows::Rare(when) => list(when, Slot::Counter(series.counter(name, &[], StartAt::FirstCount))),
                Rows::Took(note) => table.notes.entry(note).histograms.push(series.histogram(name, &[])),
                Rows::Delays => table.delays.push(series.histogram(name, &[])),
                Rows::Changes(pairs) => {
                    let count = |(from, to): &(Word, Word)| {
                        (*from, *to, series.counter(name, &[("from", from), ("to", to)], StartAt::Zero))
                    };
                    table.changes.push(Changes { metric: name, listed: pairs.iter().map(count).collect() });
                }
                Rows::ChangedAt => table.changed_at.push(series.gauge(name, &[], def.at_rest)),
                Rows::Level(what, states) => {
                    let slot = series.gauge(name, &[], def.at_rest);
                    table.levels.push((what, slot));
                    table.anew.push((slot, states));
                }
                Rows::LevelOf(what, key, values) => table.parts.extend(
                    values.iter().map(|of| (what, *of, series.gauge(name, &[(key, of)], def.at_rest))),
                ),
                Rows::OneHot => table.states.extend(
                    kind.states
                        .iter()
                        .map(|state| (*state, series.gauge(name, &[("state", state)], def.at_rest))),
                ),
                _ => {}
            }
        }
        table.sort(&rows);
        table
    }

    /// Puts rows to the events that they are for.
    fn sort(&mut self, rows: &[Listed]) {
        self.done = endings(rows, None);
        for row in rows {
            match row.when {
                When::DoneAs(word) => *self.done_as.entry(word) = endings(rows, Some(word)),
                When::Code(codes) => codes.iter().for_each(|code| {
                    *self.codes.entry(code.as_str()) = refusals(rows, Some(code));
                }),
                _ => {}
            }
            let Slot::Counter(slot) = row.slot else { continue };
            match row.when {
                When::Shadow => self.shadow.push(slot),
                When::Note(what) => self.notes.entry(what).counters.push(slot),
                When::Begin(what) => {
                    self.begins = true;
                    self.notes.entry(what).counters.push(slot);
                }
                When::NoteOf(what, of) => self.notes.entry(what).by_value.push((of, slot)),
                When::Attempt(reason) => self.attempts.entry(reason).push(slot),
                _ => {}
            }
        }
        self.refused = refusals(rows, None);
    }
}

/// Each row with its series; rows of one value have one.
fn by_value(rows: &'static [Row], mut make: impl FnMut(Word) -> Slot) -> impl Iterator<Item = (When, Slot)> {
    let mut made = ByWord::<Option<Slot>>::default();
    rows.iter().map(move |(value, when)| (*when, *made.entry(value).get_or_insert_with(|| make(value))))
}

/// What calls move that ended in this word of the pattern, by outcome.
fn endings(rows: &[Listed], word: Option<Word>) -> [Ended; OUTCOMES.len()] {
    // A row for the word beats those for outcomes, within its metric.
    let has_word = |metric| {
        rows.iter()
            .any(|row| row.metric == metric && matches!(row.when, When::DoneAs(one) if Some(one) == word))
    };
    let mut all: [Ended; OUTCOMES.len()] = Default::default();
    for outcome in OUTCOMES {
        let ended = &mut all[outcome as usize];
        for Listed { metric, when, slot } in rows {
            let moves = match when {
                When::Done(outcomes) => outcomes.contains(&outcome) && !has_word(*metric),
                When::DoneAs(one) => Some(*one) == word,
                When::Slow(outcomes) => outcomes.contains(&outcome),
                _ => false,
            };
            if moves {
                let is_slow = matches!(when, When::Slow(_));
                if is_slow { &mut ended.if_slow } else { &mut ended.always }.push(*slot);
            }
        }
    }
    all
}

/// What a refusal by this code moves; `None`: by one that no row names.
fn refusals(rows: &[Listed], code: Option<&Code>) -> Vec<CounterSlot> {
    let names =
        |when: &When| matches!(when, When::Code(codes) if code.is_some_and(|code| codes.contains(&code)));
    let is_named = |metric| rows.iter().any(|row| row.metric == metric && names(&row.when));
    let moved = rows.iter().filter(|row| match &row.when {
        When::Refused => !is_named(row.metric),
        when => names(when),
    });
    moved.filter_map(|row| if let Slot::Counter(slot) = row.slot { Some(slot) } else { None }).collect()
}
