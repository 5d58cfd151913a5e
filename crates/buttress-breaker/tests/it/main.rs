//! The breaker through its public API.

mod support;

mod faults;
mod half_open;
mod peers;
mod readiness;
mod sources;
mod steering;
mod tripping;
