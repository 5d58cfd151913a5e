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

/// A subscription to one policy, or to all of a registry: owned copies of refusals, changes of state and rarer notes,
/// each policy's in order; made by [`Emitter::events`](crate::Emitter::events) and
/// [`Registry::events`](crate::Registry::events).
///
/// At most 1024 wait; then the oldest is dropped and counted ([`missed`](Self::missed)).
pub struct Events {
    mailbox: Arc<Mailbox>,
    source: Weak<dyn Source>,
}

/// What events come from.
pub(crate) trait Source: Send + Sync {
    /// Events go into this mailbox too, from now on.
    fn fill(&self, mailbox: &Arc<Mailbox>);
}

impl Events {
    pub(crate) fn of(source: Weak<dyn Source>) -> Self {
        let events = Self { mailbox: Arc::default(), source };
        events.also_into(&events.mailbox);
        events
    }

    /// What comes from where these come from goes into this mailbox too.
    pub(crate) fn also_into(&self, mailbox: &Arc<Mailbox>) {
        if let Some(source) = self.source.upgrade() {
            source.fill(mailbox);
        }
    }

    /// The next event, if one waits.
    pub fn try_next(&mut self) -> Option<PolicyEvent> {
        self.mailbox.lock().events.pop_front()
    }

    /// Waits for the next event. `None` once all that tells is gone, and all is read.
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
        if waiting.sources == 0 {
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
pub(crate) struct Mailbox(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    events: VecDeque<PolicyEvent>,
    missed: u64,
    waker: Option<Waker>,
    /// How many there are that put events in.
    sources: usize,
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

/// The subscriptions to one source.
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

    pub(crate) fn add(&self, mailbox: &Arc<Mailbox>) {
        let mut mailboxes = unpoisoned(self.mailboxes.lock());
        mailboxes.retain(|one| one.strong_count() > 0);
        let added = Arc::downgrade(mailbox);
        // One that is there already is not told twice.
        if !mailboxes.iter().any(|one| one.ptr_eq(&added)) {
            mailboxes.push(added);
            mailbox.lock().sources += 1;
        }
        self.any.store(true, Release);
    }

    pub(crate) fn post(&self, event: &PolicyEvent) {
        self.present().iter().for_each(|mailbox| mailbox.put(event.clone()));
    }

    /// No event will come from here any more.
    pub(crate) fn end(&self) {
        self.present().iter().for_each(|mailbox| mailbox.change(|waiting| waiting.sources -= 1));
    }

    pub(crate) fn present(&self) -> Vec<Arc<Mailbox>> {
        let mut mailboxes = unpoisoned(self.mailboxes.lock());
        mailboxes.retain(|one| one.strong_count() > 0);
        mailboxes.iter().filter_map(Weak::upgrade).collect()
    }
}
