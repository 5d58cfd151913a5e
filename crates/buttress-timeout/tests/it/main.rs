//! The public API of `buttress-timeout`, behaviour by behaviour.
