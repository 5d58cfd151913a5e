//! Who runs, who waits, who is refused, and in which order.

use std::task::{Context, Waker};

use buttress_core::{CallContext, context, rejection};
use tokio::time::{Instant, advance, sleep};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_test::{assert_request_eq, mock};

use crate::support::{builder, bulkhead, call, code, levels, ms};

#[tokio::test(start_paused = true)]
async fn sixty_first_call_is_refused_while_ten_run_and_fifty_wait() {
    let bulkhead = bulkhead(10, 50);
    let mut calls: Vec<_> = (0..60).map(|_| call(&bulkhead)).collect();
    for (_, call) in &mut calls {
        assert_pending!(call.poll());
    }
    assert_eq!(levels(&bulkhead), (10, 50));

    let (_, mut late) = call(&bulkhead);
    let refused = assert_ready_err!(late.poll());
    let why = rejection(&*refused).unwrap();
    assert_eq!((why.code().as_str(), why.policy(), why.was_sent()), ("BULKHEAD_QUEUE_FULL", "db", false));
    assert_eq!(why.retry_after(), None);
    assert_eq!(bulkhead.snapshot().rejected, 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_queue_a_call_that_cannot_run_is_refused_at_once() {
    let bulkhead = bulkhead(1, 0);
    let (_keep, mut first) = call(&bulkhead);
    assert_pending!(first.poll());
    let (_, mut second) = call(&bulkhead);
    assert_eq!(code(assert_ready!(second.poll())), "BULKHEAD_QUEUE_FULL");
}

#[tokio::test(start_paused = true)]
async fn calls_run_in_the_order_in_which_they_came() {
    let log = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let bulkhead = bulkhead(2, 2);
    let mut tasks = Vec::new();
    for n in 0..5u64 {
        let (bulkhead, log) = (bulkhead.clone(), log.clone());
        tasks.push(tokio::spawn(async move {
            let work = bulkhead.call(|| async {
                log.lock().unwrap().push(format!("{n} in"));
                tokio::task::yield_now().await; // also the call of 0 ms takes its turn
                sleep(ms(2 * n)).await;
                log.lock().unwrap().push(format!("{n} out"));
                Ok::<_, BoxError>(0)
            });
            work.await
        }));
    }
    let mut refused = Vec::new();
    for (n, task) in tasks.into_iter().enumerate() {
        if let Err(why) = task.await.unwrap() {
            assert_eq!(code(Err(why)), "BULKHEAD_QUEUE_FULL");
            refused.push(n);
        }
    }
    assert_eq!(refused, [4]);
    let order = ["0 in", "1 in", "0 out", "2 in", "1 out", "3 in", "2 out", "3 out"];
    assert_eq!(*log.lock().unwrap(), order);
}

#[tokio::test(start_paused = true)]
async fn newcomer_does_not_overtake_the_first_in_the_queue_at_a_freed_slot() {
    let bulkhead = bulkhead(1, 2);
    let (a_end, mut a) = call(&bulkhead);
    let (b_end, mut b) = call(&bulkhead);
    let (_c_end, mut c) = call(&bulkhead);
    assert_pending!(a.poll());
    assert_pending!(b.poll());
    a_end.send(Ok(1)).unwrap();
    assert_ready_ok!(a.poll());
    assert!(b.is_woken());
    // `b` was called and has not come yet.
    assert_pending!(c.poll());
    assert!(bulkhead.try_acquire().is_err());
    assert_eq!(levels(&bulkhead), (1, 1));
    b_end.send(Ok(2)).unwrap();
    assert_eq!(assert_ready_ok!(b.poll()), 2);
    assert!(c.is_woken());
}

#[tokio::test(start_paused = true)]
async fn waiter_that_timed_out_leaves_the_queue_and_the_next_call_runs_at_once() {
    let bulkhead = builder(1, 5).queue_timeout(ms(100)).build().unwrap();
    let (mut svc, mut inner) = mock::spawn_layer::<&str, &str, _>(bulkhead.layer());
    inner.allow(2);

    let mut a = tokio_test::task::spawn(svc.call("a"));
    assert_pending!(a.poll());
    let mut b = tokio_test::task::spawn(svc.call("b"));
    assert_pending!(b.poll());
    advance(ms(99)).await;
    assert_pending!(b.poll());
    advance(ms(1)).await;
    assert!(b.is_woken());
    let refused: BoxError = assert_ready_err!(b.poll());
    let why = rejection(&*refused).unwrap();
    assert_eq!((why.code().as_str(), why.was_sent()), ("BULKHEAD_QUEUE_TIMEOUT", false));
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.queued, snapshot.queue_timeouts, snapshot.rejected), (0, 1, 0));

    assert_request_eq!(inner, "a").send_response("done");
    assert_eq!(assert_ready_ok!(a.poll()), "done");
    let mut c = tokio_test::task::spawn(svc.call("c"));
    assert_pending!(c.poll());
    assert_request_eq!(inner, "c");
}

