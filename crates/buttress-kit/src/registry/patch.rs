//! A patch of many policies, read to its end before any settings are held: it is read by the code of others, which may
//! wait for its source, and it need not name the policies in the order in which they are held.

use std::{collections::BTreeMap, fmt};

use buttress_core::ConfigError;
use serde::{
    Deserialize, Deserializer,
    de::{
        Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor,
        value::{Error, MapAccessDeserializer, MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};

use crate::settings::first_line;

/// The settings to change, by kind and name and in that order.
pub(super) type Changes = BTreeMap<(String, String), Piece>;

/// Reads `{ kind = { name = { setting = value } } }`.
pub(super) fn read<'de>(patch: impl Deserializer<'de>) -> Result<Changes, ConfigError> {
    let kinds =
        Piece::deserialize(patch).map_err(|why| ConfigError::unreadable("patch", first_line(&why)))?;
    let mut changes = Changes::new();
    for (kind, names) in kinds.table().ok_or_else(|| no_table("patch", "kinds"))? {
        for (name, settings) in names.table().ok_or_else(|| no_table(&kind, "names"))? {
            let place = (kind.clone(), name);
            if changes.contains_key(&place) {
                let (kind, name) = place;
                return Err(ConfigError::unreadable(format!("{kind}.{name}"), "it stands there twice"));
            }
            changes.insert(place, settings);
        }
    }
    Ok(changes)
}

fn no_table(at: &str, of: &str) -> ConfigError {
    ConfigError::unreadable(at, format!("it must be a table of {of}"))
}

/// A value in no format, on its way from the patch to the policy.
pub(super) enum Piece {
    Nothing,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    List(Vec<Piece>),
    Table(Vec<(String, Piece)>),
}

impl Piece {
    fn table(self) -> Option<Vec<(String, Self)>> {
        if let Self::Table(entries) = self { Some(entries) } else { None }
    }
}

impl<'de> Deserialize<'de> for Piece {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reads)
    }
}

struct Reads;

impl<'de> Visitor<'de> for Reads {
    type Value = Piece;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of a settings file")
    }

    fn visit_unit<E>(self) -> Result<Piece, E> {
        Ok(Piece::Nothing)
    }

    fn visit_none<E>(self) -> Result<Piece, E> {
        Ok(Piece::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Piece, D::Error> {
        from.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<Piece, D::Error> {
        from.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Piece, E> {
        Ok(Piece::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Piece, E> {
        Ok(Piece::Signed(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Piece, E> {
        Ok(Piece::Unsigned(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Piece, E> {
        Ok(Piece::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Piece, E> {
        Ok(Piece::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Piece, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = from.next_element()? {
            list.push(value);
        }
        Ok(Piece::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Piece, A::Error> {
        let mut table = Vec::new();
        while let Some(entry) = from.next_entry()? {
            table.push(entry);
        }
        Ok(Piece::Table(table))
    }
}

impl<'de> Deserializer<'de> for Piece {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Nothing => visitor.visit_unit(),
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Signed(value) => visitor.visit_i64(value),
            Self::Unsigned(value) => visitor.visit_u64(value),
            Self::Float(value) => visitor.visit_f64(value),
            Self::Text(value) => visitor.visit_string(value),
            Self::List(list) => SeqDeserializer::new(list.into_iter()).deserialize_any(visitor),
            Self::Table(table) => MapDeserializer::new(table.into_iter()).deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if let Self::Nothing = self { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V>(self, _: &'static str, visitor: V) -> Result<V::Value, Error>
    where
        V: Visitor<'de>,
    {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self {
            Self::Text(variant) => visitor.visit_enum(variant.into_deserializer()),
            Self::Table(table) if table.len() == 1 => {
                let table = MapDeserializer::new(table.into_iter());
                MapAccessDeserializer::new(table).deserialize_enum(name, variants, visitor)
            }
            Self::Table(_) => Err(Error::custom(format_args!("must be one of {}", variants.join(", ")))),
            other => other.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map struct identifier ignored_any
    }
}

impl IntoDeserializer<'_, Error> for Piece {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
