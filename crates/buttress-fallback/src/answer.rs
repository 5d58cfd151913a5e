//! What a fallback answers with: a value, or what a function makes of the failure.

use std::{
    future::{Ready, ready},
    pin::Pin,
    sync::Arc,
};

use buttress_core::Replay;

use crate::{Decide, Fallback, sealed::Sealed};

/// How the service is ready: what the layer puts between itself and the service it wraps. Sealed.
pub trait Readiness: Sealed {
    /// The service as it is called.
    type Inner<S>;

    /// Puts it there.
    fn readied<S>(inner: S) -> Self::Inner<S>;
}

/// What an answer takes from the request before the call. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no answer to `{Req}`",
    note = "a fallback layer needs an answer: `.value(..)`, `.answer_with(..)`, `.answer_for(..)`, `.service(..)` or `.last_good(..)`",
    note = "`answer_for` and `service` need a request that is `Clone`, or `.replay_with(..)`"
)]
pub trait Capture<Req>: Sealed {
    /// What is held while the primary runs.
    type Captured;

    /// Takes it from the request. Runs before every call.
    fn capture(&self, req: &Req) -> Self::Captured;
}

/// The failure that a fallback answers for.
#[derive(Debug)]
pub enum First<Err> {
    /// An error.
    Error(Err),
    /// What is said of an answer that is held for a failure. The answer itself may hold a connection.
    Answer(String),
}

/// An answer on its way. Sealed.
pub trait Answering<Err>: Sealed {
    /// Takes the failure that it answers for, if it has kept that.
    fn first(self: Pin<&mut Self>) -> Option<First<Err>>;
}

impl<T> Sealed for Ready<T> {}

/// An answer that is there at once was made of the failure, or in its place.
impl<T, Err> Answering<Err> for Ready<T> {
    #[inline]
    fn first(self: Pin<&mut Self>) -> Option<First<Err>> {
        None
    }
}

/// What a fallback answers with. Sealed: bring a value, a function or a service.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not answer with `{Res}`",
    note = "the answer must have the response and the error type of the service; `value` and `last_good` need a response that is `Clone`"
)]
pub trait Answer<Captured, Res, Err>: Sealed {
    /// The answer on its way.
    type Future: Future<Output = Result<Res, Err>> + Answering<Err>;

    /// Told of a good answer of the primary.
    #[inline]
    fn good(&self, captured: Captured, res: &Res, fallback: &Fallback) {
        let _ = (captured, res, fallback);
    }

    /// Answers a failure, which was found to be one by `decide`.
    ///
    /// # Errors
    /// Gives the failure back if there is no answer.
    fn answer<C: Decide<Res, Err>>(
        &self,
        captured: Captured,
        failed: Result<Res, Err>,
        fallback: &Fallback,
        decide: &C,
    ) -> Result<Self::Future, Result<Res, Err>>;
}

/// What all answers have. They are cloned whatever they hold, because that is shared; and nothing of it is shown,
/// because it may be no matter for logs.
macro_rules! answer {
    ($Name:ident <$($P:ident $(: $Bound:ident)?),*> { $($field:ident),* }) => {
        impl<$($P),*> $crate::sealed::Sealed for $Name<$($P),*> {}

        impl<$($P $(: $Bound)?),*> Clone for $Name<$($P),*> {
            fn clone(&self) -> Self {
                Self { $($field: self.$field.clone()),* }
            }
        }

        impl<$($P),*> std::fmt::Debug for $Name<$($P),*> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($Name), "(..)"))
            }
        }
    };
}

/// The inner service's own readiness.
macro_rules! through {
    ($Name:ident $(<$($P:ident),*>)?) => {
        impl $(<$($P),*>)? $crate::Readiness for $Name $(<$($P),*>)? {
            type Inner<S> = S;

            fn readied<S>(inner: S) -> S {
                inner
            }
        }
    };
}

pub(crate) use {answer, through};

/// No answer yet: what [`Fallback::layer`] starts with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoAnswer;

impl Sealed for NoAnswer {}
through!(NoAnswer);

/// Answers with a clone of a value; made by [`FallbackLayer::value`](crate::FallbackLayer::value).
pub struct Value<V> {
    value: Arc<V>,
}

impl<V> Value<V> {
    pub(crate) fn new(value: V) -> Self {
        Self { value: Arc::new(value) }
    }
}

answer!(Value<V> { value });
through!(Value<V>);

impl<Req, V> Capture<Req> for Value<V> {
    type Captured = ();

    #[inline]
    fn capture(&self, _req: &Req) {}
}

impl<Res: Clone, Err> Answer<(), Res, Err> for Value<Res> {
    type Future = Ready<Result<Res, Err>>;

    fn answer<C: Decide<Res, Err>>(
        &self,
        (): (),
        _failed: Result<Res, Err>,
        _fallback: &Fallback,
        _decide: &C,
    ) -> Result<Self::Future, Result<Res, Err>> {
        Ok(ready(Ok(Res::clone(&self.value))))
    }
}

/// Answers with what a function makes of the failure; made by
/// [`FallbackLayer::answer_with`](crate::FallbackLayer::answer_with).
pub struct With<F> {
    answer: Arc<F>,
}

impl<F> With<F> {
    pub(crate) fn new(answer: F) -> Self {
        Self { answer: Arc::new(answer) }
    }
}

answer!(With<F> { answer });
through!(With<F>);

impl<Req, F> Capture<Req> for With<F> {
    type Captured = ();

    #[inline]
    fn capture(&self, _req: &Req) {}
}

impl<Res, Err, F> Answer<(), Res, Err> for With<F>
where
    F: Fn(Result<Res, Err>) -> Result<Res, Err>,
{
    type Future = Ready<Result<Res, Err>>;

    fn answer<C: Decide<Res, Err>>(
        &self,
        (): (),
        failed: Result<Res, Err>,
        _fallback: &Fallback,
        _decide: &C,
    ) -> Result<Self::Future, Result<Res, Err>> {
        Ok(ready((self.answer)(failed)))
    }
}

/// Answers with what a function makes of the request and the failure; made by
/// [`FallbackLayer::answer_for`](crate::FallbackLayer::answer_for).
pub struct ForRequest<F, R> {
    answer: Arc<F>,
    replay: R,
}

impl<F, R> ForRequest<F, R> {
    pub(crate) fn new(answer: F, replay: R) -> Self {
        Self { answer: Arc::new(answer), replay }
    }

    pub(crate) fn replaying<T>(self, replay: T) -> ForRequest<F, T> {
        ForRequest { answer: self.answer, replay }
    }
}

answer!(ForRequest<F, R: Clone> { answer, replay });
through!(ForRequest<F, R>);

impl<Req, F, R: Replay<Req>> Capture<Req> for ForRequest<F, R> {
    type Captured = Option<Req>;

    fn capture(&self, req: &Req) -> Option<Req> {
        self.replay.save(req)
    }
}

impl<Req, Res, Err, F, R> Answer<Option<Req>, Res, Err> for ForRequest<F, R>
where
    F: Fn(&Req, Result<Res, Err>) -> Result<Res, Err>,
{
    type Future = Ready<Result<Res, Err>>;

    fn answer<C: Decide<Res, Err>>(
        &self,
        captured: Option<Req>,
        failed: Result<Res, Err>,
        _fallback: &Fallback,
        _decide: &C,
    ) -> Result<Self::Future, Result<Res, Err>> {
        match captured {
            Some(req) => Ok(ready((self.answer)(&req, failed))),
            None => Err(failed),
        }
    }
}