#[tokio::test(start_paused = true)]
async fn slot_granted_before_the_timeout_is_taken_however_late_the_task_is_polled() {
    let bulkhead = builder(1, 1).queue_timeout(ms(100)).build().unwrap();
    let (a_end, mut a) = call(&bulkhead);
    let (b_end, mut b) = call(&bulkhead);
    assert_pending!(a.poll());
    assert_pending!(b.poll());
    a_end.send(Ok(1)).unwrap();
    assert_ready_ok!(a.poll());
    advance(ms(5_000)).await; // the process stood still
    b_end.send(Ok(2)).unwrap();
    assert_eq!(assert_ready_ok!(b.poll()), 2);
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.completed, snapshot.queue_timeouts, snapshot.active), (2, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn call_that_was_let_in_is_not_woken_by_the_timeout_of_the_queue() {
    let bulkhead = builder(1, 1).queue_timeout(ms(100)).build().unwrap();
    let (a_end, mut a) = call(&bulkhead);
    let (b_end, mut b) = call(&bulkhead);
    assert_pending!(a.poll());
    assert_pending!(b.poll());
    a_end.send(Ok(1)).unwrap();
    assert_ready_ok!(a.poll());
    assert_pending!(b.poll());
    advance(ms(5_000)).await;
    assert!(!b.is_woken());
    b_end.send(Ok(2)).unwrap();
    assert_eq!(assert_ready_ok!(b.poll()), 2);
}

#[tokio::test(start_paused = true)]
async fn timeout_and_slot_in_the_same_tick_have_exactly_one_outcome() {
    for waiter_is_polled_first in [true, false] {
        let bulkhead = builder(1, 1).queue_timeout(ms(100)).build().unwrap();
        let (a_end, mut a) = call(&bulkhead);
        let (b_end, mut b) = call(&bulkhead);
        assert_pending!(a.poll());
        assert_pending!(b.poll());
        advance(ms(100)).await;
        a_end.send(Ok(1)).unwrap();
        b_end.send(Ok(2)).unwrap();
        if waiter_is_polled_first {
            assert_eq!(code(assert_ready!(b.poll())), "BULKHEAD_QUEUE_TIMEOUT");
            assert_ready_ok!(a.poll());
        } else {
            assert_ready_ok!(a.poll());
            assert_ready_ok!(b.poll());
        }
        let snapshot = bulkhead.snapshot();
        assert_eq!((snapshot.active, snapshot.queued, snapshot.available), (0, 0, 1));
        assert_eq!(snapshot.completed + snapshot.queue_timeouts, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn waiters_that_timed_out_take_no_slot_with_them() {
    let bulkhead = builder(8, 8).queue_timeout(ms(100)).build().unwrap();
    let mut running: Vec<_> = (0..8).map(|_| call(&bulkhead)).collect();
    let mut waiting: Vec<_> = (0..8).map(|_| call(&bulkhead)).collect();
    for (_, call) in running.iter_mut().chain(&mut waiting) {
        assert_pending!(call.poll());
    }
    advance(ms(100)).await;
    for (_, call) in &mut waiting {
        assert_eq!(code(assert_ready!(call.poll())), "BULKHEAD_QUEUE_TIMEOUT");
    }
    for (end, mut call) in running {
        end.send(Ok(1)).unwrap();
        assert_ready_ok!(call.poll());
    }
    assert_eq!(bulkhead.snapshot().available, 8);
    let mut next: Vec<_> = (0..8).map(|_| call(&bulkhead)).collect();
    for (_, call) in &mut next {
        assert_pending!(call.poll());
    }
    assert_eq!(levels(&bulkhead), (8, 0));
}

#[tokio::test(start_paused = true)]
async fn cancelled_waiter_frees_its_place_in_the_queue_at_once() {
    let bulkhead = bulkhead(1, 1);
    let (_a_end, mut a) = call(&bulkhead);
    let (_b_end, mut b) = call(&bulkhead);
    let (_c_end, mut c) = call(&bulkhead);
    assert_pending!(a.poll());
    assert_pending!(b.poll());
    drop(b);
    assert_pending!(c.poll());
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.queued, snapshot.cancelled, snapshot.rejected), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn cancelled_head_of_the_queue_leaves_its_turn_to_the_next() {
    let bulkhead = bulkhead(1, 3);
    let (a_end, mut a) = call(&bulkhead);
    let (_b_end, mut b) = call(&bulkhead);
    let (_c_end, mut c) = call(&bulkhead);
    for call in [&mut a, &mut b, &mut c] {
        assert_pending!(call.poll());
    }
    drop(b);
    a_end.send(Ok(1)).unwrap();
    assert_ready_ok!(a.poll());
    assert!(c.is_woken());
    assert_pending!(c.poll());
    assert_eq!(levels(&bulkhead), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn slot_granted_to_a_call_that_is_dropped_goes_to_the_next_in_the_queue() {
    let bulkhead = bulkhead(1, 3);
    let (a_end, mut a) = call(&bulkhead);
    let (_b_end, mut b) = call(&bulkhead);
    let (_c_end, mut c) = call(&bulkhead);
    for call in [&mut a, &mut b, &mut c] {
        assert_pending!(call.poll());
    }
    a_end.send(Ok(1)).unwrap();
    assert_ready_ok!(a.poll());
    assert!(b.is_woken());
    drop(b);
    assert!(c.is_woken());
    assert_pending!(c.poll());
    assert_eq!((levels(&bulkhead), bulkhead.snapshot().cancelled), ((1, 0), 1));
    drop(c);
    assert_eq!(bulkhead.snapshot().available, 1);
}

#[tokio::test(start_paused = true)]
async fn sixty_four_waiters_take_turns() {
    const WAITERS: usize = 64;
    const GRANTS: usize = 100_000;
    let bulkhead = bulkhead(1, WAITERS as u32);
    let turns = std::sync::Arc::new(std::sync::Mutex::new(Vec::with_capacity(GRANTS)));
    let mut tasks = Vec::new();
    for n in 0..WAITERS {
        let (bulkhead, turns) = (bulkhead.clone(), turns.clone());
        tasks.push(tokio::spawn(async move {
            loop {
                let permit = bulkhead.acquire().await.unwrap();
                {
                    let mut turns = turns.lock().unwrap();
                    if turns.len() == GRANTS {
                        return;
                    }
                    turns.push(n);
                }
                tokio::task::yield_now().await;
                drop(permit);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let mut last = [0; WAITERS];
    for (at, &n) in turns.lock().unwrap().iter().enumerate() {
        assert!(at - last[n] <= WAITERS, "waiter {n} stood back for {} turns", at - last[n]);
        last[n] = at;
    }
}

#[tokio::test(start_paused = true)]
async fn deadline_of_the_caller_ends_the_wait_if_it_comes_first() {
    let bulkhead = builder(1, 5).queue_timeout(ms(1_000)).build().unwrap();
    let _permit = bulkhead.try_acquire().unwrap();
    let began = Instant::now();
    let deadline = (began + ms(70)).into_std();
    let soon = context::scope(CallContext::default().until(deadline), bulkhead.acquire());
    assert_eq!(soon.await.unwrap_err().code(), "BULKHEAD_QUEUE_TIMEOUT");
    assert_eq!(began.elapsed(), ms(70));

    let began = Instant::now();
    let deadline = (began + ms(7_000)).into_std();
    let late = context::scope(CallContext::default().until(deadline), bulkhead.acquire());
    assert_eq!(late.await.unwrap_err().code(), "BULKHEAD_QUEUE_TIMEOUT");
    assert_eq!(began.elapsed(), ms(1_000));

    // One that has passed already: no wait at all, and no place kept.
    let passed = context::scope(CallContext::default().until(deadline), bulkhead.acquire());
    advance(ms(9_000)).await;
    let mut passed = tokio_test::task::spawn(passed);
    assert_eq!(assert_ready!(passed.poll()).unwrap_err().code(), "BULKHEAD_QUEUE_TIMEOUT");
    assert_eq!(levels(&bulkhead), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn without_a_timeout_a_call_waits_as_long_as_it_takes() {
    let bulkhead = builder(1, 1).queue_timeout(None).build().unwrap();
    let (a_end, mut a) = call(&bulkhead);
    let (b_end, mut b) = call(&bulkhead);
    assert_pending!(a.poll());
    assert_pending!(b.poll());
    advance(ms(1_000 * 3_600 * 24)).await;
    assert_pending!(b.poll());
    a_end.send(Ok(1)).unwrap();
    b_end.send(Ok(2)).unwrap();
    assert_ready_ok!(a.poll());
    assert_ready_ok!(b.poll());
}

#[tokio::test(start_paused = true)]
async fn position_in_the_queue_can_be_seen() {
    let bulkhead = bulkhead(1, 5);
    let _permit = bulkhead.try_acquire().unwrap();
    let svc = bulkhead.layer().layer(service_fn(|(): ()| async { Ok::<_, BoxError>(()) }));
    let mut first = tokio_test::task::spawn(svc.clone().oneshot(()));
    let mut second = tokio_test::task::spawn(bulkhead.acquire());
    let mut third = Box::pin(bulkhead.call(|| async { Ok::<_, BoxError>(()) }));
    assert_eq!(third.queue_position(), None);
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    assert_pending!(third.as_mut().poll(&mut Context::from_waker(Waker::noop())));
    assert_eq!((second.queue_position(), third.queue_position()), (Some(2), Some(3)));
    drop(first);
    assert_eq!((second.queue_position(), third.queue_position()), (Some(1), Some(2)));
}

#[tokio::test(start_paused = true)]
async fn call_that_was_never_polled_has_neither_slot_nor_place() {
    let bulkhead = bulkhead(1, 1);
    let idle = (bulkhead.acquire(), call(&bulkhead));
    assert_eq!(levels(&bulkhead), (0, 0));
    assert!(bulkhead.try_acquire().is_ok());
    drop(idle);
    assert_eq!(bulkhead.snapshot().cancelled, 0);
}
