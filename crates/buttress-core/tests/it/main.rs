//! The public API of `buttress-core`, behaviour by behaviour.
