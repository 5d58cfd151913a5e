//! Levels: what listeners were told last is what is.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use buttress_bulkhead::{Bulkhead, BulkheadBuilder, Permit, words};
use buttress_core::{BoxError, Event, Level};
use buttress_kit::Mode;
use tokio_test::{assert_pending, assert_ready, task::spawn};

use crate::support::{builder, levels};

/// The values of the levels that were told last.
#[derive(Clone, Default)]
struct Gauges(Arc<[AtomicU64; 3]>);

impl Gauges {
    fn listen(&self, builder: BulkheadBuilder) -> BulkheadBuilder {
        let gauges = self.0.clone();
        builder.on_event(move |event| {
            if let Event::Level(Level { what, value, .. }) = event {
                let names = [words::LIMIT, words::IN_FLIGHT, words::QUEUE_DEPTH];
                let index = names.iter().position(|name| name == what).unwrap();
                gauges[index].store(*value as u64, SeqCst);
            }
        })
    }

    /// Limit, in flight, queued.
    fn told(&self) -> [u64; 3] {
        self.0.each_ref().map(|gauge| gauge.load(SeqCst))
    }

    #[track_caller]
    fn must_be_true(&self, bulkhead: &Bulkhead) {
        let snapshot = bulkhead.snapshot();
        assert_eq!(self.told(), [snapshot.limit, snapshot.active, snapshot.queued].map(u64::from));
    }
}

#[tokio::test(start_paused = true)]
async fn waiter_that_is_dropped_before_it_takes_its_slot_tells_that_the_slot_is_free() {
    let gauges = Gauges::default();
    let bulkhead = gauges.listen(builder(1, 5)).build().unwrap();
    let permit = bulkhead.try_acquire().unwrap();
    let mut waiting = spawn(bulkhead.acquire());
    assert_pending!(waiting.poll());
    drop(permit);
    assert!(waiting.is_woken());
    drop(waiting);
    assert_eq!(levels(&bulkhead), (0, 0));
    assert_eq!(gauges.told(), [1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn every_way_to_and_from_a_slot_tells_the_levels_at_once() {
    let gauges = Gauges::default();
    let bulkhead = gauges.listen(builder(1, 9)).build().unwrap();
    gauges.must_be_true(&bulkhead);
    let permit = bulkhead.try_acquire().unwrap();
    gauges.must_be_true(&bulkhead);
    let mut waiting: Vec<_> = (0..6).map(|_| spawn(bulkhead.acquire())).collect();
    for waiter in &mut waiting {
        assert_pending!(waiter.poll());
        gauges.must_be_true(&bulkhead);
    }
    // Granted, though none of them has been polled.
    bulkhead.set_limit(2).unwrap();
    assert_eq!(gauges.told(), [2, 2, 5]);
    drop(permit);
    assert_eq!(gauges.told(), [2, 2, 4]);
    let held = assert_ready!(waiting[0].poll()).unwrap();
    gauges.must_be_true(&bulkhead);
    // One that has its slot and one that waits leave.
    drop(waiting.remove(1));
    gauges.must_be_true(&bulkhead);
    drop(waiting.pop());
    assert_eq!(gauges.told(), [2, 2, 2]);
    let mut config = bulkhead.config();
    config.mode = Mode::Shadow;
    bulkhead.reconfigure(config).unwrap();
    assert_eq!(gauges.told(), [2, 4, 0]);
    drop((waiting, held));
    assert_eq!(gauges.told(), [2, 0, 0]);

    let bulkhead = gauges.listen(builder(1, 9)).build().unwrap();
    let _permit = bulkhead.try_acquire().unwrap();
    let wait = || {
        let mut waiter = spawn(bulkhead.acquire());
        assert_pending!(waiter.poll());
        gauges.must_be_true(&bulkhead);
        waiter
    };
    let cleared = wait();
    bulkhead.clear_queue();
    assert_eq!(gauges.told(), [1, 1, 0]);
    let closed = wait();
    bulkhead.close();
    assert_eq!(gauges.told(), [1, 1, 0]);
    drop((cleared, closed));
    gauges.must_be_true(&bulkhead);
}

#[test]
fn levels_are_true_when_two_threads_have_come_to_rest() {
    let gauges = Gauges::default();
    let bulkhead = gauges.listen(builder(2, 0)).build().unwrap();
    for round in 0..500 {
        thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| (0..4).for_each(|_| drop(bulkhead.try_acquire())));
            }
        });
        assert_eq!(gauges.told(), [2, 0, 0], "round {round}");
    }
}

