//! Behaviour of the retry policy over its public API.

mod attempts;
mod budget;
mod classify;
mod context;
mod contract;
mod ended;
mod events;
mod handle;
mod hints;
mod in_flight;
mod model;
mod sent;
mod settings;
mod strategies;
mod support;
