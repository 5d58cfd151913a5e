//! The public API of `buttress-bulkhead`, behaviour by behaviour.

mod config;
mod contract;
mod events;
mod handle;
mod limit;
mod model;
mod queue;
mod support;
