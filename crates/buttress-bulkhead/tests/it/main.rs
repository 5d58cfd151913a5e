//! The public API of `buttress-bulkhead`, behaviour by behaviour.

mod config;
mod contract;
mod events;
mod handle;
mod levels;
mod limit;
mod model;
mod queue;
mod support;
