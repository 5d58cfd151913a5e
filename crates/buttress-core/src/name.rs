use std::{
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::Arc,
};

use crate::ConfigError;

/// The longest name, in bytes.
const LONGEST: usize = 128;

/// The name of a policy, and of one key of it where that is meant: one thin pointer, made once, cloned freely.
///
/// It is what rejections, metrics and logs call the policy. Names are meant to be a closed set (they become
/// metric labels): never put a user's key, host or path in one. 1 to 128 bytes without control characters; policies
/// refuse any other name when they are built.
#[derive(Clone)]
pub struct Name(Arc<Inner>);

struct Inner {
    text: Box<str>,
    key: Option<Box<str>>,
}

impl Name {
    /// Makes a name.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(Arc::new(Inner { text: text.into(), key: None }))
    }

    /// The same policy at one key. It allocates: make it when a key is refused for the first time, and keep it.
    pub fn with_key(&self, key: impl Into<Box<str>>) -> Self {
        Self(Arc::new(Inner { text: self.0.text.clone(), key: Some(key.into()) }))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The key, if this is the name of a policy at one key.
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// Checks that it can be the name of a policy.
    ///
    /// # Errors
    /// It is empty, longer than 128 bytes, or has control characters.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let text = self.as_str();
        if !text.is_empty() && text.len() <= LONGEST && !text.chars().any(char::is_control) {
            return Ok(());
        }
        Err(ConfigError::new("name", text, "must have 1 to 128 bytes and no control characters"))
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
        (self.as_str(), self.key()) == (other.as_str(), other.key())
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.as_str(), self.key()).hash(state);
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
    fn names_are_bounded_and_without_control_characters() {
        for good in ["p", "payments eu-1", "Zahlungen: täglich", &"x".repeat(128)] {
            assert_eq!(Name::new(good).validate(), Ok(()), "{good}");
        }
        for bad in ["", "two\nlines", "tab\there", "\u{7f}", "\0", &"x".repeat(129), &"ä".repeat(65)] {
            let why = Name::new(bad).validate().unwrap_err();
            assert_eq!((why.field(), why.value()), ("name", &*format!("{bad:?}")));
        }
    }

    #[test]
    fn name_at_a_key_is_another_name_of_the_same_policy() {
        let name = Name::new("hosts");
        let keyed = name.with_key("10.0.0.7");
        assert_eq!((keyed.as_str(), keyed.key(), name.key()), ("hosts", Some("10.0.0.7"), None));
        assert_ne!(keyed, name);
        assert_eq!(format!("{keyed} {keyed:?}"), "hosts \"hosts\"");
    }
}
