use std::{panic::AssertUnwindSafe, pin::pin, task::Context, time::Duration};

use buttress_test::{BoxError, Breach, CountingWaker, Probe, Script, poll_once, script, step};
use tokio::time::Instant;
use tower::{Service, ServiceExt};

fn echo() -> Probe {
    Probe::new(|n| step::ok(*n))
}

fn ready(probe: &mut Probe) -> bool {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    probe.poll_ready(&mut cx).is_ready()
}

#[tokio::test(start_paused = true)]
async fn script_is_played_call_by_call() {
    let second = Duration::from_secs(1);
    let script: Script<u32, BoxError> = script![ok(1), err("boom"), delay(second, yields(2, ok(3)))];
    let service: Probe = script.then(|| step::ok(9)).service();
    let start = Instant::now();
    assert_eq!(service.clone().oneshot(10).await.unwrap(), 1);
    assert_eq!(service.clone().oneshot(11).await.unwrap_err().to_string(), "boom");
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(service.clone().oneshot(12).await.unwrap(), 3);
    assert_eq!(start.elapsed(), second);
    assert_eq!(service.clone().oneshot(13).await.unwrap(), 9);
    assert_eq!(service.requests(), [10, 11, 12, 13]);
    assert_eq!((service.calls(), service.in_flight(), service.cancelled()), (4, 0, 0));
}

#[test]
#[should_panic(expected = "`call` without a `poll_ready`")]
fn call_without_readiness_panics() {
    drop(echo().call(1));
}

#[test]
fn readiness_is_of_one_instance_and_of_one_call() {
    let mut probe = echo().lenient();
    assert!(ready(&mut probe) && ready(&mut probe));
    drop(probe.clone().call(1));
    assert_eq!(probe.breaches(), [Breach::CallWithoutReadiness]);
    drop(probe.call(2));
    assert_eq!(probe.breaches().len(), 1);
    drop(probe.call(3));
    assert_eq!(probe.breaches().len(), 2);
}

#[test]
fn script_that_runs_out_is_a_breach() {
    let mut probe: Probe = script![].service::<u32>().lenient();
    assert!(ready(&mut probe));
    assert!(poll_once(pin!(probe.call(1))).is_pending());
    assert_eq!(probe.breaches(), [Breach::ScriptRanOut]);
}

#[test]
fn polling_a_resolved_future_is_a_breach() {
    let mut probe = echo().lenient();
    assert!(ready(&mut probe));
    let mut call = pin!(probe.call(1));
    assert!(poll_once(call.as_mut()).is_ready());
    assert!(poll_once(call.as_mut()).is_pending());
    assert_eq!(probe.breaches(), [Breach::PolledAfterEnd]);
}

#[test]
fn slot_is_given_back_by_end_drop_panic_and_instance() {
    let end: Script<u32, BoxError> = script![ok(1), pending(), panics(), panics_in_call(), ok(5)];
    let mut probe: Probe = end.service::<u32>().slots(1);
    let mut other = probe.clone();

    assert!(ready(&mut probe) && ready(&mut probe)); // twice, and one slot
    assert!(!ready(&mut other));
    let mut call = pin!(probe.call(1));
    assert!(!ready(&mut other));
    assert!(poll_once(call.as_mut()).is_ready());
    assert_eq!(probe.taken_slots(), 0); // though the future lives

    assert!(ready(&mut probe));
    let held = probe.call(2);
    assert_eq!((probe.taken_slots(), probe.in_flight()), (1, 1));
    drop(held);
    assert_eq!((probe.taken_slots(), probe.in_flight(), probe.cancelled()), (0, 0, 1));

    assert!(ready(&mut probe));
    let mut call = Box::pin(probe.call(3));
    std::panic::catch_unwind(AssertUnwindSafe(|| poll_once(call.as_mut()).is_ready())).unwrap_err();
    assert_eq!(probe.taken_slots(), 0);

    assert!(ready(&mut probe));
    std::panic::catch_unwind(AssertUnwindSafe(|| drop(probe.call(4)))).unwrap_err();
    assert_eq!((probe.taken_slots(), probe.in_flight()), (0, 0));

    assert!(ready(&mut probe));
    assert_eq!(other.free_slots(), 0);
    drop(probe);
    assert_eq!(other.free_slots(), 1);
}

#[test]
fn slot_may_be_held_until_the_future_is_dropped() {
    let mut probe = echo().slots(1).slots_until_drop();
    assert!(ready(&mut probe));
    let mut call = Box::pin(probe.call(1));
    assert!(poll_once(call.as_mut()).is_ready());
    assert_eq!((probe.in_flight(), probe.free_slots()), (0, 0));
    drop(call);
    assert_eq!(probe.free_slots(), 1);
}

#[test]
fn freed_slot_wakes_the_waker_of_the_last_poll() {
    let mut probe = echo().slots(1);
    let slot = probe.take_slot().unwrap();
    assert!(probe.take_slot().is_none());
    let (old, new) = (CountingWaker::new(), CountingWaker::new());
    for waker in [&old, &new] {
        assert!(probe.poll_ready(&mut Context::from_waker(&waker.waker())).is_pending());
    }
    drop(slot);
    assert_eq!((old.count(), new.count()), (0, 1));
    assert!(ready(&mut probe));
}

#[tokio::test]
async fn held_calls_are_answered_in_order_and_dropped_ones_are_skipped() {
    let probe: Probe = Probe::new(|_| step::pending());
    let mut calls = Vec::new();
    for n in 0..3 {
        calls.push(Box::pin(probe.clone().ready_oneshot().await.unwrap().call(n)));
    }
    calls.remove(0);
    let waker = CountingWaker::new();
    assert!(waker.poll(calls[0].as_mut()).is_pending());
    assert!(probe.answer(Ok(7)) && probe.answer(Err("no".into())) && !probe.answer(Ok(8)));
    assert_eq!(waker.count(), 1);
    let mut calls = calls.into_iter();
    assert_eq!(calls.next().unwrap().await.unwrap(), 7);
    assert_eq!(calls.next().unwrap().await.unwrap_err().to_string(), "no");
}

#[tokio::test]
async fn failed_readiness_ends_the_instance() {
    let mut probe = echo().lenient();
    probe.fail_readiness("broken".into());
    assert_eq!(probe.ready().await.unwrap_err().to_string(), "broken");
    assert!(!ready(&mut probe));
    assert_eq!(probe.breaches(), [Breach::UsedAfterReadyError]);
    assert_eq!(probe.clone().oneshot(1).await.unwrap(), 1);
}
