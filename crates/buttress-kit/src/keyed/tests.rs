use std::{
    cell::Cell,
    collections::HashSet,
    hash::Hasher,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicI64},
    },
};

use proptest::prelude::*;

use super::*;
use crate::Chance;

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn map<K, V>(max: usize) -> KeyedMap<K, V> {
    KeyedMap::new(max, None, now())
}

/// Whether everything in the map agrees with everything else.
fn check_whole<K: Hash + Eq, V>(map: &KeyedMap<K, V>) {
    let mut len = 0;
    for shard in &map.shards {
        let locked = shard.lock();
        let Table { slots, entries } = &*locked.table;
        let hashes: HashSet<_> = entries.iter().map(|(_, entry)| entry.hash).collect();
        assert_eq!(hashes.len(), slots.len());
        let stamps: Vec<_> = entries.iter().map(|(_, entry)| entry.stamp).collect();
        assert!(stamps.is_sorted(), "{stamps:?}");
        assert_eq!(shard.oldest.load(Relaxed), stamps.first().copied().unwrap_or(u64::MAX));
        for (at, entry) in entries.iter() {
            assert_eq!(entry.hash, map.hasher.hash_one(&entry.key));
            assert_eq!(locked.table.find(entry.hash, &entry.key), Some(at));
        }
        len += entries.len();
    }
    assert_eq!(map.len(), len);
    assert!(len <= map.max.load(Relaxed));
}

/// Counts what came and went; values that are set stay.
#[derive(Default)]
struct Counts {
    there: AtomicI64,
    went: AtomicUsize,
}

type Flag = Arc<AtomicBool>;

impl Keeper<Flag> for Counts {
    fn must_stay(&self, value: &Flag) -> bool {
        value.load(Relaxed)
    }

    fn came(&self, _: &Flag) {
        self.there.fetch_add(1, Relaxed);
    }

    fn went(&self, _: Flag) {
        self.there.fetch_sub(1, Relaxed);
        self.went.fetch_add(1, Relaxed);
    }
}

fn flag(stays: bool) -> impl FnOnce() -> Flag {
    move || Arc::new(stays.into())
}

// Eviction once took used keys in the order of their hashes: hot ones were forgotten thousands of times.
#[test]
fn flood_of_made_up_keys_forgets_no_key_in_constant_use() {
    // The last ones leave room for a single key that is made up.
    for (max, hot, rounds) in
        [(8, 7, 2_000), (100, 20, 2_000), (100, 99, 500), (5_000, 20, 2_000), (1_024, 1_023, 60)]
    {
        let (map, now) = (map(max), now());
        let make = |key: u32| map.get_or_make(&key, &(), now, || Arc::new(())).unwrap();
        let made: Vec<_> = (0..hot).map(make).collect();
        for round in 0..rounds {
            make(1_000_000 + round);
            for (key, value) in (0..hot).zip(&made) {
                assert!(Arc::ptr_eq(&map.get(&key).unwrap(), value), "{key} of {hot}, {max}, round {round}");
            }
        }
        check_whole(&map);
    }
}

#[test]
fn key_used_last_never_goes_first_and_the_one_unused_for_longest_does() {
    for trial in 0..500 {
        let (map, chance) = (map(8), Chance::seeded(trial));
        let mut order: Vec<u64> = (0..8).collect();
        order.iter().for_each(|key| assert_eq!(map.put(*key, (), &(), now()), Ok(None)));
        for _ in 0..20 {
            let key = chance.bits() % 8;
            map.get(&key).unwrap();
            order.retain(|other| *other != key);
            order.push(key);
        }
        for (key, goes) in (100..).zip(order) {
            map.put(key, (), &(), now()).unwrap();
            assert_eq!((map.get(&goes), map.len()), (None, 8));
        }
    }
}

