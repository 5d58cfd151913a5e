//! Settings that may be off or left out, for `#[serde(with = "buttress::optional")]`: `"none"` in a file says that there
//! is none. Some formats have no other word for it, TOML among them, and a setting that is left out keeps what it has.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{
        Error, IntoDeserializer, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};

/// How it is written.
pub(crate) const NONE: &str = "none";

/// Writes the value, or `"none"`.
///
/// # Errors
/// As the serializer does.
pub fn serialize<T: Serialize, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => value.serialize(to),
        None => to.serialize_str(NONE),
    }
}

/// Reads a value, or that there is none: `"none"`, or the null of formats that have one.
///
/// # Errors
/// If it is neither.
pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    from.deserialize_any(OrNone(PhantomData))
}

struct OrNone<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OrNone<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, or \"none\"")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        if text == NONE {
            return Ok(None);
        }
        T::deserialize(text.into_deserializer()).map(Some)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(Some)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(Some)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(Some)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(Some)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, from: A) -> Result<Self::Value, A::Error> {
        T::deserialize(SeqAccessDeserializer::new(from)).map(Some)
    }

    fn visit_map<A: MapAccess<'de>>(self, from: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(from)).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use crate::{Backoff, Jitter};

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    #[serde(default)]
    struct Settings {
        #[serde(with = "super")]
        calls: Option<u32>,
        #[serde(with = "super")]
        share: Option<f64>,
        #[serde(with = "super")]
        backoff: Option<Backoff>,
        #[serde(with = "super")]
        jitter: Option<Jitter>,
        #[serde(with = "super")]
        list: Option<Vec<bool>>,
        #[serde(with = "crate::duration::optional")]
        wait: Option<Duration>,
    }

    impl Default for Settings {
        fn default() -> Self {
            let (backoff, jitter) = (Some(Backoff::none()), Some(Jitter::Equal));
            let wait = Some(Duration::from_secs(1));
            Self { calls: Some(3), share: Some(0.5), backoff, jitter, list: Some(vec![true]), wait }
        }
    }

    const OFF: Settings =
        Settings { calls: None, share: None, backoff: None, jitter: None, list: None, wait: None };

    #[test]
    fn none_is_said_in_formats_with_and_without_a_null() {
        let text =
            "calls = 'none'\nshare = 'none'\nbackoff = 'none'\njitter = 'none'\nlist = 'none'\nwait = 'none'";
        assert_eq!(toml::from_str::<Settings>(text).unwrap(), OFF);
        assert_eq!(toml::from_str::<Settings>("").unwrap(), Settings::default());
        let text = r#"{"calls":null,"share":null,"backoff":null,"jitter":null,"list":null,"wait":null}"#;
        assert_eq!(serde_json::from_str::<Settings>(text).unwrap(), OFF);
        for settings in [OFF, Settings::default()] {
            let text = toml::to_string(&settings).unwrap();
            assert_eq!(toml::from_str::<Settings>(&text).unwrap(), settings, "{text}");
            let json = serde_json::to_value(&settings).unwrap();
            assert_eq!(serde_json::from_value::<Settings>(json).unwrap(), settings);
        }
    }

    #[test]
    fn value_is_read_as_if_it_were_not_optional_and_refused_in_the_same_words() {
        let read = |text: &str| toml::from_str::<Settings>(text);
        assert_eq!(read("calls = 7").unwrap().calls, Some(7));
        assert_eq!(read("backoff = { base = '2s' }").unwrap().backoff.unwrap().base, Duration::from_secs(2));
        assert_eq!(read("jitter = { symmetric = 0.5 }").unwrap().jitter, Some(Jitter::Symmetric(0.5)));
        assert_eq!(read("list = [false]").unwrap().list, Some(vec![false]));
        for (text, says) in [
            ("calls = 'nine'", "expected u32"),
            ("calls = -1", "expected u32"),
            ("calls = true", "expected u32"),
            ("share = 'half'", "expected f64"),
            ("backoff = { bse = '2s' }", "unknown field `bse`"),
            ("wait = 5", "a time with a unit"),
            ("wait = 'soon'", "is not a time"),
        ] {
            let why = read(text).unwrap_err().to_string();
            assert!(why.contains(says), "{text}: {why}");
        }
    }

    proptest! {
        #[test]
        fn numbers_are_read_as_they_were_written(calls: Option<u32>, millis: Option<u32>, share in 0.0..1.0) {
            let wait = millis.map(|millis| Duration::from_millis(millis.into()));
            let settings = Settings { calls, wait, share: Some(share), ..OFF };
            let text = toml::to_string(&settings).unwrap();
            prop_assert_eq!(toml::from_str::<Settings>(&text).unwrap(), settings);
        }
    }
}
