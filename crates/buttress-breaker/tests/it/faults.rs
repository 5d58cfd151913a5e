//! Panics, hangs, late results, clocks that jump, listeners that misbehave.

use std::{
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress_breaker::{Breaker, OnCancel, OpenReason, State, WindowConfig};
use buttress_core::{BoxError, Event, Note};
use buttress_kit::listener_panics;
use tokio::time::advance;
use tokio_test::task;
use tower::{Layer, Service, ServiceExt, service_fn, timeout::TimeoutLayer};

use crate::support::*;

fn tripping_at_once() -> buttress_breaker::BreakerBuilder {
    Breaker::builder("x").consecutive_failures(1).open_for(secs(10)).success_threshold(1)
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_in_call_or_in_poll_opens_again_and_leaves_a_usable_breaker() {
    for in_call in [true, false] {
        let breaker = tripping_at_once().build().unwrap();
        breaker.fail(1);
        pass(secs(10)).await;
        let svc = breaker.layer().layer(service_fn(move |(): ()| {
            assert!(!in_call, "in call");
            async move { panic!("in poll") as Result<(), BoxError> }
        }));
        let mut svc = task::spawn(svc);
        assert!(svc.enter(|cx, mut svc| svc.poll_ready(cx)).is_ready());
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let mut call = task::spawn(svc.enter(|_, mut svc| svc.call(())));
            let _ = call.poll();
        }));
        let payload = panicked.unwrap_err();
        let text = payload.downcast_ref::<&str>().unwrap();
        assert_eq!(*text, if in_call { "in call" } else { "in poll" });
        breaker.is(State::Open);
        assert_eq!(breaker.snapshot().failures, 2);
        pass(secs(10)).await;
        breaker.ok(1);
        breaker.is(State::Closed);
    }
}

// A panic that is caught between polls by the task: the drop comes when no panic is under way any more.
#[tokio::test(start_paused = true)]
async fn a_caught_panic_is_still_a_failure_and_not_a_cancelled_call() {
    let breaker = Breaker::builder("x").build().unwrap();
    let mut call = Box::pin(breaker.call(|| async { panic!("odd") as Result<(), BoxError> }));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(&mut cx))).unwrap_err();
    drop(call);
    let seen = breaker.snapshot();
    assert_eq!((seen.failures, seen.cancelled), (1, 0));
}

