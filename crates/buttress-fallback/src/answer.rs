use std::{
    fmt,
    future::{Ready, ready},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use buttress_core::{ReadyInCall, ReadyInCallFuture, Replay};
use tokio::time::Instant;
use tower_service::Service;

use crate::{
    Fallback,
    store::{Put, Store},
};

/// How readiness is had: what the layer puts between itself and the service it wraps.
pub trait Readiness {
    /// The service as it is called.
    type Inner<S>;

    /// Puts it there.
    fn readied<S>(inner: S) -> Self::Inner<S>;
}

/// What an answer needs of the request.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no answer to `{Req}`",
    note = "a fallback layer needs an answer: `.value(..)`, `.answer_with(..)`, `.answer_for(..)`, `.service(..)` or `.last_good(..)`",
    note = "`answer_for` and `service` need a request that is `Clone`, or `.replay_with(..)`"
)]
pub trait Capture<Req> {
    /// What is kept while the primary runs.
    type Kept;

    /// Takes it from the request. Runs before every call.
    fn capture(&self, req: &Req) -> Self::Kept;
}

/// What a fallback answers with.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not answer with `{Res}`",
    note = "the answer must have the response and the error type of the service; `value` and `last_good` need a response that is `Clone`"
)]
pub trait Answer<Kept, Res, Err> {
    /// The answer on its way.
    type Future: Future<Output = Result<Res, Err>>;

    /// Told of a good answer of the primary.
    #[inline]
    fn good(&self, kept: Kept, res: &Res, fallback: &Fallback) {
        let _ = (kept, res, fallback);
    }

    /// Answers a failure.
    ///
    /// # Errors
    /// Gives the failure back where there is no answer.
    fn answer(
        &self,
        kept: Kept,
        failed: Result<Res, Err>,
        fallback: &Fallback,
    ) -> Result<Self::Future, Result<Res, Err>>;
}

/// Keeps nothing of the request.
macro_rules! keeps_nothing {
    ($($param:ident),*; $name:ty) => {
        impl<Req, $($param),*> Capture<Req> for $name {
            type Kept = ();

            #[inline]
            fn capture(&self, _req: &Req) {}
        }
    };
}

macro_rules! through {
    ($($param:ident),*; $name:ty) => {
        impl<$($param),*> Readiness for $name {
            type Inner<S> = S;

            fn readied<S>(inner: S) -> S {
                inner
            }
        }
    };
}

/// No answer yet: what [`Fallback::layer`] starts with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoAnswer;

through!(; NoAnswer);

/// Answers with a clone of a value; made by [`FallbackLayer::value`](crate::FallbackLayer::value).
pub struct Value<V>(Arc<V>);

impl<V> Value<V> {
    pub(crate) fn new(value: V) -> Self {
        Self(Arc::new(value))
    }
}

impl<V> Clone for Value<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V> fmt::Debug for Value<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(..)")
    }
}

through!(V; Value<V>);
keeps_nothing!(V; Value<V>);

impl<Res: Clone, Err> Answer<(), Res, Err> for Value<Res> {
    type Future = Ready<Result<Res, Err>>;

    fn answer(
        &self,
        (): (),
        _failed: Result<Res, Err>,
        _fallback: &Fallback,
    ) -> Result<Self::Future, Result<Res, Err>> {
        Ok(ready(Ok(Res::clone(&self.0))))
    }
}

/// Answers with what a function makes of the failure; made by
/// [`FallbackLayer::answer_with`](crate::FallbackLayer::answer_with).
pub struct With<F>(Arc<F>);

impl<F> With<F> {
    pub(crate) fn new(answer: F) -> Self {
        Self(Arc::new(answer))
    }
}

impl<F> Clone for With<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F> fmt::Debug for With<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("With(..)")
    }
}

through!(F; With<F>);
keeps_nothing!(F; With<F>);

impl<Res, Err, F> Answer<(), Res, Err> for With<F>
where
    F: Fn(Result<Res, Err>) -> Result<Res, Err>,
{
    type Future = Ready<Result<Res, Err>>;

    fn answer(
        &self,
        (): (),
        failed: Result<Res, Err>,
        _fallback: &Fallback,
    ) -> Result<Self::Future, Result<Res, Err>> {
        Ok(ready(self.0(failed)))
    }
}

/// Answers with what a function makes of the request and the failure; made by
/// [`FallbackLayer::answer_for`](crate::FallbackLayer::answer_for).
pub struct ForRequest<F, R> {
    answer: Arc<F>,
    pub(crate) replay: R,
}

