//! How an event gets to its listeners.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

use super::{
    Event, Events, Levels, Observer, PolicyEvent, PolicyKind, Recorder,
    subscription::{Happening, Mailbox},
};
use crate::{Name, Rejection};

/// Whether anybody listens, anywhere in the process.
static WATCHED: AtomicBool = AtomicBool::new(false);
static INSTALLED: Mutex<Vec<Arc<dyn Observer>>> = Mutex::new(Vec::new());
static INSTALLED_COUNT: AtomicUsize = AtomicUsize::new(0);
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Sets an observer for all policies of the process: those that exist and those to come. It stays for good;
/// several may be installed.
pub fn install(observer: impl Observer) {
    let mut installed = unpoisoned(&INSTALLED);
    installed.push(Arc::new(observer));
    INSTALLED_COUNT.store(installed.len(), Release);
    WATCHED.store(true, Relaxed);
}

/// How often a listener panicked, in the whole process.
pub fn listener_panics() -> u64 {
    PANICS.load(Relaxed)
}

pub(super) fn unpoisoned<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A policy's end of the seam. Clones are the same one.
#[derive(Clone)]
pub struct Emitter {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    kind: PolicyKind,
    name: Name,
    recorders: Node,
    timed: AtomicBool,
    /// How many of the installed observers have been asked.
    asked: AtomicUsize,
    /// Held while installed observers are asked, so that nobody tells an event before all were. Whoever holds
    /// it has set `TELLING`, so that what an observer raises meanwhile waits instead of asking again.
    asking: Mutex<()>,
    /// Held while recorders are added, never while one is called.
    adding: Mutex<()>,
    subscribed: AtomicBool,
    subscribers: Mutex<Vec<Weak<Mailbox>>>,
    levels: OnceLock<Weak<dyn Levels>>,
}

/// A list that only grows: walking it takes no lock.
#[derive(Default)]
struct Node(OnceLock<(Arc<dyn Recorder>, Box<Node>)>);

impl Node {
    fn push(&self, recorder: Arc<dyn Recorder>) {
        let mut last = self;
        while let Some((_, next)) = last.0.get() {
            last = next;
        }
        // Pushes are serialised by `Shared::adding`.
        let _ = last.0.set((recorder, Box::default()));
    }
}

