//! What operators see and press.

use std::panic::{AssertUnwindSafe, catch_unwind};

use buttress_bulkhead::{Bulkhead, BulkheadConfig};
use buttress_core::Verdict;
use buttress_kit::{Handle, Health, Mode};
use tokio::time::{advance, sleep};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task::spawn};
use tower::BoxError;

use crate::support::{builder, bulkhead, call, code, levels, ms};

#[tokio::test(start_paused = true)]
async fn snapshot_says_who_runs_who_waits_and_what_is_free() {
    let bulkhead = bulkhead(4, 10);
    assert_eq!(bulkhead.snapshot().utilization, 0.0);
    let permit = bulkhead.try_acquire().unwrap();
    assert_eq!(bulkhead.snapshot().utilization, 25.0);
    drop(permit);
    let mut calls: Vec<_> = (0..7).map(|_| call(&bulkhead)).collect();
    for (_, call) in &mut calls {
        assert_pending!(call.poll());
    }
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.active, snapshot.queued), (4, 3));
    assert_eq!((snapshot.available, snapshot.queue_available), (0, 7));
    assert_eq!((snapshot.utilization, snapshot.peak), (100.0, 4));
}

#[tokio::test(start_paused = true)]
async fn queue_is_congested_from_eighty_percent_on() {
    let bulkhead = bulkhead(1, 5);
    let _permit = bulkhead.try_acquire().unwrap();
    let mut calls: Vec<_> = (0..5).map(|_| call(&bulkhead)).collect();
    let mut congested = Vec::new();
    for (_, call) in &mut calls {
        assert_pending!(call.poll());
        congested.push(bulkhead.snapshot().congested);
    }
    assert_eq!(congested, [false, false, false, true, true]);
    assert!(!self::bulkhead(1, 0).snapshot().congested);
}

#[tokio::test(start_paused = true)]
async fn every_ending_is_counted_once() {
    let bulkhead = builder(1, 1).queue_timeout(ms(10)).build().unwrap();
    let work = |outcome: Result<u32, &'static str>| {
        bulkhead.call(move || async move { outcome.map_err(BoxError::from) })
    };
    work(Ok(1)).await.unwrap();
    work(Ok(1)).await.unwrap();
    work(Err("broken")).await.unwrap_err();
    let (_end, mut running) = call(&bulkhead);
    assert_pending!(running.poll());
    let (_end, mut waiting) = call(&bulkhead);
    assert_pending!(waiting.poll());
    code(work(Ok(1)).await); // refused
    advance(ms(10)).await;
    code(assert_ready!(waiting.poll())); // too long
    drop(running);

    let s = bulkhead.snapshot();
    assert_eq!((s.completed, s.failed, s.cancelled, s.rejected, s.queue_timeouts), (2, 1, 1, 1, 1));
    assert_eq!((s.active, s.queued, s.peak), (0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn average_is_over_the_last_hundred_calls_that_succeeded() {
    let bulkhead = builder(1, 5).timed(true).build().unwrap();
    assert_eq!(bulkhead.snapshot().average_execution, None);
    let work = |took| {
        bulkhead.call(move || async move {
            sleep(ms(took)).await;
            Ok::<_, BoxError>(0)
        })
    };
    work(1_000).await.unwrap();
    assert_eq!(bulkhead.snapshot().average_execution, Some(ms(1_000)));
    for _ in 0..50 {
        work(10).await.unwrap();
    }
    for _ in 0..50 {
        work(30).await.unwrap();
    }
    // The first one is the hundred-and-first by now.
    assert_eq!(bulkhead.snapshot().average_execution, Some(ms(20)));
    bulkhead.call(|| async { Err::<(), BoxError>("at once".into()) }).await.unwrap_err();
    assert_eq!(bulkhead.snapshot().average_execution, Some(ms(20)));

    // The wait is not execution.
    let permit = bulkhead.try_acquire().unwrap();
    bulkhead.reset();
    let mut waiting = spawn(work(5));
    assert_pending!(waiting.poll());
    advance(ms(500)).await;
    permit.record(Verdict::Ignore);
    assert_pending!(waiting.poll());
    advance(ms(5)).await;
    assert_ready_ok!(waiting.poll());
    assert_eq!(bulkhead.snapshot().average_execution, Some(ms(5)));
}

#[tokio::test(start_paused = true)]
async fn no_time_is_taken_unless_asked_for() {
    let bulkhead = bulkhead(1, 0);
    bulkhead.call(|| async { Ok::<_, BoxError>(()) }).await.unwrap();
    assert_eq!(bulkhead.snapshot().average_execution, None);
}

#[tokio::test(start_paused = true)]
async fn cleared_queue_sends_all_away_and_leaves_running_calls_alone() {
    let bulkhead = bulkhead(1, 5);
    let (end, mut running) = call(&bulkhead);
    assert_pending!(running.poll());
    let mut waiting: Vec<_> = (0..3).map(|_| call(&bulkhead)).collect();
    for (_, call) in &mut waiting {
        assert_pending!(call.poll());
    }
    assert_eq!(bulkhead.clear_queue(), 3);
    assert_eq!(levels(&bulkhead), (1, 0));
    for (_, call) in &mut waiting {
        assert!(call.is_woken());
        assert_eq!(code(assert_ready!(call.poll())), "BULKHEAD_QUEUE_CLEARED");
    }
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.cleared, snapshot.rejected, snapshot.cancelled), (3, 0, 0));
    end.send(Ok(7)).unwrap();
    assert_eq!(assert_ready_ok!(running.poll()), 7);
    assert_eq!(bulkhead.clear_queue(), 0);
    assert!(bulkhead.try_acquire().is_ok());
}

