//! Answers with the last good answer.

use std::{
    future::{Ready, ready},
    hash::Hash,
    sync::Arc,
    time::{Duration, Instant as StdInstant},
};

use buttress_kit::{KeyedMap, keyed::Keeper};
use tokio::time::Instant;

use crate::{
    Answer, Capture, Decide, Fallback,
    answer::{answer, through},
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
    stored: Arc<KeyedMap<K, Stored<Res>>>,
    closures: Arc<(F, M)>,
}

struct Stored<Res> {
    res: Res,
    since: StdInstant,
}

impl<K, Res, F, M> LastGood<K, Res, F, M> {
    pub(crate) fn new(max_keys: usize, key: F, mark: M) -> Self {
        let stored = KeyedMap::new(max_keys, None, Instant::now().into_std());
        Self { stored: Arc::new(stored), closures: Arc::new((key, mark)) }
    }
}

answer!(LastGood<K, Res, F, M> { stored, closures });
through!(LastGood<K, Res, F, M>);

/// Tells of the answers that had to go to make room.
struct Evicted<'a>(&'a Fallback);

impl<V> Keeper<V> for Evicted<'_> {
    fn went(&self, value: V) {
        drop(value);
        self.0.tell_evicted();
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
    K: Hash + Eq,
    M: Fn(&mut Res, Stale),
{
    type Future = Ready<Result<Res, Err>>;

    fn good(&self, key: K, res: &Res, fallback: &Fallback) {
        let since = Instant::now().into_std();
        let stored = Stored { res: res.clone(), since };
        self.stored.set_max(fallback.max_keys());
        // There is always room: no answer has to stay.
        drop(self.stored.put(key, stored, &Evicted(fallback), since));
    }

    fn answer<C: Decide<Res, Err>>(
        &self,
        key: K,
        failed: Result<Res, Err>,
        fallback: &Fallback,
        _decide: &C,
    ) -> Result<Self::Future, Result<Res, Err>> {
        let (now, max_age) = (Instant::now().into_std(), fallback.max_age());
        let found = self.stored.find(&key, |stored| {
            let age = now.saturating_duration_since(stored.since);
            (age <= max_age).then(|| (stored.res.clone(), age))
        });
        let Some((mut res, age)) = found else { return Err(failed) };
        (self.closures.1)(&mut res, Stale { age });
        fallback.tell_stale(age);
        Ok(ready(Ok(res)))
    }
}
