//! The fallback through its public API, with time standing still.

mod answers;
mod ending;
mod handled;
mod last_good;
mod readiness;
mod settings;
mod types;

use std::time::Duration;

use buttress_core::{BoxError, Code, Name, Rejection};
use buttress_fallback::Fallback;

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn fallback() -> Fallback {
    Fallback::builder("prices").build().unwrap()
}

pub(crate) async fn down<T>() -> Result<T, BoxError> {
    Err("down".into())
}

pub(crate) fn rejected(code: &str) -> BoxError {
    let code = match code {
        "CIRCUIT_OPEN" => const { &Code::refused("CIRCUIT_OPEN") },
        "BULKHEAD_QUEUE_FULL" => const { &Code::refused("BULKHEAD_QUEUE_FULL") },
        "RATE_LIMITED" => const { &Code::too_many("RATE_LIMITED").slow() },
        "TIMEOUT" => const { &Code::timed_out("TIMEOUT") },
        "RETRIES_EXHAUSTED" => const { &Code::refused("RETRIES_EXHAUSTED").sent() },
        "MINE" => const { &Code::refused("MINE") },
        other => panic!("no such code: {other}"),
    };
    Rejection::new(code, &Name::new("inner")).into()
}
