//! The clocks of what is exported. They decide nothing about a call.

use std::time::{Instant, SystemTime};

/// For the age of cached handles and of log lines.
///
/// The one place that reads std's clock: exporters evict idle series by real time, so paused test time must
/// not keep a dead handle alive, and an observer may be called outside of any runtime.
#[allow(clippy::disallowed_methods)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Seconds since 1970, as Prometheus wants timestamps. Before 1970: 0.
pub(crate) fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
