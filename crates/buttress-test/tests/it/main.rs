//! The public API of the test kit.

mod broken;
mod core;
mod metrics;
mod poll;
mod probe;
mod recording;
mod tower;
