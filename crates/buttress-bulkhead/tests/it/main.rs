//! The public API of `buttress-bulkhead`, behaviour by behaviour.

mod queue;
