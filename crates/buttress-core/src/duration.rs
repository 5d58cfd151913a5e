//! Times in settings files: text such as `"250ms"` or `"1m 30s"`, for `#[serde(with = "buttress_core::duration")]`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de::Error};

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
    let text = String::deserialize(from)?;
    humantime::parse_duration(&text).map_err(|why| {
        D::Error::custom(format!("{text:?} is not a time such as \"250ms\" or \"1m 30s\": {why}"))
    })
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
        let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
        humantime::parse_duration(&text).map(Some).map_err(|why| {
            D::Error::custom(format!("{text:?} is not a time such as \"250ms\" or \"1m 30s\": {why}"))
        })
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
        let texts = Vec::<String>::deserialize(from)?;
        texts
            .iter()
            .map(|text| {
                humantime::parse_duration(text).map_err(|why| {
                    D::Error::custom(format!("{text:?} is not a time such as \"250ms\" or \"1m 30s\": {why}"))
                })
            })
            .collect()
    }
}
