//! Answers when the rest failed: with a value, by a function, by another service, or with the last good answer.
//!
//! ```
//! # mod buttress { pub use {buttress_core::*, buttress_fallback::*}; }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use buttress::{BoxError, Fallback};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! let fallback = Fallback::builder("prices").build()?;
//! let broken = service_fn(|_item: &'static str| async { Err::<Option<u32>, BoxError>("down".into()) });
//!
//! let svc = fallback.layer().value(None).layer(broken);
//! assert_eq!(svc.oneshot("apple").await.unwrap(), None);
//! assert_eq!(fallback.snapshot().answered, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # When not
//! For a pretended success: a payment that was not made, an order that was not stored. A fallback says something useful
//! about not having an answer: cached data that says how old it is, a default that is right for every caller, an empty
//! list if "none" is true, a shorter page. So stored answers are only given after they have been marked (the marker is
//! an argument, not an option), and what the fallback did is counted apart from the primary's successes.
//!
//! # Place in a stack
//! Outermost, so that it sees what is left after retry and the total timeout. Several fallbacks stack: the
//! inner one is asked first.
//!
//! # The answers
//! | on [`FallbackLayer`] | answers with | needs | readiness |
//! |---|---|---|---|
//! | [`value`](FallbackLayer::value) | a clone of a value | `Res: Clone` | through |
//! | [`answer_with`](FallbackLayer::answer_with) | a function of the failure | | through |
//! | [`answer_for`](FallbackLayer::answer_for) | a function of request and failure | the request again (`Clone`, or `replay_with`) | through |
//! | [`service`](FallbackLayer::service) | another service | the request again; that service `Clone` | owning |
//! | [`last_good`](FallbackLayer::last_good) | the last good answer for the same key, marked stale | `Res: Clone` | through |
//!
//! A *through* layer lets readiness through: it is ready when the service inside is, calls the very instance that said
//! so, and passes an error of `poll_ready` on, because that means "discard this service". An *owning* layer waits within
//! its call: it is always ready, and each call readies a clone of the primary inside its future, so that a primary that never gets ready, or is broken, is a failure
//! like any other and the second service answers. That one is readied only once it is needed. For the others,
//! [`ReadyInCallLayer`](buttress_core::ReadyInCallLayer) directly inside does the same.
//!
//! # What is handled
//! By default a failure by the classifier's verdict, and every rejection: an open circuit, a full bulkhead, a
//! timeout. [`classify`](FallbackLayer::classify) takes another classifier (it may call a response a failure),
//! [`handle_with`](FallbackLayer::handle_with) a rule of your own. What is not handled passes unchanged.
//!
//! # Results
//! If the fallback itself fails, its own error is returned (a refusal says "sent" if the primary had been sent
//! something). That of a second service brings the primary's failure along: as its `source()` in a `BoxError` (see
//! [`FailedTwice`](buttress_core::FailedTwice)), and if it is a refusal, as what that ended in an
//! [`Error`](buttress_core::Error). The event and the log line have both in any case. If the fallback has no answer
//! (nothing stored, or too old; the request cannot be had again), the primary's failure is returned, unchanged.
//!
//! # What is told
//! | event | when |
//! |---|---|
//! | [`Done`](buttress_core::Event::Done) | a call ended, and with which error; its result is `success`, [`FALLBACK_SUCCESS`](words::FALLBACK_SUCCESS), [`FALLBACK_FAILURE`](words::FALLBACK_FAILURE), [`NOT_HANDLED`](words::NOT_HANDLED), `panicked` or `cancelled` |
//! | [`Note`](buttress_core::Event::Note) | a stored answer was given ([`STALE`](words::STALE)) or had to go ([`EVICTED`](words::EVICTED)); new settings; a reset |
//!
//! [`KIND`] has the metrics and the log lines that are made of this; `docs/metrics.md` of the repository has them all.
//!
//! # Settings
//! | setting | default | |
//! |---|---|---|
//! | `max_age` | 5 min | stored answers older than this are not given |
//! | `max_keys` | 1024 | answers stored, at most; the one not used for longest goes first |
//!
//! # Cost
//! A call that succeeds allocates nothing and takes no lock. `last_good` is the exception: it stores a clone of
//! each good answer, and locks a part of the table for that.
//!
//! # Panics
//! A call needs no runtime: the fallback itself waits for nothing.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod answer;
mod backup;
mod config;
mod decide;
mod fallback;
mod future;
mod kind;
mod last_good;
mod layer;
mod sealed;
mod service;
pub mod words;

pub use crate::{
    answer::{Answer, Answering, Capture, First, ForRequest, NoAnswer, Readiness, Value, With},
    backup::{ByService, ByServiceFuture},
    config::{FallbackBuilder, FallbackConfig},
    decide::{Classified, Decide, Decision, HandleIf},
    fallback::{Fallback, FallbackSnapshot},
    future::FallbackFuture,
    kind::KIND,
    last_good::{LastGood, Stale},
    layer::FallbackLayer,
    service::FallbackService,
};
