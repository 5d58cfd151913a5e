use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use buttress_core::{
    Event, Kind, Level, Name, Note, Observer, Outcome, Recorder, Rejection, Transition, Value, Word,
};

/// An observer that keeps every event, for assertions. Clones share what was recorded.
///
/// ```
/// use buttress_core::{Event, KindData, Name, Note, Observer};
/// use buttress_test::Recording;
///
/// static KIND: KindData = KindData::new("gate");
///
/// let recording = Recording::new();
/// // What `X::builder("payments").observe(recording.clone())` does, and the policy when something happens.
/// let recorder = recording.attach(&KIND, &Name::new("payments")).unwrap();
/// recorder.record(&Event::Note(&Note::new(Note::RESET)));
/// assert_eq!(recording.policy("payments").notes(), [Note::new("reset")]);
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
    pub kind: Kind,
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
    Done {
        outcome: Outcome,
        result: Word,
        elapsed: Option<Duration>,
        slow: bool,
        attempts: u32,
        error: Option<String>,
    },
    /// A call was refused, or in shadow mode would have been.
    Refused { rejection: Rejection, shadow: bool },
    /// An attempt failed and another one follows; the error as text.
    Attempt { n: u32, delay: Duration, reason: Word, error: Option<String> },
    /// The state changed.
    Transition(Transition),
    /// A level has a new value.
    Level(Level),
    /// Something else worth telling happened.
    Note(Note),
    /// An event of a sort this version does not know, as text.
    Other(String),
}

impl What {
    fn of(event: &Event<'_>) -> Self {
        match *event {
            Event::Done { outcome, result, elapsed, slow, attempts, error } => {
                Self::Done { outcome, result, elapsed, slow, attempts, error: error.map(ToString::to_string) }
            }
            Event::Refused { rejection, shadow } => Self::Refused { rejection: rejection.clone(), shadow },
            Event::Attempt { n, delay, reason, error } => {
                Self::Attempt { n, delay, reason, error: error.map(ToString::to_string) }
            }
            Event::Transition(transition) => Self::Transition(transition.clone()),
            Event::Level(level) => Self::Level(level),
            Event::Note(note) => Self::Note(note.clone()),
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
    pub fn kind(&self, kind: Kind) -> Self {
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

    /// How calls ended, in the pattern's own words, in order.
    pub fn results(&self) -> Vec<Word> {
        self.pick(|what| match what {
            What::Done { result, .. } => Some(*result),
            _ => None,
        })
    }

    /// Changes of state as (from, to), in order.
    pub fn transitions(&self) -> Vec<(Word, Word)> {
        self.changes(|change| (change.from, change.to))
    }

    /// What caused the changes of state, in order.
    pub fn causes(&self) -> Vec<Word> {
        self.changes(|change| change.cause)
    }

    /// Failed attempts that were followed by another one, as (number, wait), in order.
    pub fn attempts(&self) -> Vec<(u32, Duration)> {
        self.pick(|what| match what {
            What::Attempt { n, delay, .. } => Some((*n, *delay)),
            _ => None,
        })
    }

    /// Why further attempts were not made, in order: the words of the notes `stopped`.
    pub fn stops(&self) -> Vec<Word> {
        let word = |value| match value {
            Some(Value::Word(reason)) => Some(reason),
            _ => None,
        };
        self.noted("stopped").into_iter().filter_map(word).collect()
    }

    /// The values that a quantity had, in order; of all of several, such as the keys in each state.
    pub fn levels(&self, quantity: &str) -> Vec<f64> {
        self.pick(|what| match what {
            What::Level(level) if level.what == quantity => Some(level.value),
            _ => None,
        })
    }

    /// Notes, in order.
    pub fn notes(&self) -> Vec<Note> {
        self.pick(|what| match what {
            What::Note(note) => Some(note.clone()),
            _ => None,
        })
    }

    /// What the notes with this word had beside it, in order.
    pub fn noted(&self, word: &str) -> Vec<Option<Value>> {
        self.pick(|what| match what {
            What::Note(note) if note.what == word => Some(note.value.clone()),
            _ => None,
        })
    }

    fn changes<T>(&self, of: impl Fn(&Transition) -> T) -> Vec<T> {
        self.pick(|what| match what {
            What::Transition(change) => Some(of(change)),
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
    fn attach(&self, kind: Kind, name: &Name) -> Option<Arc<dyn Recorder>> {
        Some(Arc::new(OfPolicy { kind, policy: name.clone(), recording: self.clone() }))
    }
}

struct OfPolicy {
    kind: Kind,
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
