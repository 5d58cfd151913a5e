use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use buttress_core::{Code, FromRejection, Name, Rejection};

use crate::{Timeout, TimeoutFuture};

/// A race without operations.
pub const NOTHING_TO_RACE: &Code = &Code::refused("NOTHING_TO_RACE");

/// Runs several operations at once, each within the limit of its own timeout: the first that succeeds wins, and
/// the others are dropped. Resolves to the winner's name and what it returned.
///
/// An operation that fails leaves the race to the others; when all have failed, the last error is returned. With
/// no operation at all it is a rejection with code [`NOTHING_TO_RACE`]. Operations of different types have to be
/// boxed (`Pin<Box<dyn Future<..>>>`).
///
/// ```
/// # mod buttress { pub use {buttress_core::*, buttress_timeout::*}; }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use buttress::{BoxError, Timeout, race};
///
/// let answer = |ms| async move {
///     tokio::time::sleep(Duration::from_millis(ms)).await;
///     Ok::<_, BoxError>(ms)
/// };
/// let near = Timeout::builder("near").limit(Duration::from_millis(20)).build()?;
/// let far = Timeout::builder("far").limit(Duration::from_millis(100)).build()?;
/// let (winner, ms) = race([(near, answer(30)), (far, answer(60))]).await.unwrap();
/// assert_eq!((winner.as_str(), ms), ("far", 60));
/// # Ok(())
/// # }
/// ```
///
/// # Cancellation
/// Dropping the future drops all operations.
pub fn race<I, F, T, E>(operations: I) -> Race<F>
where
    I: IntoIterator<Item = (Timeout, F)>,
    F: Future<Output = Result<T, E>>,
    E: FromRejection,
{
    let start = |(timeout, operation): (Timeout, F)| {
        let call = timeout.call(|| operation);
        (timeout.name().clone(), Box::pin(call))
    };
    Race { runners: operations.into_iter().map(start).collect(), over: false }
}

/// A name, and its operation; boxed, because it must stay where it is while others leave the race.
type Runner<F> = (Name, Pin<Box<TimeoutFuture<F>>>);

/// A race of operations; made by [`race`].
#[must_use = "futures do nothing unless polled"]
pub struct Race<F> {
    runners: Vec<Runner<F>>,
    over: bool,
}

impl<F, T, E> Future for Race<F>
where
    F: Future<Output = Result<T, E>>,
    E: FromRejection,
{
    type Output = Result<(Name, T), E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        assert!(!this.over, "polled after it resolved");
        let mut failed = None;
        let mut at = 0;
        while let Some((_, call)) = this.runners.get_mut(at) {
            match call.as_mut().poll(cx) {
                Poll::Pending => at += 1,
                Poll::Ready(Err(error)) => {
                    drop(this.runners.remove(at));
                    failed = Some(error);
                }
                Poll::Ready(Ok(value)) => {
                    this.over = true;
                    let (winner, _) = this.runners.remove(at);
                    // The losers are gone before the winner is known.
                    this.runners.clear();
                    return Poll::Ready(Ok((winner, value)));
                }
            }
        }
        if !this.runners.is_empty() {
            return Poll::Pending;
        }
        this.over = true;
        let last =
            failed.unwrap_or_else(|| E::from_rejection(Rejection::new(NOTHING_TO_RACE, &Name::new("race"))));
        Poll::Ready(Err(last))
    }
}

impl<F> fmt::Debug for Race<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.runners.iter().map(|(name, _)| name);
        f.debug_tuple("Race").field(&names.collect::<Vec<_>>()).finish()
    }
}
