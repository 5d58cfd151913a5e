//! Lists of retryable errors that other systems have, as classifiers.

use std::io;

use buttress_core::OnlyErrors;
use tokio::time::error::Elapsed;

/// Retries what speaks of a rate limit: the codes `RATE_LIMIT`, `TOO_MANY_REQUESTS`, `429`. Goes with
/// [`RetryConfig::api_rate_limit`](crate::RetryConfig::api_rate_limit).
pub fn rate_limits() -> OnlyErrors {
    OnlyErrors::codes(["RATE_LIMIT", "TOO_MANY_REQUESTS", "429"])
}

/// What resolvers say of a name they cannot find, for which Rust has no kind of error: those of std on Unix and
/// Windows, and hyper-util.
const NOT_RESOLVED: [&str; 3] =
    ["failed to lookup address information", "No such host is known", "dns error"];

/// Retries what speaks of the network: the codes `NETWORK_ERROR`, `TIMEOUT`, `ECONNREFUSED`, `ENOTFOUND`, and what
/// Rust has in their place: time-outs (this workspace's, tokio's, and errors whose text says `timed out`, as
/// tower's and reqwest's do), I/O errors that mean a connection was refused or lost or a host not reached, and names
/// that were not resolved. Goes with [`RetryConfig::network`](crate::RetryConfig::network).
pub fn network() -> OnlyErrors {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkDown,
        NetworkUnreachable, NotConnected, TimedOut, UnexpectedEof,
    };
    let codes = ["NETWORK_ERROR", "TIMEOUT", "CIRCUIT_TIMEOUT", "ECONNREFUSED", "ENOTFOUND", "timed out"];
    OnlyErrors::codes(codes.into_iter().chain(NOT_RESOLVED)).or_type::<Elapsed>().or_when(|error| {
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
