//! Which policies live, by kind and name, and whose levels are exported.
//!
//! Counters of one kind and name add up. Gauges cannot: of several live policies of one kind and name, the gauges are
//! those of the one that has lived longest. When that one goes, the next one tells its own at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
};

use buttress_core::{Kind, Name};
use buttress_kit::unpoisoned;

use crate::recorder::TableRecorder;

pub(crate) struct Places {
    most_names: usize,
    names: Mutex<Names>,
}

#[derive(Default)]
struct Names {
    /// The names that have series of their own; by kind, who has them now. A name stays when its policies go: their
    /// series stay too.
    places: HashMap<Box<str>, HashMap<&'static str, Place>>,
    /// How many seats were given.
    seats: u64,
}

#[derive(Default)]
struct Place {
    /// In the order in which they came. One may be about to leave already.
    members: Vec<(u64, Weak<TableRecorder>)>,
    /// The seat of the one whose levels are exported. It stays here until its gauges are at rest, so that nobody's
    /// levels are overwritten by that.
    speaker: Option<u64>,
}

/// A policy's place.
pub(crate) struct Seat {
    pub(crate) name: Name,
    number: u64,
}

impl Names {
    fn place(&mut self, kind: Kind, name: &str) -> Option<&mut Place> {
        self.places.get_mut(name)?.get_mut(kind.name)
    }
}

impl Place {
    /// Chooses whose levels are exported next, if there is anybody.
    fn choose(&mut self) -> Option<Arc<TableRecorder>> {
        let mut alive = self.members.iter().filter_map(|(number, member)| Some((*number, member.upgrade()?)));
        let (number, next) = alive.next()?;
        self.speaker = Some(number);
        Some(next)
    }
}

impl Places {
    pub(crate) fn new(most_names: usize) -> Self {
        Self { most_names, names: Mutex::default() }
    }

    /// A seat for a policy. `None`: it shares the name of those that are too many.
    pub(crate) fn reserve(&self, kind: Kind, name: &Name) -> Option<Seat> {
        let mut names = unpoisoned(self.names.lock());
        let Names { places, seats } = &mut *names;
        if !places.contains_key(name.as_str()) {
            if places.len() >= self.most_names {
                return None;
            }
            places.insert(name.as_str().into(), HashMap::new());
        }
        places.get_mut(name.as_str())?.entry(kind.name).or_default();
        *seats = seats.wrapping_add(1);
        Some(Seat { name: name.clone(), number: *seats })
    }

    /// Takes the seat. Whether another live policy has the same kind and name.
    pub(crate) fn take(&self, recorder: &Arc<TableRecorder>) -> bool {
        let Some(seat) = &recorder.series.seat else { return false };
        let mut names = unpoisoned(self.names.lock());
        let Some(place) = names.place(recorder.kind, &seat.name) else { return false };
        let is_second = place.members.iter().any(|(_, member)| member.strong_count() > 0);
        place.members.push((seat.number, Arc::downgrade(recorder)));
        if place.speaker.is_none() {
            place.speaker = Some(seat.number);
            recorder.series.speak(); // nothing has been told, so this calls nobody
        }
        is_second
    }

    /// Lets a policy go. `None`: it was another one whose levels are exported. Else who comes next, if there is
    /// anybody; if not, [`clear`](Self::clear) the place once the gauges are at rest.
    pub(crate) fn leave(&self, kind: Kind, seat: &Seat) -> Option<Option<Arc<TableRecorder>>> {
        let mut names = unpoisoned(self.names.lock());
        let place = names.place(kind, &seat.name)?;
        place.members.retain(|(number, _)| *number != seat.number);
        (place.speaker == Some(seat.number)).then(|| place.choose())
    }

    /// The gauges are at rest. Who came meanwhile, if there is anybody.
    pub(crate) fn clear(&self, kind: Kind, seat: &Seat) -> Option<Arc<TableRecorder>> {
        let mut names = unpoisoned(self.names.lock());
        let place = names.place(kind, &seat.name)?;
        place.speaker = None;
        place.choose()
    }

    /// The recorders of all live policies.
    pub(crate) fn live(&self) -> Vec<Arc<TableRecorder>> {
        let names = unpoisoned(self.names.lock());
        let members = names.places.values().flat_map(HashMap::values).flat_map(|place| &place.members);
        members.filter_map(|(_, member)| member.upgrade()).collect()
    }
}
