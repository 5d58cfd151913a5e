//! The synchronisation primitives of the part that models check, or loom's when they run.

#[cfg(buttress_loom)]
pub(crate) use loom::{
    sync::atomic::{AtomicU64, Ordering},
    thread::yield_now as spin_loop,
};
#[cfg(not(buttress_loom))]
pub(crate) use std::{
    hint::spin_loop,
    sync::atomic::{AtomicU64, Ordering},
};
