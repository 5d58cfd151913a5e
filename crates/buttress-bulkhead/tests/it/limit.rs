//! The limit, changed while calls run.

use tokio_test::{assert_pending, assert_ready_ok};

use crate::support::{bulkhead, call, levels};

#[tokio::test(start_paused = true)]
async fn limit_below_what_runs_lets_nobody_in_until_enough_have_ended() {
    let bulkhead = bulkhead(10, 10);
    let mut running: Vec<_> = (0..10).map(|_| call(&bulkhead)).collect();
    for (_, call) in &mut running {
        assert_pending!(call.poll());
    }
    bulkhead.set_limit(2).unwrap();
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.active, snapshot.available, snapshot.limit), (10, 0, 2));
    assert_eq!(snapshot.utilization, 100.0);

    let (_next_end, mut next) = call(&bulkhead);
    assert_pending!(next.poll());
    for still_running in (1..10).rev() {
        assert!(!next.is_woken(), "let in too early: {:?}", bulkhead.snapshot());
        let (end, mut call) = running.pop().unwrap();
        end.send(Ok(1)).unwrap();
        assert_ready_ok!(call.poll());
        assert_eq!(running.len(), still_running);
    }
    assert!(next.is_woken());
    assert_pending!(next.poll());
    assert_eq!(levels(&bulkhead), (2, 0));

    bulkhead.set_limit(10).unwrap();
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.active, snapshot.available, snapshot.limit), (2, 8, 10));
}

#[tokio::test(start_paused = true)]
async fn raised_limit_lets_in_as_many_as_there_is_room_for_in_order() {
    let bulkhead = bulkhead(1, 10);
    let mut calls: Vec<_> = (0..6).map(|_| call(&bulkhead)).collect();
    for (_, call) in &mut calls {
        assert_pending!(call.poll());
    }
    bulkhead.set_limit(4).unwrap();
    let woken: Vec<_> = calls.iter().map(|(_, call)| call.is_woken()).collect();
    assert_eq!(woken, [false, true, true, true, false, false]);
    assert_eq!(levels(&bulkhead), (4, 2));
    assert_eq!(bulkhead.config().max_concurrent, 4);
}

#[tokio::test]
async fn limit_of_zero_is_refused_and_changes_nothing() {
    let bulkhead = bulkhead(3, 0);
    let why = bulkhead.set_limit(0).unwrap_err();
    assert_eq!((why.field(), why.value()), ("max_concurrent", "0"));
    assert!(bulkhead.set_limit(u32::MAX).is_err());
    assert_eq!(bulkhead.snapshot().limit, 3);
    bulkhead.set_limit((1 << 24) - 1).unwrap();
    let _permit = bulkhead.try_acquire().unwrap();
    assert_eq!(bulkhead.snapshot().available, (1 << 24) - 2);
}

#[tokio::test(start_paused = true)]
async fn new_settings_hold_from_now_on_and_who_waits_keeps_its_place() {
    let bulkhead = bulkhead(1, 2);
    let mut calls: Vec<_> = (0..3).map(|_| call(&bulkhead)).collect();
    for (_, call) in &mut calls {
        assert_pending!(call.poll());
    }
    let mut config = bulkhead.config();
    config.max_queue = 1;
    bulkhead.reconfigure(config.clone()).unwrap();
    let snapshot = bulkhead.snapshot();
    assert_eq!((snapshot.queued, snapshot.max_queue, snapshot.queue_available), (2, 1, 0));

    config.max_concurrent = 0;
    assert_eq!(bulkhead.reconfigure(config).unwrap_err().field(), "max_concurrent");
    assert_eq!(bulkhead.config().max_concurrent, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limit_holds_and_nothing_leaks_while_two_threads_call_and_the_limit_moves() {
    use std::sync::{Arc, atomic::AtomicU32, atomic::Ordering::SeqCst};
    let bulkhead = bulkhead(4, 1_000);
    let (running, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let mut tasks = Vec::new();
    for n in 0..16u32 {
        let (bulkhead, running, most) = (bulkhead.clone(), running.clone(), most.clone());
        tasks.push(tokio::spawn(async move {
            for round in 0..500u32 {
                let permit = bulkhead.acquire();
                if (n + round) % 7 == 0 {
                    // Dropped at any moment of its wait.
                    let _ = tokio::time::timeout(std::time::Duration::ZERO, permit).await;
                    continue;
                }
                let permit = permit.await.unwrap();
                most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                tokio::task::yield_now().await;
                running.fetch_sub(1, SeqCst);
                drop(permit);
                if round % 50 == n {
                    bulkhead.set_limit(1 + (n + round) % 8).unwrap();
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert!(most.load(SeqCst) <= 8);
    bulkhead.set_limit(8).unwrap();
    assert_eq!(levels(&bulkhead), (0, 0));
    assert_eq!(bulkhead.snapshot().available, 8);
    let all: Vec<_> = (0..8).map(|_| bulkhead.try_acquire().unwrap()).collect();
    assert_eq!(all.len(), 8);
}
