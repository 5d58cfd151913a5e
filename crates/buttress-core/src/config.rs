//! What settings have in common: the error that names a bad one, and checks.

use std::{borrow::Cow, error::Error as StdError, fmt, time::Duration};

use crate::{Kind, Name};

/// A setting that cannot work: of which policy, which one, its value, and why or what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    policy: Option<String>,
    field: String,
    value: String,
    why: Cow<'static, str>,
}

/// How much of a value is shown: one that cannot work may be long.
const SHOWN: usize = 200;

impl ConfigError {
    /// Names the field, its value, and why it cannot work, with the remedy.
    pub fn new(field: impl Into<String>, value: impl fmt::Debug, why: impl Into<Cow<'static, str>>) -> Self {
        let mut value = format!("{value:?}");
        if let Some((end, _)) = value.char_indices().nth(SHOWN) {
            value.truncate(end);
            value.push('…');
        }
        Self { policy: None, field: field.into(), value, why: why.into() }
    }

    /// Names the field of settings from a file whose value cannot be read, or which does not exist, and why.
    pub fn unreadable(field: impl Into<String>, why: impl Into<Cow<'static, str>>) -> Self {
        Self { policy: None, field: field.into(), value: String::new(), why: why.into() }
    }

    /// The policy, such as `breaker "payments"`, if that is known.
    pub fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }

    /// The name of the setting; nested ones are joined by dots.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// The value that was given; empty if it could not be read.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Why it cannot work, with the remedy.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// The same error seen from the setting that contains this one.
    pub fn within(mut self, outer: &str) -> Self {
        self.field = format!("{outer}.{}", self.field);
        self
    }

    /// The same error of a setting of this policy, unless it names one already.
    pub fn of(mut self, kind: Kind, name: &Name) -> Self {
        self.policy.get_or_insert_with(|| format!("{} {name:?}", kind.name));
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(policy) = &self.policy {
            write!(f, "{policy}: ")?;
        }
        match &*self.value {
            "" => write!(f, "`{}` cannot be read: {}", self.field, self.why),
            value => write!(f, "`{}` = {value} cannot work: {}", self.field, self.why),
        }
    }
}

impl StdError for ConfigError {}

/// The longest time a setting may have: 1 000 years. Longer ones overflow clocks.
pub const MAX_DURATION: Duration = Duration::from_secs(1_000 * 365 * 24 * 3_600);

/// Checks that a time is neither zero nor beyond [`MAX_DURATION`].
pub fn check_positive(field: &'static str, value: Duration) -> Result<(), ConfigError> {
    if value.is_zero() {
        return Err(ConfigError::new(field, value, "must be longer than zero"));
    }
    check_bounded(field, value)
}

/// Checks that a time is not beyond [`MAX_DURATION`].
pub fn check_bounded(field: &'static str, value: Duration) -> Result<(), ConfigError> {
    if value > MAX_DURATION {
        return Err(ConfigError::new(
            field,
            value,
            "must be at most 1000 years, which is as good as for ever",
        ));
    }
    Ok(())
}

/// Checks that a share is a number above 0.0 and up to 1.0.
pub fn check_ratio(field: &'static str, value: f64) -> Result<(), ConfigError> {
    if value.is_finite() && value > 0.0 && value <= 1.0 {
        return Ok(());
    }
    Err(ConfigError::new(field, value, "must be a share above 0.0 and up to 1.0, where 0.5 is half"))
}
