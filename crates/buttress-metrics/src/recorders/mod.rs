//! One recorder for each pattern: which series an event moves.

mod breaker;
mod bulkhead;
mod fallback;
mod retry;
mod timeout;

use std::sync::Arc;

use buttress_core::{PolicyKind, Recorder};

use crate::panel::Panel;

/// `None` for patterns that have no metrics.
pub(crate) fn of(kind: PolicyKind, panel: impl FnOnce() -> Panel) -> Option<Arc<dyn Recorder>> {
    Some(match kind {
        PolicyKind::Breaker => Arc::new(breaker::Breaker::new(panel())),
        PolicyKind::Retry => Arc::new(retry::Retry::new(panel())),
        PolicyKind::Timeout => Arc::new(timeout::Timeout::new(panel())),
        PolicyKind::Bulkhead => Arc::new(bulkhead::Bulkhead::new(panel())),
        PolicyKind::Fallback => Arc::new(fallback::Fallback::new(panel())),
        _ => return None,
    })
}
