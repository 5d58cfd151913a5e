//! What listeners raise is told after the event at hand, by the thread that raised it.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    ptr,
};

use buttress_core::{Event, OwnedEvent};

use super::{Emitter, shared::Shared};
use crate::sync::local;

/// The most that waits on one thread, and the most of it that one caller tells.
const MOST: usize = 1024;

local!(HERE: Here = Here::new());
local!(RAISED: RefCell<VecDeque<Raised>> = RefCell::new(VecDeque::new()));

/// What this thread is doing. It has no destructor, so a thread that ends can still look at it.
struct Here {
    telling: Cell<bool>,
    telling_passive: Cell<bool>,
    /// The policy whose ordered events it tells.
    turn: Cell<*const Shared>,
    /// Whether there may be something in `RAISED`, which costs more to look into.
    raised: Cell<bool>,
}

impl Here {
    const fn new() -> Self {
        Self {
            telling: Cell::new(false),
            telling_passive: Cell::new(false),
            turn: Cell::new(ptr::null()),
            raised: Cell::new(false),
        }
    }
}

/// Something this thread does until this is dropped.
pub(super) struct Doing(fn(&Here) -> &Cell<bool>);

impl Doing {
    /// `None` if the thread does it already.
    fn begin(which: fn(&Here) -> &Cell<bool>) -> Option<Self> {
        // Not `then_some`: dropping an unused guard would end it.
        HERE.with(|here| !which(here).replace(true)).then(|| Self(which))
    }

    /// Tells passive recorders.
    pub(super) fn telling_passive() -> Option<Self> {
        Self::begin(|here| &here.telling_passive)
    }
}

impl Drop for Doing {
    fn drop(&mut self) {
        HERE.with(|here| self.0(here).set(false));
    }
}

/// This thread tells events, or asks observers: what is raised meanwhile waits.
pub(super) struct Telling(Doing);

impl Telling {
    /// `None` if the thread does so already.
    pub(super) fn begin() -> Option<Self> {
        Doing::begin(|here| &here.telling).map(Self)
    }

    /// Tells what was raised meanwhile.
    #[inline]
    pub(super) fn finish(self) {
        if HERE.with(|here| here.raised.get()) {
            self.tell_raised();
        }
    }

    fn tell_raised(self) {
        let mut told = 0;
        while let Some(raised) = queue(VecDeque::pop_front).flatten() {
            told += 1;
            match raised {
                // Two listeners that answer each other for ever must not hold the caller for ever.
                Raised::Plain(emitter, ..) if told > MOST => emitter.0.miss(),
                Raised::Plain(emitter, event, known) => emitter.0.tell(&event.as_event(), known),
                // Stays in its ring, and is told with the policy's next event.
                Raised::Ordered(_) if told > MOST => {}
                Raised::Ordered(emitter) => emitter.0.tell_ordered(),
            }
        }
        HERE.with(|here| here.raised.set(false));
        drop(self.0);
    }
}

/// Tells ordered events of this policy; what listeners add to them meanwhile is told in the same turn.
pub(super) fn in_turn(policy: &Shared, tell: impl FnOnce()) {
    HERE.with(|here| here.turn.set(policy));
    tell();
    HERE.with(|here| here.turn.set(ptr::null()));
}

/// Tells passive recorders a plain event, and keeps it for the others. Observers that wait to be asked are asked
/// then: now they may need a lock that the listener holds who is being told.
pub(super) fn raise(emitter: &Emitter, event: &Event<'_>) {
    let policy = &*emitter.0;
    let known = policy.tell_passive(event, 0);
    if !policy.is_followed() && !policy.is_unasked() {
        return;
    }
    let kept = Kept::of(event).is_some_and(|event| put(Raised::Plain(emitter.clone(), event, known)));
    if !kept {
        policy.miss();
    }
}

/// Tells passive recorders what is in the policy's ring, and keeps in mind that there is something for the others.
pub(super) fn raise_ordered(emitter: &Emitter) {
    let policy = &*emitter.0;
    let asked = !policy.is_unasked();
    if asked || policy.has_passive() {
        policy.hand_on();
    }
    let same = |raised: &Raised| matches!(raised, Raised::Ordered(one) if ptr::eq(&*one.0, policy));
    let known = || {
        (asked && HERE.with(|here| ptr::eq(here.turn.get(), policy)))
            || queue(|queue| queue.iter().any(same)).unwrap_or(true)
    };
    if !policy.is_idle() && !known() {
        // Without room it stays in its ring, and is told with the policy's next event.
        put(Raised::Ordered(emitter.clone()));
    }
}

/// Whether there was room.
fn put(raised: Raised) -> bool {
    HERE.with(|here| here.raised.set(true));
    let mut raised = Some(raised);
    // What there is no room for is dropped after the queue was let go: it may be the last hold on a policy.
    queue(|queue| {
        if queue.len() < MOST {
            queue.extend(raised.take());
        }
    });
    raised.is_none()
}

/// `None` if the thread is ending, and has no place for it any more.
fn queue<T>(with: impl FnOnce(&mut VecDeque<Raised>) -> T) -> Option<T> {
    RAISED.try_with(|queue| with(&mut queue.borrow_mut())).ok()
}

enum Raised {
    /// And how many of the passive recorders know it.
    Plain(Emitter, Kept, usize),
    Ordered(Emitter),
}

/// An event without what it borrowed.
enum Kept {
    Owned(OwnedEvent),
    Plain(Event<'static>),
}

impl Kept {
    fn of(event: &Event<'_>) -> Option<Self> {
        Some(Self::Plain(match *event {
            Event::Done { outcome, result, elapsed, slow, attempts, .. } => {
                Event::Done { outcome, result, elapsed, slow, attempts, error: None }
            }
            Event::Attempt { n, delay, reason, .. } => Event::Attempt { n, delay, reason, error: None },
            Event::Level(level) => Event::Level(level),
            _ => return OwnedEvent::of(event).map(Self::Owned),
        }))
    }

    fn as_event(&self) -> Event<'_> {
        match self {
            Self::Owned(event) => event.as_event(),
            Self::Plain(event) => *event,
        }
    }
}
