//! Lists of retryable errors that other systems have, as classifiers.

use std::io;

use buttress_core::OnlyErrors;

/// Retries what speaks of a rate limit: the codes `RATE_LIMIT`, `TOO_MANY_REQUESTS`, `429`. Goes with
/// [`RetryConfig::api_rate_limit`](crate::RetryConfig::api_rate_limit).
pub fn rate_limits() -> OnlyErrors {
    OnlyErrors::codes(["RATE_LIMIT", "TOO_MANY_REQUESTS", "429"])
}

/// Retries what speaks of the network: the codes `NETWORK_ERROR`, `TIMEOUT`, `ECONNREFUSED`, `ENOTFOUND`, and I/O
/// errors that mean a connection was refused or lost, a host not reached, or a time-out. Goes with
/// [`RetryConfig::network`](crate::RetryConfig::network).
pub fn network() -> OnlyErrors {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkDown,
        NetworkUnreachable, NotConnected, TimedOut, UnexpectedEof,
    };
    OnlyErrors::codes(["NETWORK_ERROR", "TIMEOUT", "ECONNREFUSED", "ENOTFOUND"]).or_when(|error| {
        error.downcast_ref::<io::Error>().is_some_and(|error| {
            matches!(
                error.kind(),
                BrokenPipe
                    | ConnectionAborted
                    | ConnectionRefused
                    | ConnectionReset
                    | HostUnreachable
                    | NetworkDown
                    | NetworkUnreachable
                    | NotConnected
                    | TimedOut
                    | UnexpectedEof
            )
        })
    })
}
