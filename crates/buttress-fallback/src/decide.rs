use std::{fmt, sync::Arc};

use buttress_core::{Classify, FromRejection, Standard, Verdict};

use crate::sealed::Sealed;

/// What a fallback does with the outcome of the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// It is good: returned, and worth storing.
    Good,
    /// It is returned as it is, and not stored.
    Pass,
    /// The fallback answers instead.
    Handle,
}

/// Says which outcomes a fallback handles. Sealed: bring a classifier or a closure.
pub trait Decide<Res, Err>: Sealed {
    /// What to do with this outcome.
    fn decide(&self, outcome: Result<&Res, &Err>) -> Decision;

    /// Says in a few words what an answer was that is held for a failure.
    fn describe(&self, answer: &Res, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

impl Sealed for Standard {}

impl<Res, Err: FromRejection> Decide<Res, Err> for Standard {
    #[inline]
    fn decide(&self, outcome: Result<&Res, &Err>) -> Decision {
        by_verdict(self, outcome)
    }

    fn describe(&self, answer: &Res, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Classify::<Res, Err>::describe(self, Ok(answer), f)
    }
}

/// A classifier as a rule: failures and rejections are handled. Made by
/// [`FallbackLayer::classify`](crate::FallbackLayer::classify).
#[derive(Clone, Copy, Default)]
pub struct Classified<C>(pub(crate) C);

impl<C> fmt::Debug for Classified<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Classified(..)")
    }
}

impl<C> Sealed for Classified<C> {}

impl<Res, Err: FromRejection, C: Classify<Res, Err>> Decide<Res, Err> for Classified<C> {
    fn decide(&self, outcome: Result<&Res, &Err>) -> Decision {
        by_verdict(&self.0, outcome)
    }

    fn describe(&self, answer: &Res, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.describe(Ok(answer), f)
    }
}

#[inline]
fn by_verdict<Res, Err: FromRejection>(
    classifier: &impl Classify<Res, Err>,
    outcome: Result<&Res, &Err>,
) -> Decision {
    match (classifier.classify(outcome), outcome) {
        (Verdict::Success, Ok(_)) => Decision::Good,
        (Verdict::Failure { .. }, _) => Decision::Handle,
        // A refusal says nothing about the service, and leaves the caller without an answer all the same.
        (_, Err(error)) if error.rejection().is_some() => Decision::Handle,
        (_, Ok(answer)) if classifier.refusal(answer).is_some() => Decision::Handle,
        _ => Decision::Pass,
    }
}

/// A closure as a rule; made by [`FallbackLayer::handle_with`](crate::FallbackLayer::handle_with).
pub struct HandleIf<F>(Arc<F>);

impl<F> HandleIf<F> {
    pub(crate) fn new(rule: F) -> Self {
        Self(Arc::new(rule))
    }
}

impl<F> Clone for HandleIf<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F> fmt::Debug for HandleIf<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandleIf(..)")
    }
}

impl<F> Sealed for HandleIf<F> {}

impl<Res, Err, F> Decide<Res, Err> for HandleIf<F>
where
    F: Fn(Result<&Res, &Err>) -> bool,
{
    fn decide(&self, outcome: Result<&Res, &Err>) -> Decision {
        match (self.0(outcome), outcome) {
            (true, _) => Decision::Handle,
            (false, Ok(_)) => Decision::Good,
            (false, Err(_)) => Decision::Pass,
        }
    }

    fn describe(&self, _answer: &Res, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the call failed")
    }
}
