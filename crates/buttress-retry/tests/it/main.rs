//! Behaviour of the retry policy over its public API.

mod attempts;
mod support;
