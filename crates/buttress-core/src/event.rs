//! What policies tell.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use crate::{Kind, Name, Rejection};

/// A word of a pattern: a state, a level, a note, a cause, a reason. A constant of the pattern's crate; equal if the
/// text is.
pub type Word = &'static str;

/// What a policy tells. Six sorts serve all patterns.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A call ended. Every admitted call has exactly one.
    Done {
        /// How.
        outcome: Outcome,
        /// How, in the pattern's own word; the outcome's word if the pattern has none of its own.
        result: Word,
        /// How long it took, if the policy read the clock (a rule needs it, or an observer asked).
        elapsed: Option<Duration>,
        /// Whether it was slower than the policy's threshold for slow calls.
        slow: bool,
        /// How many attempts it took; 1 if the policy makes one.
        attempts: u32,
        /// What it failed with, if the policy still has that as it tells, and the type can be shown as an error:
        /// a breaker and a fallback do. What is told later, because another event is being told, comes without it.
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
        reason: Word,
        /// What it failed with: the error, if the type can be shown as one; or what the classifier says, such as `503`.
        error: Option<&'a (dyn StdError + 'static)>,
    },
    /// The policy changed its state.
    Transition(&'a Transition),
    /// A level has a new value.
    Level(Level),
    /// Something else worth telling happened.
    Note(&'a Note),
}

/// How a call ended. A pattern that knows more says so in a word of its own beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It succeeded.
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
}

impl Outcome {
    /// In snake case, as in labels.
    pub const fn as_str(self) -> Word {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Panicked => "panicked",
            Self::TimedOut => "timeout",
            Self::Ignored => "ignored",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A change of state.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Transition {
    /// The state before.
    pub from: Word,
    /// The state now.
    pub to: Word,
    /// Who or what did it.
    pub cause: Word,
    /// Of which key, if the policy is one by key and says which.
    pub key: Option<Arc<str>>,
    /// What was known at that moment. What does not apply is left out.
    pub detail: Vec<(Word, Value)>,
}

impl Transition {
    /// Makes a change of state about which nothing more is known.
    pub const fn new(from: Word, to: Word, cause: Word) -> Self {
        Self { from, to, cause, key: None, detail: Vec::new() }
    }

    /// Adds what was known.
    pub fn with(mut self, what: Word, value: Value) -> Self {
        self.detail.push((what, value));
        self
    }

    /// What was known under this word.
    pub fn get(&self, what: &str) -> Option<&Value> {
        self.detail.iter().find(|(known, _)| *known == what).map(|(_, value)| value)
    }
}

/// A value that an event has beside its word.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// So many.
    Count(u64),
    /// A share, `0.0..=1.0`.
    Ratio(f64),
    /// So long.
    Time(Duration),
    /// A word of the pattern.
    Word(Word),
    /// Text that was made at run time.
    Text(Arc<str>),
}

impl Value {
    /// The number, if it is a count.
    pub const fn as_count(&self) -> Option<u64> {
        if let Self::Count(count) = self { Some(*count) } else { None }
    }

    /// The share, if it is one.
    pub const fn as_ratio(&self) -> Option<f64> {
        if let Self::Ratio(ratio) = self { Some(*ratio) } else { None }
    }

    /// The time, if it is one.
    pub const fn as_time(&self) -> Option<Duration> {
        if let Self::Time(time) = self { Some(*time) } else { None }
    }

    /// The text, if it is a word or text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Word(word) => Some(word),
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// The present value of a quantity.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Level {
    /// Which quantity.
    pub what: Word,
    /// Of which of several, such as the number of keys in one state. The state itself is the level
    /// [`STATE`](Self::STATE) with the value 1.
    pub of: Option<Word>,
    /// The value; NaN if there is none.
    pub value: f64,
}

impl Level {
    /// The level that says which state a policy is in.
    pub const STATE: Word = "state";

    /// A quantity of which there is one.
    pub const fn new(what: Word, value: f64) -> Self {
        Self { what, of: None, value }
    }

    /// One of several quantities.
    pub const fn of(what: Word, of: Word, value: f64) -> Self {
        Self { what, of: Some(of), value }
    }

    /// The policy is in this state.
    pub const fn state(state: Word) -> Self {
        Self::of(Self::STATE, state, 1.0)
    }
}

/// Something that happened, in the pattern's word.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Note {
    /// What happened.
    pub what: Word,
    /// How many, how long, which.
    pub value: Option<Value>,
    /// What a call failed with that this is about, in the words of its classifier; if somebody listens.
    pub error: Option<Arc<str>>,
}

impl Note {
    /// The policy was reset by hand, whether that changed its state or not.
    pub const RESET: Word = "reset";
    /// The policy got new settings.
    pub const RECONFIGURED: Word = "reconfigured";

    /// Something happened.
    pub const fn new(what: Word) -> Self {
        Self { what, value: None, error: None }
    }

    /// Something happened, and this says how many, how long or which.
    pub const fn with(what: Word, value: Value) -> Self {
        Self { what, value: Some(value), error: None }
    }

    /// With what a call failed with.
    pub fn with_error(mut self, error: impl Into<Arc<str>>) -> Self {
        self.error = Some(error.into());
        self
    }
}

impl fmt::Debug for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Note");
        out.field("what", &self.what).field("value", &self.value);
        if let Some(error) = &self.error {
            out.field("error", error);
        }
        out.finish()
    }
}

/// An owned copy of an event, for those who come to fetch it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PolicyEvent {
    /// Which pattern.
    pub kind: Kind,
    /// Which policy.
    pub policy: Name,
    /// What happened.
    pub what: OwnedEvent,
}

impl PolicyEvent {
    /// Something happened to this policy.
    pub const fn new(kind: Kind, policy: Name, what: OwnedEvent) -> Self {
        Self { kind, policy, what }
    }
}

/// What happened, owned.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum OwnedEvent {
    /// A call was refused.
    Refused {
        /// Why.
        rejection: Rejection,
        /// Only counted, not refused.
        shadow: bool,
    },
    /// The state changed.
    Transition(Transition),
    /// Something else worth telling happened.
    Note(Note),
}

impl OwnedEvent {
    /// A copy of a refusal, a change of state or a note; of nothing else, because that would be a copy per call.
    pub fn of(event: &Event<'_>) -> Option<Self> {
        match *event {
            Event::Refused { rejection, shadow } => {
                Some(Self::Refused { rejection: rejection.clone(), shadow })
            }
            Event::Transition(transition) => Some(Self::Transition(transition.clone())),
            Event::Note(note) => Some(Self::Note(note.clone())),
            _ => None,
        }
    }

    /// The event again.
    pub fn as_event(&self) -> Event<'_> {
        match self {
            Self::Refused { rejection, shadow } => Event::Refused { rejection, shadow: *shadow },
            Self::Transition(transition) => Event::Transition(transition),
            Self::Note(note) => Event::Note(note),
        }
    }
}
