//! A strict executor: it polls again only what was woken through the waker of the last poll.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    task::{Context, Poll},
    time::Duration,
};

use crate::CountingWaker;

/// Polls after which something that keeps waking itself while time stands is called busy.
const BUSY: usize = 1_000;

/// Time passes in steps that double from one millisecond: 2^24 ms are 4.6 hours.
pub(super) const STEPS: u32 = 24;

/// How it went.
pub(super) enum Driven<T> {
    Done(T),
    /// It could have ended, and nobody woke it.
    Unwoken(T),
    /// It does not end, woken or not, however much time passes.
    Stuck,
    Busy,
    Panicked(String),
}

/// Drives one thing that is polled. Each poll has a new waker, and only the newest one counts.
#[derive(Default)]
pub(super) struct Driver {
    waker: CountingWaker,
}

impl Driver {
    pub(super) fn poll<T>(&mut self, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<Driven<T>> {
        self.waker = CountingWaker::new();
        let waker = self.waker.waker();
        match catch_unwind(AssertUnwindSafe(|| poll(&mut Context::from_waker(&waker)))) {
            Ok(Poll::Ready(done)) => Poll::Ready(Driven::Done(done)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(panic) => Poll::Ready(Driven::Panicked(text(&*panic))),
        }
    }

    pub(super) fn is_woken(&self) -> bool {
        self.waker.count() > 0
    }

    /// Polls once and on to the end.
    pub(super) async fn run<T>(&mut self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Driven<T> {
        match self.poll(&mut poll) {
            Poll::Ready(driven) => driven,
            Poll::Pending => self.go_on(poll).await,
        }
    }

    /// Goes on to the end with what was polled before.
    pub(super) async fn go_on<T>(&mut self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Driven<T> {
        if let Some(driven) = self.while_woken(&mut poll).await {
            return driven;
        }
        // Nothing is under way and no time has passed: what is ready now was ready, and not woken.
        if let Poll::Ready(driven) = self.poll(&mut poll) {
            return unwoken(driven);
        }
        for step in 0..STEPS {
            if let Some(driven) = self.while_woken(&mut poll).await {
                return driven;
            }
            pass(Duration::from_millis(1 << step)).await;
        }
        if let Some(driven) = self.while_woken(&mut poll).await {
            return driven;
        }
        match self.poll(&mut poll) {
            Poll::Ready(driven) => unwoken(driven),
            Poll::Pending => Driven::Stuck,
        }
    }

    /// Polls as long as it is woken while time stands.
    pub(super) async fn while_woken<T>(
        &mut self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Option<Driven<T>> {
        for _ in 0..BUSY {
            self.settle().await;
            if !self.is_woken() {
                return None;
            }
            if let Poll::Ready(driven) = self.poll(&mut poll) {
                return Some(driven);
            }
        }
        Some(Driven::Busy)
    }

    /// Waits until it is woken, or until hours have passed.
    pub(super) async fn woken(&self) {
        for step in 0..STEPS {
            self.settle().await;
            if self.is_woken() {
                return;
            }
            pass(Duration::from_millis(1 << step)).await;
        }
    }

    async fn settle(&self) {
        for _ in 0..8 {
            if self.is_woken() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

fn unwoken<T>(driven: Driven<T>) -> Driven<T> {
    match driven {
        Driven::Done(done) => Driven::Unwoken(done),
        other => other,
    }
}

/// Lets time pass, also where a task spins and the runtime is never idle.
pub(super) async fn pass(by: Duration) {
    tokio::time::advance(by).await;
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}

/// What a panic said.
pub(super) fn text(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        return (*text).to_owned();
    }
    panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "no text".to_owned())
}
