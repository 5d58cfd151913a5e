use std::{cell::Cell, future::pending, pin::pin, time::Duration};

use buttress_test::{CountingWaker, advance, drop_at_every_await, poll_once, settle};
use tokio::time::{Instant, sleep};

#[test]
fn waker_counts_wakes_over_its_clones() {
    let waker = CountingWaker::new();
    waker.waker().wake();
    waker.clone().waker().wake_by_ref();
    assert_eq!((waker.count(), waker.take(), waker.count()), (2, 2, 0));
    assert!(poll_once(pin!(pending::<()>())).is_pending());
}

#[tokio::test(start_paused = true)]
async fn every_await_is_dropped_once() {
    let begun = Cell::new([0; 4]);
    let reach = |at: usize| {
        let mut counts = begun.get();
        counts[at] += 1;
        begun.set(counts);
    };
    let make = || async {
        reach(0);
        sleep(Duration::from_secs(3)).await;
        reach(1);
        tokio::task::yield_now().await;
        reach(2);
        sleep(Duration::from_secs(3)).await;
        reach(3);
    };
    let mut checks = Vec::new();
    assert_eq!(drop_at_every_await(make, |polls| checks.push(polls)).await, 4);
    assert_eq!(checks, [0, 1, 2, 3, 4]);
    assert_eq!(begun.get(), [4, 3, 2, 1]);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "never woken again")]
async fn a_future_that_never_ends_is_found_out() {
    drop_at_every_await(pending::<()>, |_| ()).await;
}

#[tokio::test(start_paused = true)]
async fn time_arrives_at_each_timer_in_turn() {
    let start = Instant::now();
    let chain = tokio::spawn(async move {
        for _ in 0..3 {
            sleep(Duration::from_millis(10)).await;
        }
        start.elapsed()
    });
    advance(Duration::from_millis(30)).await;
    assert!(chain.is_finished()); // one leap would have ended the first sleep only
    assert_eq!(chain.await.unwrap(), Duration::from_millis(30));
}

#[tokio::test(start_paused = true)]
async fn settling_runs_tasks_and_no_timers() {
    let start = Instant::now();
    let yields = tokio::spawn(async {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    });
    let sleeps = tokio::spawn(sleep(Duration::from_millis(1)));
    settle().await;
    assert!(yields.is_finished() && !sleeps.is_finished());
    assert_eq!(start.elapsed(), Duration::ZERO);
}
