use std::{fmt, time::Duration};

use buttress_core::{ConfigError, Event, Kind, Name, Observer};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Emitter, Listeners, handle::Patch};

/// The settings of a pattern, as plain data. [`settings!`](crate::settings) writes the struct down and implements this.
pub trait Config:
    Clone + Default + PartialEq + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// Checks that the settings can work.
    ///
    /// # Errors
    /// Names the setting that cannot, its value, and why.
    fn validate(&self) -> Result<(), ConfigError>;

    /// Reads a patch, which replaces each setting that it names, as a whole, and no other.
    ///
    /// # Errors
    /// Names a setting that there is not, or whose value cannot be read.
    fn read(patch: Patch<'_, '_>) -> Result<Changes<Self>, ConfigError>;
}

/// What a patch does to settings: to be called one after the other.
pub type Changes<C> = Vec<Box<dyn FnOnce(&mut C)>>;

/// What a builder has collected: name, settings, listeners.
#[derive(Clone, Debug)]
pub struct Parts<C> {
    /// The name of the policy.
    pub name: Name,
    /// Its settings so far.
    pub config: C,
    /// Who listens.
    pub listeners: Listeners,
    /// Where chance begins; `None`: anywhere.
    pub seed: Option<u64>,
}

impl<C: Config> Parts<C> {
    /// Begins with the default settings.
    pub fn new(name: impl Into<Name>) -> Self {
        Self { name: name.into(), config: C::default(), listeners: Listeners::default(), seed: None }
    }

    /// Checks name and settings, and only then attaches the listeners.
    ///
    /// # Errors
    /// Names the policy, the setting that cannot work, its value, and why.
    pub fn checked(self, kind: Kind) -> Result<(C, Emitter), ConfigError> {
        let checked = self.name.validate().and_then(|()| self.config.validate());
        checked.map_err(|why| why.of(kind, &self.name))?;
        Ok((self.config, Emitter::new(kind, self.name, &self.listeners)))
    }

    /// Adds an observer for this policy alone.
    pub fn observe(&mut self, observer: impl Observer) {
        self.listeners.observe(observer);
    }

    /// Adds a closure that is called with every event of this policy.
    pub fn on_event(&mut self, listen: impl Fn(&Event<'_>) + Send + Sync + 'static) {
        self.listeners.on_event(listen);
    }
}

/// One policy: what a builder makes unless it is one for keys.
#[derive(Clone, Copy, Debug, Default)]
pub struct One;

/// A policy for each key, and how many there may be; plain data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { max_keys = 10000, idle_for = \"10m\" }")]
pub struct Keyed {
    /// The most keys at a time, a hard cap. At least 1. Default 10 000.
    pub max_keys: usize,
    /// A key that was not used for this long may be forgotten. Above zero. Default ten minutes.
    #[serde(with = "crate::duration")]
    pub idle_for: Duration,
}

impl Default for Keyed {
    fn default() -> Self {
        Self { max_keys: 10_000, idle_for: Duration::from_secs(600) }
    }
}

impl Keyed {
    /// Checks that there is room for a key.
    ///
    /// # Errors
    /// Names the setting that cannot work, its value, and why.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.max_keys == 0 {
            return Err(ConfigError::new("max_keys", self.max_keys, "must be at least 1"));
        }
        buttress_core::config::check_positive("idle_for", self.idle_for)
    }
}

