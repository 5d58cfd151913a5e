//! Locks that a panic does not close.

use std::sync::{LockResult, PoisonError};

/// What is behind a lock, though somebody panicked who held it.
///
/// For data that is whole at every moment at which other people's code runs under the lock: then a panic leaves it
/// as it was, and nobody else should have to pay for it.
///
/// ```
/// use std::sync::Mutex;
/// use buttress_kit::unpoisoned;
///
/// let count = Mutex::new(1);
/// let panic = std::panic::catch_unwind(|| {
///     let _held = count.lock();
///     panic!("somebody else's code");
/// });
/// assert!(panic.is_err() && count.is_poisoned());
/// assert_eq!(*unpoisoned(count.lock()), 1);
/// ```
#[inline]
pub fn unpoisoned<T>(locked: LockResult<T>) -> T {
    locked.unwrap_or_else(PoisonError::into_inner)
}
