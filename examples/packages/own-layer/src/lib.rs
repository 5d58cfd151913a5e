//! A layer that buttress does not have, by somebody else: it refuses calls while too many are under way, for a whole
//! service or for each key.
//!
//! It is written on the words of `buttress-core` and the mechanism of `buttress-kit`, and everything else treats it as
//! one of ours without a change: metrics export its table, logs have its line under the target `buttress::turnstile`,
//! HTTP answers its code with 429, and a registry lists, patches and resets it.
//!
//! ```
//! # tokio_test::block_on(async {
//! use own_layer::{FULL, Turnstile};
//! use tower::{BoxError, Layer, ServiceExt, service_fn};
//! use buttress_core::FromRejection;
//!
//! let turnstile = Turnstile::builder("search").max_in_flight(1).build()?;
//! let slow = service_fn(|n: u32| async move { std::future::pending::<Result<u32, BoxError>>().await });
//! let search = turnstile.layer().layer(slow);
//! let first = search.clone().oneshot(1);
//! let mut first = tokio_test::task::spawn(first);
//! assert!(first.poll().is_pending());
//! let refused = search.oneshot(2).await.unwrap_err();
//! assert_eq!(refused.rejection().unwrap().code(), FULL);
//! # Ok::<_, BoxError>(()) }).unwrap();
//! ```
//!
//! A *through* layer: readiness is the inner service's own.
//!
//! | setting | default | |
//! |---|---|---|
//! | `max_in_flight` | 100 | the most calls under way at once |
//! | `mode` | `enforce` | or `shadow`: only counts what it would refuse |
//! | `max_keys` | 10 000 | by key: the most keys at a time |
//! | `idle_for` | 10 min | by key: a key that was not used for so long may be forgotten |

mod config;
mod kind;
mod turnstile;

pub use crate::{
    config::{TurnstileBuilder, TurnstileConfig},
    kind::{FULL, KEYED, KIND},
    turnstile::{
        KeyedTurnstile, Turnstile, TurnstileFuture, TurnstileLayer, TurnstileService, TurnstileSnapshot,
    },
};
