//! What observers hear.

use std::{
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
};

use buttress_bulkhead::words;
use buttress_core::{Event, Level, Note, OwnedEvent, Value, Verdict};
use buttress_kit::Mode;
use tokio::time::advance;
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task::spawn};
use tower::BoxError;

use crate::support::{Told, builder, call, code, ms};

#[tokio::test(start_paused = true)]
async fn entries_and_endings_are_told_in_order_with_the_levels_after_them() {
    let told = Told::default();
    let bulkhead = told.listen(builder(1, 1)).build().unwrap();
    assert_eq!(told.take(), ["limit 1", "in_flight 0", "queue_depth 0"]);

    let (a_end, mut a) = call(&bulkhead);
    assert_pending!(a.poll());
    assert_eq!(told.take(), ["admitted", "in_flight 1"]);

    let (b_end, mut b) = call(&bulkhead);
    assert_pending!(b.poll());
    // The depth told with an entry is the newcomer's position.
    assert_eq!(told.take(), ["queued", "queue_depth 1"]);

    let (_c_end, mut c) = call(&bulkhead);
    code(assert_ready!(c.poll()));
    assert_eq!(told.take(), ["refused BULKHEAD_QUEUE_FULL false"]);

    advance(ms(30)).await;
    a_end.send(Ok(1)).unwrap();
    assert_ready_ok!(a.poll());
    // The slot is b's already, and so it waits no more.
    assert_eq!(told.take(), ["done success 30ms", "in_flight 1", "queue_depth 0"]);

    advance(ms(5)).await;
    b_end.send(Err("broken".into())).unwrap();
    assert!(assert_ready!(b.poll()).is_err());
    let b =
        ["queue_wait(35ms)", "queue_depth 0", "admitted", "in_flight 1", "done failure 0ms", "in_flight 0"];
    assert_eq!(told.take(), b);
}

#[tokio::test(start_paused = true)]
async fn wait_that_ends_in_vain_is_told_with_its_length() {
    let told = Told::default();
    let bulkhead = told.listen(builder(1, 5).queue_timeout(ms(100))).build().unwrap();
    let _permit = bulkhead.try_acquire().unwrap();
    let (_end, mut late) = call(&bulkhead);
    let (_end, mut dropped) = call(&bulkhead);
    assert_pending!(late.poll());
    assert_pending!(dropped.poll());
    told.take();

    advance(ms(40)).await;
    drop(dropped);
    assert_eq!(told.take(), ["queue_wait(40ms)", "queue_depth 1", "done cancelled 0ms"]);
    advance(ms(60)).await;
    code(assert_ready!(late.poll()));
    assert_eq!(told.take(), ["queue_wait(100ms)", "queue_depth 0", "refused BULKHEAD_QUEUE_TIMEOUT false"]);
}

#[tokio::test(start_paused = true)]
async fn what_operators_do_is_told() {
    let told = Told::default();
    let bulkhead = told.listen(builder(1, 5)).build().unwrap();
    let _permit = bulkhead.try_acquire().unwrap();
    let (_end, mut waiting) = call(&bulkhead);
    assert_pending!(waiting.poll());
    told.take();

    bulkhead.clear_queue();
    assert_eq!(told.take(), ["queue_cleared(1)", "queue_depth 0"]);
    code(assert_ready!(waiting.poll()));
    let sent_away = ["queue_wait(0ns)", "queue_depth 0", "refused BULKHEAD_QUEUE_CLEARED false"];
    assert_eq!(told.take(), sent_away);
    bulkhead.set_limit(3).unwrap();
    assert_eq!(told.take(), ["limit 3"]);
    bulkhead.reconfigure(bulkhead.config()).unwrap();
    assert_eq!(told.take(), ["reconfigured", "limit 3"]);
    bulkhead.reset();
    assert_eq!(told.take(), ["reset"]);
}

#[tokio::test(start_paused = true)]
async fn every_admitted_call_has_exactly_one_end_however_it_ends() {
    let told = Told::default();
    let bulkhead = told.listen(builder(1, 0)).build().unwrap();
    let ends =
        |told: &Told| told.take().into_iter().filter(|event| event.starts_with("done")).collect::<Vec<_>>();

    bulkhead.call(|| async { Ok::<_, BoxError>(()) }).await.unwrap();
    assert_eq!(ends(&told), ["done success 0ms"]);
    bulkhead.call(|| async { Err::<(), BoxError>("no".into()) }).await.unwrap_err();
    assert_eq!(ends(&told), ["done failure 0ms"]);
    let (_end, mut cancelled) = call(&bulkhead);
    assert_pending!(cancelled.poll());
    drop(cancelled);
    assert_eq!(ends(&told), ["done cancelled 0ms"]);
    let panicking = bulkhead.call(|| async { panic!("inside") as Result<(), BoxError> });
    tokio::spawn(panicking).await.unwrap_err();
    assert_eq!(ends(&told), ["done panicked 0ms"]);
    // A refusal by a policy further in says nothing about the service.
    let inner = builder(1, 0).build().unwrap();
    let _full = inner.try_acquire().unwrap();
    bulkhead.call(|| inner.call(|| async { Ok::<_, BoxError>(()) })).await.unwrap_err();
    assert_eq!(ends(&told), ["done ignored 0ms"]);
    drop(bulkhead.try_acquire().unwrap());
    bulkhead.try_acquire().unwrap().record(Verdict::transient());
    assert_eq!(ends(&told), ["done ignored 0ms", "done failure 0ms"]);
}

