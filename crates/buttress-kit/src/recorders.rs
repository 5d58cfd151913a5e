//! Recorders, and what becomes of their panics.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use buttress_core::{Event, Kind, Name, Observer, Recorder};

static PANICS: AtomicU64 = AtomicU64::new(0);

/// How often a listener panicked, in the whole process.
pub fn listener_panics() -> u64 {
    PANICS.load(Relaxed)
}

/// Runs code of others that must not take the caller down: `None` if it panicked, whatever it panicked with.
///
/// For what runs between a decision and its consequences, such as the text of an error. Not counted in
/// [`listener_panics`].
pub fn caught<T>(theirs: impl FnOnce() -> T) -> Option<T> {
    let swallow = |panic: Box<dyn Any + Send>| {
        // A payload whose drop panics must not get out either. Only what that one panics with is never dropped.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
            std::mem::forget(panic);
        }
    };
    catch_unwind(AssertUnwindSafe(theirs)).map_err(swallow).ok()
}

/// Runs a listener's code. `None` if it panicked, which is counted.
pub(crate) fn listening<T>(theirs: impl FnOnce() -> T) -> Option<T> {
    let returned = caught(theirs);
    if returned.is_none() {
        PANICS.fetch_add(1, Relaxed);
    }
    returned
}

/// A list that only grows: walking it takes no lock.
#[derive(Default)]
pub(crate) struct Recorders(OnceLock<(Arc<dyn Recorder>, Box<Recorders>)>);

impl Recorders {
    /// Adds one at the end. By one thread at a time.
    pub(crate) fn push(&self, recorder: Arc<dyn Recorder>) {
        let mut last = self;
        while let Some((_, next)) = last.0.get() {
            last = next;
        }
        let _ = last.0.set((recorder, Box::default()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.get().is_none()
    }

    pub(crate) fn each(&self, mut with: impl FnMut(&dyn Recorder)) {
        let mut node = self;
        while let Some((recorder, next)) = node.0.get() {
            with(&**recorder);
            node = next;
        }
    }

    /// Tells all but the first `known`. Returns how many there are.
    pub(crate) fn tell(&self, event: &Event<'_>, known: usize) -> usize {
        let mut count = 0;
        self.each(|recorder| {
            if count >= known {
                listening(|| recorder.record(event));
            }
            count += 1;
        });
        count
    }
}

/// The recorder that an observer has for a policy, if it is interested.
pub(crate) fn attached(observer: &dyn Observer, kind: Kind, name: &Name) -> Option<Arc<dyn Recorder>> {
    listening(|| observer.attach(kind, name)).flatten()
}
