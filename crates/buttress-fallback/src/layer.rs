use std::{fmt, hash::Hash, sync::Arc};

use buttress_core::{ByClone, ByFn, Standard, Verdict};
use tower_layer::Layer;

use crate::{
    ByService, Classified, Fallback, FallbackService, ForRequest, HandleIf, LastGood, NoAnswer, Readiness,
    Stale, Value, With, future::Plan,
};

/// Answers for every service it wraps when that fails; made by [`Fallback::layer`].
///
/// `A` is the answer, `C` says what is handled.
#[derive(Clone)]
pub struct FallbackLayer<A = NoAnswer, C = Standard> {
    fallback: Fallback,
    answer: A,
    decide: C,
}

impl Fallback {
    /// A layer that has yet to be told what to answer, such as [`.value(..)`](FallbackLayer::value).
    pub fn layer(&self) -> FallbackLayer {
        FallbackLayer::new(self.clone(), NoAnswer, Standard)
    }
}

impl<A, C> FallbackLayer<A, C> {
    fn new(fallback: Fallback, answer: A, decide: C) -> Self {
        Self { fallback, answer, decide }
    }

    /// Answers with a clone of `value`.
    pub fn value<Res: Clone>(self, value: Res) -> FallbackLayer<Value<Res>, C> {
        self.with_answer(Value::new(value))
    }

    /// Answers with what `answer` makes of the failure: a response, or another error.
    ///
    /// The failure is an `Err`, or a response that the classifier calls one.
    pub fn answer_with<Res, Err, F>(self, answer: F) -> FallbackLayer<With<F>, C>
    where
        F: Fn(Result<Res, Err>) -> Result<Res, Err>,
    {
        self.with_answer(With::new(answer))
    }

    /// Answers with what `answer` makes of the request and the failure. The request is cloned before each call;
    /// see [`replay_with`](FallbackLayer::replay_with) if it cannot be.
    ///
    /// ```
    /// # mod buttress { pub use {buttress_core::*, buttress_fallback::*}; }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use buttress::{BoxError, Fallback};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// let layer = Fallback::builder("names").build()?.layer();
    /// let layer = layer.answer_for(|id: &u32, failed| failed.or(Ok(format!("user {id}"))));
    /// let svc = layer.layer(service_fn(|_: u32| async { Err::<String, BoxError>("down".into()) }));
    /// assert_eq!(svc.oneshot(7).await.unwrap(), "user 7");
    /// # Ok(())
    /// # }
    /// ```
    pub fn answer_for<Req, Res, Err, F>(self, answer: F) -> FallbackLayer<ForRequest<F, ByClone>, C>
    where
        F: Fn(&Req, Result<Res, Err>) -> Result<Res, Err>,
    {
        self.with_answer(ForRequest::new(answer, ByClone))
    }

    /// Answers with another service, to which the request is sent again. The layer is an *owning* one then: see
    /// the first page.
    ///
    /// The request is cloned before each call; see [`replay_with`](FallbackLayer::replay_with) if it cannot be.
    /// Send it again only if the first one may have taken effect without harm.
    pub fn service<B>(self, backup: B) -> FallbackLayer<ByService<B, ByClone>, C> {
        self.with_answer(ByService::new(backup, ByClone))
    }

    /// Answers with the last good answer that was given for the same key, no older than `max_age`, after `mark`
    /// has marked it as stale. At most `max_keys` answers are stored; all services of this layer share them.
    ///
    /// Put into the key whatever the answer depends on: the user too, if it is about the user. An answer
    /// that is given again stays as old as it is.
    ///
    /// ```
    /// # mod buttress { pub use {buttress_core::*, buttress_fallback::*}; }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    /// use std::time::Duration;
    ///
    /// use buttress::{BoxError, Fallback, Stale};
    /// use tower::{Layer, Service, ServiceExt, service_fn};
    ///
    /// #[derive(Clone, Debug, PartialEq)]
    /// struct Price {
    ///     cents: u32,
    ///     stale_for: Option<Duration>,
    /// }
    ///
    /// static DOWN: AtomicBool = AtomicBool::new(false);
    /// let upstream = service_fn(|_item: &'static str| async {
    ///     if DOWN.load(Relaxed) { Err::<Price, BoxError>("down".into()) } else { Ok(Price { cents: 95, stale_for: None }) }
    /// });
    /// let mut svc = Fallback::builder("prices")
    ///     .max_age(Duration::from_secs(60))
    ///     .build()?
    ///     .layer()
    ///     .last_good(|item: &&'static str| *item, |price: &mut Price, stale: Stale| price.stale_for = Some(stale.age))
    ///     .layer(upstream);
    ///
    /// assert_eq!(svc.ready().await.unwrap().call("apple").await.unwrap().stale_for, None);
    /// DOWN.store(true, Relaxed);
    /// tokio::time::advance(Duration::from_secs(10)).await;
    /// let price = svc.ready().await.unwrap().call("apple").await.unwrap();
    /// assert_eq!((price.cents, price.stale_for), (95, Some(Duration::from_secs(10))));
    /// assert!(svc.ready().await.unwrap().call("pear").await.is_err()); // nobody else's answer
    /// # Ok(())
    /// # }
    /// ```
    pub fn last_good<Req, K, Res, F, M>(self, key: F, mark: M) -> FallbackLayer<LastGood<K, Res, F, M>, C>
    where
        F: Fn(&Req) -> K,
        K: Hash + Eq + Clone,
        Res: Clone,
        M: Fn(&mut Res, Stale),
    {
        let last_good = LastGood::new(self.fallback.max_keys(), key, mark);
        self.with_answer(last_good)
    }

