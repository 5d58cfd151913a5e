//! Owned copies of events, for whoever comes to fetch them.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll, Waker},
};

use super::{
    Cause, Event, Note, PolicyKind, TransitionDetail,
    emitter::{Shared, unpoisoned},
};
use crate::{Name, Rejection};

/// An owned copy of an event; from [`Events`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PolicyEvent {
    /// Which pattern.
    pub kind: PolicyKind,
    /// Which policy.
    pub policy: Name,
    /// What happened.
    pub what: Happening,
}

/// What happened, owned.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Happening {
    /// A call was refused.
    Refused {
        /// Why.
        rejection: Rejection,
        /// Only counted, not refused.
        shadow: bool,
    },
    /// The state changed.
    Transition {
        /// The state before.
        from: &'static str,
        /// The state now.
        to: &'static str,
        /// Who or what did it.
        cause: Cause,
        /// What was known at that moment.
        detail: TransitionDetail,
    },
    /// The policy was reset by hand, whether that changed its state or not.
    Reset,
    /// Waiting calls were sent away by hand; how many.
    QueueCleared(u64),
    /// A rule passed its threshold where it may not act.
    Exceeded(&'static str),
}

impl Happening {
    pub(super) fn of(event: &Event<'_>) -> Option<Self> {
        Some(match *event {
            Event::Refused { rejection, shadow } => Self::Refused { rejection: rejection.clone(), shadow },
            Event::Transition { from, to, cause, detail } => Self::Transition { from, to, cause, detail },
            Event::Note(Note::Reset) => Self::Reset,
            Event::Note(Note::QueueCleared(count)) => Self::QueueCleared(count),
            Event::Note(Note::Exceeded(rule)) => Self::Exceeded(rule),
            _ => return None,
        })
    }
}

const MAILBOX: usize = 1024;

#[derive(Default)]
pub(super) struct Mailbox(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    events: VecDeque<PolicyEvent>,
    missed: u64,
    waker: Option<Waker>,
}

impl Mailbox {
    pub(super) fn put(&self, event: PolicyEvent) {
        let mut waiting = unpoisoned(&self.0);
        if waiting.events.len() == MAILBOX {
            waiting.events.pop_front();
            waiting.missed = waiting.missed.saturating_add(1);
        }
        waiting.events.push_back(event);
        drop(waiting);
        self.wake();
    }

    /// Calls whoever waits, without the lock.
    pub(super) fn wake(&self) {
        let waker = unpoisoned(&self.0).waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A subscription to one policy: refusals, transitions and resets, in order; made by [`Emitter::events`](super::Emitter::events).
pub struct Events {
    mailbox: Arc<Mailbox>,
    emitter: Weak<Shared>,
}

impl Events {
    pub(super) fn new(mailbox: Arc<Mailbox>, emitter: Weak<Shared>) -> Self {
        Self { mailbox, emitter }
    }

    /// The next event, if one waits.
    pub fn try_next(&mut self) -> Option<PolicyEvent> {
        unpoisoned(&self.mailbox.0).events.pop_front()
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
        let mut waiting = unpoisoned(&self.mailbox.0);
        if let Some(event) = waiting.events.pop_front() {
            return Poll::Ready(Some(event));
        }
        if self.emitter.strong_count() == 0 {
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
        unpoisoned(&self.mailbox.0).missed
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("waiting", &unpoisoned(&self.mailbox.0).events.len()).finish()
    }
}