impl Emitter {
    /// Makes the end that belongs to one policy.
    pub fn new(kind: PolicyKind, name: Name) -> Self {
        let shared = Shared {
            kind,
            name,
            recorders: Node::default(),
            timed: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
            asking: Mutex::new(()),
            adding: Mutex::new(()),
            subscribed: AtomicBool::new(false),
            subscribers: Mutex::new(Vec::new()),
            levels: OnceLock::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The name of the policy.
    pub fn name(&self) -> &Name {
        &self.shared.name
    }

    /// Which pattern the policy is.
    pub fn kind(&self) -> PolicyKind {
        self.shared.kind
    }

    /// Says who knows the policy's state and levels, for recorders that come late. Only the first one counts.
    pub fn set_levels(&self, levels: Weak<dyn Levels>) {
        let _ = self.shared.levels.set(levels);
    }

    /// Adds a recorder for this policy alone.
    pub fn add(&self, recorder: Arc<dyn Recorder>) {
        WATCHED.store(true, Relaxed);
        // What it raises while it learns the levels waits, as with every other event.
        let telling = Telling::begin();
        self.shared.attach(&recorder);
        self.shared.tell_levels(&*recorder);
        if let Some(telling) = telling {
            telling.tell_later();
        }
    }

    /// Adds an observer for this policy alone.
    pub fn observe(&self, observer: &dyn Observer) {
        if let Some(recorder) = observer.attach(self.shared.kind, &self.shared.name) {
            self.add(recorder);
        }
    }

    /// Whether an event would be heard, as far as one relaxed load can tell. Ask before making one.
    #[inline(always)]
    pub fn is_on(&self) -> bool {
        WATCHED.load(Relaxed)
    }

    /// Whether a listener wants the time that calls take.
    #[inline]
    pub fn is_timed(&self) -> bool {
        self.is_on() && self.asked_and_timed()
    }

    #[cold]
    fn asked_and_timed(&self) -> bool {
        if self.shared.is_unasked() {
            if let Some(telling) = Telling::begin() {
                self.shared.ask_installed();
                telling.tell_later();
            }
        }
        self.shared.timed.load(Relaxed)
    }

    /// Tells an event. Never call it with a lock held.
    #[cold]
    pub fn emit(&self, event: Event<'_>) {
        if !self.shared.has_listeners() && !self.shared.is_unasked() {
            return;
        }
        let Some(telling) = Telling::begin() else {
            self.raise(&event);
            return;
        };
        self.shared.ask_installed();
        self.shared.tell(&event);
        telling.tell_later();
    }

    /// What a listener raises is told after the event it is listening to.
    #[cold]
    fn raise(&self, event: &Event<'_>) {
        RAISED.set(true);
        later(|later| {
            if later.len() < LATER_MAX {
                later.push_back((self.clone(), OwnedEvent::of(event)));
            }
        });
    }

    /// Owned copies of refusals, transitions and resets, from now on.
    ///
    /// At most 1024 wait; then the oldest is dropped and counted ([`Events::missed`]).
    pub fn events(&self) -> Events {
        let mailbox = Arc::new(Mailbox::default());
        let mut subscribers = unpoisoned(&self.shared.subscribers);
        subscribers.retain(|one| one.strong_count() > 0);
        subscribers.push(Arc::downgrade(&mailbox));
        self.shared.subscribed.store(true, Release);
        WATCHED.store(true, Relaxed);
        Events::new(mailbox, Arc::downgrade(&self.shared))
    }
}

const LATER_MAX: usize = 1024;

thread_local! {
    static TELLING: Cell<bool> = const { Cell::new(false) };
    /// Whether there may be something in `LATER`, which costs more to look into.
    static RAISED: Cell<bool> = const { Cell::new(false) };
    static LATER: RefCell<VecDeque<(Emitter, OwnedEvent)>> = const { RefCell::new(VecDeque::new()) };
}

/// What listeners raised on this thread. `None` where the thread is ending, and has no place for it any more.
fn later<T>(with: impl FnOnce(&mut VecDeque<(Emitter, OwnedEvent)>) -> T) -> Option<T> {
    LATER.try_with(|later| with(&mut later.borrow_mut())).ok()
}

/// This thread is telling an event, or asking observers; until it is dropped, events wait.
struct Telling(());

impl Telling {
    /// `None` where the thread does so already.
    fn begin() -> Option<Self> {
        // Not `then_some`: dropping an unused guard would end the telling.
        (!TELLING.replace(true)).then(|| Self(()))
    }

    /// Tells what was raised meanwhile.
    #[inline]
    fn tell_later(self) {
        if RAISED.get() {
            Self::tell_raised();
        }
    }

    #[cold]
    fn tell_raised() {
        let mut told = 0;
        while let Some((emitter, event)) = later(VecDeque::pop_front).flatten() {
            // Two listeners that answer each other for ever must not hold the caller for ever.
            told += 1;
            if told <= LATER_MAX {
                emitter.shared.ask_installed();
                emitter.shared.tell(&event.borrowed());
            }
        }
        RAISED.set(false);
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        TELLING.set(false);
    }
}

impl Shared {
    /// Adds a recorder. It follows before it is added, so that no event of another thread comes first.
    fn attach(&self, recorder: &Arc<dyn Recorder>) {
        let ask = || {
            if let Some(levels) = self.levels.get() {
                recorder.follow(levels);
            }
            recorder.timed()
        };
        match catch_unwind(AssertUnwindSafe(ask)) {
            Ok(true) => self.timed.store(true, Relaxed),
            Ok(false) => {}
            Err(panic) => swallow(panic),
        }
        let _adding = unpoisoned(&self.adding);
        self.recorders.push(recorder.clone());
    }

    fn has_listeners(&self) -> bool {
        self.recorders.0.get().is_some() || self.subscribed.load(Acquire)
    }

    /// Whether observers were installed since the last time they were asked.
    fn is_unasked(&self) -> bool {
        self.asked.load(Acquire) != INSTALLED_COUNT.load(Acquire)
    }

    /// Attaches the observers installed since the last time. Only while [`Telling`].
    #[inline]
    fn ask_installed(&self) {
        if self.is_unasked() {
            self.attach_installed();
        }
    }

    #[cold]
    fn attach_installed(&self) {
        let asking = unpoisoned(&self.asking);
        let asked = self.asked.load(Acquire);
        let fresh: Vec<_> = unpoisoned(&INSTALLED).iter().skip(asked).cloned().collect();
        let mut attached = Vec::new();
        for observer in &fresh {
            match catch_unwind(AssertUnwindSafe(|| observer.attach(self.kind, &self.name))) {
                Ok(Some(recorder)) => {
                    self.attach(&recorder);
                    attached.push(recorder);
                }
                Ok(None) => {}
                Err(panic) => swallow(panic),
            }
        }
        self.asked.store(asked.saturating_add(fresh.len()), Release);
        drop(asking);
        for recorder in attached {
            self.tell_levels(&*recorder);
        }
    }

    fn tell_levels(&self, recorder: &dyn Recorder) {
        if let Some(levels) = self.levels.get().and_then(Weak::upgrade) {
            levels.levels(&mut |event| guarded(recorder, &event));
        }
    }

    fn tell(&self, event: &Event<'_>) {
        let mut node = &self.recorders;
        while let Some((recorder, next)) = node.0.get() {
            guarded(&**recorder, event);
            node = next;
        }
        if self.subscribed.load(Acquire) {
            self.post(event);
        }
    }

    #[cold]
    fn post(&self, event: &Event<'_>) {
        let Some(what) = Happening::of(event) else { return };
        let event = PolicyEvent { kind: self.kind, policy: self.name.clone(), what };
        for mailbox in self.mailboxes() {
            // It wakes somebody, who may use the policy's handle, or panic.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| mailbox.put(event.clone()))) {
                swallow(panic);
            }
        }
    }

    /// The subscribers that are still there.
    fn mailboxes(&self) -> Vec<Arc<Mailbox>> {
        let mut subscribers = unpoisoned(&self.subscribers);
        subscribers.retain(|one| one.strong_count() > 0);
        subscribers.iter().filter_map(Weak::upgrade).collect()
    }
}

fn guarded(recorder: &dyn Recorder, event: &Event<'_>) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| recorder.record(event))) {
        swallow(panic);
    }
}

