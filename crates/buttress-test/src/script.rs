use std::{collections::VecDeque, fmt, time::Duration};

use crate::Probe;

/// How a [`Probe`] answers one call; made by the functions of [`step`].
pub struct Step<T, E> {
    pub(crate) panics_in_call: bool,
    pub(crate) yields: usize,
    pub(crate) delay: Duration,
    pub(crate) end: End<T, E>,
}

pub(crate) enum End<T, E> {
    Answer(Result<T, E>),
    Panic,
    Held,
}

impl<T, E> Step<T, E> {
    fn new(end: End<T, E>) -> Self {
        Self { panics_in_call: false, yields: 0, delay: Duration::ZERO, end }
    }
}

impl<T, E> fmt::Debug for Step<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match (&self.end, self.panics_in_call) {
            (_, true) => "panics in call",
            (End::Answer(Ok(_)), _) => "ok",
            (End::Answer(Err(_)), _) => "err",
            (End::Panic, _) => "panics",
            (End::Held, _) => "pending",
        };
        f.debug_struct("Step").field("end", &end).field("delay", &self.delay).finish_non_exhaustive()
    }
}

/// The steps of a [`Script`].
pub mod step {
    use std::time::Duration;

    use super::{End, Step};

    /// Answers with `value`.
    pub fn ok<T, E>(value: T) -> Step<T, E> {
        Step::new(End::Answer(Ok(value)))
    }

    /// Fails with `error`.
    pub fn err<T, E>(error: impl Into<E>) -> Step<T, E> {
        Step::new(End::Answer(Err(error.into())))
    }

    /// Does `then` after `by`, counted from the first poll.
    pub fn delay<T, E>(by: Duration, then: Step<T, E>) -> Step<T, E> {
        Step { delay: then.delay.saturating_add(by), ..then }
    }

    /// Does `then` after being pending `times` times, awake at once each time.
    pub fn yields<T, E>(times: usize, then: Step<T, E>) -> Step<T, E> {
        Step { yields: then.yields.saturating_add(times), ..then }
    }

    /// Stays pending, until [`Probe::answer`](crate::Probe::answer) is called.
    pub fn pending<T, E>() -> Step<T, E> {
        Step::new(End::Held)
    }

    /// Panics when the future is polled. Quietly: the panic hook does not run.
    pub fn panics<T, E>() -> Step<T, E> {
        Step::new(End::Panic)
    }

    /// Panics inside of `call`. Quietly: the panic hook does not run.
    pub fn panics_in_call<T, E>() -> Step<T, E> {
        Step { panics_in_call: true, ..Step::new(End::Panic) }
    }
}

/// What a service answers, call by call. Made by [`script!`](crate::script!); [`Script::service`] plays it.
pub struct Script<T, E> {
    steps: VecDeque<Step<T, E>>,
    then: Option<Then<T, E>>,
}

type Then<T, E> = Box<dyn FnMut() -> Step<T, E> + Send>;

impl<T, E> Script<T, E> {
    /// Makes a script of steps, one per call.
    pub fn new(steps: impl IntoIterator<Item = Step<T, E>>) -> Self {
        Self { steps: steps.into_iter().collect(), then: None }
    }

    /// Answers every call after the last step by what `then` makes. Without it the script runs out, which is a
    /// [`Breach`](crate::Breach).
    pub fn then(mut self, then: impl FnMut() -> Step<T, E> + Send + 'static) -> Self {
        self.then = Some(Box::new(then));
        self
    }

    /// Makes the service that plays this script.
    pub fn service<Req>(mut self) -> Probe<Req, T, E>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        Probe::playing(move |_| match self.steps.pop_front() {
            Some(step) => Some(step),
            None => self.then.as_mut().map(|then| then()),
        })
    }
}

impl<T, E> fmt::Debug for Script<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("steps", &self.steps).field("endless", &self.then.is_some()).finish()
    }
}

/// Makes a [`Script`] of [`step`]s, which need no import inside.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// use std::time::Duration;
/// use buttress_test::{BoxError, Probe, script};
/// use tower::ServiceExt;
///
/// let script = script![err("boom"), delay(Duration::from_secs(1), ok("fine"))];
/// let service: Probe<u32, &str, BoxError> = script.service();
/// assert_eq!(service.clone().oneshot(1).await.unwrap_err().to_string(), "boom");
/// assert_eq!(service.clone().oneshot(2).await.unwrap(), "fine");
/// assert_eq!(service.requests(), [1, 2]);
/// # });
/// ```
#[macro_export]
macro_rules! script {
    ($($step:expr),* $(,)?) => {{
        #[allow(unused_imports)]
        use $crate::step::{delay, err, ok, panics, panics_in_call, pending, yields};
        $crate::Script::new([$($step),*])
    }};
}
