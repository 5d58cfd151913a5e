//! The synchronisation primitives of the parts that models check, or loom's when they run.

#[cfg(buttress_loom)]
pub(crate) use loom::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicU32, Ordering},
};
#[cfg(not(buttress_loom))]
pub(crate) use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

/// A value of each thread, made without code, so that looking at it is cheap. Loom has no form for that.
macro_rules! local {
    ($name:ident: $of:ty = $init:expr) => {
        #[cfg(not(buttress_loom))]
        std::thread_local!(static $name: $of = const { $init });
        #[cfg(buttress_loom)]
        loom::thread_local!(static $name: $of = $init);
    };
}
pub(crate) use local;

use std::sync::{LockResult, PoisonError};

/// What is behind a lock, though somebody panicked who held it: no panic here leaves the data half-done.
pub(crate) fn unpoisoned<T>(locked: LockResult<T>) -> T {
    locked.unwrap_or_else(PoisonError::into_inner)
}
