//! Reads patches: tables of settings, in any format.

use std::fmt;

use buttress_core::ConfigError;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use crate::handle::Patch;

type Entry<'a> = dyn FnMut(String, Patch<'_, '_>) -> Result<(), ConfigError> + 'a;

/// Reads the table called `name`, a table `of` something: `entry` is called with each name in it, and reads what stands
/// there.
pub(crate) fn each_entry(
    table: Patch<'_, '_>,
    name: &str,
    of: &'static str,
    entry: &mut Entry<'_>,
) -> Result<(), ConfigError> {
    // What went wrong in an entry: the error of a format names only a place, if anything.
    let mut wrong = None;
    let read = table.deserialize_map(Table { of, entry, wrong: &mut wrong });
    match (wrong, read) {
        (Some(why), _) => Err(why),
        (None, Err(why)) => Err(ConfigError::unreadable(name, first_line(&why))),
        (None, Ok(())) => Ok(()),
    }
}

struct Table<'a, 'b> {
    of: &'static str,
    entry: &'a mut Entry<'b>,
    wrong: &'a mut Option<ConfigError>,
}

impl<'de> Visitor<'de> for Table<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a table of {}", self.of)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<(), A::Error> {
        let Self { entry, wrong, .. } = self;
        while let Some(name) = from.next_key()? {
            from.next_value_seed(Value { name, entry: &mut *entry, wrong: &mut *wrong })?;
        }
        Ok(())
    }
}

struct Value<'a, 'b> {
    name: String,
    entry: &'a mut Entry<'b>,
    wrong: &'a mut Option<ConfigError>,
}

impl<'de> DeserializeSeed<'de> for Value<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        let mut from = <dyn erased_serde::Deserializer<'_>>::erase(from);
        (self.entry)(self.name, &mut from).map_err(|why| {
            let stop = D::Error::custom(&why);
            *self.wrong = Some(why);
            stop
        })
    }
}

/// Reads a value for nobody.
pub(crate) fn skip(value: Patch<'_, '_>) -> Result<(), ConfigError> {
    let read = erased_serde::deserialize::<IgnoredAny>(value);
    read.map(|_| ()).map_err(|why| ConfigError::unreadable("patch", first_line(&why)))
}

/// Reads the settings that a patch names: `set` is called with each one.
#[doc(hidden)]
pub fn read_patch(
    patch: Patch<'_, '_>,
    fields: &'static [&'static str],
    set: &mut dyn FnMut(&str, Patch<'_, '_>) -> Result<(), erased_serde::Error>,
) -> Result<(), ConfigError> {
    each_entry(patch, "settings", "settings", &mut |name, from| {
        if !fields.contains(&&*name) {
            let why = format!("there is no such setting; there are {}", fields.join(", "));
            return Err(ConfigError::unreadable(name, why));
        }
        set(&name, from).map_err(|why| ConfigError::unreadable(name, first_line(&why)))
    })
}

/// What a format says of an error, without the piece of the file that some show below it.
pub(crate) fn first_line(why: &impl fmt::Display) -> String {
    let text = why.to_string();
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or("cannot be read").trim().to_owned()
}
