//! The public API of `buttress-http`, behaviour by behaviour.
