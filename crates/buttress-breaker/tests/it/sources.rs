//! What the systems this one replaces promise in their own tests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress_breaker::{
    Breaker, BreakerBuilder, CALL_TIMEOUT, State, WindowConfig,
    words::{CALLS, FAILURE_RATIO, OPEN_FOR},
};
use buttress_core::{BoxError, Event, OwnedEvent, Value, rejection};

use crate::support::*;

/// blipee's test profile; it has no half-open sample and no lease.
fn blipee(failures: u32, minimum: u32) -> BreakerBuilder {
    Breaker::builder("test-service")
        .consecutive_failures(failures)
        .failure_rate(0.5)
        .minimum_calls(minimum)
        .success_threshold(2)
        .call_timeout(ms(1_000))
        .open_for(ms(5_000))
        .window(WindowConfig::time(secs(60)))
}

#[tokio::test(start_paused = true)]
async fn begins_closed() {
    blipee(3, 5).build().unwrap().is(State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_failing_call_after_the_wait_opens_again() {
    let breaker = blipee(3, 5).build().unwrap();
    breaker.force_open();
    pass(ms(5_000)).await;
    breaker.fail(1);
    breaker.is(State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_long_call_is_ended_at_the_limit_and_dropped() {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }
    let breaker = blipee(3, 5).build().unwrap();
    let dropped = Arc::new(AtomicBool::new(false));
    let guard = Dropped(dropped.clone());
    let started = tokio::time::Instant::now();
    let mut call = Box::pin(breaker.call(|| async move {
        let _guard = guard;
        tokio::time::sleep(ms(2_000)).await;
        Ok::<_, BoxError>(())
    }));
    let error = call.as_mut().await.unwrap_err();
    let why = rejection(&*error).unwrap();
    assert_eq!((why.code(), why.limit(), why.was_sent()), (CALL_TIMEOUT, Some(ms(1_000)), true));
    assert_eq!(started.elapsed(), ms(1_000));
    assert!(dropped.load(SeqCst), "the inner future outlived the limit");
}

#[tokio::test(start_paused = true)]
async fn three_time_outs_open() {
    let breaker = blipee(3, 0).build().unwrap();
    for _ in 0..3 {
        let call = breaker.call(|| async {
            tokio::time::sleep(ms(2_000)).await;
            Ok::<_, BoxError>(())
        });
        call.await.unwrap_err();
    }
    breaker.is(State::Open);
    assert_eq!(breaker.snapshot().timeouts, 3);
}

#[tokio::test(start_paused = true)]
async fn successes_are_counted() {
    let breaker = blipee(3, 5).build().unwrap();
    breaker.ok(2);
    let seen = breaker.snapshot();
    assert_eq!((seen.successes, seen.total, seen.consecutive_successes), (2, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn slow_calls_are_counted_also_without_a_rule() {
    let builder = Breaker::builder("x").consecutive_failures(10).call_timeout(ms(2_000));
    let breaker = builder.slow_call_duration(ms(500)).build().unwrap();
    breaker.ok_after(ms(600)).await;
    breaker.ok(1);
    let seen = breaker.snapshot();
    assert_eq!((seen.slow_calls, seen.successes), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn slow_rate_is_asked_on_successes() {
    let builder = Breaker::builder("x").consecutive_failures(100).call_timeout(ms(2_000)).minimum_calls(4);
    let breaker = builder.slow_call_duration(ms(500)).slow_call_rate(0.5).build().unwrap();
    breaker.ok(2);
    breaker.ok_after(ms(600)).await;
    breaker.is(State::Closed);
    breaker.ok_after(ms(600)).await;
    breaker.is(State::Open);
}

#[tokio::test(start_paused = true)]
async fn open_and_half_open_are_not_healthy() {
    let breaker = blipee(3, 5).build().unwrap();
    assert!(breaker.snapshot().healthy);
    breaker.force_open();
    assert_eq!((breaker.snapshot().healthy, breaker.snapshot().state), (false, State::Open));
    pass(ms(5_000)).await;
    assert_eq!((breaker.snapshot().healthy, breaker.snapshot().state), (false, State::HalfOpen));
}

#[tokio::test(start_paused = true)]
async fn failure_rate_is_exact() {
    let breaker = blipee(100, 5).build().unwrap();
    breaker.ok(7);
    breaker.fail(3);
    assert_eq!(breaker.snapshot().failure_ratio, Some(0.3));
    assert!(breaker.snapshot().healthy);
}

#[tokio::test(start_paused = true)]
async fn an_opening_is_told_once_with_its_numbers() {
    let breaker = blipee(3, 0).build().unwrap();
    let mut events = breaker.events();
    breaker.fail(3);
    let event = events.try_next().unwrap();
    assert_eq!(&*event.policy, "test-service");
    let OwnedEvent::Transition(change) = event.what else { panic!("{event:?}") };
    assert_eq!((change.from, change.to), ("closed", "open"));
    let known = |what| change.get(what).cloned();
    assert_eq!(
        (known(CALLS), known(FAILURE_RATIO), known(OPEN_FOR)),
        (Some(Value::Count(3)), Some(Value::Ratio(1.0)), Some(Value::Time(ms(5_000))))
    );
}

#[tokio::test(start_paused = true)]
async fn each_call_is_told_with_its_time() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let to = seen.clone();
    let builder = blipee(3, 5).on_event(move |event| {
        if let Event::Done { outcome, elapsed, slow, .. } = event {
            to.lock().unwrap().push((outcome.as_str(), *elapsed, *slow));
        }
    });
    let breaker = builder.build().unwrap();
    breaker.ok_after(ms(30)).await;
    breaker.fail(1);
    let told = [("success", Some(ms(30)), false), ("failure", Some(Duration::ZERO), false)];
    assert_eq!(*seen.lock().unwrap(), told);
}

#[tokio::test(start_paused = true)]
async fn two_failures_of_three_stay_closed_and_one_of_one_opens() {
    for (threshold, failing, calls, errors, state) in [(3, 2, 5, 2, State::Closed), (1, 5, 3, 3, State::Open)]
    {
        let builder = Breaker::builder("x").consecutive_failures(threshold).open_for(ms(100));
        let breaker = builder.build().unwrap();
        let mut failed = Vec::new();
        for n in 0..calls {
            let call = breaker.call(|| async move {
                if n < failing { Err::<(), BoxError>("boom".into()) } else { Ok(()) }
            });
            failed.extend(call.await.err());
        }
        breaker.is(state);
        assert_eq!(failed.len(), errors);
        let open = rejection(&**failed.last().unwrap()).is_some();
        assert_eq!(open, state == State::Open);
    }
}

#[tokio::test(start_paused = true)]
async fn recovers_through_half_open() {
    let builder = Breaker::builder("x").consecutive_failures(3).open_for(ms(50)).permitted_probes(5);
    let breaker = builder.success_threshold(2).build().unwrap();
    breaker.fail(3);
    breaker.is(State::Open);
    breaker.refused();
    pass(ms(60)).await;
    breaker.ok(1);
    breaker.is(State::HalfOpen);
    breaker.ok(1);
    breaker.is(State::Closed);
    breaker.ok(1);
}

#[tokio::test(start_paused = true)]
async fn half_open_failure_is_the_inner_error_itself() {
    let breaker = Breaker::builder("x").consecutive_failures(3).open_for(ms(50)).build().unwrap();
    breaker.fail(3);
    pass(ms(60)).await;
    let error = breaker.call(|| async { Err::<(), BoxError>("inner".into()) }).await.unwrap_err();
    assert_eq!(error.to_string(), "inner");
    breaker.is(State::Open);
    assert_eq!(breaker.refused().code(), "CIRCUIT_OPEN");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_tasks_at_once() {
    let breaker = Breaker::builder("x").consecutive_failures(10).open_for(ms(50)).build().unwrap();
    let called = Arc::new(AtomicU32::new(0));
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (breaker, called) = (breaker.clone(), called.clone());
            tokio::spawn(async move {
                let (mut errors, mut open) = (0_u32, 0_u32);
                for _ in 0..10 {
                    let called = called.clone();
                    let call = breaker.call(|| async move {
                        tokio::time::sleep(ms(1)).await;
                        if called.fetch_add(1, SeqCst) < 10 {
                            Err::<(), BoxError>("boom".into())
                        } else {
                            Ok(())
                        }
                    });
                    if let Err(error) = call.await {
                        errors += 1;
                        open += u32::from(rejection(&*error).is_some());
                    }
                }
                (errors, open)
            })
        })
        .collect();
    let (mut errors, mut open) = (0, 0);
    for task in tasks {
        let (failed, refused) = task.await.unwrap();
        errors += failed;
        open += refused;
    }
    assert!((10..=500).contains(&errors), "{errors}");
    assert!(errors <= 20 || open > 0, "{errors} {open}");
    let seen = breaker.snapshot();
    let counted = seen.total + seen.late + seen.rejected;
    assert_eq!(counted, 500, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn one_success_closes_after_the_wait() {
    let builder = Breaker::builder("x").consecutive_failures(1).open_for(ms(10)).success_threshold(1);
    let breaker = builder.build().unwrap();
    breaker.fail(1);
    pass(ms(20)).await;
    breaker.ok(1);
    breaker.is(State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_success_zeroes_the_row() {
    let breaker = Breaker::builder("x").consecutive_failures(3).build().unwrap();
    breaker.fail(2);
    breaker.ok(1);
    breaker.fail(2);
    breaker.is(State::Closed);
}

#[tokio::test(start_paused = true)]
async fn one_breaker_for_each_service_and_none_for_all() {
    let tool = |name: &str, failures, reset| {
        let builder = Breaker::builder(name).consecutive_failures(failures).open_for(secs(reset));
        builder.success_threshold(1).build().unwrap()
    };
    let (demucs, basic_pitch, api) =
        (tool("demucs", 3, 120), tool("basic_pitch", 3, 120), tool("api", 5, 30));
    demucs.fail(3);
    demucs.is(State::Open);
    basic_pitch.is(State::Closed);
    api.is(State::Closed);
    pass(secs(119)).await;
    demucs.is(State::Open);
    pass(secs(1)).await;
    demucs.is(State::HalfOpen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_ten_threads_one_is_let_in() {
    let builder = Breaker::builder("x").consecutive_failures(1).open_for(ms(1)).success_threshold(2);
    let breaker = builder.probe_lease(secs(60)).build().unwrap();
    breaker.fail(1);
    tokio::time::sleep(ms(5)).await;
    let barrier = Arc::new(tokio::sync::Barrier::new(10));
    let racers: Vec<_> = (0..10)
        .map(|_| {
            let (breaker, barrier) = (breaker.clone(), barrier.clone());
            tokio::spawn(async move {
                barrier.wait().await;
                breaker.try_acquire().ok()
            })
        })
        .collect();
    let mut admitted = Vec::new();
    for racer in racers {
        admitted.extend(racer.await.unwrap());
    }
    assert_eq!(admitted.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn state_saves_open_at_three_of_five_and_one_probe_closes() {
    let (breaker, heard) = Heard::by(
        Breaker::builder("state-save")
            .call_timeout(ms(2_000))
            .failure_rate(0.5)
            .open_for(ms(30_000))
            .window(WindowConfig::time(ms(10_000)))
            .minimum_calls(5)
            .success_threshold(1),
    );
    breaker.ok(2);
    breaker.fail(3);
    breaker.refused();
    pass(secs(30)).await;
    breaker.ok(1);
    let transitions = ["closed>open auto", "open>half_open auto", "half_open>closed auto"];
    assert_eq!(heard.transitions(), transitions);
}

#[test]
fn profiles_keep_their_sources_numbers() {
    let blipee = profile("blipee");
    assert_eq!(
        (blipee.consecutive_failures, blipee.failure_rate, blipee.minimum_calls),
        (Some(5), Some(0.5), Some(10))
    );
    assert_eq!(
        (blipee.open_for, blipee.call_timeout, blipee.success_threshold),
        (Some(secs(60)), Some(secs(3)), 5)
    );
    assert_eq!((blipee.slow_call_duration, blipee.slow_call_rate), (Some(secs(1)), Some(0.5)));
    let didactic = profile("didactic");
    assert_eq!(
        (didactic.consecutive_failures, didactic.open_for, didactic.success_threshold),
        (Some(5), Some(secs(60)), 2)
    );
    let fluxus = profile("fluxus");
    assert_eq!((fluxus.success_threshold, fluxus.permitted_probes), (1, 1));
    let opossum = profile("opossum");
    assert_eq!(
        (opossum.failure_rate, opossum.open_for, opossum.call_timeout),
        (Some(0.5), Some(secs(30)), Some(secs(10)))
    );
    for profile in [blipee, didactic, fluxus, opossum] {
        profile.validate().unwrap();
    }
    // The long example of the same source: 3, 0.5, 5, 120 s, 120 s, 5, 5 s, 0.3.
    Breaker::builder("long")
        .consecutive_failures(3)
        .failure_rate(0.5)
        .success_threshold(5)
        .open_for(secs(120))
        .call_timeout(secs(120))
        .minimum_calls(5)
        .slow_call_duration(secs(5))
        .slow_call_rate(0.3)
        .build()
        .unwrap();
}
