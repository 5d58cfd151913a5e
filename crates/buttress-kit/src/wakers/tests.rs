use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Wake,
};

use proptest::prelude::*;

use super::*;

#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn bell() -> (Arc<Bell>, Waker) {
    let bell = Arc::<Bell>::default();
    (bell.clone(), bell.into())
}

#[test]
fn a_wake_calls_each_once_and_takes_it_off_the_list() {
    let wakers = Wakers::default();
    let (bell, waker) = bell();
    let (mut first, mut second) = (None, None);
    wakers.park(&mut first, &waker);
    wakers.park(&mut second, &waker);
    wakers.park(&mut second, &waker); // the same one again
    assert_eq!(wakers.len(), 2);
    wakers.wake_all();
    wakers.wake_all();
    assert_eq!((bell.0.load(SeqCst), wakers.len()), (2, 0));
    wakers.park(&mut first, &waker);
    wakers.unpark(second.unwrap()); // off the list already
    wakers.wake_all();
    assert_eq!(bell.0.load(SeqCst), 3);
}

#[test]
fn who_is_polled_by_another_task_is_called_there() {
    let wakers = Wakers::default();
    let ((old, before), (new, after)) = (bell(), bell());
    let mut place = None;
    wakers.park(&mut place, &before);
    wakers.park(&mut place, &after);
    wakers.wake_all();
    assert_eq!((old.0.load(SeqCst), new.0.load(SeqCst)), (0, 1));
}

// A place that was woken away may be somebody else's by now.
#[test]
fn a_place_of_before_a_wake_is_nobody_s() {
    let wakers = Wakers::default();
    let (bell, waker) = bell();
    let (mut old, mut new) = (None, None);
    wakers.park(&mut old, Waker::noop());
    wakers.wake_all();
    wakers.park(&mut new, &waker);
    wakers.unpark(old.unwrap());
    wakers.wake_all();
    assert_eq!(bell.0.load(SeqCst), 1);
}

// A list that only ever grew would be walked from end to end by every change of state.
#[test]
fn a_wake_costs_what_waits_now_and_not_what_ever_did() {
    let wakers = Wakers::default();
    let places = (0..200_000).map(|_| {
        let mut place = None;
        wakers.park(&mut place, Waker::noop());
        place.unwrap()
    });
    let mut places: Vec<_> = places.collect();
    let last = places.pop();
    places.into_iter().for_each(|place| wakers.unpark(place));
    assert_eq!(wakers.len(), 1);
    let taken = wakers.list().take();
    assert_eq!((taken.len(), taken.capacity()), (1, 1));
    wakers.unpark(last.unwrap());
    // And the memory of those who are gone is given back.
    assert_eq!(wakers.list().wakers.capacity(), 0);
}

/// Drops what it holds of a list when its last waker goes, as a task does that holds services.
struct Task {
    wakers: Weak<Wakers>,
    place: Mutex<Option<Parked>>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Task {
    fn drop(&mut self) {
        if let (Some(wakers), Some(place)) = (self.wakers.upgrade(), self.place.get_mut().unwrap().take()) {
            wakers.unpark(place);
        }
    }
}

#[test]
fn a_waker_that_is_the_last_of_its_task_may_use_the_list_as_it_goes() {
    let wakers = Arc::new(Wakers::default());
    let task =
        |place| Waker::from(Arc::new(Task { wakers: Arc::downgrade(&wakers), place: Mutex::new(place) }));
    let parked = || {
        let mut place = None;
        wakers.park(&mut place, Waker::noop());
        place
    };
    let mut place = None;
    wakers.park(&mut place, &task(parked()));
    wakers.park(&mut place, &task(parked())); // drops the first
    wakers.unpark(place.unwrap()); // drops the second
    wakers.park(&mut None, &task(parked()));
    wakers.wake_all();
    assert!(wakers.is_empty());
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        std::panic::panic_any(PanicsAgain);
    }
}

struct PanicsAgain;

impl Drop for PanicsAgain {
    fn drop(&mut self) {
        panic!("the payload of a panic");
    }
}

#[test]
fn a_waker_that_panics_keeps_nobody_asleep() {
    let wakers = Wakers::default();
    let (bell, waker) = bell();
    wakers.park(&mut None, &Arc::new(Panics).into());
    wakers.park(&mut None, &waker);
    wakers.wake_all();
    assert_eq!(bell.0.load(SeqCst), 1);
}

proptest! {
    #[test]
    fn list_wakes_exactly_those_who_are_on_it(seeds in prop::collection::vec(any::<u16>(), 0..60)) {
        let wakers = Wakers::default();
        // Each has a bell, its place if it ever parked, and whether it is on the list.
        let mut all: Vec<_> = (0..4).map(|_| (bell(), None, false)).collect();
        for seed in seeds {
            let ((bell, waker), place, parked) = &mut all[usize::from(seed) / 8 % 4];
            match seed % 8 {
                0..=3 => {
                    wakers.park(place, waker);
                    *parked = true;
                }
                4 | 5 => if let Some(place) = place.take() {
                    wakers.unpark(place);
                    *parked = false;
                }
                _ => {
                    let rang: Vec<_> = all.iter().map(|((bell, _), ..)| bell.0.load(SeqCst)).collect();
                    wakers.wake_all();
                    for (((bell, _), _, parked), before) in all.iter_mut().zip(rang) {
                        prop_assert_eq!(bell.0.load(SeqCst), before + usize::from(mem::take(parked)));
                    }
                    continue;
                }
            }
            let _ = bell;
            prop_assert_eq!(wakers.len(), all.iter().filter(|(_, _, parked)| *parked).count());
        }
    }
}
