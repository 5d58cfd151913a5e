use std::time::Duration;

use buttress_core::{ConfigError, Mode, config::check_positive};

use crate::gate::MAX_LIMIT;

/// The settings of a [`Bulkhead`](crate::Bulkhead), as plain data.
///
/// With the feature `serde`, times are text such as `"250ms"`, and `queue_timeout` may be `null` for none.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct BulkheadConfig {
    /// The most calls that run at once, `1..=16_777_215`. Default 10.
    pub max_concurrent: u32,
    /// The most calls that wait for their turn; with 0, a call that cannot run at once is refused. Default 100.
    pub max_queue: u32,
    /// How long a call may wait, longer than zero; `None` for as long as it takes. Default 30 s.
    #[serde(with = "buttress_kit::duration::option")]
    pub queue_timeout: Option<Duration>,
    /// Whether calls are held back and refused, or only counted. Default [`Mode::Enforce`].
    pub mode: Mode,
    /// Whether the time of every call is taken for the average in the snapshot, which costs two clock reads a
    /// call. It is taken anyway while an observer asks for times. Default `false`.
    pub timed: bool,
}

impl Default for BulkheadConfig {
    /// 10 at once, 100 waiting for 30 s at most: the defaults of the blipee-os bulkhead.
    fn default() -> Self {
        Self {
            max_concurrent: 10,
            max_queue: 100,
            queue_timeout: Some(Duration::from_secs(30)),
            mode: Mode::Enforce,
            timed: false,
        }
    }
}

impl BulkheadConfig {
    /// Checks that the settings can work.
    ///
    /// # Errors
    /// Names the first setting that cannot, its value, and why.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_limit(self.max_concurrent)?;
        match self.queue_timeout {
            Some(timeout) => check_positive("queue_timeout", timeout),
            None => Ok(()),
        }
    }
}

pub(crate) fn check_limit(limit: u32) -> Result<(), ConfigError> {
    let refuse = |why| Err(ConfigError::new("max_concurrent", limit, why));
    match limit {
        0 => refuse("no call could ever run; to let none in, use `close`"),
        limit if limit > MAX_LIMIT => refuse("must be at most 16777215"),
        _ => Ok(()),
    }
}