impl<F, R> ForRequest<F, R> {
    pub(crate) fn new(answer: F, replay: R) -> Self {
        Self { answer: Arc::new(answer), replay }
    }

    pub(crate) fn replaying<T>(self, replay: T) -> ForRequest<F, T> {
        ForRequest { answer: self.answer, replay }
    }
}

impl<F, R: Clone> Clone for ForRequest<F, R> {
    fn clone(&self) -> Self {
        Self { answer: self.answer.clone(), replay: self.replay.clone() }
    }
}

impl<F, R> fmt::Debug for ForRequest<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ForRequest(..)")
    }
}

through!(F, R; ForRequest<F, R>);

impl<Req, F, R: Replay<Req>> Capture<Req> for ForRequest<F, R> {
    type Kept = Option<Req>;

    fn capture(&self, req: &Req) -> Option<Req> {
        self.replay.save(req)
    }
}

impl<Req, Res, Err, F, R> Answer<Option<Req>, Res, Err> for ForRequest<F, R>
where
    F: Fn(&Req, Result<Res, Err>) -> Result<Res, Err>,
{
    type Future = Ready<Result<Res, Err>>;

    fn answer(
        &self,
        kept: Option<Req>,
        failed: Result<Res, Err>,
        _fallback: &Fallback,
    ) -> Result<Self::Future, Result<Res, Err>> {
        match kept {
            Some(req) => Ok(ready((self.answer)(&req, failed))),
            None => Err(failed),
        }
    }
}

/// Answers with another service; made by [`FallbackLayer::service`](crate::FallbackLayer::service).
pub struct ByService<B, R> {
    // Locked only to clone it when it is needed. Boxed services are often not `Sync`; this is.
    backup: Arc<Mutex<B>>,
    pub(crate) replay: R,
}

impl<B, R> ByService<B, R> {
    pub(crate) fn new(backup: B, replay: R) -> Self {
        Self { backup: Arc::new(Mutex::new(backup)), replay }
    }

    pub(crate) fn replaying<T>(self, replay: T) -> ByService<B, T> {
        ByService { backup: self.backup, replay }
    }
}

impl<B, R: Clone> Clone for ByService<B, R> {
    fn clone(&self) -> Self {
        Self { backup: self.backup.clone(), replay: self.replay.clone() }
    }
}

impl<B, R> fmt::Debug for ByService<B, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByService(..)")
    }
}

impl<B, R> Readiness for ByService<B, R> {
    type Inner<S> = ReadyInCall<S>;

    fn readied<S>(inner: S) -> ReadyInCall<S> {
        ReadyInCall::new(inner)
    }
}

impl<Req, B, R: Replay<Req>> Capture<Req> for ByService<B, R> {
    type Kept = Option<Req>;

    fn capture(&self, req: &Req) -> Option<Req> {
        self.replay.save(req)
    }
}

impl<Req, Res, Err, B, R> Answer<Option<Req>, Res, Err> for ByService<B, R>
where
    B: Service<Req, Response = Res, Error = Err> + Clone,
{
    type Future = ReadyInCallFuture<B, Req>;

    fn answer(
        &self,
        kept: Option<Req>,
        failed: Result<Res, Err>,
        _fallback: &Fallback,
    ) -> Result<Self::Future, Result<Res, Err>> {
        match kept {
            Some(req) => Ok(ReadyInCallFuture::new(unpoisoned(&self.backup).clone(), req)),
            None => Err(failed),
        }
    }
}

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

impl<K, Res, F, M> Clone for LastGood<K, Res, F, M> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), closures: self.closures.clone() }
    }
}

impl<K, Res, F, M> fmt::Debug for LastGood<K, Res, F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LastGood(..)")
    }
}

through!(K, Res, F, M; LastGood<K, Res, F, M>);

impl<Req, K, Res, F: Fn(&Req) -> K, M> Capture<Req> for LastGood<K, Res, F, M> {
    type Kept = K;

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
        let Put { replaced, mut evicted } = unpoisoned(&self.store).put(key, res, now, max_keys);
        drop(replaced);
        while let Some(gone) = evicted {
            drop(gone);
            fallback.note_evicted();
            evicted = unpoisoned(&self.store).evict_beyond(max_keys);
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
        let found = unpoisoned(&self.store).get(&key, now, max_age).map(|(res, age)| (res.clone(), age));
        let Some((mut res, age)) = found else { return Err(failed) };
        (self.closures.1)(&mut res, Stale { age });
        fallback.note_stale(age);
        Ok(ready(Ok(res)))
    }
}

/// Foreign code that runs under these locks is `Clone`, `Hash` and `Eq`; a panic in them changes nothing.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
