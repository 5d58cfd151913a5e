//! Every interleaving of two threads.

use std::{
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    task::Wake,
};

use loom::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use super::*;

/// Not one of loom's: read only after the threads were joined.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn who_parks_and_looks_then_is_woken_or_sees_that_it_came() {
    loom::model(|| {
        let shared = Arc::new((Wakers::default(), AtomicBool::new(false)));
        let other = shared.clone();
        let comes = thread::spawn(move || {
            // Relaxed: the lock of the list is what orders the two.
            other.1.store(true, Relaxed);
            other.0.wake_all();
        });
        let bell = std::sync::Arc::<Bell>::default();
        let mut place = None;
        shared.0.park(&mut place, &bell.clone().into());
        let seen = shared.1.load(Relaxed);
        comes.join().unwrap();
        assert!(seen || bell.0.load(SeqCst) > 0, "nobody called the waiter");
    });
}

#[test]
fn unpark_and_wake_meet() {
    loom::model(|| {
        let wakers = Arc::new(Wakers::default());
        let mut place = None;
        wakers.park(&mut place, Waker::noop());
        let other = wakers.clone();
        let wake = thread::spawn(move || other.wake_all());
        if let Some(place) = place {
            wakers.unpark(place);
        }
        wake.join().unwrap();
        assert!(wakers.is_empty());
    });
}
