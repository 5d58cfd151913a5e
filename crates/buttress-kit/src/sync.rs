//! The synchronisation primitives of the parts that models check, or loom's when they run.

#[cfg(buttress_loom)]
pub(crate) use loom::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering},
};
#[cfg(not(buttress_loom))]
pub(crate) use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering},
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