#[tokio::test(start_paused = true)]
async fn reset_keeps_calls_and_forgets_counts() {
    let bulkhead = builder(2, 0).timed(true).build().unwrap();
    let permits = (bulkhead.try_acquire().unwrap(), bulkhead.try_acquire().unwrap());
    bulkhead.try_acquire().unwrap_err();
    drop(permits);
    bulkhead.call(|| async { Ok::<_, BoxError>(()) }).await.unwrap();
    let permit = bulkhead.try_acquire().unwrap();
    bulkhead.reset();
    let s = bulkhead.snapshot();
    assert_eq!((s.active, s.completed, s.failed, s.cancelled, s.rejected), (1, 0, 0, 0, 0));
    assert_eq!((s.peak, s.average_execution), (1, None));
    drop(permit);
    assert_eq!(bulkhead.snapshot().active, 0);
}

#[tokio::test(start_paused = true)]
async fn can_accept_tells_whether_a_call_would_run_or_wait() {
    let bulkhead = bulkhead(1, 1);
    assert!(bulkhead.can_accept());
    let (_end, mut running) = call(&bulkhead);
    assert_pending!(running.poll());
    assert!(bulkhead.can_accept());
    assert_eq!(bulkhead.try_acquire().unwrap_err().code(), "BULKHEAD_QUEUE_FULL");
    let (_end, mut waiting) = call(&bulkhead);
    assert_pending!(waiting.poll());
    assert!(!bulkhead.can_accept());
    drop(running);
    drop(waiting);
    bulkhead.close();
    assert!(!bulkhead.can_accept());
}

