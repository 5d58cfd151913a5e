//! The public API of `buttress-retry`, behaviour by behaviour.
