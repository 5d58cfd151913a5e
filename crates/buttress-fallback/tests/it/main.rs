//! The public API of `buttress-fallback`, behaviour by behaviour.
