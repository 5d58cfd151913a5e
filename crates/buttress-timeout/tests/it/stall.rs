use std::{
    future::{pending, poll_fn},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    task::Poll,
};

use buttress_core::{BoxError, FromRejection};
use buttress_timeout::TimeoutSnapshot;
use tokio::{
    sync::{mpsc, oneshot},
    time::{self, Instant},
};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};

use crate::{ms, taking, timeout};

#[tokio::test(start_paused = true)]
async fn limit_is_reached_at_its_very_instant() {
    let mut call = task::spawn(timeout(30).call(|| taking(1_000)));
    assert_pending!(call.poll());
    time::advance(ms(29)).await;
    assert_pending!(call.poll());
    time::advance(ms(1)).await;
    assert!(call.is_woken());
    assert_ready_err!(call.poll());
}

#[tokio::test(start_paused = true)]
async fn call_that_finishes_at_the_limit_has_finished() {
    let timeout = timeout(30);
    assert_eq!(timeout.call(|| taking(30)).await.unwrap(), 30);
    let snapshot = timeout.snapshot();
    assert_eq!(snapshot, TimeoutSnapshot::default()); // no failure of any kind
}

#[tokio::test(start_paused = true)]
async fn call_finished_before_the_stall_wins_over_the_limit_passed_in_it() {
    let mut call = task::spawn(timeout(30).call(|| taking(20)));
    assert_pending!(call.poll());
    time::advance(ms(10_000)).await;
    assert_eq!(assert_ready_ok!(call.poll()), 20);
}

#[tokio::test(start_paused = true)]
async fn call_first_polled_long_after_its_limit_may_still_be_ready() {
    let timeout = timeout(30);
    let call = timeout.call(|| async { Ok::<_, BoxError>("ready") });
    time::advance(ms(10_000)).await;
    assert_eq!(call.await.unwrap(), "ready");
    let call = timeout.call(|| taking(1_000));
    time::advance(ms(10_000)).await;
    assert!(call.await.is_err());
}

/// Holds up this thread, and with it the whole runtime of the test.
#[allow(clippy::disallowed_methods)] // a real stall cannot be had in paused time
fn stall(time: u64) {
    std::thread::sleep(ms(time));
}

/// And goes on until the runtime has noticed the timers.
async fn stall_and_notice(time: u64) {
    stall(time);
    time::sleep(ms(1)).await;
}

