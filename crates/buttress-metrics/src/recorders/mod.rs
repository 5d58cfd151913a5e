//! One recorder for each pattern: which series an event moves.

mod breaker;
mod bulkhead;
mod fallback;
mod retry;
mod timeout;

use std::sync::Arc;

use buttress_core::{PolicyKind, Recorder};

use crate::panel::Panel;

/// Makes the recorder of a pattern. `None` for patterns that have no metrics.
pub(crate) fn of(kind: PolicyKind) -> Option<fn(Panel) -> Arc<dyn Recorder>> {
    Some(match kind {
        PolicyKind::Breaker => |panel| Arc::new(breaker::Breaker::new(panel)),
        PolicyKind::Retry => |panel| Arc::new(retry::Retry::new(panel)),
        PolicyKind::Timeout => |panel| Arc::new(timeout::Timeout::new(panel)),
        PolicyKind::Bulkhead => |panel| Arc::new(bulkhead::Bulkhead::new(panel)),
        PolicyKind::Fallback => |panel| Arc::new(fallback::Fallback::new(panel)),
        _ => return None,
    })
}
