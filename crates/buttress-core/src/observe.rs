//! The one seam through which metrics, tracing, health, admin pages and tests hear of what policies do.
//!
//! A policy owns an [`Emitter`]; an [`Observer`] is set once per process with [`install`], or given to one
//! policy. With none anywhere in the process, an event costs one relaxed load of a static flag.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::VecDeque,
    error::Error as StdError,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::{Name, Rejection};

/// Which pattern an event is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PolicyKind {
    /// A circuit breaker.
    Breaker,
    /// A retry.
    Retry,
    /// A timeout.
    Timeout,
    /// A bulkhead.
    Bulkhead,
    /// A rate limit.
    RateLimit,
    /// A fallback.
    Fallback,
    /// A hedge.
    Hedge,
    /// A single flight.
    Coalesce,
    /// Dead letters.
    DeadLetters,
    /// Injected faults.
    Chaos,
}

impl PolicyKind {
    /// In snake case, as in logs and paths.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Breaker => "breaker",
            Self::Retry => "retry",
            Self::Timeout => "timeout",
            Self::Bulkhead => "bulkhead",
            Self::RateLimit => "rate_limit",
            Self::Fallback => "fallback",
            Self::Hedge => "hedge",
            Self::Coalesce => "coalesce",
            Self::DeadLetters => "dead_letters",
            Self::Chaos => "chaos",
        }
    }
}

/// What a policy tells. Six sorts serve all patterns.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A call ended. Every admitted call has exactly one.
    Done {
        /// How.
        outcome: Outcome,
        /// How long it took, where the policy read the clock (a rule needs it, or an observer asked).
        elapsed: Option<Duration>,
        /// Whether it was slower than the policy's threshold for slow calls.
        slow: bool,
        /// How many attempts it took; 1 where the policy makes one.
        attempts: u32,
        /// What it failed with, where the policy still has that as it tells, and the type can be shown as an error:
        /// a breaker does. What is told later, because another event is being told, comes without it.
        error: Option<&'a (dyn StdError + 'static)>,
    },
    /// A call was refused, or in shadow mode would have been.
    Refused {
        /// Why.
        rejection: &'a Rejection,
        /// Only counted, not refused.
        shadow: bool,
    },
    /// An attempt failed and another one follows.
    Attempt {
        /// The 1-based number of the attempt that failed.
        n: u32,
        /// The wait before the next one.
        delay: Duration,
        /// What called for the next one.
        reason: AttemptReason,
        /// The error, where the type can be shown as one.
        error: Option<&'a (dyn StdError + 'static)>,
    },
    /// The policy changed its state.
    Transition {
        /// The state before.
        from: &'static str,
        /// The state now.
        to: &'static str,
        /// Who or what did it.
        cause: Cause,
        /// What was known at that moment.
        detail: TransitionDetail,
    },
    /// A level has a new value.
    Level {
        /// Which.
        what: Level,
        /// The value; NaN where there is none.
        value: f64,
    },
    /// Something else worth telling happened.
    Note(Note),
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It succeeded. Fallback: the primary answer was good.
    Success,
    /// It failed.
    Failure,
    /// It failed by panicking.
    Panicked,
    /// It ran into this policy's time limit.
    TimedOut,
    /// It says nothing about the service.
    Ignored,
    /// The caller dropped it.
    Cancelled,
    /// It failed and the fallback answered.
    FallbackSuccess,
    /// It failed and so did the fallback.
    FallbackFailure,
    /// It failed in a way the fallback does not handle.
    NotHandled,
}

impl Outcome {
    /// In snake case, as in labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Panicked => "panicked",
            Self::TimedOut => "timeout",
            Self::Ignored => "ignored",
            Self::Cancelled => "cancelled",
            Self::FallbackSuccess => "fallback_success",
            Self::FallbackFailure => "fallback_failure",
            Self::NotHandled => "not_handled",
        }
    }
}

/// What called for another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AttemptReason {
    /// An error.
    Error,
    /// A response that counts as a failure.
    Response,
    /// A time-out of a policy inside.
    Timeout,
}

impl AttemptReason {
    /// In snake case, as in labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Response => "response",
            Self::Timeout => "timeout",
        }
    }
}

/// Who or what changed a policy's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The policy's own rules.
    Rule,
    /// Somebody, through the handle.
    Manual,
    /// New settings.
    Reload,
    /// A health check.
    Health,
}

