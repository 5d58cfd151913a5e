//! The synchronisation primitives, or loom's when models run.

#[cfg(buttress_loom)]
pub(crate) use loom::thread::yield_now as spin_loop;
#[cfg(not(buttress_loom))]
pub(crate) use std::hint::spin_loop;

#[cfg(buttress_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};
#[cfg(not(buttress_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};