// Where the shards have the cap in common, a shard that has more than its share loses nothing by that.
#[test]
fn cap_is_met_exactly_and_never_passed_by_shards_as_well() {
    let (map, now) = (map(2_000), now());
    for key in 0..2_000 {
        map.put(key, key, &(), now).unwrap();
    }
    assert_eq!(map.len(), 2_000);
    assert!((0..2_000).all(|key| map.get(&key) == Some(key)));
    for key in 2_000..6_000 {
        map.put(key, key, &(), now).unwrap();
        assert_eq!(map.len(), 2_000);
    }
    assert!((4_000..6_000).all(|key| map.get(&key) == Some(key)));
    check_whole(&map);
}

#[test]
fn value_that_must_stay_stays_and_without_room_a_new_key_has_none() {
    for max in [1, 10, 1_000, 5_000] {
        let (map, counts, now) = (map(max), Counts::default(), now());
        let bad = (max / 20).max(1);
        for key in 0..bad {
            map.get_or_make(&key, &counts, now, flag(true)).unwrap();
        }
        for key in 1_000_000..1_000_000 + 3 * max {
            let made = map.get_or_make(&key, &counts, now, flag(false));
            assert!(made.is_some() || max == 1, "{key}");
            assert!(map.len() <= max, "{} of {max}", map.len());
        }
        assert!((0..bad).all(|key| map.get(&key).is_some()));
        assert_eq!(counts.there.load(Relaxed), map.len() as i64);
        // With a single place, which is taken by what must stay, nothing came after it.
        assert_eq!(counts.went.load(Relaxed), if max == 1 { 0 } else { 2 * max + bad });
        check_whole(&map);
    }
    let (map, now) = (map(1), now());
    map.get_or_make(&1, &Counts::default(), now, flag(true)).unwrap();
    let refused = map.put(2, flag(false)(), &Counts::default(), now);
    assert!(refused.is_err_and(|value| Arc::strong_count(&value) == 1));
}

/// Counts how often it is asked.
struct Asked(AtomicUsize, AtomicBool);

impl Keeper<u32> for Asked {
    fn must_stay(&self, value: &u32) -> bool {
        self.0.fetch_add(1, Relaxed);
        *value == 0 && self.1.load(Relaxed)
    }
}

// The worst flood: nearly every known value must stay, so that a search for room looks at all of them.
#[test]
fn flood_over_a_full_map_costs_no_search_for_each_of_its_keys() {
    for max in [1_000, 5_000] {
        let (map, asked, start) = (map(max), Asked(AtomicUsize::new(0), AtomicBool::new(true)), now());
        for key in 0..max - 1 {
            map.get_or_make(&key, &asked, start, || 0).unwrap();
        }
        // All were used since the last of them came, so the last shard is searched last. The first of the flood are
        // in there, behind all that must stay: what is found early costs little, and is worth no pause.
        (0..max - 1).for_each(|key| assert_eq!(map.get(&key), Some(0)));
        let searched_last = |key: &usize| {
            let shard = map.shard(map.hasher.hash_one(key));
            map.shards.last().is_some_and(|last| std::ptr::eq(last, shard))
        };
        let flood = (1_000_000..).filter(searched_last).take(2).chain(2_000_000..2_100_000);
        let made = flood.filter(|key| map.get_or_make(key, &asked, start, || 1).is_some()).count();
        // The first took the last free place, the second that of the first after a search; no time has passed since.
        assert_eq!(made, 2);
        assert!(asked.0.load(Relaxed) <= 2 * max, "{asked:?} for {max}", asked = asked.0);
        let later = start + SEARCH_AGAIN;
        assert!(map.get_or_make(&7_000_000, &asked, later, || 1).is_some());
        // Nothing is made for a key that there is no room for.
        assert!(map.get_or_make(&8_000_000, &asked, later, || unreachable!("full")).is_none());
        // At once where values changed, or a key was taken out.
        asked.1.store(false, Relaxed);
        map.search_again();
        assert!(map.get_or_make(&8_000_000, &asked, later, || 1).is_some());
    }
}

