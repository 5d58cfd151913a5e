use buttress_core::Replay;
use http::{HeaderMap, Method, Request};

/// Whether a request may be sent twice: an idempotent method (GET, HEAD, OPTIONS, TRACE, PUT, DELETE; RFC 9110,
/// section 9.2.2), or an `Idempotency-Key` header, by which the server recognises the second one.
pub fn may_repeat(method: &Method, headers: &HeaderMap) -> bool {
    method.is_idempotent() || headers.contains_key("idempotency-key")
}

/// Replays requests that [`may_repeat`], by clone. A POST goes out once unless it has an `Idempotency-Key`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpReplay;

impl<B: Clone> Replay<Request<B>> for HttpReplay {
    fn save(&self, req: &Request<B>) -> Option<Request<B>> {
        may_repeat(req.method(), req.headers()).then(|| req.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // fault R14
    #[test]
    fn post_is_sent_once_unless_it_carries_a_key() {
        let request = |method: &str| Request::builder().method(method).body("body").unwrap();
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
            let saved = HttpReplay.save(&request(method)).unwrap();
            assert_eq!((saved.method().as_str(), *saved.body()), (method, "body"));
        }
        for method in ["POST", "PATCH", "CONNECT", "PURGE"] {
            assert!(HttpReplay.save(&request(method)).is_none(), "{method}");
        }
        let mut keyed = request("POST");
        keyed.headers_mut().insert("idempotency-key", "k-1".parse().unwrap());
        assert!(HttpReplay.save(&keyed).is_some());
    }
}
