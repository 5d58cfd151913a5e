//! How an event gets to its listeners.
//!
//! **Plain** events (ends, refusals, attempts, what is noted of every call) are told at once, by the task that caused
//! them. **Ordered** ones (changes of state, rarer notes, levels) are put down with the policy's lock held, and told
//! after it by one thread at a time, so that listeners hear of them in the order in which they happened.
//!
//! No listener holds a caller for ever, and nothing grows without bounds:
//!
//! - One caller tells at most 32 ordered events, its own included; what is left is told with the next event.
//! - 256 ordered events wait for the passive recorders, and 256 for all others; then the oldest is dropped. Levels
//!   take no room: a bit says that one is to be read.
//! - What listeners raise is told after the event at hand; 1024 such events wait on a thread, no more are kept.
//! - What some listener was not told is counted: [`Emitter::missed`].
//!
//! Passive recorders are told first and never wait for any other listener.

use std::{
    error::Error as StdError,
    fmt,
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
    time::Duration,
};

use buttress_core::{
    Event, Kind, Levels, Name, Note, Outcome, OwnedEvent, Recorder, Rejection, Word, observe,
};

use self::{
    raised::Telling,
    shared::{Ordered, Shared},
};
use crate::{Events, Listeners};

#[cfg(all(test, buttress_loom))]
mod models;
mod raised;
mod shared;

/// A policy's end of the seam. Clones are the same one; the keys of a policy share one.
#[derive(Clone)]
pub struct Emitter(Arc<Shared>);

impl Emitter {
    /// Makes the end that belongs to one policy, and attaches the listeners that are the policy's own. Observers of
    /// the whole process are asked when there is something to tell.
    pub fn new(kind: Kind, name: Name, listeners: &Listeners) -> Self {
        let emitter = Self(Arc::new_cyclic(|me| Shared::new(kind, name, me.clone())));
        listeners.attach(kind, emitter.name()).for_each(|recorder| emitter.add(recorder));
        emitter
    }

    /// Which pattern the policy is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The name of the policy.
    pub fn name(&self) -> &Name {
        &self.0.name
    }

    /// Says who knows the policy's levels. Only the first one counts; call it before the first event.
    pub fn set_levels(&self, levels: Weak<dyn Levels>) {
        self.telling(|| self.0.set_levels(levels));
    }

    /// Adds a recorder for this policy alone. It is told the present levels, and what happens from now on.
    pub fn add(&self, recorder: Arc<dyn Recorder>) {
        observe::watch();
        self.telling(|| {
            self.0.attach(&recorder);
            self.0.tell_levels(&*recorder);
        });
    }

    /// Owned copies of refusals, changes of state and rarer notes, from now on.
    pub fn events(&self) -> Events {
        let source: Weak<Shared> = Arc::downgrade(&self.0);
        Events::of(source)
    }

    /// How many events some listener was not told, for lack of room or time. Recorders that
    /// [follow](Recorder::follow) the policy can ask for it too.
    pub fn missed(&self) -> u64 {
        self.0.missed.load(Relaxed)
    }

    /// Whether an event would be heard, as far as one relaxed load can tell. Ask before making one.
    #[inline]
    pub fn is_on(&self) -> bool {
        observe::is_watched()
    }

    /// Whether a listener wants the time that calls take.
    #[inline]
    pub fn is_timed(&self) -> bool {
        self.is_on() && self.asked_and_timed()
    }

    fn asked_and_timed(&self) -> bool {
        if self.0.is_unasked() {
            if let Some(telling) = Telling::begin() {
                self.0.ask_installed();
                telling.finish();
            }
        }
        self.0.timed.load(Relaxed)
    }

    /// Tells the end of a call, if anybody listens: every call that was let in has exactly one. `result` is the
    /// pattern's own word for the outcome, or the outcome's.
    #[inline]
    pub fn done(
        &self,
        outcome: Outcome,
        result: Word,
        elapsed: Option<Duration>,
        slow: bool,
        attempts: u32,
        error: Option<&(dyn StdError + 'static)>,
    ) {
        if self.is_on() {
            self.emit(Event::Done { outcome, result, elapsed, slow, attempts, error });
        }
    }

    /// Tells a refusal, if anybody listens. `shadow`: it was only counted.
    #[inline]
    pub fn refused(&self, rejection: &Rejection, shadow: bool) {
        if self.is_on() {
            self.emit(Event::Refused { rejection, shadow });
        }
    }

    /// Tells a plain event at once. Never call it with a lock held.
    pub fn emit(&self, event: Event<'_>) {
        if !self.0.is_heard() {
            return;
        }
        match Telling::begin() {
            Some(telling) => {
                self.0.tell(&event, 0);
                telling.finish();
            }
            // A listener did it.
            None => raised::raise(self, &event),
        }
        self.deliver();
    }

    /// Puts an ordered event down: a change of state or a note. Call it with the lock held under which that happened,
    /// and [`deliver`](Self::deliver) without it.
    pub fn later(&self, event: OwnedEvent) {
        self.put(event, true);
    }

    /// Tells a note of what happened with no lock held, such as a reset.
    pub fn note(&self, note: Note) {
        self.later(OwnedEvent::Note(note));
        self.deliver();
    }

    /// As [`later`](Self::later), of which subscribers get no copy: housekeeping.
    pub fn later_unsubscribed(&self, event: OwnedEvent) {
        self.put(event, false);
    }

    fn put(&self, event: OwnedEvent, copied: bool) {
        if self.is_on() && self.0.is_heard() {
            self.0.put(Ordered { event, copied });
        }
    }

    /// The level with this number, 0 to 31, has moved: it is read and told by [`deliver`](Self::deliver), however
    /// often it moved. Call it once the new value can be read, with or without a lock.
    #[inline]
    pub fn moved(&self, level: u32) {
        if self.is_on() && self.0.is_heard() {
            self.0.moved(level);
        }
    }

    /// Tells what was put down and which levels moved. Never call it with a lock held.
    ///
    /// Costs a few loads if there is nothing, and leaves it to another thread that is at it already.
    #[inline]
    pub fn deliver(&self) {
        if self.is_on() && !self.0.is_idle() {
            self.deliver_now();
        }
    }

    fn deliver_now(&self) {
        match Telling::begin() {
            Some(telling) => {
                self.0.tell_ordered();
                telling.finish();
            }
            None => raised::raise_ordered(self),
        }
    }

    /// Runs code that calls listeners; what they raise waits.
    fn telling(&self, calls: impl FnOnce()) {
        let telling = Telling::begin();
        calls();
        if let Some(telling) = telling {
            telling.finish();
        }
        self.deliver();
    }
}

impl fmt::Debug for Emitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emitter").field("kind", &self.0.kind).field("name", &self.0.name).finish()
    }
}
