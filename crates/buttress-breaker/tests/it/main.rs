//! The breaker through its public API.

mod support;

mod errors;
mod faults;
mod guide;
mod half_open;
mod keyed;
mod leaving;
mod peers;
mod readiness;
mod refusals;
mod registries;
mod seen;
mod settings;
mod shape;
mod siblings;
mod sources;
mod steering;
mod threads;
mod tripping;
mod waits;
mod why;
