//! The mechanism that resilience patterns share, for ours and for a layer of your own. **May change before 1.0.**
//!
//! The words (codes, kinds, events, settings' errors) are in `buttress-core`; if you only use the patterns, the facade
//! `buttress` has all you need. Here are:
//!
//! - [`call`]: the guard of a call under way; [`Guarded`], [`ThroughLayer`]: future, layer and service of patterns that
//!   only admit or refuse; [`ByKey`]: one of them for each key.
//! - [`Handle`]: what registries, reload and pages treat all policies by.
//! - [`Registry`]: policies of all patterns, by kind and name.
//! - [`settings!`], [`Parts`], [`Live`]: settings written down once, and in force; [`duration`], [`optional`]: times in
//!   files, and what may be off.
//! - [`Emitter`], [`Listeners`], [`Events`]: how an event gets to its listeners.
//! - [`queue`]: callers that wait in order, and why no wake-up is lost. [`Wakers`]: those who wait for one thing.
//! - [`KeyedMap`]: values by key, at most so many, the one not used for longest first to go.
//! - [`Backoff`], [`Budget`], [`Chance`]: waits, how many retries, seeded randomness. Plain data: `now` is passed in.
//! - [`Rare`]: room for what few calls need. [`unpoisoned`]: locks that a panic does not close. [`CallOnce`],
//!   [`Repeat`]: closures as services.
#![cfg_attr(docsrs, feature(doc_cfg))]

// `settings!` names this crate in serde's attributes, which know no `$crate`.
extern crate self as buttress_kit;

mod backoff;
mod budget;
mod by_key;
pub mod call;
mod chance;
pub mod duration;
mod emitter;
mod events;
mod guarded;
pub mod handle;
pub mod keyed;
mod list;
mod listeners;
mod live;
mod lock;
mod mode;
mod once;
pub mod optional;
mod patch;
pub mod queue;
mod rare;
mod recorders;
mod registry;
mod settings;
mod sync;
mod through;
mod turn;
pub mod wakers;

#[doc(hidden)]
pub use {buttress_core, erased_serde};

/// So that a layer of your own can derive what its snapshot needs: `#[serde(crate = "buttress_kit::serde")]`.
pub use serde;

#[doc(hidden)]
pub use crate::patch::read_patch;
pub use crate::{
    backoff::{Backoff, BackoffKind, BackoffState, Jitter},
    budget::{
        Budget, BudgetConfig, BudgetRule, GrpcBudgetConfig, InFlightBudgetConfig, TokenBudgetConfig,
        Withdrawal,
    },
    by_key::{ByKey, ByRef, PerKey, WithKey},
    chance::Chance,
    emitter::Emitter,
    events::Events,
    guarded::Guarded,
    handle::{AsAny, Handle, Health, Held, Prepared},
    keyed::KeyedMap,
    listeners::Listeners,
    live::Live,
    lock::unpoisoned,
    mode::Mode,
    once::{CallOnce, Repeat},
    queue::Queue,
    rare::Rare,
    recorders::{caught, listener_panics},
    registry::{Patched, Registry, RegistryHealth},
    settings::{Changes, Config, Keyed, One, Parts},
    through::{Admits, Finds, ThroughLayer, ThroughService},
    wakers::Wakers,
};
