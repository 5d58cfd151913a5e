//! Shuts after so many failures, until it is reset.
//!
//! A *through* layer: readiness is the inner service's own.

mod config;
mod kind;
mod toy;

pub use crate::{
    config::{ToyBuilder, ToyConfig},
    kind::{KIND, SHUT},
    toy::{Toy, ToyFuture, ToyLayer, ToyService, ToySnapshot},
};
