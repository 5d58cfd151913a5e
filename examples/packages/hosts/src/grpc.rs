//! What gRPC needs beside the stack: who says that a call failed, and what a refusal is called there.

use std::sync::Arc;

use buttress::{BoxError, Class, Classify, Standard, Verdict, bulkhead, rejection};
use http::Response;
use tonic::{Code, Status};

/// Judges a call by its `grpc-status`. A gRPC error is a `200 OK` with the code in a header, so that `Standard`
/// and `HttpClassify` take all of them for successes.
///
/// A failed stream has its code in the trailers, after the answer was judged: here it was a success.
pub(crate) fn verdict<B>(outcome: Result<&Response<B>, &BoxError>) -> Verdict {
    let response = match outcome {
        Ok(response) => response,
        // The channel's own errors: refused, reset, too late.
        Err(error) => return Classify::<(), BoxError>::classify(&Standard, Err(error)),
    };
    let Some(code) = response.headers().get("grpc-status") else {
        // What a proxy answers in the server's place is plain HTTP.
        return buttress::http::verdict(response.status(), response.headers());
    };
    match Code::from_bytes(code.as_bytes()) {
        Code::Unavailable
        | Code::ResourceExhausted
        | Code::DeadlineExceeded
        | Code::Internal
        | Code::Unknown => Verdict::transient(),
        Code::Unimplemented | Code::DataLoss => Verdict::permanent(),
        // The rest is about the request: a server that says NOT_FOUND works.
        _ => Verdict::Success,
    }
}

/// Gives a refusal the status its callers look for, with the rejection as its source. Goes outermost, on both
/// sides: without it a client's refusal is `UNKNOWN`, and a server's is a reset stream that tells nobody why.
pub(crate) fn refusal_as_status(error: BoxError) -> BoxError {
    let Some(refused) = rejection(&*error) else { return error };
    let code = match (refused.code(), refused.code().class()) {
        (bulkhead::QUEUE_FULL | bulkhead::QUEUE_TIMEOUT, _) | (_, Class::TooMany) => Code::ResourceExhausted,
        (_, Class::TimedOut) => Code::DeadlineExceeded,
        _ => Code::Unavailable,
    };
    let mut status = Status::new(code, refused.to_string());
    status.set_source(Arc::from(error));
    status.into()
}