    fn with_answer<T>(self, answer: T) -> FallbackLayer<T, C> {
        FallbackLayer::new(self.fallback, answer, self.decide)
    }

    /// Handles what `classifier` calls a failure, and rejections.
    pub fn classify<T>(self, classifier: T) -> FallbackLayer<A, Classified<T>> {
        FallbackLayer::new(self.fallback, self.answer, Classified(classifier))
    }

    /// The same with a closure.
    pub fn classify_with<Res, Err, F>(self, classifier: F) -> FallbackLayer<A, Classified<F>>
    where
        F: Fn(Result<&Res, &Err>) -> Verdict,
    {
        self.classify(classifier)
    }

    /// Handles exactly the outcomes that `rule` says yes to, whatever they are.
    pub fn handle_with<Res, Err, F>(self, rule: F) -> FallbackLayer<A, HandleIf<F>>
    where
        F: Fn(Result<&Res, &Err>) -> bool,
    {
        FallbackLayer::new(self.fallback, self.answer, HandleIf::new(rule))
    }

    /// Puts this fallback around one service: `layer()` applied to it.
    pub fn wrap<S>(&self, inner: S) -> FallbackService<A::Inner<S>, A, C>
    where
        A: Readiness + Clone,
        C: Clone,
    {
        self.layer(inner)
    }

    /// The handle of the fallback in this layer.
    pub fn handle(&self) -> &Fallback {
        &self.fallback
    }
}

impl<F, R, C> FallbackLayer<ForRequest<F, R>, C> {
    /// Has the request again by another [`Replay`](buttress_core::Replay) than `Clone`. One that cannot be had
    /// again is not answered for.
    pub fn replay<T>(self, replay: T) -> FallbackLayer<ForRequest<F, T>, C> {
        FallbackLayer::new(self.fallback, self.answer.replaying(replay), self.decide)
    }

    /// The same with a closure.
    pub fn replay_with<Req, G>(self, save: G) -> FallbackLayer<ForRequest<F, ByFn<G>>, C>
    where
        G: Fn(&Req) -> Option<Req>,
    {
        self.replay(ByFn(save))
    }
}

impl<B, R, C> FallbackLayer<ByService<B, R>, C> {
    /// Has the request again by another [`Replay`](buttress_core::Replay) than `Clone`. One that cannot be had
    /// again is not answered for.
    pub fn replay<T>(self, replay: T) -> FallbackLayer<ByService<B, T>, C> {
        FallbackLayer::new(self.fallback, self.answer.replaying(replay), self.decide)
    }

    /// The same with a closure.
    pub fn replay_with<Req, G>(self, save: G) -> FallbackLayer<ByService<B, ByFn<G>>, C>
    where
        G: Fn(&Req) -> Option<Req>,
    {
        self.replay(ByFn(save))
    }
}

/// By hand, because closures are not `Debug`, and an answer may hold what is not for logs.
impl<A, C> fmt::Debug for FallbackLayer<A, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackLayer").field("fallback", &self.fallback).finish_non_exhaustive()
    }
}

impl<S, A, C> Layer<S> for FallbackLayer<A, C>
where
    A: Readiness + Clone,
    C: Clone,
{
    type Service = FallbackService<A::Inner<S>, A, C>;

    fn layer(&self, inner: S) -> Self::Service {
        // What is stored lives behind the answer's own `Arc`: every service made here shares it.
        let plan = Plan {
            fallback: self.fallback.clone(),
            answer: self.answer.clone(),
            decide: self.decide.clone(),
        };
        FallbackService { inner: A::readied(inner), plan: Arc::new(plan) }
    }
}
