use std::{fmt, pin::Pin};

/// What few calls need, in a box: the timer of a wait, an answer that is kept back. A call without it takes one look
/// to drop it.
pub struct Rare<T>(Option<There<T>>);

/// Never `None` but while it is dropped.
struct There<T>(Option<Pin<Box<T>>>);

impl<T> Rare<T> {
    /// Not there.
    pub const NONE: Self = Self(None);

    /// Puts `value` there, and drops what was there.
    pub fn set(&mut self, value: T) -> Pin<&mut T> {
        let There(there) = self.0.insert(There(None));
        there.insert(Box::pin(value)).as_mut()
    }

    /// It; made first if it is not there.
    pub fn get_or_set(&mut self, make: impl FnOnce() -> T) -> Pin<&mut T> {
        let There(there) = self.0.get_or_insert(There(None));
        there.get_or_insert_with(|| Box::pin(make())).as_mut()
    }

    /// Whether it is there.
    #[inline]
    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// It, if it is there.
    pub fn get(&self) -> Option<&T> {
        self.0.as_ref()?.0.as_deref()
    }

    /// It, if it is there.
    pub fn get_mut(&mut self) -> Option<Pin<&mut T>> {
        self.0.as_mut()?.0.as_mut().map(Pin::as_mut)
    }

    /// Drops it.
    pub fn clear(&mut self) {
        self.0 = None;
    }

    /// Takes it out.
    pub fn take(&mut self) -> Option<Pin<Box<T>>> {
        self.0.take()?.0.take()
    }
}

impl<T> Drop for There<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(there) = self.0.take() {
            drop_rare(there);
        }
    }
}

// Cold, out of the way of what every call drops: 8 instructions of row `retry` in docs/benchmarks.md.
#[cold]
fn drop_rare<T>(there: Pin<Box<T>>) {
    drop(there);
}

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self::NONE
    }
}

impl<T: fmt::Debug> fmt::Debug for Rare<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.get(), f)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_is_there_is_found_and_dropped_once_on_every_way_out() {
        let kept = Arc::new(7);
        let mut rare = Rare::NONE;
        assert!(!rare.is_some() && rare.get().is_none() && rare.get_mut().is_none());

        assert_eq!(**rare.set(kept.clone()), 7);
        assert!(rare.is_some() && rare.get() == Some(&kept));
        assert_eq!(Arc::strong_count(&kept), 2);
        rare.set(kept.clone());
        assert_eq!(Arc::strong_count(&kept), 2);
        rare.clear();
        assert!(!rare.is_some());
        assert_eq!(Arc::strong_count(&kept), 1);

        rare.set(kept.clone());
        let taken = rare.take();
        assert!(!rare.is_some() && taken.is_some());
        drop(taken);
        assert_eq!(Arc::strong_count(&kept), 1);

        rare.set(kept.clone());
        drop(rare);
        assert_eq!(Arc::strong_count(&kept), 1);
    }

    #[test]
    fn it_is_made_only_if_it_is_not_there() {
        let mut rare = Rare::default();
        *rare.get_or_set(|| 1) = 2;
        assert_eq!(*rare.get_or_set(|| 3), 2);
    }
}
