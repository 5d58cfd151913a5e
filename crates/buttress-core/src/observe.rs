//! The one seam through which metrics, tracing, health, admin pages and tests hear of what policies do.
//!
//! An [`Observer`] is set once per process with [`install`], or given to one policy by its builder; it gives each
//! policy a [`Recorder`]. With no listener anywhere in the process, an event costs one relaxed load of a static
//! flag. How an event gets to its listeners is the business of `buttress-kit`.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, Weak,
    atomic::{
        AtomicBool, AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use crate::{Kind, Name};

pub use crate::event::{Event, Level, Note, Outcome, OwnedEvent, PolicyEvent, Transition, Value, Word};

/// Whether anybody listens, anywhere in the process.
static WATCHED: AtomicBool = AtomicBool::new(false);
static INSTALLED: Mutex<Vec<Arc<dyn Observer>>> = Mutex::new(Vec::new());
static INSTALLED_COUNT: AtomicUsize = AtomicUsize::new(0);

/// Hears of all policies of a process, or of one.
pub trait Observer: Send + Sync + 'static {
    /// Called once per policy, before its first event: gives it a recorder of its own, which may cache handles.
    /// `None`: not interested.
    fn attach(&self, kind: Kind, name: &Name) -> Option<Arc<dyn Recorder>>;
}

impl<F> Observer for F
where
    F: Fn(Kind, &Name) -> Option<Arc<dyn Recorder>> + Send + Sync + 'static,
{
    fn attach(&self, kind: Kind, name: &Name) -> Option<Arc<dyn Recorder>> {
        self(kind, name)
    }
}

/// Hears of one policy. Called outside of every lock, on the task that caused the event; may use the policy's
/// handle, and what that raises is told after the event at hand. A panic is caught and counted.
pub trait Recorder: Send + Sync + 'static {
    /// Takes one event.
    fn record(&self, event: &Event<'_>);

    /// Whether `Done` should carry the time a call took, which costs the policy up to two clock reads.
    fn timed(&self) -> bool {
        false
    }

    /// Whether it never uses a policy's handle while it records, as metrics and log lines do not: then it is told at
    /// once even of what other listeners raise, and never misses an event.
    fn passive(&self) -> bool {
        false
    }

    /// Called once, before the first event: for recorders that want to ask again where the policy stands. `record` is
    /// told the present levels either way.
    fn follow(&self, levels: &Weak<dyn Levels>) {
        let _ = levels;
    }
}

/// Tells where a policy stands.
pub trait Levels: Send + Sync {
    /// The present value of the level with this number; the policy numbers its levels from 0. `None` past the last.
    fn level(&self, number: u32) -> Option<Level>;

    /// Hands all levels to `tell`, in order.
    fn levels(&self, tell: &mut dyn FnMut(Level)) {
        (0..u32::MAX).map_while(|number| self.level(number)).for_each(tell);
    }

    /// How many events some listener was not told so far, for lack of room or time.
    fn missed(&self) -> u64 {
        0
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

/// Sets an observer for all policies of the process: those that exist and those to come. It stays for good;
/// several may be installed.
pub fn install(observer: impl Observer) {
    let mut installed = observers();
    installed.push(Arc::new(observer));
    INSTALLED_COUNT.store(installed.len(), Release);
    watch();
}

fn observers() -> MutexGuard<'static, Vec<Arc<dyn Observer>>> {
    INSTALLED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many observers were installed so far: one load.
#[doc(hidden)]
#[inline]
pub fn installed_count() -> usize {
    INSTALLED_COUNT.load(Acquire)
}

/// The observers that were installed after the first `known`.
#[doc(hidden)]
pub fn installed_after(known: usize) -> Vec<Arc<dyn Observer>> {
    observers().iter().skip(known).cloned().collect()
}

/// Whether anybody listens anywhere in the process, as far as one relaxed load can tell.
#[doc(hidden)]
#[inline]
pub fn is_watched() -> bool {
    WATCHED.load(Relaxed)
}

/// Somebody listens to some policy.
#[doc(hidden)]
pub fn watch() {
    WATCHED.store(true, Relaxed);
}
