use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_core::{BoxError, Code, context};
use buttress_retry::RetryConfig;
use tokio::time::Instant;
use tower::util::BoxCloneService;

// The codes of policies inside, as their crates have them.
pub(crate) const OPEN: &Code = &Code::refused("CIRCUIT_OPEN").says("circuit {} is OPEN");
pub(crate) const CIRCUIT_TIMEOUT: &Code = &Code::timed_out("CIRCUIT_TIMEOUT");
pub(crate) const TIMEOUT: &Code = &Code::timed_out("TIMEOUT");
pub(crate) const QUEUE_FULL: &Code =
    &Code::refused("BULKHEAD_QUEUE_FULL").says("bulkhead {} and its queue are full");
pub(crate) const QUEUE_TIMEOUT: &Code =
    &Code::refused("BULKHEAD_QUEUE_TIMEOUT").says("waited too long for bulkhead {}").slow();
pub(crate) const LIMITED: &Code = &Code::too_many("RATE_LIMITED").says("rate limit {} is used up").slow();

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// `config` with so many attempts.
pub(crate) fn of(max_attempts: u32, mut config: RetryConfig) -> RetryConfig {
    config.max_attempts = max_attempts;
    config
}

/// A service that answers as scripted (after the end: with `"ok"`), and remembers its calls.
#[derive(Clone, Default)]
pub(crate) struct Script {
    shared: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    answers: VecDeque<Result<&'static str, BoxError>>,
    forever: Option<Box<dyn Fn() -> BoxError + Send>>,
    calls: Vec<Instant>,
    attempts: Vec<u32>,
}

impl Script {
    pub(crate) fn of(answers: impl IntoIterator<Item = Result<&'static str, BoxError>>) -> Self {
        let script = Self::default();
        script.shared.lock().unwrap().answers.extend(answers);
        script
    }

    pub(crate) fn failing() -> Self {
        Self::failing_with(|| "down".into())
    }

    pub(crate) fn failing_with(error: impl Fn() -> BoxError + Send + 'static) -> Self {
        let script = Self::default();
        script.shared.lock().unwrap().forever = Some(Box::new(error));
        script
    }

    pub(crate) fn answer(&self) -> Result<&'static str, BoxError> {
        let mut inner = self.shared.lock().unwrap();
        inner.calls.push(Instant::now());
        inner.attempts.push(context::current().attempt);
        let scripted = inner.answers.pop_front();
        scripted.unwrap_or_else(|| inner.forever.as_ref().map_or(Ok("ok"), |error| Err(error())))
    }

    pub(crate) fn service(&self) -> BoxCloneService<&'static str, &'static str, BoxError> {
        let script = self.clone();
        BoxCloneService::new(tower::service_fn(move |_: &'static str| {
            let answer = script.answer();
            async move { answer }
        }))
    }

    pub(crate) fn calls(&self) -> usize {
        self.shared.lock().unwrap().calls.len()
    }

    /// The number of the attempt, as each call saw it.
    pub(crate) fn attempts(&self) -> Vec<u32> {
        self.shared.lock().unwrap().attempts.clone()
    }

    /// The times between the calls.
    pub(crate) fn waits(&self) -> Vec<Duration> {
        let inner = self.shared.lock().unwrap();
        inner.calls.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

fn source(file: &str) -> RetryConfig {
    let mut tables: toml::Table = file.parse().unwrap();
    tables.remove("retry").unwrap().try_into().unwrap()
}

// What other systems set.

pub(crate) fn aws() -> RetryConfig {
    source(include_str!("../../../../tests/data/sources/aws.toml"))
}

pub(crate) fn blipee() -> RetryConfig {
    source(include_str!("../../../../tests/data/sources/blipee.toml"))
}

pub(crate) fn didactic() -> RetryConfig {
    source(include_str!("../../../../tests/data/sources/didactic.toml"))
}

pub(crate) fn dspx() -> RetryConfig {
    source(include_str!("../../../../tests/data/sources/dspx.toml"))
}

pub(crate) fn fluxus() -> RetryConfig {
    source(include_str!("../../../../tests/data/sources/fluxus.toml"))
}
