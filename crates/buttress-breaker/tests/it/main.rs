//! The public API of `buttress-breaker`, behaviour by behaviour.
