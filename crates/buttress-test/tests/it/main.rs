//! The public API of `buttress-test`, behaviour by behaviour.