#[test]
fn key_taken_out_makes_room_at_once() {
    let (map, counts, now) = (map(100), Counts::default(), now());
    (0..100).for_each(|key| assert!(map.get_or_make(&key, &counts, now, flag(true)).is_some()));
    assert!(map.get_or_make(&100, &counts, now, flag(true)).is_none());
    assert!(map.remove(&7).is_some() && map.remove(&7).is_none());
    assert!(map.get_or_make(&100, &counts, now, flag(true)).is_some());
}

#[test]
fn idle_keys_go_in_the_second_sweep_and_what_outlasts_it_stays() {
    let start = now();
    let at = |secs| start + Duration::from_secs(secs);
    let map = KeyedMap::new(2_000, Some(Duration::from_secs(60)), start);
    let counts = Counts::default();
    for key in 0..10 {
        map.get_or_make(&key, &counts, start, flag(key == 3)).unwrap();
    }
    for n in 1..4 {
        map.get(&0).unwrap();
        assert_eq!(map.find(&1, |_| None::<()>), None); // looked at, and not used
        map.get_or_make(&(100 + n), &counts, at(60 * n), flag(false)).unwrap(); // a new key brings the sweep
    }
    let mut left: Vec<_> = map.entries().into_iter().map(|(key, _)| key).collect();
    left.sort_unstable();
    assert_eq!(left, [0, 3, 102, 103]);
    assert_eq!((counts.there.load(Relaxed), counts.went.load(Relaxed)), (4, 9));
    map.sweep(&counts, at(200));
    map.sweep(&counts, at(200));
    assert_eq!((map.len(), map.values().len()), (1, 1));
    check_whole(&map);
}

#[test]
fn lowered_cap_holds_from_the_next_key_on() {
    let (map, counts) = (map(4), Counts::default());
    (0..4).for_each(|key| assert!(map.put(key, flag(false)(), &counts, now()).is_ok()));
    map.set_max(2);
    assert_eq!(map.len(), 4);
    map.put(0, flag(false)(), &counts, now()).unwrap();
    assert_eq!((map.len(), counts.went.load(Relaxed)), (2, 2));
    map.set_max(1);
    map.put(9, flag(false)(), &counts, now()).unwrap();
    assert_eq!((map.len(), map.get(&9).is_some()), (1, true));
    map.set_max(0);
    assert!(map.put(1, flag(false)(), &counts, now()).is_err());
}

thread_local! {
    /// After how many steps of a key's own code one panics.
    static PANICS_AT: Cell<u32> = const { Cell::new(u32::MAX) };
}

/// A key all of whose own code may panic; many of them have the same hash.
#[derive(Debug)]
struct Key(u8);

impl Key {
    fn step() {
        let left = PANICS_AT.get();
        PANICS_AT.set(left.wrapping_sub(1));
        assert!(left != 0, "a key's own code");
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Self::step();
        state.write_u8(self.0 % 2);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        Self::step();
        self.0 == other.0
    }
}

impl Eq for Key {}

impl Clone for Key {
    fn clone(&self) -> Self {
        Self::step();
        Self(self.0)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            Self::step();
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Make(u8, bool),
    Put(u8, bool),
    Get(u8),
    Look(u8),
    Remove(u8),
    Set(u8, bool),
    Sweep,
    Max(usize),
}

/// A number a step: cheap to draw, and shrinks well.
fn step(number: u16) -> Step {
    let (key, rest) = ((number / 16 % 8) as u8, number / 128);
    match number % 16 {
        0..4 => Step::Make(key, rest % 4 == 0),
        4..7 => Step::Put(key, rest % 4 == 0),
        7..9 => Step::Get(key),
        9 => Step::Look(key),
        10 | 11 => Step::Remove(key),
        12 | 13 => Step::Set(key, rest % 2 == 0),
        14 => Step::Sweep,
        _ => Step::Max(usize::from(rest % 6)),
    }
}

/// The same in the plainest way: a list, the one used last at its end; key, its value, used since the sweep.
#[derive(Default)]
struct Model {
    entries: Vec<(u8, Flag, bool)>,
    max: usize,
    went: usize,
}

impl Model {
    fn find(&self, key: u8) -> Option<usize> {
        self.entries.iter().position(|(other, ..)| *other == key)
    }

