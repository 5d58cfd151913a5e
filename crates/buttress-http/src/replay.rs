use std::task::{Context, Poll};

use buttress_core::{Applied, Replay};
use http::{HeaderMap, Method, Request};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use crate::ReplayBody;

/// Whether a request may be sent twice: an idempotent method (GET, HEAD, OPTIONS, TRACE, PUT, DELETE; RFC 9110,
/// section 9.2.2), or an `Idempotency-Key` header, by which the server recognises the second one.
pub fn may_repeat(method: &Method, headers: &HeaderMap) -> bool {
    method.is_idempotent() || headers.contains_key("idempotency-key")
}

/// Replays requests that [`may_repeat`]: bodies that are `Clone` by clone, a [`ReplayBody`] as far as its limit goes.
/// A POST goes out once unless it has an `Idempotency-Key`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpReplay;

impl<B: Clone> Replay<Request<B>> for HttpReplay {
    fn save(&self, req: &Request<B>) -> Option<Request<B>> {
        may_repeat(req.method(), req.headers()).then(|| req.clone())
    }
}

impl<B: Body> Replay<Request<ReplayBody<B>>> for HttpReplay {
    fn save(&self, req: &Request<ReplayBody<B>>) -> Option<Request<ReplayBody<B>>> {
        if !may_repeat(req.method(), req.headers()) {
            return None;
        }
        let mut saved = Request::new(req.body().save()?);
        *saved.method_mut() = req.method().clone();
        *saved.uri_mut() = req.uri().clone();
        *saved.version_mut() = req.version();
        *saved.headers_mut() = req.headers().clone();
        *saved.extensions_mut() = req.extensions().clone();
        Some(saved)
    }

    fn can_resend(&self, saved: &Request<ReplayBody<B>>, _: Applied) -> bool {
        saved.body().can_resend()
    }
}

/// How much of a body is kept unless told otherwise: 64 KiB, as linkerd's proxy does.
const MAX_BYTES: usize = 64 * 1024;

/// Makes bodies that are streams fit for a second attempt: put it around the retry.
///
/// | body | is kept |
/// |---|---|
/// | of a request that may not be repeated, or that no attempt can follow | no |
/// | empty | no |
/// | known to be larger than `max_bytes` | no: one attempt |
/// | any other | up to `max_bytes`, while a further attempt may want it; beyond, no further attempt |
///
/// The error of an attempt that cannot be followed comes out unchanged, and the retry counts it as
/// `not_replayable`. A *through* layer: it is ready when the service inside is.
///
/// ```
/// # tokio_test::block_on(async {
/// use buttress_core::BoxError;
/// use buttress_http::{HttpReplay, ReplayBody, ReplayBodyLayer};
/// use buttress_retry::{Retry, RetryConfig};
/// use http::{Request, Response};
/// use http_body_util::{BodyExt, Full};
/// use tower::{ServiceBuilder, ServiceExt};
///
/// let retry = Retry::new("storage", RetryConfig::fixed(3, std::time::Duration::ZERO))?;
/// let stack = ServiceBuilder::new()
///     .layer(ReplayBodyLayer::new(64 * 1024))
///     .layer(retry.layer().replay(HttpReplay))
///     .service_fn(|req: Request<ReplayBody<Full<&'static [u8]>>>| async {
///         let sent = req.into_body().collect().await?.to_bytes();
///         match buttress_core::context::current().attempt {
///             1 => Err(BoxError::from("connection reset")),
///             _ => Ok(Response::new(sent)),
///         }
///     });
/// let answer = stack.oneshot(Request::put("/file").body(Full::new(&b"content"[..]))?).await?;
/// assert_eq!(answer.body(), "content");
/// # Ok::<_, BoxError>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ReplayBodyLayer {
    max_bytes: usize,
}

impl ReplayBodyLayer {
    /// Makes the layer; of each body up to `max_bytes` are kept. Usual: 64 KiB.
    pub const fn new(max_bytes: usize) -> Self {
        Self { max_bytes }
    }
}

impl Default for ReplayBodyLayer {
    fn default() -> Self {
        Self::new(MAX_BYTES)
    }
}

impl<S> Layer<S> for ReplayBodyLayer {
    type Service = ReplayBodyService<S>;

    fn layer(&self, inner: S) -> ReplayBodyService<S> {
        ReplayBodyService { inner, max_bytes: self.max_bytes }
    }
}

/// A service that gets requests with a [`ReplayBody`]; made by [`ReplayBodyLayer`].
#[derive(Clone, Copy, Debug)]
pub struct ReplayBodyService<S> {
    inner: S,
    max_bytes: usize,
}

impl<S, B> Service<Request<B>> for ReplayBodyService<S>
where
    S: Service<Request<ReplayBody<B>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Request<B>) -> S::Future {
        self.inner.call(req.map(|body| ReplayBody::new(body, self.max_bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
