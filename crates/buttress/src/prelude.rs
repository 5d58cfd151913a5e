//! What a program that builds stacks uses: `use buttress::prelude::*;`.

#[cfg(feature = "breaker")]
pub use crate::Breaker;
#[cfg(feature = "bulkhead")]
pub use crate::Bulkhead;
#[cfg(feature = "fallback")]
pub use crate::Fallback;
#[cfg(feature = "metrics")]
pub use crate::Meter;
#[cfg(feature = "retry")]
pub use crate::Retry;
#[cfg(feature = "timeout")]
pub use crate::Timeout;
pub use crate::{
    Backoff, BoxError, Budget, Classify, ConfigError, FromRejection, Jitter, Rejection, Run,
    ServiceBuilderExt, Verdict, rejection,
};
