//! The fallback through its public API, with time standing still.

mod answers;
mod ending;
mod handled;
mod last_good;
mod readiness;
mod settings;
mod types;

use std::time::Duration;

use buttress_core::{BoxError, Name, Rejection};
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

pub(crate) fn rejected(code: &'static str) -> BoxError {
    Rejection::new(code, &Name::new("inner")).into()
}
