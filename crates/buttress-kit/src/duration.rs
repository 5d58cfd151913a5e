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

/// The same for times that may be missing.
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

    /// Reads a time from text, if there is one; `"none"` says that there is none.
    ///
    /// # Errors
    /// Where the text is not a time with a unit.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(crate::optional::deserialize::<Time, D>(from)?.map(|time| time.0))
    }
}

/// The same for settings that may be off: written as `"none"` then, which every format can say.
pub mod optional {
    use super::*;

    pub use super::option::deserialize;

    /// Writes a time as text, or `"none"`.
    ///
    /// # Errors
    /// As the serializer does.
    pub fn serialize<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::serialize(value, to),
            None => to.serialize_str(crate::optional::NONE),
        }
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

#[cfg(test)]
mod tests {
    use buttress_core::config::MAX_DURATION;
    use proptest::prelude::*;

    use super::*;
    use crate::Backoff;

    fn read(field: &str, value: &str) -> Result<Backoff, String> {
        serde_json::from_str(&format!("{{{field:?}:{value}}}")).map_err(|why| why.to_string())
    }

    #[test]
    fn value_that_is_no_time_is_refused_with_what_a_time_looks_like() {
        for field in ["base", "step"] {
            for value in ["5", "1.5", "true", "{}", "\"5\"", "\"\"", "\"-1s\"", "\"99999999999999999999y\""] {
                let why = read(field, value).unwrap_err();
                assert!(why.contains("\"250ms\""), "{field} {value}: {why}");
            }
        }
        assert!(read("list", "[5]").unwrap_err().contains("\"250ms\""));
        assert_eq!(read("step", "null").unwrap().step, None);
    }

    proptest! {
        #[test]
        fn every_time_a_setting_may_have_is_read_as_it_was_written(
            secs in prop_oneof![0_u64..100_000, 0..MAX_DURATION.as_secs()], nanos in 0_u32..1_000_000_000,
        ) {
            let written = Backoff::constant(Duration::new(secs, nanos));
            let text = serde_json::to_string(&written).unwrap();
            prop_assert_eq!(serde_json::from_str::<Backoff>(&text).unwrap(), written);
        }

        #[test]
        fn any_text_is_a_time_or_an_error(text in "[0-9a-zA-Zµ. +-]{0,40}") {
            let _ = read("base", &format!("{text:?}"));
        }
    }
}
