use std::{
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::{Arc, OnceLock},
};

/// How many custom codes one policy may use before they are all called `CUSTOM`.
const CUSTOM_CODES: usize = 8;

/// The name of a policy: one thin pointer, made once, cloned freely.
///
/// It is what rejections, metrics and logs call the policy. Names are meant to be a closed set (they become
/// metric labels): never put a user's key, host or path in one.
#[derive(Clone)]
pub struct Name(Arc<Inner>);

struct Inner {
    text: Box<str>,
    // A `&'static str` is two words, and a `Rejection` has no room for it; it keeps an index into this.
    codes: [OnceLock<&'static str>; CUSTOM_CODES],
}

impl Name {
    /// Makes a name.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(Arc::new(Inner { text: text.into(), codes: Default::default() }))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The place of a custom code, taking a free one on first use. Full: one past the last.
    pub(crate) fn slot_of(&self, code: &'static str) -> u8 {
        for (slot, place) in self.0.codes.iter().enumerate() {
            if *place.get_or_init(|| code) == code {
                return slot as u8;
            }
        }
        CUSTOM_CODES as u8
    }

    pub(crate) fn code_at(&self, slot: u8) -> &'static str {
        self.0.codes.get(usize::from(slot)).and_then(|place| place.get().copied()).unwrap_or("CUSTOM")
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&Name> for Name {
    fn from(name: &Name) -> Self {
        name.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_keep_their_place_and_overflow_to_custom() {
        let name = Name::new("payments");
        let codes = ["A", "B", "C", "D", "E", "F", "G", "H", "I"];
        for (at, code) in codes.iter().enumerate() {
            assert_eq!(usize::from(name.slot_of(code)), at);
            assert_eq!(usize::from(name.slot_of(code)), at);
        }
        assert_eq!(name.code_at(2), "C");
        assert_eq!(name.code_at(8), "CUSTOM");
    }
}
