//! The public API of the test kit.

mod metrics;
mod poll;
mod probe;
mod recording;
