//! The timeout through its public API, with time standing still.

mod deadline;
mod ending;
mod named;
mod service;
mod settings;
mod stall;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress_core::BoxError;
use buttress_timeout::Timeout;

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn timeout(limit_ms: u64) -> Timeout {
    Timeout::builder("api").limit(ms(limit_ms)).build().unwrap()
}

/// An operation that takes as long as it is told.
pub(crate) async fn taking(time_ms: u64) -> Result<u64, BoxError> {
    tokio::time::sleep(ms(time_ms)).await;
    Ok(time_ms)
}

/// Sets a flag when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Flag(pub(crate) Arc<AtomicBool>);

impl Flag {
    pub(crate) fn new() -> (Self, Arc<AtomicBool>) {
        let flag = Self::default();
        let seen = flag.0.clone();
        (flag, seen)
    }
}

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}