// The scope guard
#[tokio::test(start_paused = true)]
async fn a_guard_dropped_by_a_panic_failed_and_one_dropped_untold_was_cancelled() {
    let breaker = Breaker::builder("x").build().unwrap();
    drop(breaker.try_acquire().unwrap());
    catch_unwind(AssertUnwindSafe(|| {
        let _permit = breaker.try_acquire().unwrap();
        panic!("odd");
    }))
    .unwrap_err();
    let seen = breaker.snapshot();
    assert_eq!((seen.cancelled, seen.failures), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_never_settles_keeps_nobody_out_for_longer_than_the_wait() {
    let breaker = tripping_at_once().build().unwrap();
    breaker.fail(1);
    pass(secs(10)).await;
    let hung = breaker.try_acquire().unwrap();
    pass(ms(9_999)).await;
    breaker.refused();
    pass(ms(1)).await;
    breaker.ok(1);
    breaker.is(State::Closed);
    hung.failure();
    breaker.is(State::Closed);
}

// A service that takes longer than the circuit is open must be able to close it all the same.
#[tokio::test(start_paused = true)]
async fn slow_probes_do_not_lose_every_lease_in_turn() {
    let breaker = tripping_at_once().open_for(ms(50)).build().unwrap();
    breaker.fail(1);
    pass(ms(50)).await;
    let mut probes = Vec::new();
    for _ in 0..200 {
        if let Ok(permit) = breaker.try_acquire() {
            probes.push((tokio::time::Instant::now(), permit));
        }
        pass(ms(1)).await;
        if let Some(done) = probes.iter().position(|(begun, _)| begun.elapsed() >= ms(70)) {
            probes.remove(done).1.success();
        }
        if breaker.state() == State::Closed {
            return;
        }
    }
    panic!("never closed: {:?}", breaker.snapshot());
}

#[tokio::test(start_paused = true)]
async fn a_probe_of_an_earlier_half_open_decides_nothing() {
    let breaker = tripping_at_once().probe_lease(secs(1)).build().unwrap();
    breaker.fail(1);
    pass(secs(10)).await;
    let a = breaker.try_acquire().unwrap();
    pass(secs(1)).await;
    breaker.try_acquire().unwrap().failure();
    breaker.is(State::Open);
    pass(secs(10)).await;
    let c = breaker.try_acquire().unwrap();
    a.success();
    breaker.is(State::HalfOpen);
    breaker.refused(); // and it gave no place back
    c.failure();
    breaker.is(State::Open);
}

#[tokio::test(start_paused = true)]
async fn asking_for_readiness_twice_takes_one_probe() {
    let breaker = tripping_at_once().build().unwrap();
    breaker.fail(1);
    pass(secs(10)).await;
    let inner = service_fn(|(): ()| pending::<Result<(), BoxError>>());
    let mut svc = task::spawn(breaker.layer().layer(inner));
    for _ in 0..2 {
        assert!(svc.enter(|cx, mut svc| svc.poll_ready(cx)).is_ready());
    }
    let call = svc.enter(|_, mut svc| svc.call(()));
    assert_eq!(breaker.snapshot().probes_in_flight, 1);
    drop(call);
    assert_eq!(breaker.snapshot().probes_in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_readied_clone_that_is_dropped_keeps_no_place_and_a_waiter_is_woken_without_a_timer() {
    let breaker = tripping_at_once().gate_readiness(true).build().unwrap();
    breaker.fail(1);
    pass(secs(10)).await;
    let svc = breaker.layer().layer(service_fn(|(): ()| pending::<Result<(), BoxError>>()));
    let mut readied = svc.clone();
    readied.ready().await.unwrap();
    drop(readied);
    assert_eq!(breaker.snapshot().probes_in_flight, 0);
    let mut probing = svc.clone();
    let probe = probing.ready().await.unwrap().call(());
    let mut waiter = task::spawn(svc.clone());
    assert!(waiter.enter(|cx, mut svc| svc.poll_ready(cx)).is_pending());
    drop(probe);
    assert!(waiter.is_woken());
    assert!(waiter.enter(|cx, mut svc| svc.poll_ready(cx)).is_ready());
}

#[tokio::test(start_paused = true)]
async fn idle_for_longer_than_the_window_leaves_nothing_of_it() {
    let breaker = Breaker::builder("x").window(WindowConfig::time(secs(10))).build().unwrap();
    breaker.fail(10);
    pass(secs(20)).await;
    breaker.ok(1);
    let seen = breaker.snapshot().window;
    assert_eq!((seen.calls, seen.failures), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_success_that_fills_the_window_opens() {
    let builder = Breaker::builder("x").window(WindowConfig::count(10)).failure_rate(0.5).minimum_calls(10);
    let breaker = builder.build().unwrap();
    breaker.ok(2);
    breaker.fail(6);
    breaker.ok(1);
    breaker.is(State::Closed);
    breaker.ok(1);
    breaker.is(State::Open);
}

#[tokio::test(start_paused = true)]
async fn eight_hours_asleep_are_one_probe_and_an_empty_window() {
    let breaker = tripping_at_once().failure_rate(0.5).minimum_calls(1).build().unwrap();
    breaker.fail(1);
    advance(secs(8 * 3_600)).await;
    let probe = breaker.try_acquire().unwrap();
    breaker.refused();
    probe.success();
    assert_eq!(breaker.snapshot().window.calls, 0);
    advance(secs(8 * 3_600)).await;
    breaker.ok(1);
    assert_eq!(breaker.snapshot().window.calls, 1);
}

#[tokio::test(start_paused = true)]
async fn a_window_longer_than_the_breaker_is_old() {
    let window = WindowConfig::time(secs(48 * 3_600));
    let breaker = Breaker::builder("x").window(window).failure_rate(0.5).minimum_calls(2).build().unwrap();
    pass(secs(1)).await;
    breaker.ok(1);
    breaker.fail(1);
    breaker.is(State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_panics_disturbs_neither_the_call_nor_the_others() {
    let heard = Arc::new(AtomicU32::new(0));
    let (first, third) = (heard.clone(), heard.clone());
    let breaker = Breaker::builder("x")
        .on_event(move |_| _ = first.fetch_add(1, SeqCst))
        .on_event(|_| panic!("odd"))
        .on_event(move |_| _ = third.fetch_add(1, SeqCst))
        .build()
        .unwrap();
    let (before, panics) = (heard.load(SeqCst), listener_panics());
    let answer = breaker.call(|| async { Ok::<_, BoxError>(7) }).await.unwrap();
    assert_eq!(answer, 7);
    assert_eq!(heard.load(SeqCst) - before, 2);
    assert!(listener_panics() > panics);
}

#[test]
fn a_listener_may_ask_reset_and_call() {
    let (done, watchdog) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let handle: Arc<Mutex<Option<Breaker>>> = Arc::default();
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let (own, log) = (handle.clone(), seen.clone());
        let builder = tripping_at_once().on_event(move |event| {
            if let Event::Transition(change) = event {
                let (from, to) = (change.from, change.to);
                log.lock().unwrap().push(format!("{from}>{to}"));
                let breaker = own.lock().unwrap().clone().unwrap();
                if to == "open" {
                    assert_eq!(breaker.state(), State::Open);
                    breaker.reset();
                    breaker.ok(1);
                }
            }
        });
        let breaker = builder.build().unwrap();
        *handle.lock().unwrap() = Some(breaker.clone());
        breaker.fail(1);
        assert_eq!(*seen.lock().unwrap(), ["closed>open", "open>closed"]);
        done.send(breaker.state()).unwrap();
    });
    let state = watchdog.recv_timeout(Duration::from_secs(5)).expect("a deadlock");
    assert_eq!(state, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_flapping_service_opens_no_more_often_than_the_wait_allows() {
    let builder =
        Breaker::builder("x").failure_rate(0.5).minimum_calls(20).window(WindowConfig::time(secs(1)));
    let (breaker, heard) = Heard::by(builder.open_for(secs(2)).success_threshold(3));
    for n in 0..60_000_u32 {
        if let Ok(permit) = breaker.try_acquire() {
            if n / 50 % 2 == 0 { permit.success() } else { permit.failure() }
        }
        pass(ms(10)).await;
    }
    let transitions = heard.transitions();
    let opened = transitions.iter().filter(|text| text.contains(">open")).count();
    assert!((100..=301).contains(&opened), "{opened}");
}

// A hang behind somebody else's time-out
#[tokio::test(start_paused = true)]
async fn a_hang_under_a_foreign_time_out_opens() {
    for (builder, calls) in [
        (Breaker::builder("default"), 20),
        (Breaker::builder("row").consecutive_failures(5), 5),
        (Breaker::builder("count").failure_rate(0.5).window(WindowConfig::count(10)), 10),
    ] {
        let breaker = builder.build().unwrap();
        let hang = service_fn(|(): ()| pending::<Result<(), BoxError>>());
        let svc = TimeoutLayer::new(ms(100)).layer(breaker.layer().layer(hang));
        for _ in 0..calls {
            assert_eq!(breaker.state(), State::Closed, "{breaker:?}");
            svc.clone().oneshot(()).await.unwrap_err();
        }
        assert_eq!(breaker.state(), State::Open, "{breaker:?}");
        assert_eq!(breaker.snapshot().open_reason, Some(OpenReason::Abandoned));
        assert!(breaker.last_error().unwrap().contains("dropped"));
    }
}

#[tokio::test(start_paused = true)]
async fn one_settled_call_makes_dropped_ones_neutral() {
    let breaker = Breaker::builder("x").failure_rate(0.5).window(WindowConfig::count(30)).build().unwrap();
    breaker.ok(1);
    for _ in 0..10 {
        for _ in 0..25 {
            drop(breaker.try_acquire().unwrap());
        }
        breaker.ok(1);
    }
    breaker.is(State::Closed);
    let seen = breaker.snapshot();
    assert_eq!((seen.cancelled, seen.window.calls, seen.window.failures), (250, 11, 0));
}

#[tokio::test(start_paused = true)]
async fn dropped_after_the_slow_duration_is_slow() {
    let builder = Breaker::builder("x").slow_call_duration(ms(100)).slow_call_rate(0.5).minimum_calls(4);
    let breaker = builder.build().unwrap();
    breaker.ok(2);
    for _ in 0..2 {
        breaker.is(State::Closed);
        let call = breaker.try_acquire().unwrap();
        pass(ms(101)).await;
        drop(call);
    }
    breaker.is(State::Open);
    assert_eq!(breaker.snapshot().open_reason, Some(OpenReason::SlowCallRate));
}

#[tokio::test(start_paused = true)]
async fn dropped_calls_count_as_told() {
    for (on_cancel, state) in [(OnCancel::Ignore, State::Closed), (OnCancel::Failure, State::Open)] {
        let breaker = Breaker::builder("x").consecutive_failures(3).on_cancel(on_cancel).build().unwrap();
        for _ in 0..3 {
            drop(breaker.try_acquire().unwrap());
        }
        breaker.is(state);
    }
}

// Probes that hang under a foreign time-out must not keep the circuit half-open for ever.
#[tokio::test(start_paused = true)]
async fn probes_dropped_one_after_the_other_open_again() {
    let breaker = tripping_at_once().build().unwrap();
    breaker.fail(1);
    pass(secs(10)).await;
    for _ in 0..3 {
        breaker.is(State::HalfOpen);
        let probe = breaker.try_acquire().unwrap();
        pass(secs(1)).await;
        drop(probe);
    }
    breaker.is(State::Open);
    assert_eq!(breaker.snapshot().open_reason, Some(OpenReason::Abandoned));
}

// `join!` of a call and something that panics: the call was cancelled, its service did nothing wrong.
#[tokio::test(start_paused = true)]
async fn a_panic_elsewhere_cancels_the_calls_it_drops_and_fails_none() {
    let breaker = Breaker::builder("x").consecutive_failures(1).build().unwrap();
    let mut call = task::spawn(breaker.call(pending::<Result<(), BoxError>>));
    assert!(call.poll().is_pending());
    let unwound = catch_unwind(AssertUnwindSafe(move || {
        let _dropped_while_unwinding = call;
        panic!("elsewhere");
    }));
    unwound.unwrap_err();
    let seen = breaker.snapshot();
    assert_eq!((seen.failures, seen.cancelled, seen.state), (0, 1, State::Closed));
}

// An inner future that can be polled again and again must not be counted again and again.
#[tokio::test(start_paused = true)]
async fn a_call_polled_again_after_its_end_is_told_once() {
    for fails in [false, true] {
        let breaker = Breaker::builder("x").build().unwrap();
        let again = move |_: &mut std::task::Context<'_>| {
            std::task::Poll::Ready(if fails { Err(BoxError::from("down")) } else { Ok(()) })
        };
        let mut call = task::spawn(breaker.call(|| std::future::poll_fn(again)));
        assert!(call.poll().is_ready());
        assert!(catch_unwind(AssertUnwindSafe(|| call.poll())).is_err());
        drop(call);
        let snapshot = breaker.snapshot();
        assert_eq!((snapshot.successes, snapshot.failures), (u64::from(!fails), u64::from(fails)));
    }
}

// An error whose text cannot be made: the circuit opens, tells and wakes as ever, and the caller gets the error.
#[tokio::test(start_paused = true)]
async fn an_error_that_panics_when_shown_opens_like_any_other() {
    #[derive(Debug)]
    struct Unshowable;
    impl std::fmt::Display for Unshowable {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("no text")
        }
    }
    impl std::error::Error for Unshowable {}
    let (breaker, heard) = Heard::by(tripping_at_once());
    let full = tower::limit::ConcurrencyLimit::new(service_fn(|(): ()| async { Ok::<_, BoxError>(()) }), 0);
    let mut waiting = task::spawn(breaker.wrap(full));
    assert!(waiting.enter(|cx, mut svc| svc.poll_ready(cx)).is_pending());
    let error = breaker.call(|| async { Err::<(), BoxError>(Unshowable.into()) }).await.unwrap_err();
    assert!(error.is::<Unshowable>());
    breaker.is(State::Open);
    assert!(waiting.is_woken());
    assert_eq!(heard.transitions(), ["closed>open auto"]);
    assert_eq!(breaker.last_error().as_deref(), Some("an error that cannot be shown"));
}

// The rule for what is a failure is somebody else's code as well.
#[tokio::test(start_paused = true)]
async fn a_classifier_that_panics_is_a_failed_call() {
    let breaker = tripping_at_once().build().unwrap();
    let odd = breaker
        .layer()
        .classify_with(|_: Result<&(), &BoxError>| -> buttress_core::Verdict { panic!("odd") });
    let svc = odd.layer(service_fn(|(): ()| async { Ok::<_, BoxError>(()) }));
    let call = AssertUnwindSafe(move || task::spawn(svc.oneshot(())).poll());
    assert!(catch_unwind(call).is_err());
    breaker.is(State::Open);
    assert_eq!(breaker.snapshot().failures, 1);
}

// A listener that answers its own event would otherwise hold the caller for ever.
#[test]
fn a_listener_that_answers_its_own_event_lets_the_caller_go() {
    let (done, watchdog) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let handle: Arc<Mutex<Option<Breaker>>> = Arc::default();
        let own = handle.clone();
        let builder = Breaker::builder("x").on_event(move |event| {
            if let (Event::Note(Note { what: Note::RESET, .. }), Some(breaker)) =
                (event, &*own.lock().unwrap())
            {
                breaker.reset();
            }
        });
        let breaker = builder.build().unwrap();
        *handle.lock().unwrap() = Some(breaker.clone());
        (0..100).for_each(|_| breaker.reset());
        breaker.is(State::Closed);
        // So that nothing is told when it is dropped.
        let gone = handle.lock().unwrap().take();
        drop(gone);
        done.send(()).unwrap();
    });
    watchdog.recv_timeout(Duration::from_secs(20)).expect("held for ever");
}

// Such a panic gets out of a plain `catch_unwind`, as what it caught is dropped.
#[tokio::test(start_paused = true)]
async fn an_error_that_panics_when_shown_with_a_panic_that_panics_when_dropped_opens_like_any_other() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("again")
        }
    }
    #[derive(Debug)]
    struct Unshowable;
    impl std::fmt::Display for Unshowable {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            std::panic::panic_any(Bomb)
        }
    }
    impl std::error::Error for Unshowable {}
    let (breaker, heard) = Heard::by(tripping_at_once().gate_readiness(true));
    breaker.force_open();
    let inner = service_fn(|(): ()| async { Ok::<_, BoxError>(()) });
    let mut waiting = task::spawn(breaker.wrap(inner));
    assert!(waiting.enter(|cx, mut svc| svc.poll_ready(cx)).is_pending());
    breaker.force_half_open().unwrap();
    assert!(waiting.is_woken());
    let probe = breaker.try_acquire().unwrap();
    assert!(waiting.enter(|cx, mut svc| svc.poll_ready(cx)).is_pending());
    probe.failure_with(&Unshowable);
    breaker.is(State::Open);
    assert!(waiting.is_woken());
    assert_eq!(heard.transitions().last().unwrap(), "half_open>open auto");
    assert_eq!(breaker.last_error().as_deref(), Some("an error that cannot be shown"));
}