/// Writes the settings of a pattern down once: the struct with its derives, its default and its patch, and the builder
/// with a documented setter for each setting, which serves the form with keys too.
///
/// The pattern adds `validate` to the struct, and `build` to the builder. Each setting has its doc comment, then, if it
/// needs one, a `#[serde(..)]` attribute, and its default. The setter of an `Option` takes the value or `None`. After
/// `; no setter` the pattern writes the setter itself.
///
/// What a policy can be given that is no plain data, such as a budget that others share, follows in
/// `beside { field: Type }` and begins at its type's default.
///
/// ```
/// use std::time::Duration;
/// use buttress_core::{ConfigError, config};
///
/// buttress_kit::settings! {
///     /// The settings of a gate.
///     #[derive(Copy)]
///     pub struct GateConfig, builder GateBuilder {
///         /// How long it stays shut. Above zero. Default 5 s.
///         #[serde(with = "buttress_kit::duration")]
///         pub shut_for: Duration = Duration::from_secs(5),
///         /// How many calls may be under way at once. Default: no limit.
///         pub max_concurrent: Option<u32> = None,
///     }
/// }
///
/// impl GateConfig {
///     /// Checks the settings.
///     pub fn validate(&self) -> Result<(), ConfigError> {
///         config::check_positive("shut_for", self.shut_for)
///     }
/// }
///
/// let builder = GateBuilder::<buttress_kit::One>::new("front").shut_for(Duration::from_secs(1)).max_concurrent(8);
/// assert_eq!(builder.parts.config.max_concurrent, Some(8));
/// let read: GateConfig = toml::from_str(r#"shut_for = "250ms""#)?;
/// assert_eq!((read.shut_for, read.max_concurrent), (Duration::from_millis(250), None));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[macro_export]
macro_rules! settings {
    (
        $(#[$meta:meta])*
        pub struct $Config:ident, builder $Builder:ident { $($fields:tt)+ }
        $(beside { $($beside:ident: $Beside:ty),+ $(,)? })?
    ) => {
        $crate::settings! { @config [$(#[$meta])*] $Config { $($fields)+ } }

        #[doc = concat!("Collects the settings of [`", stringify!($Config), "`] and who listens; `build` makes the policy.")]
        #[derive(Clone, Debug)]
        #[must_use = "call `build`"]
        pub struct $Builder<Form = $crate::One> {
            pub(crate) parts: $crate::Parts<$Config>,
            #[allow(dead_code)]
            pub(crate) form: Form,
            $($(pub(crate) $beside: $Beside,)+)?
        }

        impl<Form: Default> $Builder<Form> {
            pub(crate) fn new(name: impl Into<$crate::buttress_core::Name>) -> Self {
                Self {
                    parts: $crate::Parts::new(name),
                    form: Form::default(),
                    $($($beside: Default::default(),)+)?
                }
            }
        }

        /// # Settings
        #[doc = concat!("Each is a field of [`", stringify!($Config), "`].")]
        impl<Form> $Builder<Form> {
            $crate::settings! { @setters $($fields)+ }
        }

        /// # All settings, and who listens
        impl<Form> $Builder<Form> {
            /// Takes all settings at once.
            pub fn config(mut self, config: $Config) -> Self {
                self.parts.config = config;
                self
            }

            /// Adds an observer for this policy alone.
            pub fn observe(mut self, observer: impl $crate::buttress_core::Observer) -> Self {
                self.parts.observe(observer);
                self
            }

            /// Calls `listen` with every event of this policy. It costs two clock reads per call.
            pub fn on_event<F>(mut self, listen: F) -> Self
            where
                F: Fn(&$crate::buttress_core::Event<'_>) + Send + Sync + 'static,
            {
                self.parts.on_event(listen);
                self
            }
        }
    };

    (@config [$(#[$meta:meta])*] $Config:ident {
        $(
            $(#[doc = $doc:expr])+
            $(#[serde($($serde:tt)*)])?
            pub $field:ident: $ty:ty = $default:expr $(; no $setter:ident)?,
        )+
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, $crate::serde::Serialize, $crate::serde::Deserialize)]
        #[serde(crate = "buttress_kit::serde", default, deny_unknown_fields, expecting = "a table of settings")]
        #[non_exhaustive]
        pub struct $Config {
            $(
                $(#[doc = $doc])+
                $(#[serde($($serde)*)])?
                pub $field: $ty,
            )+
        }

        impl Default for $Config {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl $crate::Config for $Config {
            fn validate(&self) -> Result<(), $crate::buttress_core::ConfigError> {
                Self::validate(self)
            }

            fn read(
                patch: $crate::handle::Patch<'_, '_>,
            ) -> Result<$crate::Changes<Self>, $crate::buttress_core::ConfigError> {
                // A struct for each setting, so that it is read as it is in the whole.
                $(
                    #[allow(non_camel_case_types)]
                    #[derive($crate::serde::Deserialize)]
                    #[serde(crate = "buttress_kit::serde", transparent)]
                    struct $field {
                        $(#[serde($($serde)*)])?
                        value: $ty,
                    }
                )+
                let mut changes = $crate::Changes::<Self>::new();
                $crate::read_patch(patch, &[$(stringify!($field)),+], &mut |name, from| {
                    match name {
                        $(stringify!($field) => {
                            let read: $field = $crate::erased_serde::deserialize(from)?;
                            changes.push(Box::new(move |config| config.$field = read.value));
                        })+
                        _ => {}
                    }
                    Ok(())
                })?;
                Ok(changes)
            }
        }
    };

    // An optional setting takes the value, or `None`.
    (@setters $(#[doc = $doc:expr])+ $(#[serde($($serde:tt)*)])?
        pub $field:ident: Option<$ty:ty> = $default:expr, $($rest:tt)*
    ) => {
        $(#[doc = $doc])+
        pub fn $field(mut self, $field: impl Into<Option<$ty>>) -> Self {
            self.parts.config.$field = $field.into();
            self
        }
        $crate::settings! { @setters $($rest)* }
    };
    (@setters $(#[doc = $doc:expr])+ $(#[serde($($serde:tt)*)])?
        pub $field:ident: $ty:ty = $default:expr, $($rest:tt)*
    ) => {
        $(#[doc = $doc])+
        pub fn $field(mut self, $field: $ty) -> Self {
            self.parts.config.$field = $field;
            self
        }
        $crate::settings! { @setters $($rest)* }
    };
    (@setters $(#[doc = $doc:expr])+ $(#[serde($($serde:tt)*)])?
        pub $field:ident: $ty:ty = $default:expr; no setter, $($rest:tt)*
    ) => {
        $crate::settings! { @setters $($rest)* }
    };
    (@setters) => {};
}

/// The setters of a builder for a policy by key; put beside [`settings!`](crate::settings).
#[macro_export]
macro_rules! keyed_settings {
    ($Builder:ident) => {
        /// # Keys
        impl $Builder<$crate::Keyed> {
            /// Takes all settings of the keys at once.
            pub fn keys(mut self, keys: $crate::Keyed) -> Self {
                self.form = keys;
                self
            }

            /// The most keys at a time, a hard cap; the one not used for longest goes first. At least 1. Default
            /// 10 000.
            pub fn max_keys(mut self, max_keys: usize) -> Self {
                self.form.max_keys = max_keys;
                self
            }

            /// A key that was not used for this long may be forgotten. Above zero. Default ten minutes.
            pub fn idle_for(mut self, idle_for: std::time::Duration) -> Self {
                self.form.idle_for = idle_for;
                self
            }
        }
    };
}

#[cfg(test)]
mod tests {
    // What a pattern's crate exports.
    #![allow(dead_code, unreachable_pub)]

    use serde_json::json;

    use super::*;

    settings! {
        /// The settings of a gate.
        pub struct GateConfig, builder GateBuilder {
            /// How long it stays shut.
            #[serde(with = "buttress_kit::duration")]
            pub shut_for: Duration = Duration::from_secs(5),
            /// How many calls may be under way at once.
            pub max_concurrent: Option<u32> = Some(3),
            /// What it is called in the yard.
            pub label: String = "gate".into(),
        }
    }

    keyed_settings!(GateBuilder);

    impl GateConfig {
        fn validate(&self) -> Result<(), ConfigError> {
            buttress_core::config::check_positive("shut_for", self.shut_for)
        }
    }

    fn patched(patch: &serde_json::Value) -> Result<GateConfig, ConfigError> {
        let mut config = GateConfig::default();
        let changes = GateConfig::read(&mut <dyn erased_serde::Deserializer<'_>>::erase(patch))?;
        changes.into_iter().for_each(|change| change(&mut config));
        Ok(config)
    }

    #[test]
    fn patch_replaces_the_settings_it_names_and_no_other() {
        let config = patched(&json!({ "shut_for": "250ms" })).unwrap();
        assert_eq!((config.shut_for, config.max_concurrent), (Duration::from_millis(250), Some(3)));
        assert_eq!(patched(&json!({ "max_concurrent": null })).unwrap().max_concurrent, None);
        assert_eq!(patched(&json!({})).unwrap(), GateConfig::default());
    }

    #[test]
    fn patch_that_cannot_be_read_names_the_setting() {
        let why = patched(&json!({ "label": "x", "shut_fro": "1s" })).unwrap_err().to_string();
        assert_eq!(
            why,
            "`shut_fro` cannot be read: there is no such setting; there are shut_for, max_concurrent, label"
        );
        let why = patched(&json!({ "max_concurrent": "many" })).unwrap_err().to_string();
        assert_eq!(why, "`max_concurrent` cannot be read: invalid type: string \"many\", expected u32");
        let why = patched(&json!([1, 2])).unwrap_err();
        assert_eq!(why.field(), "settings");
        let text = toml::Deserializer::parse("shut_for = 5\n").unwrap();
        let why = GateConfig::read(&mut <dyn erased_serde::Deserializer<'_>>::erase(text)).err().unwrap();
        assert_eq!(why.field(), "shut_for", "{why}");
    }

    #[test]
    fn settings_are_read_and_written_as_they_are_patched() {
        let written = serde_json::to_value(GateConfig::default()).unwrap();
        assert_eq!(written, json!({ "shut_for": "5s", "max_concurrent": 3, "label": "gate" }));
        assert_eq!(patched(&written).unwrap(), GateConfig::default());
        assert!(serde_json::from_value::<GateConfig>(json!({ "odd": 1 })).is_err());
    }

    #[test]
    fn builder_serves_the_form_with_keys_too() {
        let keyed = GateBuilder::<Keyed>::new("tenants").max_concurrent(None).max_keys(7).label("x".into());
        assert_eq!((keyed.form.max_keys, keyed.parts.config.max_concurrent), (7, None));
        assert!(keyed.idle_for(Duration::ZERO).form.validate().is_err());
        assert!(Keyed { max_keys: 0, ..Keyed::default() }.validate().is_err());
        assert!(Keyed::default().validate().is_ok());
        let read: Keyed = toml::from_str("max_keys = 9").unwrap();
        assert_eq!(
            GateBuilder::<Keyed>::new("tenants").keys(read).form,
            Keyed { max_keys: 9, ..Keyed::default() }
        );
    }

    #[test]
    fn bad_names_and_bad_settings_are_refused_with_the_name_of_the_policy() {
        static KIND: buttress_core::KindData = buttress_core::KindData::new("gate");
        let gate = |name: &str| GateBuilder::<One>::new(name);
        let why = gate("front").shut_for(Duration::ZERO).parts.checked(&KIND).err().unwrap();
        assert_eq!(why.to_string(), "gate \"front\": `shut_for` = 0ns cannot work: must be longer than zero");
        let why = gate("").parts.checked(&KIND).err().unwrap();
        assert_eq!((why.field(), why.policy()), ("name", Some("gate \"\"")));
    }

    settings! {
        /// The settings of a door.
        pub struct DoorConfig, builder DoorBuilder {
            /// What opens it.
            pub code: u32 = 1; no setter,
        }
        beside {
            bell: Option<std::sync::Arc<str>>,
        }
    }

    impl DoorConfig {
        fn validate(&self) -> Result<(), ConfigError> {
            Ok(())
        }
    }

    impl DoorBuilder {
        fn code(mut self, code: &str) -> Self {
            self.parts.config.code = code.parse().unwrap_or(0);
            self.bell = Some(code.into());
            self
        }
    }

    #[test]
    fn pattern_writes_a_setter_of_its_own_and_keeps_beside_the_settings_what_is_no_data() {
        let builder = DoorBuilder::new("back");
        assert_eq!((builder.parts.config.code, builder.bell.clone()), (1, None));
        let builder = builder.code("7");
        assert_eq!((builder.parts.config.code, builder.bell.as_deref()), (7, Some("7")));
    }
}
