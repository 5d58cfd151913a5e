//! buttress
pub use buttress_core::*;
