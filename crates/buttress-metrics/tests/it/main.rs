//! The public API of `buttress-metrics`, behaviour by behaviour.