fn swallow(panic: Box<dyn Any + Send>) {
    PANICS.fetch_add(1, Relaxed);
    // A payload whose drop panics must not get out either. Only what that one panics with is never dropped.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(panic);
    }
}

impl fmt::Debug for Emitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emitter").field("kind", &self.shared.kind).field("name", &self.shared.name).finish()
    }
}

/// An event without what it borrowed.
enum OwnedEvent {
    Refused(Rejection, bool),
    Plain(Event<'static>),
}

impl OwnedEvent {
    fn of(event: &Event<'_>) -> Self {
        Self::Plain(match *event {
            Event::Refused { rejection, shadow } => return Self::Refused(rejection.clone(), shadow),
            Event::Attempt { n, delay, reason, .. } => Event::Attempt { n, delay, reason, error: None },
            Event::Done { outcome, elapsed, slow, attempts, .. } => {
                Event::Done { outcome, elapsed, slow, attempts, error: None }
            }
            Event::Transition { from, to, cause, detail } => Event::Transition { from, to, cause, detail },
            Event::Level { what, value } => Event::Level { what, value },
            Event::Note(note) => Event::Note(note),
        })
    }

    fn borrowed(&self) -> Event<'_> {
        match self {
            Self::Refused(rejection, shadow) => Event::Refused { rejection, shadow: *shadow },
            Self::Plain(event) => *event,
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Whoever waits for an event of this policy must hear that none will come.
        for mailbox in self.mailboxes() {
            // A panic must neither silence the others nor reach whoever dropped the last handle.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| mailbox.wake())) {
                swallow(panic);
            }
        }
    }
}
