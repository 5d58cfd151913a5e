//! Polling by hand: wakers that count, futures dropped wherever they can be, time without lag.

use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

/// Polls a future once, with a waker that does nothing.
///
/// ```
/// use std::{pin::pin, task::Poll};
/// use buttress_test::poll_once;
///
/// let mut ready = pin!(async { 7 });
/// assert_eq!(poll_once(ready.as_mut()), Poll::Ready(7));
/// ```
pub fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// A waker that counts how often it is woken. Clones count together.
///
/// ```
/// use std::pin::pin;
/// use buttress_test::CountingWaker;
///
/// let waker = CountingWaker::new();
/// let mut yields = pin!(tokio::task::yield_now());
/// assert!(waker.poll(yields.as_mut()).is_pending());
/// assert!(waker.take() > 0);
/// ```
#[derive(Clone, Default)]
pub struct CountingWaker {
    count: Arc<Count>,
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl CountingWaker {
    /// Makes a waker that was not woken yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The waker to poll with.
    pub fn waker(&self) -> Waker {
        self.count.clone().into()
    }

    /// How often it was woken since it was made, or since the last [`take`](Self::take).
    pub fn count(&self) -> usize {
        self.count.0.load(SeqCst)
    }

    /// How often it was woken, and begins again from zero.
    pub fn take(&self) -> usize {
        self.count.0.swap(0, SeqCst)
    }

    /// Polls a future with this waker.
    pub fn poll<F: Future + ?Sized>(&self, future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(&self.waker()))
    }
}

impl fmt::Debug for CountingWaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountingWaker").field("count", &self.count()).finish()
    }
}

/// Lets every task that can run do so, until each waits for something. Does not move paused time.
pub async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

/// Moves paused time on by `by`, stopping at each timer on the way, then lets every task run.
///
/// `tokio::time::advance` leaps: timers on the way fire late, and what they start begins at the end of the leap.
/// This one arrives at each timer in turn, so that nothing is late. Whole milliseconds, as all of tokio's timers.
pub async fn advance(by: Duration) {
    tokio::time::sleep(by).await;
    settle().await;
}

/// Drops a fresh future before its first poll, then another one after its first poll, and so on until one
/// completes; calls `check` after each drop, with the number of polls. Returns how many polls one takes.
///
/// For paused time: waits between polls cost nothing, and what never ends is found out.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// use buttress_test::drop_at_every_await;
/// use tokio::{sync::Semaphore, task::yield_now};
///
/// let permits = Semaphore::new(1);
/// let work = || async {
///     let _permit = permits.acquire().await.unwrap();
///     yield_now().await;
///     yield_now().await;
/// };
/// let polls = drop_at_every_await(work, |_| assert_eq!(permits.available_permits(), 1)).await;
/// assert_eq!(polls, 3);
/// # });
/// ```
///
/// # Panics
/// Where the future does not end within 10 000 polls and a day of paused time.
pub async fn drop_at_every_await<F: Future>(
    mut make: impl FnMut() -> F,
    mut check: impl FnMut(usize),
) -> usize {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    for polls in 0..=10_000 {
        let complete = {
            let future = pin!(make());
            let ended = tokio::time::timeout(DAY, poll_times(future, polls)).await;
            ended.expect("the future is never woken again")
        };
        settle().await;
        check(polls);
        if complete {
            return polls;
        }
    }
    panic!("the future does not end within 10 000 polls");
}

/// Polls at most `times` times, each time when woken; says whether the future completed.
async fn poll_times<F: Future>(mut future: Pin<&mut F>, times: usize) -> bool {
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