    fn use_it(&mut self, index: usize) -> Flag {
        let (key, value, _) = self.entries.remove(index);
        self.entries.push((key, value.clone(), true));
        value
    }

    fn evict(&mut self) -> bool {
        for _ in 0..self.entries.len() {
            let oldest = self.entries.remove(0);
            if !oldest.1.load(Relaxed) {
                self.went += 1;
                return true;
            }
            self.entries.push(oldest);
        }
        false
    }

    fn has_room(&mut self) -> bool {
        while self.entries.len() >= self.max {
            if !self.evict() {
                return false;
            }
        }
        true
    }
}

fn same(one: Option<Flag>, other: Option<Flag>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(&one, &other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// Does one step to both.
fn both(map: &KeyedMap<Key, Flag>, counts: &Counts, model: &mut Model, step: Step) {
    match step {
        Step::Make(key, stays) => {
            let value = flag(stays)();
            let made = map.get_or_make(&Key(key), counts, now(), || value.clone());
            let expected = match model.find(key) {
                Some(index) => Some(model.use_it(index)),
                None => model.has_room().then(|| {
                    model.entries.push((key, value.clone(), true));
                    value
                }),
            };
            assert!(same(made, expected));
        }
        Step::Put(key, stays) => {
            let value = flag(stays)();
            let put = map.put(Key(key), value.clone(), counts, now());
            let expected = match model.find(key) {
                Some(index) => {
                    let former = model.use_it(index);
                    model.entries.last_mut().unwrap().1 = value;
                    Ok(Some(former))
                }
                None if model.has_room() => {
                    model.entries.push((key, value, true));
                    Ok(None)
                }
                None => Err(value),
            };
            assert_eq!(put.is_ok(), expected.is_ok());
            while expected.is_ok() && model.entries.len() > model.max && model.evict() {}
            assert!(same(put.unwrap_or_else(Some), expected.unwrap_or_else(Some)));
        }
        Step::Get(key) => {
            let index = model.find(key);
            assert!(same(map.get(&Key(key)), index.map(|index| model.use_it(index))));
        }
        Step::Look(key) => {
            assert_eq!(map.find(&Key(key), |_| None::<()>), None);
        }
        Step::Remove(key) => {
            let index = model.find(key);
            assert!(same(map.remove(&Key(key)), index.map(|index| model.entries.remove(index).1)));
        }
        Step::Set(key, stays) => {
            if let Some(index) = model.find(key) {
                model.entries[index].1.store(stays, Relaxed);
            }
        }
        Step::Sweep => {
            map.sweep(counts, now());
            let before = model.entries.len();
            model.entries.retain_mut(|(_, value, used)| mem::take(used) || value.load(Relaxed));
            model.went += before - model.entries.len();
        }
        Step::Max(max) => {
            map.set_max(max);
            model.max = max;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn map_does_as_the_plain_list(steps in prop::collection::vec(any::<u16>(), 1..32)) {
        let (map, counts) = (map(4), Counts::default());
        let mut model = Model { max: 4, ..Model::default() };
        for step in steps.into_iter().map(step) {
            both(&map, &counts, &mut model, step);
            let order: Vec<u8> = map.entries().iter().map(|(key, _)| key.0).collect();
            prop_assert!(order.iter().eq(model.entries.iter().map(|(key, ..)| key)), "{:?}", order);
            prop_assert_eq!(counts.went.load(Relaxed), model.went);
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    // Somebody's `Hash` that panicked amid an eviction once left a slot that was gone, for an innocent call to find;
    // a `Clone` that panicked was counted as a key for good.
    #[test]
    fn panic_of_a_key_s_own_code_leaves_the_map_whole(
        steps in prop::collection::vec((any::<u16>(), 0_u32..12), 1..24),
    ) {
        let (map, counts) = (map(4), Counts::default());
        let mut taken = 0;
        for (step, panics_at) in steps.into_iter().map(|(number, at)| (step(number), at)) {
            let run = AssertUnwindSafe(|| {
                PANICS_AT.set(panics_at);
                let now = now();
                match step {
                    Step::Make(key, stays) => drop(map.get_or_make(&Key(key), &counts, now, flag(stays))),
                    Step::Put(key, stays) => drop(map.put(Key(key), flag(stays)(), &counts, now)),
                    Step::Get(key) | Step::Look(key) | Step::Set(key, _) => drop(map.get(&Key(key))),
                    Step::Remove(key) => drop(map.remove(&Key(key))),
                    Step::Sweep => map.sweep(&counts, now),
                    Step::Max(_) => drop(map.entries()),
                }
            });
            let before = map.len();
            let _panic = catch_unwind(run);
            PANICS_AT.set(u32::MAX);
            if matches!(step, Step::Remove(_)) {
                taken += before - map.len();
            }
            check_whole(&map);
            prop_assert_eq!(counts.there.load(Relaxed), (map.len() + taken) as i64);
        }
    }
}

/// A key that uses the map as it is dropped, as it may whose value is a handle.
#[derive(Clone)]
struct Uses(u32, Weak<OnceLock<KeyedMap<Uses, Arc<Uses>>>>);

impl Hash for Uses {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialEq for Uses {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Uses {}

impl Drop for Uses {
    fn drop(&mut self) {
        if let Some(map) = self.1.upgrade() {
            map.get().unwrap().find(&Uses(self.0, Weak::new()), |_| None::<()>);
        }
    }
}

#[test]
fn keys_and_values_are_dropped_with_no_lock_held() {
    for max in [2, 2_000] {
        let cell = Arc::new(OnceLock::new());
        let map = cell.get_or_init(|| map(max));
        let key = |n| Uses(n, Arc::downgrade(&cell));
        for n in 0..3 * max as u32 {
            map.get_or_make(&key(n), &(), now(), || Arc::new(key(n))).unwrap(); // evicts
            map.get_or_make(&key(n), &(), now(), || Arc::new(key(n))).unwrap(); // is there
            assert!(map.put(key(n), Arc::new(key(n)), &(), now()).is_ok()); // replaces
        }
        let last = 3 * max as u32 - 1;
        assert!(map.remove(&key(last)).is_some());
        map.sweep(&(), now());
        map.sweep(&(), now());
        assert!(map.is_empty());
        map.set_max(0);
        assert!(map.put(key(0), Arc::new(key(0)), &(), now()).is_err());
    }
}

#[test]
fn racers_share_one_value_of_a_key_and_never_pass_the_cap() {
    let (map, counts) = (map::<u64, _>(1_500), Counts::default());
    let taken = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (map, counts, taken) = (&map, &counts, &taken);
            scope.spawn(move || {
                let chance = Chance::seeded(thread);
                for _ in 0..20_000 {
                    let key = chance.bits() % 3_000;
                    let value = map.get_or_make(&key, counts, now(), flag(false)).unwrap();
                    assert!(map.len() <= 1_500);
                    if key % 64 == 0 {
                        taken.fetch_add(usize::from(map.remove(&key).is_some()), Relaxed);
                    }
                    drop(value);
                }
            });
        }
    });
    check_whole(&map);
    assert_eq!(counts.there.load(Relaxed), (map.len() + taken.load(Relaxed)) as i64);
    let one = map.get_or_make(&9_999, &counts, now(), flag(false)).unwrap();
    let values = std::thread::scope(|scope| {
        let get = || map.get_or_make(&9_999, &counts, now(), flag(false)).unwrap();
        [scope.spawn(get), scope.spawn(get)].map(|thread| thread.join().unwrap())
    });
    assert!(values.iter().all(|value| Arc::ptr_eq(value, &one)));
}
