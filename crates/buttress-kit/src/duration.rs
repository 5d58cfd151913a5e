//! Times in settings files: text such as `"250ms"` or `"1m 30s"`, for `#[serde(with = "buttress::duration")]`.

use std::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer, Serializer,
    de::{Error, Visitor},
};

/// A time as it is read.
struct Time(Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(TimeVisitor)
    }
}

struct TimeVisitor;

impl Visitor<'_> for TimeVisitor {
    type Value = Time;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time with a unit, as text, such as \"250ms\" or \"1m 30s\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Time, E> {
        humantime::parse_duration(text).map(Time).map_err(|why| {
            E::custom(format_args!("{text:?} is not a time such as \"250ms\" or \"1m 30s\": {why}"))
        })
    }
}

/// Writes a time as text.
///
/// # Errors
/// As the serializer does.
pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&humantime::format_duration(*value))
}

/// Reads a time from text.
///
/// # Errors
/// Where the text is not a time with a unit.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    Time::deserialize(from).map(|time| time.0)
}

/// The same for settings that may be left out.
pub mod option {
    use super::*;

    /// Writes a time as text, or nothing.
    ///
    /// # Errors
    /// As the serializer does.
    pub fn serialize<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::serialize(value, to),
            None => to.serialize_none(),
        }
    }

    /// Reads a time from text, if there is one.
    ///
    /// # Errors
    /// Where the text is not a time with a unit.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Time>::deserialize(from)?.map(|time| time.0))
    }
}

/// The same for lists of times.
pub mod list {
    use super::*;

    /// Writes times as text.
    ///
    /// # Errors
    /// As the serializer does.
    pub fn serialize<S: Serializer>(value: &[Duration], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(value.iter().map(|time| humantime::format_duration(*time).to_string()))
    }

    /// Reads times from text.
    ///
    /// # Errors
    /// Where one is not a time with a unit.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Duration>, D::Error> {
        Ok(Vec::<Time>::deserialize(from)?.into_iter().map(|time| time.0).collect())
    }
}
