use std::fmt;

/// What a refusal means to a host: it maps a class to a status, without knowing the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Class {
    /// Not now: HTTP 503, gRPC `UNAVAILABLE`.
    Refused,
    /// This caller asks too much: HTTP 429, gRPC `RESOURCE_EXHAUSTED`.
    TooMany,
    /// It took too long: HTTP 504, gRPC `DEADLINE_EXCEEDED`.
    TimedOut,
}

/// Why a policy refused or ended a call, as a word that logs, answers and alerts can match on.
///
/// Each pattern has its own, as constants of reference type, which can stand in the arms of a `match`:
///
/// ```
/// use buttress_core::{Code, Name, Rejection};
///
/// pub const SHUT: &Code = &Code::refused("GATE_SHUT").says("gate {} is shut");
///
/// let refused = Rejection::new(SHUT, &Name::new("payments"));
/// assert_eq!(refused.to_string(), "gate \"payments\" is shut");
/// assert!(match refused.code() {
///     SHUT => true,
///     _ => false,
/// });
/// assert_eq!(refused.code(), "GATE_SHUT"); // codes compare with text too, as it stands in a settings file
/// ```
///
/// Two codes are equal if they say the same, also if they are constants of different crates.
// Derived, and no field but text, `bool` and enums: only so can a constant stand in the arm of a `match`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code {
    text: &'static str,
    sentence: &'static str,
    class: Class,
    sent: bool,
    slow: bool,
    permanent: bool,
}

impl Code {
    const fn new(text: &'static str, class: Class) -> Self {
        Self { text, sentence: "{} refused the call", class, sent: false, slow: false, permanent: true }
    }

    /// The code of a refusal that is nobody's fault but the moment's: [`Class::Refused`].
    pub const fn refused(text: &'static str) -> Self {
        Self::new(text, Class::Refused)
    }

    /// The code of a refusal because the caller asks too much: [`Class::TooMany`].
    pub const fn too_many(text: &'static str) -> Self {
        Self { permanent: false, ..Self::new(text, Class::TooMany) }
    }

    /// The code of a call that was ended because it took too long: [`Class::TimedOut`]. It ends calls that were
    /// passed on, and it is slow.
    pub const fn timed_out(text: &'static str) -> Self {
        let new = Self::new(text, Class::TimedOut);
        Self { sentence: "{} timed out", sent: true, slow: true, permanent: false, ..new }
    }

    /// Sets the sentence that a rejection with this code displays; `{}` stands for the policy's name.
    pub const fn says(mut self, sentence: &'static str) -> Self {
        self.sentence = sentence;
        self
    }

    /// It ends calls that were passed on to the inner service.
    pub const fn sent(mut self) -> Self {
        self.sent = true;
        self
    }

    /// It stands for "it took too long", whatever its class.
    pub const fn slow(mut self) -> Self {
        self.slow = true;
        self
    }

    /// The code, upper case with underscores.
    pub const fn as_str(&self) -> &'static str {
        self.text
    }

    /// What hosts make of it.
    pub const fn class(&self) -> Class {
        self.class
    }

    /// Whether it ends calls that were passed on to the inner service.
    pub const fn is_sent(&self) -> bool {
        self.sent
    }

    /// Whether it stands for "it took too long".
    pub const fn is_slow(&self) -> bool {
        self.slow
    }

    /// Whether a further try is useless, if the call was sent.
    pub const fn is_permanent(&self) -> bool {
        self.permanent
    }

    pub(crate) const fn sentence(&self) -> &'static str {
        self.sentence
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text)
    }
}

impl PartialEq<str> for Code {
    fn eq(&self, other: &str) -> bool {
        self.text == other
    }
}

impl PartialEq<&str> for Code {
    fn eq(&self, other: &&str) -> bool {
        self.text == *other
    }
}

impl PartialEq<Code> for str {
    fn eq(&self, other: &Code) -> bool {
        self == other.text
    }
}

impl AsRef<str> for Code {
    fn as_ref(&self) -> &str {
        self.text
    }
}
