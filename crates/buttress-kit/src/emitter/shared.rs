//! A policy's listeners, and what is on its way to them.

use std::sync::{
    Arc, Mutex, OnceLock, Weak,
    atomic::{
        AtomicBool, AtomicU64, AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use buttress_core::{
    Event, Kind, Level, Levels, Name, OwnedEvent, PolicyEvent, Recorder, Word,
    observe::{installed_after, installed_count, watch},
};

use super::raised::{self, Doing, Telling};
use crate::{
    events::{Mailbox, Source, Subscribers},
    lock::unpoisoned,
    recorders::{Recorders, attached, listening},
    turn::{Lane, Next},
};

pub(super) struct Shared {
    /// Itself, for recorders that follow.
    me: Weak<Self>,
    pub(super) kind: Kind,
    pub(super) name: Name,
    passive: Audience,
    /// Hears of ordered events when the passive recorders know them, and so do the subscribers.
    active: Audience,
    pub(super) subscribers: Subscribers,
    levels: OnceLock<Weak<dyn Levels>>,
    pub(super) timed: AtomicBool,
    pub(super) missed: AtomicU64,
    /// How many of the installed observers have been asked.
    asked: AtomicUsize,
    /// Held while installed observers are asked, so that nobody tells an event before all were.
    asking: Mutex<()>,
    /// Held while recorders are added, never while one is called.
    adding: Mutex<()>,
}

/// An ordered event.
pub(super) struct Ordered {
    pub(super) event: OwnedEvent,
    /// Whether subscribers get a copy.
    pub(super) copied: bool,
}

struct Audience {
    recorders: Recorders,
    lane: Lane<Ordered>,
}

impl Audience {
    fn new() -> Self {
        Self { recorders: Recorders::default(), lane: Lane::new() }
    }
}

impl Shared {
    pub(super) fn new(kind: Kind, name: Name, me: Weak<Self>) -> Self {
        Self {
            me,
            kind,
            name,
            passive: Audience::new(),
            active: Audience::new(),
            subscribers: Subscribers::default(),
            levels: OnceLock::new(),
            timed: AtomicBool::new(false),
            missed: AtomicU64::new(0),
            asked: AtomicUsize::new(0),
            asking: Mutex::new(()),
            adding: Mutex::new(()),
        }
    }

    // ---- who hears it

    /// Whether somebody listens to this policy, or may turn out to when asked.
    #[inline]
    pub(super) fn is_heard(&self) -> bool {
        self.is_followed() || self.has_passive() || self.is_unasked()
    }

    /// Whether somebody listens who may use the policy's handle.
    pub(super) fn is_followed(&self) -> bool {
        !self.active.recorders.is_empty() || self.subscribers.any()
    }

    pub(super) fn has_passive(&self) -> bool {
        !self.passive.recorders.is_empty()
    }

    /// Whether observers were installed since the last time they were asked.
    pub(super) fn is_unasked(&self) -> bool {
        self.asked.load(Acquire) != installed_count()
    }

    /// Attaches the observers installed since the last time. Only while [`Telling`], because they may use a handle.
    #[inline]
    pub(super) fn ask_installed(&self) {
        if self.is_unasked() {
            self.attach_installed();
        }
    }

    fn attach_installed(&self) {
        let asking = unpoisoned(self.asking.lock());
        let asked = self.asked.load(Acquire);
        let fresh = installed_after(asked);
        let recorders: Vec<_> =
            fresh.iter().filter_map(|one| attached(&**one, self.kind, &self.name)).collect();
        recorders.iter().for_each(|recorder| self.attach(recorder));
        self.asked.store(asked.saturating_add(fresh.len()), Release);
        drop(asking);
        recorders.iter().for_each(|recorder| self.tell_levels(&**recorder));
    }

    /// Adds a recorder. It follows before it is added, so that no event of another thread comes first.
    pub(super) fn attach(&self, recorder: &Arc<dyn Recorder>) {
        let ask = || {
            let me: Weak<dyn Levels> = self.me.clone();
            recorder.follow(&me);
            (recorder.timed(), recorder.passive())
        };
        let (timed, passive) = listening(ask).unwrap_or_default();
        self.timed.fetch_or(timed, Relaxed);
        let audience = if passive { &self.passive } else { &self.active };
        let _adding = unpoisoned(self.adding.lock());
        audience.recorders.push(recorder.clone());
    }

    /// Says who knows the levels, also to those who listen already.
    pub(super) fn set_levels(&self, levels: Weak<dyn Levels>) {
        if self.levels.set(levels).is_ok() {
            for audience in [&self.passive, &self.active] {
                audience.recorders.each(|recorder| self.tell_levels(recorder));
            }
        }
    }

    /// Tells a recorder that was just added where the policy stands.
    ///
    /// Meanwhile a teller may tell it a newer value, which an older one must not follow. So a level that is another
    /// one after the telling is told once more, to all.
    pub(super) fn tell_levels(&self, recorder: &dyn Recorder) {
        let told = self.look();
        for level in &told {
            listening(|| recorder.record(&Event::Level(*level)));
        }
        let now = self.look();
        for number in (0..u32::BITS).take(told.len().max(now.len())) {
            if told.get(number as usize).map(exactly) != now.get(number as usize).map(exactly) {
                self.moved(number);
            }
        }
    }

    /// All levels as they are now.
    fn look(&self) -> Vec<Level> {
        // Tellers take the bits before they read levels and walk the recorders. Touching the bits puts this look
        // before or after that: a teller that comes later finds the new recorder, and of one that came earlier this
        // look sees all the changes that it tells.
        self.passive.lane.mark(0);
        self.active.lane.mark(0);
        let mut all = Vec::new();
        listening(|| {
            if let Some(levels) = self.levels.get().and_then(Weak::upgrade) {
                levels.levels(&mut |level| all.push(level));
            }
        });
        all
    }

    // ---- what is on its way

    pub(super) fn miss(&self) {
        self.missed.fetch_add(1, Relaxed);
    }

    pub(super) fn put(&self, event: Ordered) {
        if self.passive.lane.push(event).is_some() {
            self.miss();
        }
    }

    pub(super) fn moved(&self, number: u32) {
        self.passive.lane.mark(1_u32.checked_shl(number).unwrap_or(0));
    }

    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.passive.lane.is_idle() && self.active.lane.is_idle()
    }

    // ---- telling it

    /// Tells the passive recorders, whatever this thread is doing; not the first `known`. Returns how many know it.
    pub(super) fn tell_passive(&self, event: &Event<'_>, known: usize) -> usize {
        if !self.has_passive() {
            return 0;
        }
        let Some(_doing) = Doing::telling_passive() else {
            // One of them uses a handle nonetheless, and would do so for ever.
            self.miss();
            return usize::MAX;
        };
        self.passive.recorders.tell(event, known)
    }

    /// Tells everybody a plain event but the first `known` passive recorders. Only while [`Telling`], as all that
    /// follows.
    pub(super) fn tell(&self, event: &Event<'_>, known: usize) {
        self.ask_installed();
        self.tell_passive(event, known);
        self.active.recorders.tell(event, 0);
        // No notes: those that are told in this way come with every call.
        if matches!(event, Event::Refused { .. } | Event::Transition(_)) {
            self.copy(event);
        }
    }

    fn copy(&self, event: &Event<'_>) {
        if self.subscribers.any() {
            if let Some(what) = OwnedEvent::of(event) {
                let event = PolicyEvent::new(self.kind, self.name.clone(), what);
                listening(|| self.subscribers.post(&event));
            }
        }
    }

    /// Tells what is in order.
    pub(super) fn tell_ordered(&self) {
        self.ask_installed();
        self.hand_on();
        raised::in_turn(self, || {
            self.active.lane.run(|next| match next {
                Next::Event(Ordered { event, copied }) => {
                    let event = event.as_event();
                    self.active.recorders.tell(&event, 0);
                    if copied {
                        self.copy(&event);
                    }
                }
                Next::Level(number) => {
                    if let Some(level) = self.level(number) {
                        self.active.recorders.tell(&Event::Level(level), 0);
                    }
                }
            });
        });
    }

    /// Tells the passive recorders what is in order, and hands it on to the others.
    pub(super) fn hand_on(&self) {
        self.passive.lane.run(|next| match next {
            Next::Event(ordered) => {
                self.tell_passive(&ordered.event.as_event(), 0);
                if self.is_followed() && self.active.lane.push(ordered).is_some() {
                    self.miss();
                }
            }
            Next::Level(number) => {
                if self.has_passive() {
                    if let Some(level) = self.level(number) {
                        self.tell_passive(&Event::Level(level), 0);
                    }
                }
                if !self.active.recorders.is_empty() {
                    self.active.lane.mark(1 << number);
                }
            }
        });
    }
}

/// A level so that it can be compared: it may have no value, and NaN equals nothing.
fn exactly(level: &Level) -> (Word, Option<Word>, u64) {
    (level.what, level.of, level.value.to_bits())
}

/// For recorders that follow: where the policy stands, and what they and others were not told.
impl Levels for Shared {
    fn level(&self, number: u32) -> Option<Level> {
        listening(|| self.levels.get()?.upgrade()?.level(number)).flatten()
    }

    fn missed(&self) -> u64 {
        self.missed.load(Relaxed)
    }
}

impl Source for Shared {
    fn fill(&self, mailbox: &Arc<Mailbox>) {
        self.subscribers.add(mailbox);
        watch();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // What callers had no time for. If a listener dropped the last handle, others cannot be told now.
        if let Some(telling) = Telling::begin() {
            while !self.is_idle() {
                self.tell_ordered();
            }
            telling.finish();
        }
        // Whoever waits for an event of this policy must hear that none will come.
        listening(|| self.subscribers.end());
    }
}
