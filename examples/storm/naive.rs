//! Gateway one: what most READMEs teach. A time-out for each try, a few retries, a growing wait between
//! them. It is made of tower's own layers, and on a good day it is fine.

use std::convert::Infallible;
use std::time::Duration;

use axum::error_handling::HandleErrorLayer;
use axum::http::StatusCode;
use tokio::time::Sleep;
use tower::retry::Policy;
use tower::{BoxError, Service, ServiceBuilder};

use crate::wire::{Answer, Call};

/// Its settings; `--naive FILE` changes them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NaiveConfig {
    /// For each try. Twice what the healthy upstream takes.
    pub(crate) timeout: Duration,
    /// Tries after the first.
    pub(crate) retries: u32,
    /// Wait before the first retry.
    pub(crate) backoff: Duration,
    /// Each further wait is this much longer.
    pub(crate) backoff_factor: f64,
}

impl Default for NaiveConfig {
    fn default() -> Self {
        let (timeout, backoff) = (Duration::from_millis(200), Duration::from_millis(50));
        Self { timeout, retries: 3, backoff, backoff_factor: 2.0 }
    }
}

impl NaiveConfig {
    /// Reads `key = value` lines; what is not named keeps its default.
    ///
    /// # Errors
    /// Says which line cannot be read, and why.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut config = Self::default();
        for (n, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty() {
                config.set(line).map_err(|why| format!("line {}: {why}", n + 1))?;
            }
        }
        Ok(config)
    }

    fn set(&mut self, line: &str) -> Result<(), String> {
        let Some((key, value)) = line.split_once('=') else {
            return Err(format!("`{line}`; `key = value` is wanted"));
        };
        let (key, value) = (key.trim(), value.trim());
        let within = |least: f64, most: f64| match value.parse::<f64>() {
            Ok(n) if (least..=most).contains(&n) => Ok(n),
            _ => Err(format!("{key} is `{value}`; a number from {least} to {most} is wanted")),
        };
        match key {
            "timeout_ms" => self.timeout = Duration::from_millis(within(1.0, 60_000.0)? as u64),
            "retries" => self.retries = within(0.0, 20.0)? as u32,
            "backoff_ms" => self.backoff = Duration::from_millis(within(0.0, 60_000.0)? as u64),
            "backoff_factor" => self.backoff_factor = within(1.0, 10.0)?,
            _ => return Err(format!("unknown key `{key}`; timeout_ms, retries, backoff_ms, backoff_factor")),
        }
        Ok(())
    }
}

/// Puts the gateway before `upstream`.
pub(crate) fn gateway<S>(
    config: &NaiveConfig,
    upstream: S,
) -> impl Service<Call, Response = Answer, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static
where
    S: Service<Call, Response = Answer, Error = BoxError, Future: Send> + Clone + Send + Sync + 'static,
{
    let again = Again { left: config.retries, wait: config.backoff, factor: config.backoff_factor };
    ServiceBuilder::new()
        .layer(HandleErrorLayer::new(give_up))
        .retry(again)
        .timeout(config.timeout)
        .service(upstream)
}

async fn give_up(why: BoxError) -> StatusCode {
    if why.is::<tower::timeout::error::Elapsed>() {
        StatusCode::GATEWAY_TIMEOUT
    } else {
        StatusCode::BAD_GATEWAY
    }
}

/// Tries again after any error and any 5xx.
#[derive(Clone, Debug)]
struct Again {
    left: u32,
    wait: Duration,
    factor: f64,
}

impl Policy<Call, Answer, BoxError> for Again {
    type Future = Sleep;

    fn retry(&mut self, _: &mut Call, result: &mut Result<Answer, BoxError>) -> Option<Sleep> {
        let good = result.as_ref().is_ok_and(|answer| !answer.status().is_server_error());
        if good || self.left == 0 {
            return None;
        }
        self.left -= 1;
        let wait = self.wait;
        // At most 60 s × 10²⁰ here; past what a `Duration` holds there is no longer wait.
        self.wait = Duration::try_from_secs_f64(wait.as_secs_f64() * self.factor).unwrap_or(Duration::MAX);
        Some(tokio::time::sleep(wait))
    }

    fn clone_request(&mut self, call: &Call) -> Option<Call> {
        Some(call.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::time::Instant;
    use tower::{ServiceExt, service_fn};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hanging_upstream_gets_every_try_and_the_client_a_504() {
        let begun = Instant::now();
        let tries = Arc::new(Mutex::new(Vec::new()));
        let upstream = service_fn({
            let tries = tries.clone();
            move |_: Call| {
                tries.lock().unwrap().push(begun.elapsed().as_millis());
                std::future::pending::<Result<Answer, BoxError>>()
            }
        });
        let answer = gateway(&NaiveConfig::default(), upstream).oneshot(Call::default()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(*tries.lock().unwrap(), [0, 250, 550, 950]);
    }

    #[test]
    fn file_changes_what_it_names_and_errors_name_the_line() {
        let config = NaiveConfig::parse("# gentler\nretries = 1\ntimeout_ms=500").unwrap();
        assert_eq!((config.retries, config.timeout.as_millis()), (1, 500));
        assert_eq!(config.backoff, NaiveConfig::default().backoff);
        for (text, wanted) in [
            ("retries", "line 1: `retries`; `key = value`"),
            ("\nretries = -1", "line 2: retries is `-1`"),
            ("tries = 3", "unknown key `tries`"),
            ("backoff_factor = inf", "from 1 to 10"),
        ] {
            let why = NaiveConfig::parse(text).unwrap_err();
            assert!(why.contains(wanted), "{text:?}: {why}");
        }
    }
}
