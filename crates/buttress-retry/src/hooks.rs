//! What the setters of a layer add to its classifier.

use std::{fmt, time::Duration};

use buttress_core::{Applied, Classify, FailureKind, Rejection, Verdict};

/// A classifier with one of its answers given, or heard, by a closure.
#[derive(Clone, Copy)]
pub struct Hooked<C, H> {
    pub(crate) classify: C,
    pub(crate) hook: H,
}

/// What a closure adds.
pub trait Hook<Res, Err> {
    fn is_throttled(&self, outcome: Result<&Res, &Err>) -> bool {
        let _ = outcome;
        false
    }

    fn on_retry(&self, attempt: u32, outcome: Result<&Res, &Err>, delay: Duration) {
        let _ = (attempt, outcome, delay);
    }

    fn last_error(&self, error: Err) -> Err
    where
        Err: Sized,
    {
        error
    }
}

/// It hears of retries; set by [`RetryLayer::on_retry`](crate::RetryLayer::on_retry).
#[derive(Clone, Copy, Debug)]
pub struct OnRetry<F>(pub(crate) F);

impl<F, Res, Err> Hook<Res, Err> for OnRetry<F>
where
    F: Fn(u32, Result<&Res, &Err>, Duration),
{
    fn on_retry(&self, attempt: u32, outcome: Result<&Res, &Err>, delay: Duration) {
        (self.0)(attempt, outcome, delay);
    }
}

/// It maps the last error; set by [`RetryLayer::map_err`](crate::RetryLayer::map_err).
#[derive(Clone, Copy, Debug)]
pub struct MapLast<F>(pub(crate) F);

impl<F, Res, Err> Hook<Res, Err> for MapLast<F>
where
    F: Fn(Err) -> Err,
{
    fn last_error(&self, error: Err) -> Err {
        (self.0)(error)
    }
}

/// It knows what throttling looks like; set by [`RetryLayer::throttled_when`](crate::RetryLayer::throttled_when).
#[derive(Clone, Copy, Debug)]
pub struct ThrottledWhen<F>(pub(crate) F);

impl<F, Res, Err> Hook<Res, Err> for ThrottledWhen<F>
where
    F: Fn(Result<&Res, &Err>) -> bool,
{
    fn is_throttled(&self, outcome: Result<&Res, &Err>) -> bool {
        (self.0)(outcome)
    }
}

impl<C, H, Res, Err> Classify<Res, Err> for Hooked<C, H>
where
    C: Classify<Res, Err>,
    H: Hook<Res, Err>,
{
    fn classify(&self, outcome: Result<&Res, &Err>) -> Verdict {
        self.classify.classify(outcome)
    }

    fn failure_kind(&self, outcome: Result<&Res, &Err>) -> FailureKind {
        if self.hook.is_throttled(outcome) {
            return FailureKind::Throttled;
        }
        self.classify.failure_kind(outcome)
    }

    fn on_retry(&self, attempt: u32, outcome: Result<&Res, &Err>, delay: Duration) {
        self.classify.on_retry(attempt, outcome, delay);
        self.hook.on_retry(attempt, outcome, delay);
    }

    fn describe(&self, outcome: Result<&Res, &Err>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.classify.describe(outcome, f)
    }

    fn keeps(&self, response: &Res) -> bool {
        self.classify.keeps(response)
    }

    fn refusal<'a>(&self, response: &'a Res) -> Option<&'a Rejection> {
        self.classify.refusal(response)
    }

    fn applied(&self, outcome: Result<&Res, &Err>) -> Applied {
        self.classify.applied(outcome)
    }

    fn last_error(&self, attempts: u32, error: Err) -> Err {
        self.hook.last_error(self.classify.last_error(attempts, error))
    }
}

impl<C: fmt::Debug, H> fmt::Debug for Hooked<C, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooked").field("classify", &self.classify).finish_non_exhaustive()
    }
}
