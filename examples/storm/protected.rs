//! Gateway two: the file to copy from.
//!
//! ```text
//! request > answer > deadline > retry within a budget > breaker > bulkhead > time-out > upstream
//! ```
//! Each number follows from what any service knows of itself: how many requests a second come in, how long
//! one takes while all is well, and how long a client waits.

use std::convert::Infallible;
use std::time::Duration;

use buttress::breaker::WindowConfig;
use buttress::prelude::*;
use buttress::{
    Backoff, BoxError, Budget, Classify, FromRejection, HttpClassify, HttpReplay, Rejection, Verdict,
};
use tower::{Service, ServiceBuilder};

use crate::engine::Plan;
use crate::wire::{Answer, Call};

/// The policies. Clones share them, and so does every stack that is made of them: a breaker that each
/// connection had for itself would never open.
#[derive(Clone, Debug)]
pub(crate) struct Protected {
    pub(crate) deadline: Timeout,
    pub(crate) retry: Retry,
    pub(crate) breaker: Breaker,
    pub(crate) bulkhead: Bulkhead,
    pub(crate) attempt: Timeout,
}

impl Protected {
    pub(crate) fn new(plan: &Plan) -> Result<Self, BoxError> {
        // A little less than clients wait. What is answered later is work for nobody.
        let deadline = Timeout::builder("gateway").limit(plan.patience * 9 / 10).build()?;

        // A tenth of the calls may be repeated, and five a second in any case. So whatever breaks, the
        // upstream gets a tenth more than it is asked, not three times more.
        let retry = Retry::builder("upstream")
            .max_attempts(3)
            .backoff(Backoff::exponential(Duration::from_millis(10)))
            .budget(Budget::new(0.1, 5)?)
            .seed(plan.seed)
            .build()?;

        // Half of the calls of the last second failed: stop asking. Twice a second one request finds out
        // whether it is over, and three good answers in a row end it.
        let breaker = Breaker::builder("upstream")
            .failure_rate(0.5)
            .window(WindowConfig::time(Duration::from_secs(1)))
            .minimum_calls(20)
            .open_for(Duration::from_millis(500))
            .success_threshold(3)
            .build()?;

        // Little's law: requests per second times seconds per request are under way while all is well. Three
        // standard deviations more for bad luck (arrivals of their own accord have the variance of their
        // mean); beyond that the upstream is slow, and a queue would make it slower.
        let under_way = f64::from(plan.rate) * plan.usual().as_secs_f64();
        let at_once = (under_way + 3.0 * under_way.sqrt()).ceil() as u32;
        let bulkhead = Bulkhead::builder("upstream").max_concurrent(at_once).max_queue(0).build()?;

        // Eight times the usual: what one of so many takes with a fifth of the upstream left, and a bit.
        let attempt = Timeout::builder("attempt").limit(plan.usual() * 8).build()?;
        Ok(Self { deadline, retry, breaker, bulkhead, attempt })
    }

    /// Puts the gateway before `upstream`.
    pub(crate) fn stack<S>(
        &self,
        upstream: S,
    ) -> impl Service<Call, Response = Answer, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static
    where
        S: Service<Call, Response = Answer, Error = BoxError, Future: Send> + Clone + Send + Sync + 'static,
    {
        ServiceBuilder::new()
            .respond()
            .deadline(self.deadline.layer())
            .retrying(self.retry.layer().classify_with(worth_repeating).replay(HttpReplay))
            .breaker(self.breaker.layer().classify(HttpClassify))
            .bulkhead(self.bulkhead.layer())
            .attempt_timeout(self.attempt.layer())
            .service(upstream)
    }
}

/// What an attempt says about trying again.
pub(crate) fn worth_repeating(outcome: Result<&Answer, &BoxError>) -> Verdict {
    match outcome {
        // Its work still stands in the upstream's queue. A second try would stand behind it.
        Err(error) if error.rejection().is_some_and(Rejection::is_timeout) => Verdict::permanent(),
        outcome => HttpClassify.classify(outcome),
    }
}
