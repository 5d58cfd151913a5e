//! The one seam through which metrics, tracing, health, admin pages and tests hear of what policies do.
//!
//! A policy owns an [`Emitter`]; an [`Observer`] is set once per process with [`install`], or given to one
//! policy. With none anywhere in the process, an event costs one relaxed load of a static flag.

use std::sync::{Arc, Weak};

use crate::Name;

mod emitter;
mod event;
mod subscription;

pub use self::{
    emitter::{Emitter, install, listener_panics},
    event::{AttemptReason, Cause, Event, Level, Note, Outcome, PolicyKind, StopReason, TransitionDetail},
    subscription::{Events, Happening, PolicyEvent},
};

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