#[tokio::test(start_paused = true)]
async fn permit_says_how_the_work_ended_or_counts_as_completed() {
    let bulkhead = bulkhead(1, 0);
    bulkhead.try_acquire().unwrap().record(Verdict::Success);
    bulkhead.try_acquire().unwrap().record(Verdict::transient());
    drop(bulkhead.acquire().await.unwrap());
    let s = bulkhead.snapshot();
    assert_eq!((s.completed, s.failed, s.cancelled, s.active), (2, 1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn closed_bulkhead_refuses_all_and_lets_running_calls_end() {
    let bulkhead = bulkhead(1, 5);
    let (end, mut running) = call(&bulkhead);
    assert_pending!(running.poll());
    let (_end, mut waiting) = call(&bulkhead);
    assert_pending!(waiting.poll());
    assert!(!bulkhead.is_closed());
    bulkhead.close();
    assert!(waiting.is_woken());
    assert_eq!(code(assert_ready!(waiting.poll())), "BULKHEAD_CLOSED");
    let (_end, mut late) = call(&bulkhead);
    assert_eq!(code(assert_ready!(late.poll())), "BULKHEAD_CLOSED");
    end.send(Ok(7)).unwrap();
    assert_eq!(assert_ready_ok!(running.poll()), 7);
    // Slots are free now, and still nobody gets one.
    assert_eq!(bulkhead.try_acquire().unwrap_err().code(), "BULKHEAD_CLOSED");
    let (_end, mut later) = call(&bulkhead);
    assert_eq!(code(assert_ready!(later.poll())), "BULKHEAD_CLOSED");
    bulkhead.set_limit(9).unwrap();
    bulkhead.clear_queue();
    assert!(bulkhead.is_closed() && bulkhead.snapshot().closed);
}

#[tokio::test(start_paused = true)]
async fn waiter_that_is_dropped_before_it_hears_of_the_close_is_counted_as_cancelled() {
    let bulkhead = bulkhead(1, 5);
    let _running = bulkhead.try_acquire().unwrap();
    let mut waiting = spawn(bulkhead.acquire());
    assert_pending!(waiting.poll());
    bulkhead.close();
    drop(waiting);
    assert_eq!((bulkhead.snapshot().cancelled, bulkhead.snapshot().rejected), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn drain_and_a_waiting_call_both_hear_of_the_one_freed_slot() {
    for drain_comes_first in [true, false] {
        let bulkhead = bulkhead(1, 5);
        let permit = bulkhead.try_acquire().unwrap();
        let mut drain = spawn(bulkhead.drain());
        let mut next = spawn(bulkhead.acquire());
        if drain_comes_first {
            assert_pending!(drain.poll());
        }
        assert_pending!(next.poll());
        assert_pending!(drain.poll());
        drop(permit);
        assert!(next.is_woken() && !drain.is_woken());
        let permit = assert_ready!(next.poll()).unwrap();
        assert_pending!(drain.poll());
        drop(permit);
        assert!(drain.is_woken());
        assert_ready!(drain.poll());
    }
}

#[tokio::test(start_paused = true)]
async fn drain_is_over_at_once_when_idle_and_after_close_when_the_last_call_ends() {
    let bulkhead = bulkhead(1, 5);
    bulkhead.drain().await;
    let (end, mut running) = call(&bulkhead);
    let (_end, mut waiting) = call(&bulkhead);
    assert_pending!(running.poll());
    assert_pending!(waiting.poll());
    let mut drain = spawn(bulkhead.drain());
    let mut other = spawn(bulkhead.drain());
    let mut given_up = spawn(bulkhead.drain());
    assert_pending!(drain.poll());
    assert_pending!(other.poll());
    assert_pending!(given_up.poll());
    drop(given_up);
    bulkhead.close();
    assert_pending!(drain.poll());
    end.send(Ok(1)).unwrap();
    assert_ready_ok!(running.poll());
    assert_ready!(drain.poll());
    assert_ready!(other.poll());
}

// A drain that was reached counts, even if the next call began before the drain was polled again.
#[tokio::test(start_paused = true)]
async fn drain_does_not_miss_a_short_idle_moment() {
    let bulkhead = bulkhead(1, 5);
    let permit = bulkhead.try_acquire().unwrap();
    let mut drain = spawn(bulkhead.drain());
    assert_pending!(drain.poll());
    drop(permit);
    let _next = bulkhead.try_acquire().unwrap();
    assert_ready!(drain.poll());
}

#[tokio::test(start_paused = true)]
async fn shadow_mode_lets_all_in_and_counts_those_it_would_have_refused() {
    let bulkhead = builder(1, 1).mode(Mode::Shadow).build().unwrap();
    let mut calls: Vec<_> = (0..4).map(|_| call(&bulkhead)).collect();
    for (_, call) in &mut calls {
        assert_pending!(call.poll());
    }
    let s = bulkhead.snapshot();
    assert_eq!((s.active, s.queued, s.available, s.peak), (4, 0, 0, 4));
    assert_eq!((s.rejected, s.would_reject), (0, 2)); // the second would have waited
    let permit = bulkhead.try_acquire().unwrap();
    assert_eq!(bulkhead.snapshot().would_reject, 3);
    drop((calls, permit));
    assert_eq!(bulkhead.snapshot().active, 0);
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_go_on_when_shadow_mode_is_set() {
    let bulkhead = bulkhead(1, 5);
    let mut calls: Vec<_> = (0..3).map(|_| call(&bulkhead)).collect();
    for (_, call) in &mut calls {
        assert_pending!(call.poll());
    }
    let mut config = bulkhead.config();
    config.mode = Mode::Shadow;
    bulkhead.reconfigure(config).unwrap();
    assert_eq!(levels(&bulkhead), (3, 0));
    assert!(calls[1].1.is_woken() && calls[2].1.is_woken());
}

#[test]
fn handles_share_one_bulkhead() {
    let bulkhead = Bulkhead::new("db", BulkheadConfig::default()).unwrap();
    let other = bulkhead.clone();
    let _permit = bulkhead.try_acquire().unwrap();
    assert_eq!(other.snapshot().active, 1);
    assert_eq!(&**other.name(), "db");
    assert_eq!(format!("{other:?}"), "Bulkhead { name: \"db\", active: 1, limit: 10, .. }");
}

// Not in a runtime with time: the timer panics, and the place in the queue must not be lost.
#[test]
fn wait_outside_of_a_runtime_panics_and_leaves_nothing_behind() {
    let bulkhead = bulkhead(1, 1);
    let permit = bulkhead.try_acquire().unwrap();
    let waiting = catch_unwind(AssertUnwindSafe(|| {
        let mut waiting = spawn(bulkhead.acquire());
        waiting.poll().is_ready()
    }));
    assert!(waiting.is_err());
    assert_eq!(levels(&bulkhead), (1, 0));
    drop(permit);
    assert!(bulkhead.try_acquire().is_ok());
}

#[tokio::test(start_paused = true)]
async fn shadow_mode_accepts_every_call() {
    let bulkhead = builder(1, 0).mode(Mode::Shadow).build().unwrap();
    let _permit = bulkhead.try_acquire().unwrap();
    assert!(bulkhead.can_accept());
    assert_eq!(Handle::health(&bulkhead), Health::Up);
}

#[tokio::test(start_paused = true)]
async fn any_handle_is_patched_read_and_watched_alike() {
    let bulkhead = bulkhead(1, 1);
    let handle: &dyn Handle = &bulkhead;
    assert_eq!((handle.kind().name, &**handle.name(), handle.health()), ("bulkhead", "db", Health::Up));
    let _permit = bulkhead.try_acquire().unwrap();
    let mut waiting = [spawn(bulkhead.acquire()), spawn(bulkhead.acquire())];
    assert_pending!(waiting[0].poll());
    assert_eq!(handle.health(), Health::Degraded);

    // A patch lets in who has room by it.
    let patch = serde_json::json!({ "max_concurrent": 2, "queue_timeout": "5s" });
    handle.apply(&mut <dyn erased_serde::Deserializer<'_>>::erase(&patch)).unwrap();
    assert!(waiting[0].is_woken());
    assert_eq!((levels(&bulkhead), bulkhead.config().max_queue), ((2, 0), 1));
    let patch = serde_json::json!({ "max_concurrent": 0 });
    let why = handle.apply(&mut <dyn erased_serde::Deserializer<'_>>::erase(&patch)).unwrap_err();
    assert_eq!((why.policy(), why.field()), (Some("bulkhead \"db\""), "max_concurrent"));

    let config = serde_json::to_value(handle.config_data()).unwrap();
    assert_eq!((&config["max_concurrent"], &config["queue_timeout"]), (&2.into(), &"5s".into()));
    let snapshot = serde_json::to_value(handle.snapshot_data()).unwrap();
    assert_eq!((&snapshot["active"], &snapshot["utilization"]), (&2.into(), &100.0.into()));
    bulkhead.close();
    assert_eq!(handle.health(), Health::Down);
}
