//! What a layer lets one replace: where the limit comes from, and what the caller gets when the time is up.

use std::{fmt, time::Duration};

use buttress_core::{ByFn, FromRejection, Rejection};

/// Says how long one request may take.
pub trait LimitOf<Req> {
    /// The limit of this request. `None`: the configured one. Zero: only an answer that is there at
    /// once. Beyond what clocks reach: none.
    fn limit_of(&self, req: &Req) -> Option<Duration>;
}

/// The configured limit for every request. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Configured;

impl<Req> LimitOf<Req> for Configured {
    #[inline]
    fn limit_of(&self, _req: &Req) -> Option<Duration> {
        None
    }
}

impl<Req, F> LimitOf<Req> for ByFn<F>
where
    F: Fn(&Req) -> Option<Duration>,
{
    fn limit_of(&self, req: &Req) -> Option<Duration> {
        (self.0)(req)
    }
}

/// Says what the caller gets when the time is up.
pub trait OnTimeout<Res, Err> {
    /// The answer. The inner future is gone by then.
    fn answer(&self, why: Rejection) -> Result<Res, Err>;

    /// The answer if the inner call noticed first that the time is up, and ended with `error`: such as a retry that has
    /// failed before. As [`answer`](Self::answer) by default.
    fn answer_after(&self, why: Rejection, error: Err) -> Result<Res, Err> {
        drop(error);
        self.answer(why)
    }
}

/// Answers with the rejection. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refuse;

impl<Res, Err: FromRejection> OnTimeout<Res, Err> for Refuse {
    fn answer(&self, why: Rejection) -> Result<Res, Err> {
        Err(Err::from_rejection(why))
    }

    fn answer_after(&self, why: Rejection, error: Err) -> Result<Res, Err> {
        let ended = Err::from_rejection(why);
        // What ended the call before this is not lost; a refusal alone is the same as this one.
        let has_failure = error.as_error().is_some_and(|error| error.source().is_some());
        Err(if has_failure { ended.after(error) } else { ended })
    }
}

/// Answers with a value; made by [`TimeoutLayer::fallback`](crate::TimeoutLayer::fallback).
#[derive(Clone, Copy)]
pub struct Value<F>(pub(crate) F);

impl<Res, Err, F: Fn() -> Res> OnTimeout<Res, Err> for Value<F> {
    fn answer(&self, _why: Rejection) -> Result<Res, Err> {
        Ok((self.0)())
    }
}

impl<F> fmt::Debug for Value<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(..)")
    }
}

impl<Res, Err, F> OnTimeout<Res, Err> for ByFn<F>
where
    F: Fn(Rejection) -> Result<Res, Err>,
{
    fn answer(&self, why: Rejection) -> Result<Res, Err> {
        (self.0)(why)
    }
}
