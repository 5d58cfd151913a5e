//! Answers with the last good answer.

use std::{
    future::{Ready, ready},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    Answer, Capture, Fallback,
    answer::{answer, through},
    store::{Put, Store},
};

/// What is known of a stored answer; handed to the marker of
/// [`FallbackLayer::last_good`](crate::FallbackLayer::last_good).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stale {
    /// The time since the primary gave it.
    pub age: Duration,
}

/// Answers with the last good answer for the same key, marked; made by
/// [`FallbackLayer::last_good`](crate::FallbackLayer::last_good).
pub struct LastGood<K, Res, F, M> {
    store: Arc<Mutex<Store<K, Res>>>,
    closures: Arc<(F, M)>,
}

impl<K: Hash + Eq + Clone, Res, F, M> LastGood<K, Res, F, M> {
    pub(crate) fn new(key: F, mark: M) -> Self {
        Self { store: Arc::new(Mutex::new(Store::new())), closures: Arc::new((key, mark)) }
    }
}

answer!(LastGood<K, Res, F, M> { store, closures });
through!(LastGood<K, Res, F, M>);

impl<K, Res, F, M> LastGood<K, Res, F, M> {
    fn store(&self) -> MutexGuard<'_, Store<K, Res>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Req, K, Res, F: Fn(&Req) -> K, M> Capture<Req> for LastGood<K, Res, F, M> {
    type Captured = K;

    fn capture(&self, req: &Req) -> K {
        (self.closures.0)(req)
    }
}

impl<Res, Err, K, F, M> Answer<K, Res, Err> for LastGood<K, Res, F, M>
where
    Res: Clone,
    K: Hash + Eq + Clone,
    M: Fn(&mut Res, Stale),
{
    type Future = Ready<Result<Res, Err>>;

    fn good(&self, key: K, res: &Res, fallback: &Fallback) {
        let max_keys = fallback.max_keys();
        let res = res.clone();
        let now = Instant::now().into_std();
        // What has to go is dropped, and told, after the lock is given back.
        let Put { replaced, mut evicted } = self.store().put(key, res, now, max_keys);
        drop(replaced);
        while let Some(gone) = evicted {
            drop(gone);
            fallback.tell_evicted();
            evicted = self.store().evict_beyond(max_keys);
        }
    }

    fn answer(
        &self,
        key: K,
        failed: Result<Res, Err>,
        fallback: &Fallback,
    ) -> Result<Self::Future, Result<Res, Err>> {
        let max_age = fallback.max_age();
        let now = Instant::now().into_std();
        let found = self.store().get(&key, now, max_age).map(|(res, age)| (res.clone(), age));
        let Some((mut res, age)) = found else { return Err(failed) };
        (self.closures.1)(&mut res, Stale { age });
        fallback.tell_stale(age);
        Ok(ready(Ok(res)))
    }
}