#[tokio::test]
async fn on_reject_is_told_the_reason() {
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let listener = reasons.clone();
    let bulkhead = builder(20, 0)
        .on_reject(move |why| listener.lock().unwrap().push((why.policy().to_owned(), why.code().as_str())))
        .build()
        .unwrap();
    let permits: Vec<_> = (0..20).map(|_| bulkhead.try_acquire().unwrap()).collect();
    let (_end, mut refused) = call(&bulkhead);
    code(assert_ready!(refused.poll()));
    drop(permits);
    assert_eq!(*reasons.lock().unwrap(), [("db".to_owned(), "BULKHEAD_QUEUE_FULL")]);
}

#[tokio::test]
async fn shadow_refusals_are_told_as_such() {
    let told = Told::default();
    let bulkhead = told.listen(builder(1, 0).mode(Mode::Shadow)).build().unwrap();
    let _permit = bulkhead.try_acquire().unwrap();
    told.take();
    let _other = bulkhead.try_acquire().unwrap();
    assert_eq!(told.take(), ["refused BULKHEAD_QUEUE_FULL true", "admitted", "in_flight 2"]);
}

#[tokio::test(start_paused = true)]
async fn subscription_gets_refusals_clears_and_resets() {
    let bulkhead = builder(1, 0).build().unwrap();
    let mut events = bulkhead.events();
    let _permit = bulkhead.try_acquire().unwrap();
    let why = bulkhead.try_acquire().unwrap_err();
    bulkhead.clear_queue();
    bulkhead.reset();
    let mut next = || events.try_next().map(|event| event.what);
    assert_eq!(next(), Some(OwnedEvent::Refused { rejection: why, shadow: false }));
    assert_eq!(next(), Some(OwnedEvent::Note(Note::with(words::CLEARED, Value::Count(0)))));
    assert_eq!(next(), Some(OwnedEvent::Note(Note::new(Note::RESET))));
    assert_eq!(next(), None);
}

// Listeners run outside of every lock.
#[tokio::test(start_paused = true)]
async fn listener_may_use_the_handle() {
    let handle = Arc::new(Mutex::new(None::<buttress_bulkhead::Bulkhead>));
    let listener = handle.clone();
    let bulkhead = builder(1, 1)
        .on_event(move |_| {
            let handle = listener.lock().unwrap().clone();
            if let Some(handle) = handle {
                handle.snapshot();
                let _ = handle.try_acquire();
            }
        })
        .build()
        .unwrap();
    *handle.lock().unwrap() = Some(bulkhead.clone());
    let (end, mut a) = call(&bulkhead);
    assert_pending!(a.poll());
    let mut b = spawn(bulkhead.acquire());
    assert_pending!(b.poll());
    end.send(Ok(1)).unwrap();
    assert_ready_ok!(a.poll());
    drop(assert_ready!(b.poll()).unwrap());
    assert_eq!(bulkhead.snapshot().active, 0);
    *handle.lock().unwrap() = None;
}

#[test]
fn last_level_told_is_the_last_value_also_if_two_threads_tell_at_once() {
    let (reached, go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (held, gauge) = (AtomicBool::new(false), Arc::new(Mutex::new(f64::NAN)));
    let (reaches, waits, shown) = (reached.clone(), go_on.clone(), gauge.clone());
    let bulkhead = builder(5, 0)
        .on_event(move |event| {
            // Holds the first thread that tells "two run" until one has gone, and that has been told.
            if matches!(event, Event::Level(level) if *level == Level::new(words::IN_FLIGHT, 2.0))
                && !held.swap(true, SeqCst)
            {
                reaches.wait();
                waits.wait();
            }
        })
        .on_event(move |event| {
            if let Event::Level(Level { what: words::IN_FLIGHT, value, .. }) = event {
                *shown.lock().unwrap() = *value;
            }
        })
        .build()
        .unwrap();
    let first = bulkhead.try_acquire().unwrap();
    let other = bulkhead.clone();
    let second = thread::spawn(move || other.try_acquire().unwrap());
    reached.wait();
    drop(first);
    go_on.wait();
    let _second = second.join().unwrap();
    assert_eq!(bulkhead.snapshot().active, 1);
    assert_eq!(*gauge.lock().unwrap(), 1.0);
}
