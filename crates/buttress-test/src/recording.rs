use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use buttress_core::{
    Event, Name, Observer, Outcome, PolicyKind, Recorder, Rejection,
    observe::{AttemptReason, Cause, Level, Note, StopReason, TransitionDetail},
};

/// An observer that keeps every event, for assertions. Clones share what was recorded.
///
/// ```
/// use buttress_core::{Emitter, Event, Name, Outcome, PolicyKind};
/// use buttress_test::Recording;
///
/// let recording = Recording::new();
/// let emitter = Emitter::new(PolicyKind::Retry, Name::new("payments"));
/// emitter.observe(&recording); // what `X::builder("payments").observe(recording.clone())` does
/// emitter.emit(Event::Done { outcome: Outcome::Success, elapsed: None, slow: false, attempts: 2, error: None });
/// assert_eq!(recording.policy("payments").outcomes(), [Outcome::Success]);
/// ```
#[derive(Clone, Default)]
pub struct Recording {
    log: Arc<Mutex<Vec<Recorded>>>,
    timed: bool,
}

/// One recorded event.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Recorded {
    /// Which pattern it is from.
    pub kind: PolicyKind,
    /// Which policy it is from.
    pub policy: Name,
    /// What happened.
    pub what: What,
}

/// What happened; [`Event`] without what it borrows.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are those of `Event`
pub enum What {
    /// A call ended; what it failed with as text.
    Done { outcome: Outcome, elapsed: Option<Duration>, slow: bool, attempts: u32, error: Option<String> },
    /// A call was refused, or in shadow mode would have been.
    Refused { rejection: Rejection, shadow: bool },
    /// An attempt failed and another one follows; the error as text.
    Attempt { n: u32, delay: Duration, reason: AttemptReason, error: Option<String> },
    /// The state changed.
    Transition { from: &'static str, to: &'static str, cause: Cause, detail: TransitionDetail },
    /// A level has a new value.
    Level { what: Level, value: f64 },
    /// Something else worth telling happened.
    Note(Note),
    /// An event of a sort this version does not know, as text.
    Other(String),
}

impl What {
    fn of(event: &Event<'_>) -> Self {
        match *event {
            Event::Done { outcome, elapsed, slow, attempts, error } => {
                Self::Done { outcome, elapsed, slow, attempts, error: error.map(ToString::to_string) }
            }
            Event::Refused { rejection, shadow } => Self::Refused { rejection: rejection.clone(), shadow },
            Event::Attempt { n, delay, reason, error } => {
                Self::Attempt { n, delay, reason, error: error.map(ToString::to_string) }
            }
            Event::Transition { from, to, cause, detail } => Self::Transition { from, to, cause, detail },
            Event::Level { what, value } => Self::Level { what, value },
            Event::Note(note) => Self::Note(note),
            ref other => Self::Other(format!("{other:?}")),
        }
    }
}

impl Recording {
    /// Makes an observer that has recorded nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also asks the policies how long calls took.
    pub fn timed(mut self) -> Self {
        self.timed = true;
        self
    }

    /// Installs it for all policies of the process, those that exist and those to come. It stays for good.
    pub fn install(&self) {
        buttress_core::observe::install(self.clone());
    }

    /// A copy of everything recorded so far, in order.
    pub fn events(&self) -> Vec<Recorded> {
        self.log().clone()
    }

    /// A copy of everything recorded so far, and begins anew.
    pub fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut *self.log())
    }

    /// A copy of what one policy told so far.
    pub fn policy(&self, name: &str) -> Self {
        self.filtered(|event| event.policy.as_str() == name)
    }

    /// A copy of what policies of one kind told so far.
    pub fn kind(&self, kind: PolicyKind) -> Self {
        self.filtered(|event| event.kind == kind)
    }

    /// How many events there are that `which` says yes to.
    pub fn count(&self, which: impl Fn(&What) -> bool) -> usize {
        self.log().iter().filter(|event| which(&event.what)).count()
    }

    /// How calls ended, in order.
    pub fn outcomes(&self) -> Vec<Outcome> {
        self.pick(|what| match what {
            What::Done { outcome, .. } => Some(*outcome),
            _ => None,
        })
    }

    /// Refusals that were enforced, in order.
    pub fn refusals(&self) -> Vec<Rejection> {
        self.pick(|what| match what {
            What::Refused { rejection, shadow: false } => Some(rejection.clone()),
            _ => None,
        })
    }

    /// Refusals that were only counted, in order.
    pub fn shadow_refusals(&self) -> Vec<Rejection> {
        self.pick(|what| match what {
            What::Refused { rejection, shadow: true } => Some(rejection.clone()),
            _ => None,
        })
    }

    /// Changes of state as (from, to), in order.
    pub fn transitions(&self) -> Vec<(&'static str, &'static str)> {
        self.pick(|what| match what {
            What::Transition { from, to, .. } => Some((*from, *to)),
            _ => None,
        })
    }

    /// What caused the changes of state, in order.
    pub fn causes(&self) -> Vec<Cause> {
        self.pick(|what| match what {
            What::Transition { cause, .. } => Some(*cause),
            _ => None,
        })
    }

    /// Failed attempts that were followed by another one, as (number, wait), in order.
    pub fn attempts(&self) -> Vec<(u32, Duration)> {
        self.pick(|what| match what {
            What::Attempt { n, delay, .. } => Some((*n, *delay)),
            _ => None,
        })
    }

    /// Why further attempts were not made, in order.
    pub fn stops(&self) -> Vec<StopReason> {
        self.pick(|what| match what {
            What::Note(Note::Stopped(reason)) => Some(*reason),
            _ => None,
        })
    }

    /// The values a level had, in order.
    pub fn levels(&self, level: Level) -> Vec<f64> {
        self.pick(|what| match what {
            What::Level { what, value } if *what == level => Some(*value),
            _ => None,
        })
    }

    /// Notes, in order.
    pub fn notes(&self) -> Vec<Note> {
        self.pick(|what| match what {
            What::Note(note) => Some(*note),
            _ => None,
        })
    }

    fn pick<T>(&self, what: impl Fn(&What) -> Option<T>) -> Vec<T> {
        self.log().iter().filter_map(|event| what(&event.what)).collect()
    }

    fn filtered(&self, which: impl Fn(&Recorded) -> bool) -> Self {
        let log = self.log().iter().filter(|event| which(event)).cloned().collect();
        Self { log: Arc::new(Mutex::new(log)), timed: self.timed }
    }

    fn log(&self) -> MutexGuard<'_, Vec<Recorded>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&*self.log()).finish()
    }
}

impl Observer for Recording {
    fn attach(&self, kind: PolicyKind, name: &Name) -> Option<Arc<dyn Recorder>> {
        Some(Arc::new(OfPolicy { kind, policy: name.clone(), recording: self.clone() }))
    }
}

struct OfPolicy {
    kind: PolicyKind,
    policy: Name,
    recording: Recording,
}

impl Recorder for OfPolicy {
    fn record(&self, event: &Event<'_>) {
        let (kind, policy) = (self.kind, self.policy.clone());
        self.recording.log().push(Recorded { kind, policy, what: What::of(event) });
    }

    fn timed(&self) -> bool {
        self.recording.timed
    }
}