impl Cause {
    /// In snake case, as in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "auto",
            Self::Manual => "manual",
            Self::Reload => "reload",
            Self::Health => "health",
        }
    }
}

/// What was known when a state changed. Fields that do not apply are `None` or 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TransitionDetail {
    /// Calls in the window.
    pub calls: u64,
    /// The share of failures in the window, `0.0..=1.0`.
    pub failure_ratio: Option<f64>,
    /// The share of slow calls in the window, `0.0..=1.0`.
    pub slow_ratio: Option<f64>,
    /// How long the new state lasts at least, or, on closing, how long ago the circuit left closed.
    pub open_for: Option<Duration>,
    /// Calls refused since the circuit was last closed.
    pub rejected: u64,
}

/// A quantity with a current value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Level {
    /// The state a policy is in, told when an observer attaches; the value is 1.
    State(&'static str),
    /// Share of failures in the window, `0.0..=1.0`.
    FailureRatio,
    /// Share of slow calls in the window, `0.0..=1.0`.
    SlowRatio,
    /// Calls that are being made.
    InFlight,
    /// Calls that wait.
    QueueDepth,
    /// The most calls that may be made at once.
    Limit,
    /// Retries left in the budget.
    BudgetAvailable,
    /// Keys of a keyed policy that are in this state.
    Keys(&'static str),
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Note {
    /// A call was let in.
    Admitted,
    /// A call began to wait.
    Queued,
    /// A call ended its wait, this long after it began; let in or not.
    QueueWait(Duration),
    /// Another attempt was wanted or possible, and not made.
    Stopped(StopReason),
    /// A policy was reset by hand.
    Reset,
    /// Waiting calls were sent away by hand; how many.
    QueueCleared(u64),
    /// A policy got new settings.
    Reconfigured,
    /// A probe did not come back in time; its slot was given to the next.
    LeaseExpired,
    /// A rule passed its threshold where it may not act: `failure_rate`, `slow_rate`, `consecutive`.
    Exceeded(&'static str),
    /// A stored answer was given, this old.
    Stale(Duration),
    /// A key had to go to make room.
    Evicted,
}

/// Why another attempt was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// As many as allowed were made.
    MaxAttempts,
    /// The retry budget is used up.
    Budget,
    /// It could not end before the deadline, or the time for all attempts is used up.
    Deadline,
    /// The failure is permanent, or a refusal.
    NotRetryable,
    /// The request cannot be sent twice.
    NotReplayable,
    /// The service said it is broken when asked for readiness.
    NotReady,
}

impl StopReason {
    /// In snake case, as in labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MaxAttempts => "max_attempts",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
            Self::NotRetryable => "not_retryable",
            Self::NotReplayable => "not_replayable",
            Self::NotReady => "not_ready",
        }
    }
}

/// Hears of all policies of a process, or of one.
pub trait Observer: Send + Sync + 'static {
    /// Called once per policy, before its first event: gives it a recorder of its own, which may cache handles.
    /// `None`: not interested.
    fn attach(&self, kind: PolicyKind, name: &Name) -> Option<Arc<dyn Recorder>>;
}

impl<F> Observer for F
where
    F: Fn(PolicyKind, &Name) -> Option<Arc<dyn Recorder>> + Send + Sync + 'static,
{
    fn attach(&self, kind: PolicyKind, name: &Name) -> Option<Arc<dyn Recorder>> {
        self(kind, name)
    }
}

/// Hears of one policy. Called outside of every lock, on the task that caused the event; may use the policy's
/// handle, and what that raises is told after the event at hand. A panic is caught and counted
/// ([`listener_panics`]).
pub trait Recorder: Send + Sync + 'static {
    /// Takes one event.
    fn record(&self, event: &Event<'_>);

    /// Whether `Done` should carry the time a call took, which costs the policy up to two clock reads.
    fn timed(&self) -> bool {
        false
    }

    /// Called once, before the first event, where the policy has levels: for recorders that want to ask again
    /// where it stands. `record` is told the present levels either way.
    fn follow(&self, levels: &Weak<dyn Levels>) {
        let _ = levels;
    }
}

/// A closure as a recorder.
struct FnRecorder<F>(F);

