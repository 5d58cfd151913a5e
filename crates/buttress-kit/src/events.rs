use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
    task::{Context, Poll, Waker},
};

use buttress_core::PolicyEvent;

use crate::{lock::unpoisoned, recorders::listening};

/// The most that wait for one subscriber; then the oldest goes.
const MAILBOX: usize = 1024;

/// A subscription to one policy: owned copies of its refusals, changes of state and rarer notes, in order; made by
/// [`Emitter::events`](crate::Emitter::events).
///
/// At most 1024 wait; then the oldest is dropped and counted ([`missed`](Self::missed)).
pub struct Events {
    mailbox: Arc<Mailbox>,
}

impl Events {
    /// The next event, if one waits.
    pub fn try_next(&mut self) -> Option<PolicyEvent> {
        self.mailbox.lock().events.pop_front()
    }

    /// Waits for the next event. `None` once the policy is gone and all is read.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<PolicyEvent> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The same as a poll, for streams.
    pub fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PolicyEvent>> {
        let mut waiting = self.mailbox.lock();
        if let Some(event) = waiting.events.pop_front() {
            return Poll::Ready(Some(event));
        }
        if waiting.ended {
            return Poll::Ready(None);
        }
        let former = waiting.waker.replace(cx.waker().clone());
        // The last waker of a task may drop the task, and with it a call that tells its end here.
        drop(waiting);
        drop(former);
        Poll::Pending
    }

    /// How many events were dropped because nobody read.
    pub fn missed(&self) -> u64 {
        self.mailbox.lock().missed
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("waiting", &self.mailbox.lock().events.len()).finish()
    }
}

#[derive(Default)]
struct Mailbox(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    events: VecDeque<PolicyEvent>,
    missed: u64,
    waker: Option<Waker>,
    /// The policy is gone.
    ended: bool,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        unpoisoned(self.0.lock())
    }

    /// Changes something, and wakes without the lock the task that waits.
    fn change(&self, change: impl FnOnce(&mut Waiting)) {
        let mut waiting = self.lock();
        change(&mut waiting);
        let waker = waiting.waker.take();
        drop(waiting);
        if let Some(waker) = waker {
            // It may use the policy's handle. A panic must neither silence the others nor reach the caller.
            listening(|| waker.wake());
        }
    }

    fn put(&self, event: PolicyEvent) {
        self.change(|waiting| {
            if waiting.events.len() >= MAILBOX {
                waiting.events.pop_front();
                waiting.missed = waiting.missed.saturating_add(1);
            }
            waiting.events.push_back(event);
        });
    }
}

/// The subscriptions to one policy.
#[derive(Default)]
pub(crate) struct Subscribers {
    /// Whether there ever was one.
    any: AtomicBool,
    mailboxes: Mutex<Vec<Weak<Mailbox>>>,
}

impl Subscribers {
    pub(crate) fn any(&self) -> bool {
        self.any.load(Acquire)
    }

    pub(crate) fn add(&self) -> Events {
        let mailbox = Arc::<Mailbox>::default();
        let mut mailboxes = unpoisoned(self.mailboxes.lock());
        mailboxes.retain(|one| one.strong_count() > 0);
        mailboxes.push(Arc::downgrade(&mailbox));
        self.any.store(true, Release);
        Events { mailbox }
    }

    pub(crate) fn post(&self, event: &PolicyEvent) {
        self.present().iter().for_each(|mailbox| mailbox.put(event.clone()));
    }

    /// No event will come any more.
    pub(crate) fn end(&self) {
        self.present().iter().for_each(|mailbox| mailbox.change(|waiting| waiting.ended = true));
    }

    fn present(&self) -> Vec<Arc<Mailbox>> {
        let mut mailboxes = unpoisoned(self.mailboxes.lock());
        mailboxes.retain(|one| one.strong_count() > 0);
        mailboxes.iter().filter_map(Weak::upgrade).collect()
    }
}
