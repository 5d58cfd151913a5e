//! Policies of one kind and name that live at the same time: told once, at WARN. It is a mistake more often than not.

#[cfg(feature = "tracing")]
pub(crate) use self::told::{Namesakes, tell};

#[cfg(not(feature = "tracing"))]
pub(crate) fn tell(_: buttress_core::Kind, _: &buttress_core::Name) {}

#[cfg(feature = "tracing")]
mod told {
    use std::{
        collections::{HashMap, HashSet},
        sync::Mutex,
    };

    use buttress_core::{Kind, Line, Name, Note, On};
    use buttress_kit::unpoisoned;

    use crate::{check::MOST, site::Site};

    /// So many names are told of in the life of a process.
    const TOLD: usize = 1000;

    /// Its message says which kind and name. No event writes it.
    static SECOND: Line = Line::warn("second live policy of one name", On::NoteOf(Note::RESET, &[]));

    type Key = (&'static str, Name);

    /// How many policies live, by kind and name.
    #[derive(Debug, Default)]
    pub(crate) struct Namesakes(Mutex<HashMap<Key, usize>>);

    impl Namesakes {
        pub(crate) fn come(&self, kind: Kind, name: &Name) {
            let mut living = unpoisoned(self.0.lock());
            let count = living.entry((kind.name, name.clone())).or_default();
            *count = count.saturating_add(1);
            let is_second = *count > 1;
            drop(living);
            if is_second {
                tell(kind, name);
            }
        }

        pub(crate) fn go(&self, kind: Kind, name: &Name) {
            let (mut living, key) = (unpoisoned(self.0.lock()), (kind.name, name.clone()));
            if let Some(count) = living.get_mut(&key) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    living.remove(&key);
                }
            }
        }
    }

    /// Tells of a second live policy of this kind and name, whoever finds it, once.
    pub(crate) fn tell(kind: Kind, name: &Name) {
        static KNOWN: Mutex<Option<HashSet<Key>>> = Mutex::new(None);

        let site = Site::of(kind, &SECOND);
        if !site.is_enabled() {
            return;
        }
        let mut known = unpoisoned(KNOWN.lock());
        let known_now = known.get_or_insert_default();
        let is_news = known_now.len() < TOLD && known_now.insert((kind.name, name.clone()));
        drop(known);
        if is_news {
            let message = format_args!("a second live {} named `{name}`", kind.name);
            site.write(message, name, kind.name, [None; MOST + 1]);
        }
    }
}
