//! The breaker through its public API.

mod support;

mod half_open;
mod readiness;
mod steering;
mod tripping;
