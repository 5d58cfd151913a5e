//! The mechanism that the patterns of buttress share, so that each of them is written once.
//!
//! It is public for people who write a layer of their own: `examples/packages/own-layer` is one. It may change
//! before 1.0; the words in `buttress-core` change less. Users of the patterns find what they need of it in the
//! facade `buttress`.
//!
//! - [`queue`]: callers that wait in order, and why no wake-up is lost. [`Wakers`]: those who wait for one thing.
//! - [`KeyedMap`]: values by key, at most so many, the one not used for longest first to go.
//! - [`Backoff`], [`Budget`], [`Chance`]: waits, how many retries, seeded randomness. Plain data: `now` is passed in.
//! - [`duration`]: times in settings files. [`unpoisoned`]: locks that a panic does not close.
//! - [`CallOnce`], [`Repeat`]: closures as services.

mod backoff;
mod budget;
mod chance;
pub mod duration;
pub mod keyed;
mod list;
mod lock;
mod once;
pub mod queue;
mod sync;
pub mod wakers;

pub use crate::{
    backoff::{Backoff, BackoffKind, BackoffState, Jitter},
    budget::{Budget, BudgetConfig, TokenBudgetConfig},
    chance::Chance,
    keyed::KeyedMap,
    lock::unpoisoned,
    once::{CallOnce, Repeat},
    queue::Queue,
    wakers::Wakers,
};