#[test]
#[allow(clippy::disallowed_methods)] // a listener that is slow on its thread: no runtime is there
fn call_tells_a_level_no_more_often_than_it_moves_it_however_many_make_calls() {
    const THREADS: u32 = 8;
    const CALLS: u32 = 20;
    let told = Arc::new(AtomicU32::new(0));
    let counted = told.clone();
    let bulkhead = builder(THREADS, 0)
        .on_event(move |event| {
            if matches!(event, Event::Level(level) if level.what == words::IN_FLIGHT) {
                counted.fetch_add(1, SeqCst);
                thread::sleep(Duration::from_micros(200));
            }
        })
        .build()
        .unwrap();
    told.store(0, SeqCst);
    thread::scope(|threads| {
        for _ in 0..THREADS {
            threads.spawn(|| (0..CALLS).for_each(|_| drop(bulkhead.try_acquire().unwrap())));
        }
    });
    assert!(told.load(SeqCst) <= 2 * THREADS * CALLS, "told {} times", told.load(SeqCst));
}

#[test]
fn listener_that_moves_the_level_it_hears_of_does_not_hold_its_caller_for_ever() {
    let handle = Arc::new(OnceLock::<Bulkhead>::new());
    let kept = Arc::new(Mutex::new(Vec::<Permit>::new()));
    let (listener, keeps, told) = (handle.clone(), kept.clone(), Arc::new(AtomicU32::new(0)));
    let counted = told.clone();
    let bulkhead = builder((1 << 24) - 1, 0)
        .on_event(move |event| {
            if let (Event::Level(level), Some(bulkhead)) = (event, listener.get()) {
                if level.what == words::IN_FLIGHT {
                    counted.fetch_add(1, SeqCst);
                    let permit = bulkhead.try_acquire().unwrap();
                    keeps.lock().unwrap().push(permit);
                }
            }
        })
        .build()
        .unwrap();
    handle.set(bulkhead.clone()).unwrap();
    let _permit = bulkhead.try_acquire().unwrap();
    assert!((1..5_000).contains(&told.load(SeqCst)), "told {} times", told.load(SeqCst));
    assert_eq!(bulkhead.snapshot().active as usize, 1 + kept.lock().unwrap().len());
}

#[tokio::test(start_paused = true)]
async fn settings_and_what_holds_agree_when_two_have_changed_them_at_once() {
    let bulkhead = builder(1, 0).build().unwrap();
    for round in 0..300u32 {
        thread::scope(|threads| {
            for limit in [1, 2] {
                let bulkhead = &bulkhead;
                threads.spawn(move || {
                    let mut config = bulkhead.config();
                    (config.max_concurrent, config.max_queue, config.timed) = (limit, limit, limit == 2);
                    bulkhead.reconfigure(config).unwrap();
                });
            }
        });
        let config = bulkhead.config();
        bulkhead.reset();
        bulkhead.call(|| async { Ok::<_, BoxError>(()) }).await.unwrap();
        let snapshot = bulkhead.snapshot();
        assert_eq!((snapshot.limit, snapshot.max_queue), (config.max_concurrent, config.max_queue));
        assert_eq!(snapshot.average_execution.is_some(), config.timed, "round {round}");
    }
}
