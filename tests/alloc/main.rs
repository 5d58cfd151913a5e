//! What calls allocate: nothing on the happy path. A binary of its own for the whole workspace, because the counter
//! replaces the allocator; it counts thread by thread, so the tests may run at once.

mod breaker;
mod bulkhead;
mod fallback;
mod http;
mod kit;
mod metrics;
mod retry;
mod stack;
mod timeout;