#[tokio::test]
async fn answer_that_lies_with_other_tasks_after_a_stall_is_waited_for() {
    for tasks in 1..=3 {
        let (first, mut last) = oneshot::channel();
        for _ in 1..tasks {
            let (hand_on, next) = oneshot::channel();
            let before = std::mem::replace(&mut last, next);
            tokio::spawn(async move {
                before.await.unwrap();
                hand_on.send(()).unwrap();
            });
        }
        tokio::spawn(async move {
            time::sleep(ms(29)).await;
            first.send(()).unwrap();
        });
        let call = tokio::spawn(timeout(30).call(|| async { Ok::<_, BoxError>(last.await?) }));
        tokio::task::yield_now().await;
        // Both timers are noticed at once, the caller's task runs before the answer has reached it.
        stall(60);
        call.await.unwrap().unwrap_or_else(|late| panic!("{tasks} tasks: {late}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_process_ends_no_call_that_has_its_answer() {
    // Each server answers in time; while both workers are blocked, every limit passes.
    let (ask, mut asked) = mpsc::channel::<oneshot::Sender<()>>(64);
    tokio::spawn(async move {
        while let Some(reply) = asked.recv().await {
            tokio::spawn(async move {
                time::sleep(ms(20)).await;
                let _ = reply.send(());
            });
        }
    });
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let ask = ask.clone();
            tokio::spawn(timeout(200).call(|| async move {
                let (reply, answer) = oneshot::channel();
                ask.send(reply).await?;
                Ok::<_, BoxError>(answer.await?)
            }))
        })
        .collect();
    time::sleep(ms(5)).await;
    let stalled = [
        tokio::spawn(async { stall(400) }),
        tokio::spawn(async {
            stall(400);
        }),
    ];
    for stall in stalled {
        stall.await.unwrap();
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn late_timer_with_no_answer_still_ends_the_call_soon() {
    let mut call = task::spawn(timeout(30).call(|| taking(100_000)));
    assert_pending!(call.poll());
    stall_and_notice(60).await;
    assert_pending!(call.poll());
    let late = call.await.unwrap_err();
    assert_eq!(late.rejection().unwrap().limit(), Some(ms(30)));
    let elapsed = late.rejection().unwrap().elapsed().unwrap();
    assert!((ms(70)..ms(5_000)).contains(&elapsed), "{elapsed:?}");
}

#[tokio::test]
async fn stall_that_goes_on_is_not_waited_out_for_ever() {
    let mut call = task::spawn(timeout(30).call(|| taking(100_000)));
    for _ in 0..4 {
        assert_pending!(call.poll());
        stall_and_notice(45).await;
        if let Poll::Ready(late) = call.poll() {
            assert!(late.unwrap_err().rejection().is_some());
            return;
        }
    }
    panic!("never given up");
}

/// Blocks the runtime over and over, for this long at a time, while a call with this limit that is never answered runs
/// beside one with tokio's time-out. After how many blocks tokio's ended, and ours.
async fn blocks(limit: u64, block: u64) -> (u32, u32) {
    let blocked = Arc::new(AtomicU32::new(0));
    let (ours, theirs, count) = (blocked.clone(), blocked.clone(), blocked.clone());
    let theirs = tokio::spawn(async move {
        time::timeout(ms(limit), pending::<()>()).await.unwrap_err();
        theirs.load(SeqCst)
    });
    let ours = tokio::spawn(async move {
        timeout(limit).call(pending::<Result<(), BoxError>>).await.unwrap_err();
        ours.load(SeqCst)
    });
    tokio::task::yield_now().await;
    let blocking = tokio::spawn(async move {
        loop {
            stall(block);
            count.fetch_add(1, SeqCst);
            tokio::task::yield_now().await;
        }
    });
    let ended = (theirs.await.unwrap(), ours.await.unwrap());
    blocking.abort();
    ended
}

#[tokio::test]
async fn starved_runtime_makes_a_limit_at_most_twice_as_late_as_tokios() {
    for (limit, block) in [(5, 50), (5, 15), (30, 20), (100, 25)] {
        let (theirs, ours) = blocks(limit, block).await;
        assert!(theirs > 0 && ours <= 2 * theirs, "{limit} ms, {block} ms at a time: {ours} after {theirs}");
    }
}

#[tokio::test(start_paused = true)]
async fn time_that_a_test_moves_is_no_stall() {
    let mut call = task::spawn(timeout(30).call(|| taking(100_000)));
    assert_pending!(call.poll());
    time::advance(ms(10_000)).await;
    assert!(call.is_woken());
    let late = assert_ready_err!(call.poll());
    assert_eq!(late.rejection().unwrap().limit(), Some(ms(30)));
    assert_eq!(late.rejection().unwrap().elapsed(), Some(ms(10_000)));
}

#[tokio::test(start_paused = true)]
async fn call_that_uses_up_its_tasks_budget_at_every_poll_still_ends() {
    let (tx, mut rx) = mpsc::unbounded_channel();
    let started = Instant::now();
    let greedy = timeout(30).call(|| async move {
        loop {
            // Always ready: only the budget of the task ever makes it pending.
            tx.send(()).unwrap();
            rx.recv().await;
            if started.elapsed() > ms(60_000) {
                return Ok::<_, BoxError>(());
            }
        }
    });
    let clock = tokio::spawn(async {
        for _ in 0..100 {
            time::advance(ms(1)).await;
        }
    });
    let late = greedy.await.unwrap_err();
    assert!(late.rejection().is_some());
    assert!(started.elapsed() < ms(60));
    clock.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn finished_calls_in_one_task_beyond_its_budget_are_not_given_up() {
    let timeout = timeout(30);
    let mut calls: Vec<_> = (0..400).map(|_| Box::pin(timeout.call(|| taking(20)))).collect();
    let all = tokio::spawn(async move {
        let mut ok = 0;
        poll_fn(|cx| {
            calls.retain_mut(|call| match call.as_mut().poll(cx) {
                Poll::Pending => true,
                Poll::Ready(result) => {
                    ok += usize::from(result.is_ok());
                    false
                }
            });
            if calls.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        ok
    });
    // All have been polled once before time moves, however small the budget.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    time::advance(ms(10_000)).await;
    assert_eq!(all.await.unwrap(), 400);
}
