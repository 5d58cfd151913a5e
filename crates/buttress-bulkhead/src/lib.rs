//! Lets a fixed number of calls run at once; the next ones wait in a bounded queue, strictly in order, and for a
//! bounded time; all others are refused at once. So one slow dependency cannot take every connection, thread or
//! byte of memory of its caller.
//!
//! ```
//! # mod buttress { pub use {buttress_core::*, buttress_bulkhead::*}; }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use buttress::{BoxError, Bulkhead, rejection};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! let bulkhead = Bulkhead::builder("db").max_concurrent(1).max_queue(0).build()?;
//! let svc = bulkhead.layer().layer(service_fn(|n: u32| async move { Ok::<_, BoxError>(n + 1) }));
//! assert_eq!(svc.clone().oneshot(1).await.unwrap(), 2);
//!
//! let permit = bulkhead.try_acquire()?; // the only slot
//! let refused = svc.clone().oneshot(1).await.unwrap_err();
//! assert_eq!(rejection(&*refused).unwrap().code(), "BULKHEAD_QUEUE_FULL");
//! drop(permit);
//! assert_eq!(svc.oneshot(1).await.unwrap(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! # When not
//! A bulkhead does not limit *how often* something is called; that is a rate limit. Nor does it find a limit that
//! nobody knows: start from `requests per second × seconds per request`, and watch [`BulkheadSnapshot::peak`].
//!
//! # Place in a stack
//! Inside retry and breaker, outside of the attempt's timeout: every attempt takes its own slot, and the timeout
//! does not run while the call waits.
//!
//! An *owning* layer, one that waits within its call: it is always ready, asks the inner service for readiness only
//! once it has a slot, and holds nothing of the inner service while it waits. The inner service is cloned for every
//! call. Clones of the service share the slots and hold none.
//!
//! A [deadline](buttress_core::CallContext::deadline) of the caller ends the wait as the timeout of the queue
//! does, if it comes earlier.
//!
//! # A call
//! ```text
//!          a slot is free                     inner is ready           inner is done
//!  call ───────────────────────────► running ───────────────► calling ──────────────► slot given back,
//!    │ none is free                    ▲                                              first in the queue woken
//!    ├──────────────► waiting ─────────┘ a slot is granted
//!    │ queue is full     │ too long · queue cleared · closed
//!    ▼                   ▼
//!  refused            refused
//! ```
//! Nobody overtakes: while somebody waits, a newcomer goes to the end of the queue, even if a slot is free at that
//! moment. A waiter that is dropped leaves the queue at once. A slot that was granted in time is taken even by a task
//! that is polled after its timeout.
//!
//! A call *runs* from the moment it gets a slot until the inner future resolves, fails, panics or is dropped. Work
//! that outlives its future (a spawned task, `spawn_blocking`) is not seen: take a [`Permit`] with
//! [`Bulkhead::acquire`] and move it into the work.
//!
//! # Results
//! A call that ran has the answer of the service, unchanged. A refusal has a code:
//!
//! | code | when |
//! |---|---|
//! | [`QUEUE_FULL`] | no slot is free and the queue is full |
//! | [`QUEUE_TIMEOUT`] | the call waited for too long, or up to its caller's deadline |
//! | [`QUEUE_CLEARED`] | somebody called [`Bulkhead::clear_queue`] |
//! | [`CLOSED`] | somebody called [`Bulkhead::close`] |
//!
//! The request of a refused call was never sent. No refusal has a `retry_after`: when a slot becomes free depends
//! on calls whose length is not known.
//!
//! # What is told
//! | event | when |
//! |---|---|
//! | [`Done`](buttress_core::Event::Done) | a call ended: success, failure, panicked, ignored or cancelled; also one that was dropped while it waited, with 0 attempts |
//! | [`Refused`](buttress_core::Event::Refused) | a call was refused, or in shadow mode would have been |
//! | [`Level`](buttress_core::Event::Level) | [`IN_FLIGHT`](words::IN_FLIGHT), [`QUEUE_DEPTH`](words::QUEUE_DEPTH) or [`LIMIT`](words::LIMIT) moved, after what moved it |
//! | [`Note`](buttress_core::Event::Note) | of each call: [`ADMITTED`](words::ADMITTED), [`QUEUED`](words::QUEUED), [`QUEUE_WAIT`](words::QUEUE_WAIT); a [cleared queue](words::CLEARED), new settings, a reset |
//!
//! [`KIND`] has the metrics and the log lines that are made of this; `docs/metrics.md` of the repository has them all.
//!
//! # Settings
//! | setting | default | |
//! |---|---|---|
//! | [`max_concurrent`](BulkheadConfig::max_concurrent) | 10 | calls that run at once, `1..=16_777_215` |
//! | [`max_queue`](BulkheadConfig::max_queue) | 100 | calls that wait; 0: refuse at once |
//! | [`queue_timeout`](BulkheadConfig::queue_timeout) | 30 s | the longest wait; `None`: no limit |
//! | [`mode`](BulkheadConfig::mode) | enforce | `shadow`: let all in and count those that would have been refused |
//! | [`timed`](BulkheadConfig::timed) | `false` | take the time of every call |
//!
//! All of them can be changed while calls run: [`Bulkhead::set_limit`], [`Bulkhead::reconfigure`].
//!
//! # Cost
//! While nobody waits, a call takes and gives back its slot with one atomic operation each: no lock, no allocation,
//! no clock. A call that has to wait takes a short lock, reads the clock once, and allocates its timer.
//!
//! # Panics
//! A call that has to wait needs a tokio runtime with time enabled.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod bulkhead;
mod config;
mod drain;
mod entering;
mod future;
mod gate;
mod kind;
mod layer;
mod permit;
mod service;
mod snapshot;
mod stats;
mod sync;
pub mod words;

pub use crate::{
    bulkhead::Bulkhead,
    config::{BulkheadBuilder, BulkheadConfig},
    drain::Drain,
    future::BulkheadFuture,
    kind::KIND,
    layer::BulkheadLayer,
    permit::{Acquire, Permit},
    service::BulkheadService,
    snapshot::BulkheadSnapshot,
    words::{CLOSED, QUEUE_CLEARED, QUEUE_FULL, QUEUE_TIMEOUT},
};