impl<F: Fn(&Event<'_>) + Send + Sync + 'static> Recorder for FnRecorder<F> {
    fn record(&self, event: &Event<'_>) {
        (self.0)(event);
    }

    fn timed(&self) -> bool {
        true
    }
}

/// Makes a recorder of a closure; it is given the time that calls took.
pub fn recorder_fn<F>(record: F) -> Arc<dyn Recorder>
where
    F: Fn(&Event<'_>) + Send + Sync + 'static,
{
    Arc::new(FnRecorder(record))
}

/// Tells a recorder that attaches late where its policy stands.
pub trait Levels: Send + Sync {
    /// Tells the present state and levels, as `Level` events.
    fn levels(&self, tell: &mut dyn FnMut(Event<'_>));
}

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

fn unpoisoned<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A policy's end of the seam. Clones are the same one.
#[derive(Clone)]
pub struct Emitter {
    shared: Arc<Shared>,
}

struct Shared {
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
        Events { mailbox, emitter: Arc::downgrade(&self.shared) }
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

/// An owned copy of an event; from [`Events`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PolicyEvent {
    /// Which pattern.
    pub kind: PolicyKind,
    /// Which policy.
    pub policy: Name,
    /// What happened.
    pub what: Happening,
}

/// What happened, owned.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Happening {
    /// A call was refused.
    Refused {
        /// Why.
        rejection: Rejection,
        /// Only counted, not refused.
        shadow: bool,
    },
    /// The state changed.
    Transition {
        /// The state before.
        from: &'static str,
        /// The state now.
        to: &'static str,
        /// Who or what did it.
        cause: Cause,
        /// What was known at that moment.
        detail: TransitionDetail,
    },
    /// The policy was reset by hand, whether that changed its state or not.
    Reset,
    /// Waiting calls were sent away by hand; how many.
    QueueCleared(u64),
    /// A rule passed its threshold where it may not act.
    Exceeded(&'static str),
}

impl Happening {
    fn of(event: &Event<'_>) -> Option<Self> {
        Some(match *event {
            Event::Refused { rejection, shadow } => Self::Refused { rejection: rejection.clone(), shadow },
            Event::Transition { from, to, cause, detail } => Self::Transition { from, to, cause, detail },
            Event::Note(Note::Reset) => Self::Reset,
            Event::Note(Note::QueueCleared(count)) => Self::QueueCleared(count),
            Event::Note(Note::Exceeded(rule)) => Self::Exceeded(rule),
            _ => return None,
        })
    }
}

const MAILBOX: usize = 1024;

#[derive(Default)]
struct Mailbox(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    events: VecDeque<PolicyEvent>,
    missed: u64,
    waker: Option<Waker>,
}

impl Mailbox {
    fn put(&self, event: PolicyEvent) {
        let mut waiting = unpoisoned(&self.0);
        if waiting.events.len() == MAILBOX {
            waiting.events.pop_front();
            waiting.missed = waiting.missed.saturating_add(1);
        }
        waiting.events.push_back(event);
        let waker = waiting.waker.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A subscription to one policy: refusals, transitions and resets, in order; made by [`Emitter::events`].
pub struct Events {
    mailbox: Arc<Mailbox>,
    emitter: Weak<Shared>,
}

impl Events {
    /// The next event, if one waits.
    pub fn try_next(&mut self) -> Option<PolicyEvent> {
        unpoisoned(&self.mailbox.0).events.pop_front()
    }

    /// Waits for the next event. `None` once the policy is gone and all is read.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<PolicyEvent> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The same as a poll, for streams.
    pub fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PolicyEvent>> {
        let mut waiting = unpoisoned(&self.mailbox.0);
        if let Some(event) = waiting.events.pop_front() {
            return Poll::Ready(Some(event));
        }
        if self.emitter.strong_count() == 0 {
            return Poll::Ready(None);
        }
        let former = waiting.waker.replace(cx.waker().clone());
        // The last waker of a task may drop the task, and with it a call that tells its end here.
        drop(waiting);
        drop(former);
        Poll::Pending
    }

    /// How many events were dropped because nobody read.
    pub fn missed(&self) -> u64 {
        unpoisoned(&self.mailbox.0).missed
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Whoever waits for an event of this policy must hear that none will come.
        for mailbox in self.mailboxes() {
            let waker = unpoisoned(&mailbox.0).waker.take();
            if let Some(waker) = waker {
                // A panic must neither silence the others nor reach whoever dropped the last handle.
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
                    swallow(panic);
                }
            }
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("waiting", &unpoisoned(&self.mailbox.0).events.len()).finish()
    }
}
